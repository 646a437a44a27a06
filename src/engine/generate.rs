//! Decoding with resident weights and a key/value cache: for `generate`, for tasks that need text, and for timing.
//!
//! Absent: sampling rules and stop strings (see `eval` and `runner`): a step gives logits or the greedy choice.

use std::sync::Arc;

use super::backend::{Backend, TileShape};
use super::error::{EngineError, Result};
use super::forward::{self, Batch, Graph, KvCache, Rows, Workspace};
use super::model::{self, Block, OutputHead, Variant};

/// Most rows of a prompt that go through the model at once.
const PROMPT_ROWS: usize = 512;
/// Up to this many rows a step reads weights once at the speed of memory.
const FEW_ROWS: usize = 4;

/// A model ready to speak: its weights on the device and room for some sequences of up to `context` tokens.
pub struct Generator<'a, B: Backend> {
    backend: &'a B,
    /// The model's name, for errors.
    name: String,
    graph: Graph<B>,
    embedding: Arc<B::Weight>,
    blocks: Vec<Block<B>>,
    head: OutputHead<B>,
    caches: Vec<KvCache<B>>,
    workspace: Workspace<B>,
    x: B::Buffer,
    context: usize,
    /// Tokens each sequence has in the cache.
    used: Vec<usize>,
}

impl<'a, B: Backend> Generator<'a, B> {
    /// Loads all weights and makes room for `sequences` sequences of `context` tokens each.
    ///
    /// # Errors
    /// A model that cannot be read, or a device without the memory.
    pub fn new(backend: &'a B, variant: &Variant, context: usize, sequences: usize) -> Result<Self> {
        let graph = Graph::new(backend, variant, context)?;
        let h = graph.hparams().clone();
        let capacity = context * sequences;
        let rows = PROMPT_ROWS.min(context).max(sequences);
        let cache = || -> Result<KvCache<B>> {
            Ok(KvCache {
                k: backend.alloc(capacity * h.head_count_kv * h.head_dim)?,
                v: backend.alloc(capacity * h.head_count_kv * h.value_dim)?,
            })
        };
        let embedding = Arc::new(model::load_embedding(backend, variant)?);
        Ok(Self {
            backend,
            name: variant.checkpoint().name().to_owned(),
            blocks: (0..h.block_count).map(|i| Block::load(backend, variant, i)).collect::<Result<_>>()?,
            head: OutputHead::load(backend, variant, Some(&embedding))?,
            embedding,
            caches: (0..h.block_count).map(|_| cache()).collect::<Result<_>>()?,
            workspace: Workspace::new(backend, &h, rows)?,
            x: backend.alloc(rows * h.embedding_length)?,
            graph,
            context,
            used: vec![0; sequences],
        })
    }

    /// Forgets what every sequence said.
    pub fn clear(&mut self) {
        self.used.fill(0);
    }

    /// Tokens that still fit into sequence `index`.
    pub fn room(&self, index: usize) -> usize {
        self.context - self.used[index]
    }

    /// Feeds a prompt into sequence `index`, without looking at its predictions.
    ///
    /// # Errors
    /// A prompt longer than the room, or a device that fails.
    pub fn prefill(&mut self, index: usize, tokens: &[u32]) -> Result<()> {
        for part in tokens.chunks(PROMPT_ROWS) {
            self.step(&[(index, part)])?;
        }
        Ok(())
    }

    /// Feeds a prompt into sequence `index` and returns the logits behind its last token.
    ///
    /// # Errors
    /// As [`Generator::prefill`]; an empty prompt.
    pub fn logits(&mut self, index: usize, tokens: &[u32]) -> Result<Vec<f32>> {
        self.prefill(index, tokens)?;
        let row = self.last_rows(&[self.last_row(tokens)?])?;
        let vocab = self.head.output.rows;
        let mut out = self.backend.alloc(vocab)?;
        self.backend.matvec(&row, 1, &self.head.output.weight, 0..vocab, &mut out)?;
        Ok(self.backend.read(&out, 0..vocab)?)
    }

    /// Feeds tokens into sequence `index` and returns the likeliest next one.
    ///
    /// # Errors
    /// As [`Generator::logits`].
    pub fn greedy(&mut self, index: usize, tokens: &[u32]) -> Result<u32> {
        self.prefill(index, tokens)?;
        Ok(self.argmax(&[self.last_row(tokens)?])?[0])
    }

    /// One token for every sequence; returns the likeliest next ones.
    ///
    /// # Errors
    /// A sequence without room, or a device that fails.
    pub fn greedy_each(&mut self, tokens: &[u32]) -> Result<Vec<u32>> {
        let input: Vec<(usize, &[u32])> = tokens.chunks(1).enumerate().collect();
        self.step(&input)?;
        self.argmax(&(0..tokens.len()).collect::<Vec<_>>())
    }

    /// Waits until the device has done everything asked so far.
    ///
    /// # Errors
    /// A device that fails.
    pub fn synchronize(&self) -> Result<()> {
        Ok(self.backend.synchronize()?)
    }

    /// Where the last token of a prompt stands in the step that it was part of.
    fn last_row(&self, tokens: &[u32]) -> Result<usize> {
        let last = tokens.len().checked_sub(1).map(|last| last % PROMPT_ROWS);
        last.ok_or_else(|| EngineError::Unfit { model: self.name.clone(), what: "a prompt has no tokens".into() })
    }

    fn argmax(&self, rows: &[usize]) -> Result<Vec<u32>> {
        let normed = self.last_rows(rows)?;
        let (count, vocab) = (rows.len(), self.head.output.rows);
        let mut logits = self.backend.alloc(count * vocab)?;
        if count <= FEW_ROWS {
            self.backend.matvec(&normed, count, &self.head.output.weight, 0..vocab, &mut logits)?;
        } else {
            self.backend.matmul(&normed, count, &self.head.output.weight, 0..vocab, &mut logits)?;
        }
        let mut state = self.backend.head_state(count)?;
        let targets = self.backend.indices(&vec![0; count])?;
        let tile = TileShape { rows: count, cols: vocab, first_token: 0 };
        self.backend.head_tile(&logits, None, tile, &targets, &mut state)?;
        Ok(self.backend.read_head(&state)?.iter().map(|row| row.argmax).collect())
    }

    /// Rows of the last step, behind the final norm.
    fn last_rows(&self, rows: &[usize]) -> Result<B::Buffer> {
        let width = self.graph.hparams().embedding_length;
        let picks = self.backend.indices(&rows.iter().map(|&r| r as u32).collect::<Vec<_>>())?;
        let mut picked = self.backend.alloc(rows.len() * width)?;
        self.backend.gather(&self.x, &picks, rows.len(), width, &mut picked)?;
        let mut normed = self.backend.alloc(rows.len() * width)?;
        forward::norm(self.backend, &self.graph, &picked, rows.len(), &self.head.norm, &mut normed)?;
        Ok(normed)
    }

    /// Runs the model over new tokens of some sequences; the last hidden states stay in `x`.
    fn step(&mut self, input: &[(usize, &[u32])]) -> Result<()> {
        let (mut tokens, mut positions, mut spans, mut writes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for &(index, new) in input {
            self.check(index, new)?;
        }
        for &(index, new) in input {
            let (base, used) = (index * self.context, self.used[index]);
            writes.push((tokens.len(), base + used, new.len()));
            for (i, &token) in new.iter().enumerate() {
                tokens.push(token);
                positions.push((used + i) as u32);
                spans.extend([base as u32, (base + used + i + 1) as u32]);
            }
        }
        let backend = self.backend;
        let batch = Batch { rows: tokens.len(), positions: backend.indices(&positions)?, spans: backend.indices(&spans)? };
        let rows = if batch.rows <= FEW_ROWS { Rows::Few } else { Rows::Many };
        backend.embed(&self.embedding, &backend.indices(&tokens)?, batch.rows, &mut self.x)?;
        for (weights, cache) in self.blocks.iter().zip(&mut self.caches) {
            let cache = Some((cache, writes.as_slice()));
            forward::block(backend, &self.graph, weights, &batch, cache, rows, &mut self.workspace, &mut self.x)?;
        }
        for &(index, new) in input {
            self.used[index] += new.len();
        }
        Ok(())
    }

    /// Whether sequence `index` can take these tokens.
    fn check(&self, index: usize, new: &[u32]) -> Result<()> {
        let unfit = |what| Err(EngineError::Unfit { model: self.name.clone(), what });
        let vocab = self.graph.hparams().vocab_size;
        match new.iter().find(|&&token| token as usize >= vocab) {
            Some(token) => unfit(format!("token {token} is outside the vocabulary of {vocab}")),
            None if new.is_empty() => unfit("a prompt has no tokens".into()),
            None if new.len() > self.room(index) => {
                unfit(format!("{} tokens do not go behind {} of a context of {}", new.len(), self.used[index], self.context))
            }
            None => Ok(()),
        }
    }
}
