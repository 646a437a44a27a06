//! What a device must be able to do to run a model: some twenty operations on device buffers.
//!
//! One forward function (`forward/mod.rs`) calls these and nothing else, so the CPU and every GPU run the same graph. Absent on
//! purpose: layers, architectures, sequences as objects, files. An operation sees rows of numbers and index lists.
//!
//! Shapes: T rows (tokens), H hidden, N output columns, K input columns, V vocabulary. All activations are f32, row-major,
//! without padding. Weights stay encoded as they are stored; the operation decodes them, so that what is measured is the
//! file and not a rounding of ours. Every operation computes each row independently of how many rows come with it: on one
//! device, batches of any size give the same bits (decoding has operations of its own: [`Backend::matvec`],
//! [`Backend::attention_few`]).

mod adapter;
mod runs;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use bitworth_quant::DType;
pub use bitworth_quant::arch::{Norm, RopePairing};
use bitworth_quant::checkpoint::TensorBytes;
use bitworth_quant::message::{Message, Setting};
use serde::Serialize;

pub use self::adapter::{AdapterDescription, GpuSelector};
pub use self::runs::{Run, RunList};

/// Why a device could not do something: out of memory, lost, over one of its limits.
#[derive(Debug, thiserror::Error)]
pub struct DeviceError {
    /// The device's name.
    pub device: String,
    /// What failed and what to do.
    pub what: Message,
}

impl DeviceError {
    /// All of what it says.
    pub fn message(&self) -> Message {
        Message::from(format!("device {}: ", self.device)).then(&self.what)
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

/// Which device runs a model: `cpu`, `gpu`.
pub const DEVICE: Setting = Setting::new("device");
/// An [`Arithmetic`].
pub const ARITHMETIC: Setting = Setting::new("arithmetic");

/// Shorthand for a device operation's result.
pub type Result<T> = std::result::Result<T, DeviceError>;

/// What kind of processor a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Our own CPU backend.
    Cpu,
    /// A graphics processor with its own memory.
    DiscreteGpu,
    /// A graphics processor that shares the machine's memory.
    IntegratedGpu,
    /// A GPU interface computed on the CPU (lavapipe, SwiftShader, WARP): for tests, never picked by itself.
    SoftwareGpu,
    /// Anything else the driver reports.
    OtherGpu,
}

/// A device as it is written into every record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Marketing name, as the driver or the processor gives it.
    pub name: String,
    /// `cpu`, `vulkan`, `metal` or `dx12`.
    pub api: String,
    /// Kind of processor.
    pub kind: DeviceKind,
    /// Driver name and version, or the instruction set that the CPU kernels use.
    pub driver: String,
}

/// How the products of activations with matrices are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// f32 activations times the weights as stored: what is measured is the file alone.
    #[default]
    F32,
    /// Activations rounded to 8 bits in blocks of 32, as llama.cpp's CPU kernels do with weights that are integers times a
    /// scale; with other weights as [`Arithmetic::F32`].
    Q8,
}

impl Arithmetic {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Q8];

    /// Name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Q8 => "q8",
        }
    }
}

impl FromStr for Arithmetic {
    type Err = bitworth_quant::Error;

    fn from_str(s: &str) -> bitworth_quant::Result<Self> {
        let found = Self::ALL.into_iter().find(|arithmetic| arithmetic.name() == s);
        found.ok_or_else(|| bitworth_quant::Error::unknown("arithmetic", s, Self::ALL.map(Self::name)))
    }
}

/// An encoded tensor on its way to a device: `rows` x `cols` weights, each row stored in whole blocks of `dtype`.
pub struct HostTensor {
    /// Encoding of the bytes.
    pub dtype: DType,
    /// Rows (output columns N of a matmul; vocabulary entries of an embedding).
    pub rows: usize,
    /// Columns (input columns K).
    pub cols: usize,
    /// `rows * dtype.row_bytes(cols)` bytes.
    pub bytes: TensorBytes,
}

/// The geometry of one attention call. Query head `h` reads key/value head `h / (heads / kv_heads)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of one query or key head.
    pub head_dim: usize,
    /// Width of one value head.
    pub value_dim: usize,
    /// Factor on q.k before the softmax.
    pub scale: f32,
    /// Scaled scores s become `c tanh(s / c)` with this c; 0 where they stay as they are.
    pub softcap: f32,
}

/// Which components of which rows a rotary embedding turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeShape {
    /// Rows T.
    pub rows: usize,
    /// Heads of a row.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// The first rotated component of a head.
    pub first: usize,
    /// Rotated components: an even number.
    pub dim: usize,
    /// Which of them form a pair.
    pub pairs: RopePairing,
}

/// A function of two numbers, the gate and what it lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `silu(g) * u` (Shazeer 2020).
    Silu,
    /// `gelu(g) * u`, with the tanh form of GELU.
    Gelu,
    /// gpt-oss's: `g * sigmoid(1.702 g) * (u + 1)` with g at most 7 and u from -7 to 7.
    ClampedSilu,
    /// `sigmoid(g) * u`: what lets outputs of attention and of shared experts through.
    Sigmoid,
    /// `g * u`: the gates of short convolutions.
    Product,
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Map {
    /// The tanh form of GELU (Hendrycks and Gimpel 2016).
    Gelu,
    /// Times this.
    Scale(f32),
    /// `c tanh(x / c)` with this c.
    Softcap(f32),
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)^2` (So et al. 2021).
    ReluSquared,
    /// xIELU (Huang and Schlag 2024): `alpha_p x^2 + beta x` above 0, else `alpha_n (expm1(min(x, eps)) - x) + beta x`. The
    /// alphas are what the softplus of the learned ones gives, `beta` added for `alpha_n`.
    #[allow(missing_docs)]
    Xielu { alpha_p: f32, alpha_n: f32, beta: f32, eps: f32 },
}

/// What attention reads; the shapes are those of [`Backend::attention`].
pub struct AttentionInputs<'a, B: Backend + ?Sized> {
    /// Queries.
    pub q: &'a B::Buffer,
    /// Keys.
    pub k: &'a B::Buffer,
    /// Values.
    pub v: &'a B::Buffer,
    /// For each query row the first and the one-past-last key row that it sees: `[T, 2]`.
    pub spans: &'a B::Indices,
    /// Scores of keys without values, one a head.
    pub sinks: Option<&'a B::Buffer>,
}

/// Where [`Backend::argmax`] puts what it chooses.
pub struct Choices<'a, B: Backend + ?Sized> {
    /// `[T]`, for the next embedding: the column; 0 for a row that has none.
    pub next: &'a mut B::Indices,
    /// From `log_at` on: the same; for a row that has none, the number of columns.
    pub log: &'a mut B::Indices,
    /// See there.
    pub log_at: usize,
}

/// What the sums of [`Backend::combine`] are made of.
pub struct Terms<'a, B: Backend + ?Sized> {
    /// The rows that are summed.
    pub x: &'a B::Buffer,
    /// `[T, per_row]`: which of them.
    pub slots: &'a B::Indices,
    /// `[T, per_row]`: their weights.
    pub weights: &'a B::Buffer,
}

/// The geometry of [`Backend::combine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CombineShape {
    /// Rows T of the output.
    pub rows: usize,
    /// Terms of each of them.
    pub per_row: usize,
    /// Columns of a row.
    pub cols: usize,
    /// Whether the sums are added to what stands there.
    pub accumulate: bool,
}

/// What [`Backend::conv`] does to the rows of runs.
pub struct ConvFilter<'a, B: Backend + ?Sized> {
    /// `[C, K]`: the last column is for a row itself, those before it for the rows before.
    pub weight: &'a B::Weight,
    /// `[C]`
    pub bias: Option<&'a B::Buffer>,
    /// Whether `x sigmoid(x)` follows.
    pub silu: bool,
}

/// The linear recurrence of a mixer with a state: what its state S `[key_dim, value_dim]` becomes with each row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Recurrence {
    /// That of gated delta nets (Yang et al. 2024): `S <- g S + k d^T` with `g = exp(a softplus(gate + dt_bias))` and
    /// `d = (v - g S^T k) sigmoid(beta)`; the output is `S^T q`.
    Delta,
    /// That of Mamba-2 (Dao and Gu 2024): with dt = softplus(gate + dt_bias), at least `dt_min` and at most `dt_max`,
    /// `S <- exp(dt a) S + k (dt v)^T`; the output is `S^T q + d v`.
    #[allow(missing_docs)]
    Scan { dt_min: f32, dt_max: f32 },
}

/// The geometry of [`Backend::recur`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecurShape {
    /// What is computed.
    pub kind: Recurrence,
    /// Heads, each with values, gates and a state of its own.
    pub heads: usize,
    /// Heads of keys and queries; divides `heads`.
    pub key_heads: usize,
    /// Width of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Head h has the keys of `h % key_heads` where they are tiled, else those of `h / (heads / key_heads)`.
    pub tiled: bool,
}

impl RecurShape {
    /// The keys of a head.
    pub(crate) fn key_head(&self, head: usize) -> usize {
        if self.tiled { head % self.key_heads } else { head / (self.heads / self.key_heads) }
    }
}

/// What [`Backend::recur`] reads; T rows, all tight.
pub struct RecurInputs<'a, B: Backend + ?Sized> {
    /// Queries (Mamba-2 calls them C): `[T, key_heads * key_dim]`.
    pub q: &'a B::Buffer,
    /// Keys (B of Mamba-2): the same.
    pub k: &'a B::Buffer,
    /// `[T, heads]`: alpha of delta nets, dt of Mamba-2, as projected.
    pub gate: &'a B::Buffer,
    /// `[T, heads]`, as projected; for [`Recurrence::Delta`], and not read else.
    pub beta: Option<&'a B::Buffer>,
    /// `[3, heads]`: `a` as GGUF has it (`-exp(A_log)`), `dt_bias`, and `d`, any numbers for [`Recurrence::Delta`].
    pub parameters: &'a B::Buffer,
}

/// Some neighbouring columns of the rows of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Columns of the matrix.
    pub stride: usize,
    /// The first of those meant.
    pub first: usize,
}

/// A copy of columns of one matrix to columns of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnCopy {
    /// Where they are read.
    pub from: Columns,
    /// Where they are written.
    pub to: Columns,
    /// Rows that are written.
    pub rows: usize,
    /// Columns that are copied.
    pub count: usize,
    /// Rows that take the same row: row t takes row `t / repeat`.
    pub repeat: usize,
}

/// Statistics of one scored row after all vocabulary tiles went through [`Backend::head_tile`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadRow {
    /// log sum exp of the row's logits.
    pub log_sum_exp: f64,
    /// Logit of the row's target token.
    pub target_logit: f64,
    /// Token with the largest logit; the smallest id among equals.
    pub argmax: u32,
    /// Tokens before the target: those with a larger logit, and those of a smaller id with the same one. 0 where the target is
    /// [`HeadRow::argmax`].
    pub rank: u32,
    /// Entropy of this lane's distribution in nats: `-sum p log p`.
    pub entropy: f64,
    /// KL(reference || this lane) in nats; 0 where the call had no reference.
    pub kld: f64,
    /// KL(this lane || reference) in nats; 0 where the call had no reference.
    pub reverse_kld: f64,
}

/// The tokens that the rows should predict.
pub struct Targets<'a, B: Backend + ?Sized> {
    /// Their ids: `[T]`.
    pub tokens: &'a B::Indices,
    /// Their logits, to the last bit those that the tiles will hold: `[T]`. A rank counts what lies above, from the first tile
    /// on.
    pub logits: &'a B::Buffer,
}

/// One vocabulary tile of logits: row t holds the logits of the tokens `first_token .. first_token + cols`.
#[derive(Debug, Clone, Copy)]
pub struct TileShape {
    /// Scored rows T.
    pub rows: usize,
    /// Tokens in this tile.
    pub cols: usize,
    /// Id of the first token.
    pub first_token: u32,
}

/// A device that runs models. See the module documentation for the conventions.
pub trait Backend: Send + Sync {
    /// f32 numbers on the device.
    type Buffer: Send + Sync;
    /// u32 numbers on the device (token ids, row numbers, positions).
    type Indices: Send + Sync;
    /// An encoded tensor on the device.
    type Weight: Send + Sync;
    /// The running statistics of [`Backend::head_tile`], one entry per row.
    type HeadState: Send + Sync;

    /// The device as records name it.
    fn info(&self) -> &DeviceInfo;

    /// The most f32 numbers one buffer may hold (the device's binding limit).
    fn max_buffer_len(&self) -> usize;

    /// The most rows that [`Backend::matvec`] is faster for than [`Backend::matmul`].
    fn few_rows(&self) -> usize {
        4
    }

    /// Rows of a chunk of a sweep, where memory has the room, that keep the device busy; 0 where caches want no more than a
    /// buffer of a given size.
    fn chunk_rows(&self) -> usize {
        0
    }

    /// Tokens to choose one after the other before they are read, where each is the likeliest behind the one before: more than
    /// one where a device works on by itself while nobody looks.
    fn tokens_ahead(&self) -> usize {
        1
    }

    /// Bytes of the device's own memory that buffers take now; `None` where the device has none of its own, or its interface does
    /// not count.
    fn allocated_bytes(&self) -> Option<u64> {
        None
    }

    /// A buffer of `len` numbers with undefined contents.
    fn alloc(&self, len: usize) -> Result<Self::Buffer>;
    /// A buffer holding `data`.
    fn upload(&self, data: &[f32]) -> Result<Self::Buffer>;
    /// An index list holding `data`.
    fn indices(&self, data: &[u32]) -> Result<Self::Indices>;
    /// A tensor as stored.
    fn weight(&self, tensor: HostTensor) -> Result<Self::Weight>;
    /// A matrix for [`Backend::matmul`], [`Backend::matvec`] and [`Backend::embed`], in the form that `arithmetic` wants.
    fn matrix(&self, tensor: HostTensor, arithmetic: Arithmetic) -> Result<Self::Weight> {
        self.check_arithmetic(arithmetic)?;
        self.weight(tensor)
    }
    /// Refuses an arithmetic that the device does not have.
    fn check_arithmetic(&self, arithmetic: Arithmetic) -> Result<()> {
        match arithmetic {
            Arithmetic::F32 => Ok(()),
            Arithmetic::Q8 => {
                let what = Message::from("it has no q8 arithmetic; use ").then(ARITHMETIC.with(Arithmetic::F32.name()));
                Err(DeviceError { device: self.info().name.clone(), what: what.then(", or ").then(DEVICE.with("cpu")) })
            }
        }
    }
    /// The arithmetic that text is made in and speed is measured in, unless asked otherwise: q8 where the device has it.
    fn decoding_arithmetic(&self) -> Arithmetic {
        if self.check_arithmetic(Arithmetic::Q8).is_ok() { Arithmetic::Q8 } else { Arithmetic::F32 }
    }
    /// `range` of a buffer, after everything submitted before.
    fn read(&self, buffer: &Self::Buffer, range: Range<usize>) -> Result<Vec<f32>>;
    /// Waits until everything submitted before is done (for timing).
    fn synchronize(&self) -> Result<()>;

    /// Row `tokens[t]` of `table`, decoded: `[V, H], [T] -> [T, H]`.
    fn embed(&self, table: &Self::Weight, tokens: &Self::Indices, count: usize, out: &mut Self::Buffer) -> Result<()>;

    /// Normalizes each row of as many numbers as `gain` has columns; row t takes the gains of row `t % G`:
    /// `[T, H], [G, H] -> [T, H]`. RMS norm is `x / sqrt(mean(x^2) + eps) * gain` (Zhang and Sennrich 2019), layer norm
    /// `(x - mean(x)) / sqrt(var(x) + eps) * gain` (Ba et al. 2016).
    fn norm(
        &self,
        kind: Norm,
        x: &Self::Buffer,
        rows: usize,
        gain: &Self::Weight,
        eps: f32,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// `out[t, n] = sum_k x[t, k] * w[w_rows.start + n, k]` for the rows t of `rows`: `[T, K] x [N, K]^T -> [T, N]` with
    /// N = `w_rows.len()`; other rows of `out` stay as they are.
    fn matmul(
        &self,
        x: &Self::Buffer,
        rows: Range<usize>,
        w: &Self::Weight,
        w_rows: Range<usize>,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// The same for the few rows of a decoding step, by a kernel that streams the weights once and may sum in another order
    /// than [`Backend::matmul`]; the order depends on neither `rows` nor the number of threads.
    fn matvec(
        &self,
        x: &Self::Buffer,
        rows: Range<usize>,
        w: &Self::Weight,
        w_rows: Range<usize>,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// `x[t, n] += bias[n]`, in place.
    fn add_bias(&self, x: &mut Self::Buffer, rows: usize, bias: &Self::Weight) -> Result<()>;

    /// `x[t] += table[index[t]]`, in place (learned positions, the biases of experts).
    fn add_rows(&self, x: &mut Self::Buffer, rows: usize, table: &Self::Weight, index: &Self::Indices) -> Result<()>;

    /// Rotates each head of each row by the angles of its position, in place. `table` holds `cos, sin` of every pair for
    /// every position: `[positions, dim / 2, 2]`; components outside of `first .. first + dim` stay as they are.
    fn rope(&self, x: &mut Self::Buffer, shape: RopeShape, table: &Self::Buffer, positions: &Self::Indices) -> Result<()>;

    /// Softmax attention: query row t sees the key/value rows `spans[2t] .. spans[2t + 1]` (never empty).
    /// `q [T, heads * d], k [*, kv_heads * d], v [*, kv_heads * e] -> [T, heads * e]`. `sinks [heads]` are scores of keys
    /// without values: they take their part of the softmax and add nothing (Xiao et al. 2023, as gpt-oss has them).
    fn attention(
        &self,
        inputs: AttentionInputs<'_, Self>,
        rows: usize,
        shape: AttentionShape,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// The same for the few rows of a decoding step, by kernels that may sum over the keys in another order, which depends on a
    /// row's own span alone.
    fn attention_few(
        &self,
        inputs: AttentionInputs<'_, Self>,
        rows: usize,
        shape: AttentionShape,
        out: &mut Self::Buffer,
    ) -> Result<()> {
        self.attention(inputs, rows, shape, out)
    }

    /// A causal convolution of each column along the rows of runs, in place: `x[t, c] <- f(sum_j w[c, j] x[t - (K - 1) + j, c] +
    /// bias[c])`, `[T, C] -> [T, C]`. The rows before a run's first are those that its slot of `state [slots, K - 1, C]` has,
    /// zero at the beginning of a sequence; the last K - 1 of what a run has convolved go into the slot that it leaves. Other
    /// rows of `x` stay as they are. How rows are cut into runs does not change results.
    fn conv(
        &self,
        x: &mut Self::Buffer,
        filter: ConvFilter<'_, Self>,
        runs: &RunList<Self>,
        state: &mut Self::Buffer,
    ) -> Result<()>;

    /// A [`Recurrence`] along the rows of runs, whose values `[T, heads * value_dim]` become its outputs in place. `state [slots,
    /// heads, key_dim, value_dim]` is as in [`Backend::conv`], and so is what is said there of rows and runs.
    fn recur(
        &self,
        inputs: RecurInputs<'_, Self>,
        shape: RecurShape,
        runs: &RunList<Self>,
        state: &mut Self::Buffer,
        values: &mut Self::Buffer,
    ) -> Result<()>;

    /// `gate <- f(gate, up)` over the first `len` numbers.
    fn gate(&self, f: Gate, gate: &mut Self::Buffer, up: &Self::Buffer, len: usize) -> Result<()>;

    /// `x <- f(x)` over the first `len` numbers.
    fn map(&self, f: Map, x: &mut Self::Buffer, len: usize) -> Result<()>;

    /// `x <- x + factor * y` over the first `len` numbers.
    fn add(&self, x: &mut Self::Buffer, y: &Self::Buffer, factor: f32, len: usize) -> Result<()>;

    /// `out[t] <- sum_j weights[t, j] * x[slots[t, j]]` (the outputs of experts): `[*, cols], [T, per_row] -> [T, cols]`.
    fn combine(&self, terms: Terms<'_, Self>, shape: CombineShape, out: &mut Self::Buffer) -> Result<()>;

    /// Copies columns of the rows of `src` to columns of the rows of `dst`; other columns stay as they are.
    fn copy_columns(&self, src: &Self::Buffer, dst: &mut Self::Buffer, copy: ColumnCopy) -> Result<()>;

    /// Copies `len` numbers from `src[src_at..]` to `dst[dst_at..]`.
    fn copy(&self, src: &Self::Buffer, src_at: usize, dst: &mut Self::Buffer, dst_at: usize, len: usize) -> Result<()>;

    /// `out[i] = x[rows[i]]`, rows of `cols` numbers.
    fn gather(&self, x: &Self::Buffer, rows: &Self::Indices, count: usize, cols: usize, out: &mut Self::Buffer) -> Result<()>;

    /// The likeliest column of each row of `logits [T, cols]`, the first of equals. A row with something that is no number, with
    /// an infinite one, or with nothing above negative infinity, has none.
    fn argmax(&self, logits: &Self::Buffer, shape: [usize; 2], out: Choices<'_, Self>) -> Result<()>;

    /// `range` of an index list, after everything submitted before.
    fn read_indices(&self, list: &Self::Indices, range: Range<usize>) -> Result<Vec<u32>>;

    /// Fresh statistics for `rows` rows.
    fn head_state(&self, rows: usize) -> Result<Self::HeadState>;

    /// Takes one tile of `logits` into `state`: running maximum and sum of exponentials, `sum p l` for the entropy, the
    /// arg-max, with `targets` the target's logit if it lies in the tile and how many tokens stand before it, and with
    /// `reference` (the reference lane's logits of the same tile) what the two KL divergences need: the running
    /// `sum p_ref (l_ref - l)` and `sum p (l - l_ref)`. Tiles come in ascending order and cover the vocabulary once; either
    /// all calls of a state have targets (a reference) or none.
    fn head_tile(
        &self,
        logits: &Self::Buffer,
        reference: Option<&Self::Buffer>,
        tile: TileShape,
        targets: Option<Targets<'_, Self>>,
        state: &mut Self::HeadState,
    ) -> Result<()>;

    /// The finished statistics, one per row.
    fn read_head(&self, state: &Self::HeadState) -> Result<Vec<HeadRow>>;
}
