//! Lanes that several calls of the program measured: whether their descriptions are of the same files, and the timings of files
//! that another call scored. Computes no figure.

use bitworth_eval::record::LaneRecord;

use crate::gathered::GatheredLane;

/// One thing in which two descriptions differ: what it is, and both values.
type Difference = (&'static str, String, String);

/// The name of a file or folder, whichever system its path is of.
pub fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(path)
}

/// That of a lane, wherever it stands.
fn file_name(lane: &LaneRecord) -> Option<&str> {
    lane.file.as_deref().map(base_name)
}

/// In what two descriptions contradict each other as being of the same files. What one of them does not say contradicts nothing,
/// and neither does another folder or being the reference: a call that times knows none.
pub fn differences(own: &LaneRecord, other: &LaneRecord) -> Vec<Difference> {
    let values = |lane: &LaneRecord| {
        [
            ("file", Some(file_name(lane).unwrap_or("none").to_owned())),
            ("recipe", Some(lane.recipe.clone())),
            ("bytes", Some(lane.bytes.to_string())),
            ("bits per weight", Some(lane.bpw.to_string())),
            ("types", lane.types.clone()),
            ("importance matrix", lane.imatrix.clone()),
            ("SHA-256", lane.sha256.clone()),
            ("tensors of another type than the recipe's", lane.fell_back.map(|count| count.to_string())),
            ("parts", lane.parts.map(|count| count.to_string())),
        ]
    };
    let both = values(own).into_iter().zip(values(other));
    let differing = both.filter_map(|((what, own), (_, other))| Some((what, own?, other?)));
    differing.filter(|(_, own, other)| own != other).collect()
}

/// Puts the timings of lanes that were only timed into the lanes that are the same files and were scored, by whichever model or
/// device: a file is as fast wherever its scores are from. Says why lanes of one name do not go together.
///
/// Files are told by name, sizes and types, and not by their bytes, which records of timings do not have. Those that are alike in
/// all of it are equally fast, so that no speed is wrong where they hold different weights; scores stay where they are.
pub fn join(lanes: Vec<GatheredLane<'_>>) -> (Vec<GatheredLane<'_>>, Vec<String>) {
    let (timed, mut kept): (Vec<_>, Vec<_>) = lanes.into_iter().partition(|lane| !lane.is_scored() && !lane.speeds.is_empty());
    let (mut alone, mut notes) = (Vec::new(), Vec::new());
    for lane in timed {
        let is_same = |other: &GatheredLane<'_>| {
            other.is_scored() && file_name(other.lane).is_some() && differences(lane.lane, other.lane).is_empty()
        };
        let places: Vec<usize> = (0..kept.len()).filter(|place| is_same(&kept[*place])).collect();
        for place in &places {
            kept[*place].speeds.extend_from_slice(&lane.speeds);
        }
        if places.is_empty() {
            notes.extend(why_apart(&lane, &kept));
            alone.push(lane);
        }
    }
    kept.extend(alone);
    (kept, notes)
}

/// In what a lane that was timed differs from one of its name that was scored; `None` where there is no such lane.
fn why_apart(timed: &GatheredLane<'_>, others: &[GatheredLane<'_>]) -> Option<String> {
    let name = file_name(timed.lane);
    let is_alike = |other: &&GatheredLane<'_>| {
        other.is_scored() && (other.key.lane == timed.key.lane || name.is_some() && file_name(other.lane) == name)
    };
    let scored = others.iter().find(is_alike)?;
    let differs = differences(timed.lane, scored.lane).into_iter();
    let differs: Vec<String> = differs.map(|(what, own, other)| format!("{what} (timed {own}, scored {other})")).collect();
    Some(format!(
        "Lane {} was timed and lane {} of {} scored, but they are not the same files: they differ in {}. Their figures stand in \
         rows of their own; time the files that were scored, and report again.",
        timed.key.lane,
        scored.key.lane,
        scored.key.model,
        differs.join(" and ")
    ))
}

#[cfg(test)]
mod tests {
    use crate::{Report, markdown, sheet, summarize};
    use bitworth_eval::record::{Body, Record};
    use bitworth_eval::sample;

    /// The sample as one call scored it, its reference a folder, and as another call timed its files, each a model of its own.
    fn scored_and_timed() -> (Vec<Record>, Vec<Record>) {
        let mut scored = sample::records();
        for record in &mut scored {
            if let Body::Lane(lane) = &mut record.body {
                lane.file.get_or_insert_with(|| "models/demo-model".to_owned());
                lane.fell_back = Some(0);
            }
        }
        let mut timed = scored.clone();
        scored.retain(|record| record.as_speed().is_none());
        timed.retain(|record| record.as_speed().is_some() || record.as_lane().is_some());
        for record in &mut timed {
            let name = if record.origin.lane == "bf16" { "demo-model" } else { record.origin.lane.as_str() };
            let name = name.to_owned();
            (record.origin.model, record.origin.lane) = (name.clone(), name);
            if let Body::Lane(lane) = &mut record.body {
                lane.file = lane.file.as_deref().map(|file| format!("/elsewhere/{}", file.trim_start_matches("models/")));
                (lane.is_reference, lane.fell_back) = (false, None);
            }
        }
        (scored, timed)
    }

    #[test]
    fn files_that_one_call_scored_and_another_timed_have_one_row() {
        let (scored, timed) = scored_and_timed();
        let whole = summarize(&sample::records()).unwrap();
        for records in [[scored.clone(), timed.clone()].concat(), [timed, scored].concat()] {
            let report = Report::new(&records).unwrap();
            assert!(report.rows.len() == whole.len() && report.notes.is_empty(), "{:?}", report.notes);
            for (row, one) in report.rows.iter().zip(&whole) {
                assert_eq!((&row.model, &row.lane, row.is_reference), (&one.model, &one.lane, one.is_reference));
                assert_eq!((row.ppl, row.kld), (one.ppl, one.kld), "{}", row.lane);
                assert_eq!((row.decode, row.prefill, &row.timed), (one.decode, one.prefill, &one.timed), "{}", row.lane);
            }
        }
    }

    #[test]
    fn a_reference_under_one_name_in_both_is_the_reference() {
        let (mut scored, mut timed) = scored_and_timed();
        scored.iter_mut().filter(|r| r.origin.lane == "bf16").for_each(|r| r.origin.lane = "demo-model".into());
        for records in [[scored.clone(), timed.clone()].concat(), [timed.clone(), scored.clone()].concat()] {
            let rows = summarize(&records).unwrap();
            assert!(rows.len() == 12 && rows[0].is_reference && rows[0].decode.is_some() && rows[0].ppl.is_some());
        }
        let timed_lane = timed.iter_mut().filter(|r| r.origin.lane == "demo-model");
        timed_lane.for_each(|r| {
            if let Body::Lane(lane) = &mut r.body {
                (lane.bytes, lane.recipe) = (7, "f32".into());
            }
        });
        let error = summarize(&[scored, timed].concat()).unwrap_err().to_string();
        assert!(error.contains("lane demo-model: is described twice, differently: in "), "{error}");
        assert!(error.contains("recipe (bf16 and f32)") && error.contains("bytes (4069936 and 7)"), "{error}");
        assert!(error.contains("report them one by one"), "{error}");
    }

    #[test]
    fn speeds_of_another_device_say_so_and_do_not_mix_with_those_of_the_own() {
        let (scored, timed) = scored_and_timed();
        let mut elsewhere = timed.clone();
        for record in &mut elsewhere {
            record.origin.device = "a GPU".into();
            if let Body::Speed(speed) = &mut record.body {
                speed.seconds /= 4.0;
            }
        }
        let report = Report::new(&[scored.clone(), elsewhere.clone()].concat()).unwrap();
        let (own, joined) = (summarize(&sample::records()).unwrap(), &report.rows);
        assert_eq!(joined.len(), own.len());
        for (row, one) in joined.iter().zip(&own) {
            assert_eq!((row.timed_on(), row.device.as_str()), (Some("a GPU"), one.device.as_str()));
            assert!((row.decode.unwrap().tps / one.decode.unwrap().tps - 4.0).abs() < 1e-9);
        }
        let table = sheet::table(joined);
        let place = table.columns.iter().position(|c| c.head == "timed on").unwrap();
        assert!(table.rows.iter().all(|row| row.cells[place].text == "a GPU"));
        assert!(table.notes.iter().any(|note| note.contains("on a GPU, and not on the device of the scores")), "{table:?}");
        let both = summarize(&[scored, timed, elsewhere].concat()).unwrap();
        for (row, one) in both.iter().zip(&own) {
            assert_eq!((row.decode, row.timed_on()), (one.decode, Some(one.device.as_str())));
            assert_eq!(row.other_speeds.len(), 1);
        }
        let heads: Vec<String> = sheet::table(&both).columns.into_iter().map(|c| c.head).collect();
        assert!(heads.contains(&"decode (bitworth, a GPU)".to_owned()) && !heads.contains(&"timed on".to_owned()), "{heads:?}");
    }

    #[test]
    fn files_that_differ_stay_apart_and_the_report_says_in_what() {
        let (scored, mut timed) = scored_and_timed();
        for record in timed.iter_mut().filter(|r| r.origin.lane == "q4_0") {
            if let Body::Lane(lane) = &mut record.body {
                lane.bytes += 1;
            }
        }
        let report = Report::new(&[scored, timed].concat()).unwrap();
        assert_eq!(report.rows.len(), 13);
        let [note] = &report.notes[..] else { panic!("{:?}", report.notes) };
        assert!(note.starts_with("Lane q4_0 was timed and lane q4_0 of demo-model scored, but"), "{note}");
        assert!(note.contains("they differ in bytes (timed 1247457, scored 1247456). Their"), "{note}");
        assert!(report.to_text().contains(note.as_str()));
        let page = markdown::render(&crate::contents::page(&report));
        assert!(page.contains("## Timed and scored apart") && page.contains("bytes (timed 1247457, scored 1247456)"), "{page}");
    }

    #[test]
    fn what_is_made_on_the_fly_is_no_file() {
        let (mut scored, timed) = scored_and_timed();
        for record in scored.iter_mut().filter(|r| r.origin.lane == "q4_0") {
            if let Body::Lane(lane) = &mut record.body {
                lane.file = None;
            }
        }
        let report = Report::new(&[scored, timed].concat()).unwrap();
        assert!(report.notes[0].contains("file (timed demo-Q4_0.gguf, scored none)"), "{:?}", report.notes);
    }
}
