//! One decoder block: the only forward function there is. What differs between architectures is a field of
//! [`BlockTraits`] or the presence of a tensor.
//!
//! It knows neither files nor layers' order: `sweep` walks it layer by layer over a data set, `generate` token by token.

use quant::HParams;
use quant::arch::{BlockTraits, Mlp, Norm};
use quant::hparams::RopeScaling;

use super::backend::{AttentionShape, Backend};
use super::error::{EngineError, Result};
use super::model::{Block, Linear, Variant};

/// Which matmul a step wants: many rows, each computed alone (scoring), or few rows at the speed of memory (decoding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// [`Backend::matmul`]
    Many,
    /// [`Backend::matvec`]
    Few,
}

/// The constants of a model that every block uses.
pub struct Graph<B: Backend> {
    traits: &'static BlockTraits,
    hparams: HParams,
    rope_table: B::Buffer,
}

impl<B: Backend> Graph<B> {
    /// For sequences of up to `positions` tokens.
    pub fn new(backend: &B, variant: &Variant, positions: usize) -> Result<Self> {
        let traits = variant.checkpoint().block_traits()?;
        let hparams = variant.hparams().clone();
        if hparams.value_dim != hparams.head_dim {
            return Err(EngineError::Unfit {
                model: variant.checkpoint().path().display().to_string(),
                what: format!(
                    "value heads of width {} beside key heads of {} are not supported",
                    hparams.value_dim, hparams.head_dim
                ),
            });
        }
        let stretch = match hparams.rope_scaling {
            RopeScaling::None => 1.0,
            RopeScaling::Linear { factor } => factor,
            scaling @ (RopeScaling::Yarn | RopeScaling::LongRope) => {
                let what = format!("rotary scaling of the kind {scaling:?} is not supported");
                return Err(EngineError::Unfit { model: variant.checkpoint().path().display().to_string(), what });
            }
        };
        let table = rope_table(&hparams, stretch, variant.rope_factors()?.as_deref(), positions);
        Ok(Self { traits, rope_table: backend.upload(&table)?, hparams })
    }

    /// The model's hyper-parameters.
    pub fn hparams(&self) -> &HParams {
        &self.hparams
    }
}

/// `cos, sin` of every pair at every position: `[positions, rope_dim / 2, 2]` (Su et al. 2021).
///
/// Frequencies and angles are rounded to f32 as the reference implementation does; the functions themselves run in f64 from a
/// library that gives the same bits everywhere.
fn rope_table(h: &HParams, stretch: f32, factors: Option<&[f32]>, positions: usize) -> Vec<f32> {
    let pairs = h.rope_dim / 2;
    let frequencies: Vec<f32> = (0..pairs)
        .map(|i| {
            let exponent = (2 * i) as f32 / h.rope_dim as f32;
            let frequency = 1.0 / libm::pow(f64::from(h.rope_freq_base), f64::from(exponent)) as f32;
            frequency / factors.and_then(|f| f.get(i)).copied().unwrap_or(1.0) / stretch
        })
        .collect();
    (0..positions)
        .flat_map(|position| {
            frequencies.iter().flat_map(move |frequency| {
                let angle = f64::from(position as f32 * frequency);
                [libm::cos(angle) as f32, libm::sin(angle) as f32]
            })
        })
        .collect()
}

/// Where the rows of one step stand.
pub struct Batch<B: Backend> {
    /// Number of rows T.
    pub rows: usize,
    /// Position of each row in its sequence.
    pub positions: B::Indices,
    /// For each row the first and the one-past-last key row that it sees.
    pub spans: B::Indices,
}

/// Keys and values of earlier steps, for one block.
pub struct KvCache<B: Backend> {
    /// `[capacity, kv_heads * head_dim]`
    pub k: B::Buffer,
    /// `[capacity, kv_heads * value_dim]`
    pub v: B::Buffer,
}

/// Copies of a step's new keys and values into a cache: `(row of the step, row of the cache, rows)`.
pub type CacheWrites = [(usize, usize, usize)];

/// Buffers that every block of a step reuses.
pub struct Workspace<B: Backend> {
    normed: B::Buffer,
    q: B::Buffer,
    k: B::Buffer,
    v: B::Buffer,
    attended: B::Buffer,
    projected: B::Buffer,
    gate: B::Buffer,
    up: B::Buffer,
}

impl<B: Backend> Workspace<B> {
    /// For steps of up to `rows` rows.
    pub fn new(backend: &B, h: &HParams, rows: usize) -> Result<Self> {
        let buffer = |columns: usize| backend.alloc(rows * columns);
        Ok(Self {
            normed: buffer(h.embedding_length)?,
            q: buffer(h.head_count * h.head_dim)?,
            k: buffer(h.head_count_kv * h.head_dim)?,
            v: buffer(h.head_count_kv * h.value_dim)?,
            attended: buffer(h.head_count * h.value_dim)?,
            projected: buffer(h.embedding_length)?,
            gate: buffer(h.feed_forward_length)?,
            up: buffer(h.feed_forward_length)?,
        })
    }

    /// The widest buffer's columns: what limits the rows of a step.
    pub fn widest(h: &HParams) -> usize {
        [h.embedding_length, h.head_count * h.head_dim, h.head_count * h.value_dim, h.feed_forward_length]
            .into_iter()
            .max()
            .unwrap_or(1)
    }
}

fn linear<B: Backend>(backend: &B, rows: Rows, x: &B::Buffer, count: usize, w: &Linear<B>, out: &mut B::Buffer) -> Result<()> {
    match rows {
        Rows::Many => backend.matmul(x, count, &w.weight, 0..w.rows, out)?,
        Rows::Few => backend.matvec(x, count, &w.weight, 0..w.rows, out)?,
    }
    if let Some(bias) = &w.bias {
        backend.add_bias(out, count, bias)?;
    }
    Ok(())
}

/// The norm that the architecture uses: `[T, H] -> [T, H]`.
pub fn norm<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    x: &B::Buffer,
    rows: usize,
    gain: &B::Weight,
    out: &mut B::Buffer,
) -> Result<()> {
    match graph.traits.norm {
        Norm::Rms => backend.rms_norm(x, rows, gain, graph.hparams.norm_epsilon, out)?,
    }
    Ok(())
}

/// Runs one block over the rows of `batch`, in place: `x [T, H] -> [T, H]`.
///
/// Without a cache the spans count rows of this very step; with one they count rows of the cache, after `writes` were made.
#[allow(clippy::too_many_arguments)]
pub fn block<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    weights: &Block<B>,
    batch: &Batch<B>,
    cache: Option<(&mut KvCache<B>, &CacheWrites)>,
    rows: Rows,
    ws: &mut Workspace<B>,
    x: &mut B::Buffer,
) -> Result<()> {
    let (h, count) = (&graph.hparams, batch.rows);
    norm(backend, graph, x, count, &weights.attn_norm, &mut ws.normed)?;
    linear(backend, rows, &ws.normed, count, &weights.q, &mut ws.q)?;
    linear(backend, rows, &ws.normed, count, &weights.k, &mut ws.k)?;
    linear(backend, rows, &ws.normed, count, &weights.v, &mut ws.v)?;
    let rope = |x: &mut B::Buffer, heads| {
        backend.rope(x, count, heads, h.head_dim, h.rope_dim, graph.traits.rope, &graph.rope_table, &batch.positions)
    };
    rope(&mut ws.q, h.head_count)?;
    rope(&mut ws.k, h.head_count_kv)?;
    let shape = AttentionShape {
        heads: h.head_count,
        kv_heads: h.head_count_kv,
        head_dim: h.head_dim,
        scale: 1.0 / (h.head_dim as f32).sqrt(),
    };
    let (k, v) = match cache {
        None => (&ws.k, &ws.v),
        Some((cache, writes)) => {
            let (wide_k, wide_v) = (h.head_count_kv * h.head_dim, h.head_count_kv * h.value_dim);
            for &(from, to, len) in writes {
                backend.copy(&ws.k, from * wide_k, &mut cache.k, to * wide_k, len * wide_k)?;
                backend.copy(&ws.v, from * wide_v, &mut cache.v, to * wide_v, len * wide_v)?;
            }
            (&cache.k, &cache.v)
        }
    };
    backend.attention(&ws.q, k, v, &batch.spans, count, shape, &mut ws.attended)?;
    linear(backend, rows, &ws.attended, count, &weights.attn_output, &mut ws.projected)?;
    backend.add(x, &ws.projected, count * h.embedding_length)?;

    norm(backend, graph, x, count, &weights.ffn_norm, &mut ws.normed)?;
    match graph.traits.mlp {
        Mlp::SwiGlu => {
            linear(backend, rows, &ws.normed, count, &weights.gate, &mut ws.gate)?;
            linear(backend, rows, &ws.normed, count, &weights.up, &mut ws.up)?;
            backend.swiglu(&mut ws.gate, &ws.up, count * h.feed_forward_length)?;
        }
    }
    linear(backend, rows, &ws.gate, count, &weights.down, &mut ws.projected)?;
    backend.add(x, &ws.projected, count * h.embedding_length)?;
    Ok(())
}
