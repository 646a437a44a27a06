//! What units of a model lose in each type: one row a unit and type, as a measurement leaves them and an allocation reads them.
//! Absent: measuring (`bitworth-measure`), files (see [`crate::records::sensitivity`]).

/// The name of what stands for all units of a model in one type together, among its units.
pub const TOGETHER: &str = "all";

/// What a table as a whole is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensitivityOrigin {
    /// This program's version.
    pub bitworth: String,
    /// Tells the model from all others (SHA-256 of its files' hashes, its tensors and hyper-parameters).
    pub model_sha256: String,
    /// SHA-256 of the text.
    pub text_sha256: String,
    /// SHA-256 of the importance weights that types were encoded by.
    pub imatrix_sha256: Option<String>,
    /// Tokens of the text that were run.
    pub tokens: u64,
    /// Tokens in a window.
    pub ctx: u32,
}

/// One unit of a model in one type, everything else as it was; or all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensitivity {
    /// The unit, as `attn_qk`, or [`TOGETHER`].
    pub unit: String,
    /// The block; `None` for embedding and head.
    pub block: Option<u32>,
    /// The type, in lower case.
    pub to: String,
    /// Bytes of its tensors in that type, padding included.
    pub bytes: u64,
    /// Squared error of what its matrices put out, as a share of the square of that.
    pub err: f64,
    /// Mean KL divergence of the model from the reference; `None` where it was not measured in this type.
    pub kld: Option<f64>,
    /// Its standard error by windows; `None` with one window.
    pub kld_error: Option<f64>,
    /// Whether the divergence is a share of one that was measured for its whole block.
    pub shared: bool,
}

/// A whole table.
#[derive(Debug, Clone, PartialEq)]
pub struct SensitivityTable {
    /// What it is of.
    pub origin: SensitivityOrigin,
    /// Its rows.
    pub rows: Vec<Sensitivity>,
}

impl Sensitivity {
    /// Whether it is of one unit.
    pub fn is_alone(&self) -> bool {
        self.unit != TOGETHER
    }
}
