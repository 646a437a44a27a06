//! Decoding with resident weights and a key/value cache: for `generate`, for tasks that need text, and for timing.
//!
//! Absent: sampling rules and stop strings (see `eval` and `measure`): a step gives logits or the greedy choice.

use super::backend::{Arithmetic, Backend, Choices, ColumnCopy, Columns, Run, RunList};
use super::error::{EngineError, Result};
use super::footprint::PROMPT_ROWS;
use super::forward::{self, Batch, Graph, LayerSpace, Past, Positional, RowCount, Step, Workspace};
use super::model::{BlockWeights, Embedding, InputTables, OutputHead, Reader, Variant};
use super::rope::{LengthClasses, Rope};
use super::state::SequenceState;

/// A model ready to speak: its weights on the device and room for some sequences of up to `context` tokens.
pub struct Generator<'a, B: Backend> {
    backend: &'a B,
    /// The model's name, for errors.
    name: String,
    graph: Graph<B>,
    /// The lengths of sequences that the graph's angles serve.
    classes: LengthClasses,
    embedding: Embedding<B>,
    blocks: Vec<BlockWeights<B>>,
    head: OutputHead<B>,
    /// By block.
    states: Vec<SequenceState<B>>,
    workspace: Workspace<B>,
    inputs: Option<Inputs<B>>,
    x: B::Buffer,
    /// The likeliest next token of each sequence, where the device chose it.
    next: B::Indices,
    /// The same of several steps, to be read together; where a row had none, the size of the vocabulary.
    log: B::Indices,
    context: usize,
    /// What each sequence has in the cache.
    said: Vec<Vec<u32>>,
}

/// What blocks read beside the stream.
struct Inputs<B: Backend> {
    tables: InputTables<B>,
    space: LayerSpace<B>,
    /// The rows of a step's tokens for all blocks: `[T, blocks * d]`.
    rows: B::Buffer,
}

/// New tokens of a sequence, and how long it will be when all that come with them are fed.
struct Feed<'t> {
    index: usize,
    tokens: &'t [u32],
    length: usize,
}

impl<'a, B: Backend> Generator<'a, B> {
    /// Loads all weights for products in f32 and makes room for `sequences` sequences of `context` tokens each.
    ///
    /// # Errors
    /// A model that cannot be read, or a device without the memory.
    pub fn new(backend: &'a B, variant: &Variant, context: usize, sequences: usize) -> Result<Self> {
        Self::with_arithmetic(backend, variant, Arithmetic::F32, context, sequences)
    }

    /// The same for products in an arithmetic.
    ///
    /// # Errors
    /// As [`Generator::new`]; a device without that arithmetic.
    pub fn with_arithmetic(
        backend: &'a B,
        variant: &Variant,
        arithmetic: Arithmetic,
        context: usize,
        sequences: usize,
    ) -> Result<Self> {
        backend.check_arithmetic(arithmetic)?;
        let rope = Rope::of(variant)?;
        let classes = LengthClasses::new(&[&rope], [1, context]).reaching(context);
        let graph = Graph::new(backend, variant, rope, &classes)?;
        let h = graph.hparams().clone();
        let rows = PROMPT_ROWS.min(context).max(sequences);
        let reader = Reader::alone(variant, arithmetic);
        let blocks = (0..h.block_count).map(|i| BlockWeights::load(backend, &reader, i)).collect::<Result<Vec<_>>>()?;
        let state = |block: &BlockWeights<B>| SequenceState::new(backend, &h, block.index, sequences, context);
        let embedding = Embedding::load(backend, &reader)?;
        let inputs = match (InputTables::load(backend, &reader)?, LayerSpace::new(backend, &h, rows)?) {
            (Some(tables), Some(space)) => {
                Some(Inputs { tables, space, rows: backend.alloc(rows * h.block_count * h.layer_input_length)? })
            }
            _ => None,
        };
        Ok(Self {
            backend,
            name: variant.checkpoint().name().to_owned(),
            head: OutputHead::load(backend, &reader, Some(&embedding))?,
            embedding,
            states: blocks.iter().map(state).collect::<Result<_>>()?,
            blocks,
            workspace: Workspace::new(backend, &h, rows)?,
            inputs,
            x: backend.alloc(rows * h.embedding_length)?,
            next: backend.indices(&vec![0; sequences])?,
            log: backend.indices(&vec![0; sequences.max(backend.tokens_ahead())])?,
            graph,
            classes,
            context,
            said: vec![Vec::new(); sequences],
        })
    }

    /// Forgets all but the first `length` tokens of sequence `index`.
    ///
    /// # Errors
    /// A device that fails.
    pub fn rewind(&mut self, index: usize, length: usize) -> Result<()> {
        let before = self.said[index].len();
        if length >= before {
            return Ok(());
        }
        self.said[index].truncate(length);
        let rope = self.graph.rope();
        let same_angles = LengthClasses::new(&[rope], [before]).serves(&[rope], length);
        if same_angles && self.states.iter_mut().all(|state| state.truncate(index, length).is_some()) {
            return Ok(());
        }
        // Where angles depend on the whole sequence's length, the state has those of the longer one.
        let kept = std::mem::take(&mut self.said[index]);
        self.prefill(index, &kept)
    }

    /// Makes sequence `to` what sequence `from` is, so that each can go on in its own way.
    ///
    /// # Errors
    /// A device that fails.
    pub fn fork(&mut self, from: usize, to: usize) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let length = self.said[from].len();
        self.states.iter_mut().try_for_each(|state| state.fork(self.backend, from, to, length))?;
        self.said[to] = self.said[from].clone();
        Ok(())
    }

    /// Tokens that sequence `index` has in the cache.
    pub fn length(&self, index: usize) -> usize {
        self.said[index].len()
    }

    /// Tokens that still fit into sequence `index`.
    pub fn room(&self, index: usize) -> usize {
        self.context - self.said[index].len()
    }

    /// Feeds a prompt into sequence `index`, without looking at its predictions.
    ///
    /// # Errors
    /// A prompt longer than the room, or a device that fails.
    pub fn prefill(&mut self, index: usize, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Ok(());
        }
        self.check(index, tokens)?;
        self.remember(&[(index, tokens.len())])?;
        let length = self.said[index].len() + tokens.len();
        for tokens in tokens.chunks(PROMPT_ROWS) {
            self.step(&[Feed { index, tokens, length }])?;
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
        let vocab = self.head.output.rows.len();
        let mut out = self.backend.alloc(vocab)?;
        self.backend.matvec(&row, 0..1, &self.head.output.weight, 0..vocab, &mut out)?;
        forward::finish_logits(self.backend, &self.graph, &mut out, [1, vocab], self.head.output.bias.as_ref())?;
        let logits = self.backend.read(&out, 0..vocab)?;
        if logits.iter().any(|logit| logit.is_nan()) { Err(self.not_numbers()) } else { Ok(logits) }
    }

    /// Feeds tokens into sequence `index` and returns the likeliest next one.
    ///
    /// # Errors
    /// As [`Generator::logits`].
    pub fn greedy(&mut self, index: usize, tokens: &[u32]) -> Result<u32> {
        self.prefill(index, tokens)?;
        self.choose(&[self.last_row(tokens)?], 0)?;
        Ok(self.chosen(1)?[0])
    }

    /// Feeds tokens into sequence `index` and returns the likeliest ones behind them, at most `count` and at least one: as many
    /// as the device chooses before anybody looks. All but the last of them are fed. They end where the model gives no numbers.
    ///
    /// # Errors
    /// As [`Generator::logits`].
    pub fn greedy_ahead(&mut self, index: usize, tokens: &[u32], count: usize) -> Result<Vec<u32>> {
        self.prefill(index, tokens)?;
        let (begin, ahead) = (self.said[index].len(), self.ahead(index, count));
        let made = self.choose(&[self.last_row(tokens)?], 0).and_then(|()| self.go_on(index, ahead));
        let sound = made.as_ref().map_or(0, Vec::len);
        if let Some((_, fed)) = made.as_ref().ok().and_then(|made| made.split_last()) {
            self.said[index][begin..begin + fed.len()].copy_from_slice(fed);
        }
        if sound < ahead {
            self.rewind(index, begin + sound.saturating_sub(1))?;
        }
        made.and_then(|made| if made.is_empty() { Err(self.not_numbers()) } else { Ok(made) })
    }

    /// Feeds what was chosen for sequence `index`, and what is chosen behind that, until there are `ahead` tokens; returns those
    /// before the first that is none.
    fn go_on(&mut self, index: usize, ahead: usize) -> Result<Vec<u32>> {
        for step in 1..ahead {
            // Which token that is nobody knows yet.
            let feed = Feed { index, tokens: &[0], length: self.said[index].len() + 1 };
            self.step_with(&[feed], true)?;
            self.choose(&[0], step)?;
        }
        let (chosen, vocab) = (self.backend.read_indices(&self.log, 0..ahead)?, self.head.output.rows.len());
        Ok(chosen.into_iter().take_while(|&token| (token as usize) < vocab).collect())
    }

    /// Tokens that sequence `index` can go on by before they are read: not where the host has to look in between, and not past
    /// a length at which what was said gets other angles.
    fn ahead(&self, index: usize, count: usize) -> usize {
        let h = self.graph.hparams();
        if self.inputs.is_some() || h.expert_blocks.iter().any(|&experts| experts) {
            return 1;
        }
        let (rope, length) = (self.graph.rope(), self.said[index].len());
        let most = count.min(self.backend.tokens_ahead()).min(self.room(index) + 1).max(1);
        let now = LengthClasses::new(&[rope], [length]);
        1 + (1..most).take_while(|more| now.serves(&[rope], length + more)).count()
    }

    /// One token for every sequence; returns the likeliest next ones.
    ///
    /// # Errors
    /// A sequence without room, or a device that fails.
    pub fn greedy_each(&mut self, tokens: &[u32]) -> Result<Vec<u32>> {
        for (index, tokens) in tokens.chunks(1).enumerate() {
            self.check(index, tokens)?;
        }
        self.remember(&(0..tokens.len()).map(|index| (index, 1)).collect::<Vec<_>>())?;
        let feed = |(index, tokens)| Feed { index, tokens, length: self.said[index].len() + 1 };
        let input: Vec<Feed<'_>> = tokens.chunks(1).enumerate().map(feed).collect();
        self.step(&input)?;
        self.choose(&(0..tokens.len()).collect::<Vec<_>>(), 0)?;
        self.chosen(tokens.len())
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

    /// Chooses the likeliest token behind rows of the last step; for the next step, and into the log.
    fn choose(&mut self, rows: &[usize], log_at: usize) -> Result<()> {
        let normed = self.last_rows(rows)?;
        let (count, vocab) = (rows.len(), self.head.output.rows.len());
        let mut logits = self.backend.alloc(count * vocab)?;
        if count <= self.backend.few_rows() {
            self.backend.matvec(&normed, 0..count, &self.head.output.weight, 0..vocab, &mut logits)?;
        } else {
            self.backend.matmul(&normed, 0..count, &self.head.output.weight, 0..vocab, &mut logits)?;
        }
        forward::finish_logits(self.backend, &self.graph, &mut logits, [count, vocab], self.head.output.bias.as_ref())?;
        let out = Choices { next: &mut self.next, log: &mut self.log, log_at };
        Ok(self.backend.argmax(&logits, [count, vocab], out)?)
    }

    /// The first `count` tokens of the log.
    fn chosen(&self, count: usize) -> Result<Vec<u32>> {
        let tokens = self.backend.read_indices(&self.log, 0..count)?;
        let vocab = self.head.output.rows.len();
        if tokens.iter().any(|&token| token as usize >= vocab) { Err(self.not_numbers()) } else { Ok(tokens) }
    }

    fn not_numbers(&self) -> EngineError {
        EngineError::Unfit {
            model: self.name.clone(),
            what: "its logits are not numbers; some of its weights must be broken".into(),
        }
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

    /// Prepares the angles and the cache for sequences that grow by so many tokens. Where a model's angles depend on the length
    /// of the whole sequence and change with it, what it has said is fed anew, as the reference does it.
    fn remember(&mut self, growing: &[(usize, usize)]) -> Result<()> {
        let rope = self.graph.rope().clone();
        let ropes = [&rope];
        let lengths: Vec<usize> = growing.iter().map(|&(index, more)| self.said[index].len() + more).collect();
        // What was said while the sequence was shorter may have had other angles.
        let changed: Vec<(usize, usize)> = growing
            .iter()
            .zip(&lengths)
            .map(|(&(index, _), &length)| (index, length))
            .filter(|&(index, length)| {
                let before = self.said[index].len();
                before > 0 && !LengthClasses::new(&ropes, [before]).serves(&ropes, length)
            })
            .collect();
        if lengths.iter().any(|&length| !self.classes.serves(&ropes, length)) {
            self.classes = LengthClasses::new(&ropes, lengths.iter().copied()).reaching(self.context);
            self.graph.retable(self.backend, &self.classes)?;
        }
        for (index, length) in changed {
            let said = std::mem::take(&mut self.said[index]);
            for tokens in said.chunks(PROMPT_ROWS) {
                self.step(&[Feed { index, tokens, length }])?;
            }
        }
        Ok(())
    }

    /// Runs the model over new tokens of some sequences; the last hidden states stay in `x`.
    fn step(&mut self, input: &[Feed<'_>]) -> Result<()> {
        self.step_with(input, false)
    }

    /// The same; with `chosen` over the tokens that were chosen last, whatever the input says they are.
    fn step_with(&mut self, input: &[Feed<'_>], chosen: bool) -> Result<()> {
        let (mut tokens, mut positions, mut angles) = (Vec::new(), Vec::new(), Vec::new());
        let (mut spans, mut runs) = (Vec::new(), Vec::new());
        for feed in input {
            let (base, used) = (feed.index * self.context, self.said[feed.index].len());
            let first_angle = self.classes.first_position(&[self.graph.rope()], feed.length);
            let rows = tokens.len()..tokens.len() + feed.tokens.len();
            runs.push(Run { rows, position: used, from: (used > 0).then_some(feed.index), to: Some(feed.index) });
            for (i, &token) in feed.tokens.iter().enumerate() {
                tokens.push(token);
                positions.push((used + i) as u32);
                angles.push(first_angle + (used + i) as u32);
                spans.extend([base as u32, (base + used + i + 1) as u32]);
            }
        }
        let backend = self.backend;
        let positional = Positional::of([self.graph.hparams()]);
        let batch = Batch::new(backend, &positions, &angles, &spans, &positional)?;
        let runs = RunList::new(backend, &runs)?;
        let rows = if batch.rows <= backend.few_rows() { RowCount::Few } else { RowCount::Many };
        let h = self.graph.hparams();
        let known = if chosen { None } else { Some(backend.indices(&tokens)?) };
        let tokens = known.as_ref().unwrap_or(&self.next);
        forward::embed(backend, &self.graph, &self.embedding, tokens, &batch, &mut self.x)?;
        if let Some(Inputs { tables, space, rows }) = &mut self.inputs {
            backend.embed(&tables.tokens, tokens, batch.rows, rows)?;
            backend.copy(&self.x, 0, &mut space.embedded, 0, batch.rows * h.embedding_length)?;
        }
        let step = Step { backend, graph: &self.graph, batch: &batch, rows, observer: None, first: 0 };
        for weights in &self.blocks {
            let block = weights.index;
            let input = match &mut self.inputs {
                None => None,
                Some(Inputs { tables, space, rows }) => {
                    let width = h.layer_input_length;
                    let from = Columns { stride: h.block_count * width, first: block * width };
                    let to = Columns { stride: width, first: 0 };
                    backend.copy_columns(
                        rows,
                        &mut space.input,
                        ColumnCopy { from, to, rows: batch.rows, count: width, repeat: 1 },
                    )?;
                    forward::layer_input(&step, &tables.blocks[block], space)?;
                    Some(&space.input)
                }
            };
            let past = Past::resident(&mut self.states[h.kv_blocks[block]], &runs, input);
            forward::block(&step, weights, past, &mut self.workspace, &mut self.x)?;
        }
        for feed in input {
            self.said[feed.index].extend_from_slice(feed.tokens);
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
            None if new.len() > self.room(index) => unfit(format!(
                "{} tokens do not go behind {} of a context of {}",
                new.len(),
                self.said[index].len(),
                self.context
            )),
            None => Ok(()),
        }
    }
}
