//! Whether models can be timed in turn: they must fit into memory together.

use bitworth_quant::message::Message;

use super::Workload;
use crate::device::Device;
use crate::error::{Error, Result};
use bitworth_engine::model::Variant;

/// How many of `variants` are timed in turn, all or one, and what the user should know of that.
///
/// # Errors
/// Keys and values that do not fit into memory.
pub fn groups(device: &Device, variants: &[Variant], load: &Workload, sequential: bool) -> Result<(usize, Option<Message>)> {
    let together = fit_together(device, variants, load)?;
    let note = "the models do not fit into memory together: one is timed after the other";
    let note = (!together && variants.len() > 1).then(|| note.into());
    Ok((if sequential || !together { 1 } else { variants.len().max(1) }, note))
}

/// Whether weights and caches of all models fit into nine tenths of what is free.
fn fit_together(device: &Device, variants: &[Variant], load: &Workload) -> Result<bool> {
    let free = device.free_memory();
    let mut needed = 0u64;
    for variant in variants {
        let cache = load.cache_bytes(variant.hparams());
        // A cache is not mapped from a file: the system cannot give way.
        if let Some(free) = free.filter(|&free| cache > free) {
            let [cache, free] = [cache, free].map(|bytes| bytes as f64 / f64::from(1 << 30));
            return Err(Error::unfit(format!(
                "{}: keys and values of that depth and batch take {cache:.1} GiB, and {free:.1} are free",
                variant.checkpoint().name()
            )));
        }
        needed = needed.saturating_add(variant.bytes()).saturating_add(cache);
    }
    Ok(free.is_none_or(|free| needed < free / 10 * 9))
}
