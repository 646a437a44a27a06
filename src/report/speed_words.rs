//! What the speeds of rows are of, in words. Absent: the speeds (`speeds`).

use bitworth_eval::record::OWN_ENGINE;

use crate::speeds::Timed;
use crate::summary::Summary;

/// What the speeds of rows are of, in a sentence a kind; nothing where this program timed the lanes themselves.
pub(crate) fn notes(rows: &[Summary]) -> Vec<String> {
    let mut kinds: Vec<(&Timed, bool)> = Vec::new();
    for row in rows {
        let own = row.timed.iter().map(|timed| (timed, true));
        for kind in own.chain(row.other_speeds.iter().map(|speeds| (&speeds.timed, false))) {
            if !kinds.iter().any(|(timed, is_own)| timed.is_of_one_column(kind.0) && *is_own == kind.1) {
                kinds.push(kind);
            }
        }
    }
    let say = |(timed, is_own): &(&Timed, bool)| {
        let columns = if *is_own { "decode and prefill" } else { "the speeds that name it" };
        let shape = timed.shape.as_ref().map(|shape| {
            format!(
                " on models of the shape {shape} with random weights in each lane's types, and not of the lanes themselves: a \
                 small model fits into the processor's cache, and its speed says nothing of larger ones"
            )
        });
        let device = timed.device.as_ref().map(|device| format!(" on {device}, and not on the device of the scores"));
        match (timed.engine.as_str(), device, shape) {
            (OWN_ENGINE, None, None) => None,
            (engine, device, shape) => {
                Some(format!("{columns}: of {engine}{}{}", device.unwrap_or_default(), shape.unwrap_or_default()))
            }
        }
    };
    kinds.iter().filter_map(say).collect()
}

/// How the speeds of all rows are called in a chart: ` of a llama-1b-shaped model in llama-bench`.
pub(crate) fn subject_words(rows: &[Summary]) -> String {
    let first = rows.iter().find_map(|row| row.timed.as_ref());
    let shape = first.and_then(|timed| timed.shape.as_ref()).map(|shape| format!(" of a {shape}-shaped model"));
    let engine = first.filter(|timed| timed.engine != OWN_ENGINE).map(|timed| format!(" in {}", timed.program()));
    let device = first.and_then(|timed| timed.device.as_ref()).map(|device| format!(" on {device}"));
    shape.into_iter().chain(engine).chain(device).collect()
}
