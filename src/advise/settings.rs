//! What callers set of an advice or a forecast, as messages name it. Absent: the values (see `request`, `memory` and `speed`).

use bitworth_quant::message::Setting;

/// A backend: [`crate::request::AdviceRequest::backend`], or a column of a table of measurements.
pub const BACKEND: Setting = Setting::new("backend");
/// [`crate::memory::Usage::sequences`].
pub const BATCH: Setting = Setting::new("batch");
/// A column of a table of measurements.
pub const COLUMN: Setting = Setting::new("column");
/// [`crate::request::AdviceRequest::context`].
pub const CONTEXT: Setting = Setting::new("context");
/// [`crate::request::AdviceRequest::hardware`].
pub const HARDWARE: Setting = Setting::new("hardware");
/// [`crate::request::AdviceRequest::max_kld`].
pub const MAX_KLD: Setting = Setting::new("max_kld");
/// [`crate::request::AdviceRequest::min_tps`].
pub const MIN_TPS: Setting = Setting::new("min_tps");
/// [`crate::request::AdviceRequest::models`].
pub const MODEL: Setting = Setting::new("model");
/// The size of a model's file: a column of a table of measurements.
pub const MODEL_FILE_GIB: Setting = Setting::new("model_file_gib");
/// A table of measurements.
pub const ROWS: Setting = Setting::new("rows");
/// [`crate::memory::Usage::runtime`].
pub const RUNTIME: Setting = Setting::new("runtime");

/// All of them.
pub const SETTINGS: &[Setting] =
    &[BACKEND, BATCH, COLUMN, CONTEXT, HARDWARE, MAX_KLD, MIN_TPS, MODEL, MODEL_FILE_GIB, ROWS, RUNTIME];
