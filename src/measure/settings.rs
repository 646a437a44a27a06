//! What callers set of a measurement, as messages name it. Absent: the values (each stands with what it sets).

use bitworth_quant::message::Setting;

/// Sequences at once: [`crate::timing::Workload::batch`].
pub const BATCH: Setting = Setting::new("batch");
/// How many windows of a text, the first ones.
pub const CHUNKS: Setting = Setting::new("chunks");
/// Tokens in a window of a text.
pub const CTX: Setting = Setting::new("ctx");
/// [`crate::timing::Workload::delay`].
pub const DELAY: Setting = Setting::new("delay");
/// The first window of a text that an importance matrix is collected on.
pub const FROM_CHUNK: Setting = Setting::new("from_chunk");
/// The program that [`crate::timing::LlamaBench`] runs.
pub const LLAMA_BENCH: Setting = Setting::new("llama_bench");
/// `Job::noise_floor` of `bitworth_eval::job`.
pub const NOISE_FLOOR: Setting = Setting::new("noise_floor");
/// How a store keeps numbers: [`crate::reference::store::HiddenType`].
pub const REFERENCE_TYPE: Setting = Setting::new("reference_type");
/// `Job::requests` of `bitworth_eval::job`.
pub const REQUESTS: Setting = Setting::new("requests");
/// [`crate::imatrix::Collect::second_moment`].
pub const SECOND_MOMENT: Setting = Setting::new("second_moment");

/// All of them.
pub const SETTINGS: &[Setting] =
    &[BATCH, CHUNKS, CTX, DELAY, FROM_CHUNK, LLAMA_BENCH, NOISE_FLOOR, REFERENCE_TYPE, REQUESTS, SECOND_MOMENT];
