//! What lanes of a walk have in common: lanes with the same weights of a block use one copy of them, and a lane that begins as
//! the first one does has no activations of its own until its weights differ. So a lane that differs in one block costs that
//! block and those behind it. The numbers are the same bits either way. Absent: walking (see `pass`).

use bitworth_quant::DType;
use bitworth_quant::arch::Role;

use super::Lane;
use crate::backend::Arithmetic;

/// Of lanes by their numbers among those that are walked.
pub struct Alike {
    /// By block and lane: the first lane with the same weights of that block.
    blocks: Vec<Vec<usize>>,
    /// By lane: the first block whose weights are not those of the first lane; 0 where what goes into it differs already.
    parts: Vec<usize>,
}

/// What decides the bytes of some tensors: equal ones are equal bytes.
#[derive(PartialEq)]
struct Weights {
    /// Addresses of the checkpoint, and of the importance matrix where something is encoded by it.
    source: [usize; 2],
    arithmetic: Arithmetic,
    types: Vec<DType>,
}

/// The weights of a lane.
struct LaneWeights {
    /// All outside of blocks that is not the output matrix alone.
    inputs: Weights,
    blocks: Vec<Weights>,
    head: Weights,
}

impl LaneWeights {
    fn of(Lane { variant, arithmetic, .. }: &Lane) -> Self {
        let source = variant.source_identity();
        let none = || Weights { source: [source[0], 0], arithmetic: *arithmetic, types: Vec::new() };
        let h = variant.hparams();
        let mut own = Self { inputs: none(), blocks: (0..h.block_count).map(|_| none()).collect(), head: none() };
        for tensor in variant.checkpoint().tensors() {
            let Some((role, block)) = tensor.role() else { continue };
            let dtype = variant.dtype(tensor);
            let put = |weights: &mut Weights| {
                weights.types.push(dtype);
                if dtype != tensor.dtype {
                    weights.source = source;
                }
            };
            if let Some(weights) = block.and_then(|block| own.blocks.get_mut(block)) {
                put(weights);
            }
            if block.is_none() && role != Role::Output {
                put(&mut own.inputs);
            }
            if role == variant.output_role() {
                put(&mut own.head);
            }
        }
        own
    }
}

/// By lane: the first of these lanes with the same output matrix. They may be others than those that are walked: the head has the
/// first one, too, where its final hidden states were kept.
pub fn heads(lanes: &[Lane]) -> Vec<usize> {
    let own: Vec<LaneWeights> = lanes.iter().map(LaneWeights::of).collect();
    firsts(lanes.len(), |a, b| own[a].head == own[b].head)
}

impl Alike {
    /// Compares lanes.
    pub fn of(lanes: &[Lane]) -> Self {
        let own: Vec<LaneWeights> = lanes.iter().map(LaneWeights::of).collect();
        let depth = |at: usize| own[at].blocks.len();
        let same_inputs = |a: usize, b: usize| own[a].inputs == own[b].inputs;
        let mut parts: Vec<usize> = (0..lanes.len()).map(|at| if same_inputs(0, at) { depth(at) } else { 0 }).collect();
        let mut blocks = Vec::new();
        for block in 0..(0..lanes.len()).map(depth).max().unwrap_or(0) {
            // What blocks read beside the stream is made with tensors outside of them.
            let beside = |at: usize| lanes[at].variant.hparams().layer_input_length > 0;
            let same_block = |a: usize, b: usize| own[a].blocks.get(block) == own[b].blocks.get(block);
            let same = |a: usize, b: usize| same_block(a, b) && (!beside(b) || same_inputs(a, b));
            blocks.push(firsts(lanes.len(), same));
            for (at, part) in parts.iter_mut().enumerate() {
                if block < *part && !same(0, at) {
                    *part = block;
                }
            }
        }
        // The first lane is what others part from.
        parts.iter_mut().take(1).for_each(|part| *part = 0);
        Self { blocks, parts }
    }

    /// Lanes that have a block's weights from the first of them, which is named first.
    pub fn groups(&self, block: usize, walks: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for at in (0..self.parts.len()).filter(|&at| self.has_own(at, block) && walks(at)) {
            let first = self.blocks[block][at];
            match groups.iter_mut().find(|group| self.blocks[block][group[0]] == first) {
                Some(group) => group.push(at),
                None => groups.push(vec![at]),
            }
        }
        groups
    }

    /// Whether a lane has activations of its own behind a block.
    pub fn has_own(&self, at: usize, block: usize) -> bool {
        self.parts[at] <= block
    }

    /// The block in which a lane parts from the first one.
    pub fn parts(&self, at: usize) -> usize {
        self.parts[at]
    }
}

/// For each of so many things the first one that is the same.
fn firsts(count: usize, same: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut firsts: Vec<usize> = Vec::with_capacity(count);
    for at in 0..count {
        firsts.push((0..at).find(|&other| firsts[other] == other && same(other, at)).unwrap_or(at));
    }
    firsts
}
