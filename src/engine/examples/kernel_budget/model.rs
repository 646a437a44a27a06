//! What a turn of a kernel's loop costs, counted in the machine code that RADV shows. [`MODEL`] says by which rules.

use std::collections::BTreeMap;

/// The rules, as the tool's help tells them.
pub const MODEL: &str = "\
The hot loop is the loop in which most fused multiply-adds stand. A turn is once around it: the instructions of loops inside
count as often as they run, told by the multiply-adds that the kernel says a turn has. Cycles are those of one SIMD of 32 lanes
for a wave of 64, of which two share the paths to memory:
  VALU  2 for an instruction, 8 for one of quarter rate (v_mul_lo_u32, v_rcp, v_exp and so on)
  LDS   1 for every byte of a lane (128 bytes a cycle for both SIMDs), at least 4
  VMEM  2 for every byte of a lane (64 bytes a cycle for both SIMDs), at least 8
  SALU  1 for an instruction
Other waves fill each unit while one waits, so that a turn takes as long as its busiest unit. FMA share: the cycles of
the multiply-adds among those. VALU a weight: vector instructions of the whole shader, start and end with it, by the weights that
a lane decodes in a turn. Bound: encoded bytes a second if a card of 40 compute units at 2.9 GHz (gfx1151) did nothing else.";

/// What was counted in one turn.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Turn {
    /// Fused multiply-adds.
    pub fma: f64,
    /// Loads from buffers.
    pub loads: f64,
    valu: f64,
    lds: f64,
    vmem: f64,
    salu: f64,
}

impl Turn {
    /// Cycles of the busiest unit.
    pub fn cycles(&self) -> f64 {
        self.valu.max(self.lds).max(self.vmem).max(self.salu)
    }

    /// The share of the multiply-adds in them.
    pub fn fma_share(&self) -> f64 {
        2.0 * self.fma / self.cycles().max(1.0)
    }

    fn add(&mut self, other: &Self, times: f64) {
        let pairs = [
            (&mut self.fma, other.fma),
            (&mut self.loads, other.loads),
            (&mut self.valu, other.valu),
            (&mut self.lds, other.lds),
            (&mut self.vmem, other.vmem),
            (&mut self.salu, other.salu),
        ];
        for (sum, value) in pairs {
            *sum += value * times;
        }
    }

    fn of(instruction: &str) -> Self {
        let mut turn = Self::default();
        let bytes = bytes_of(instruction);
        if instruction.starts_with("v_") {
            const QUARTER: [&str; 8] =
                ["v_mul_lo_u32", "v_mul_hi_", "v_mad_u64", "v_rcp_", "v_exp_", "v_log_", "v_sqrt_", "v_rsq_"];
            turn.valu = if QUARTER.iter().any(|name| instruction.starts_with(name)) { 8.0 } else { 2.0 };
            let kinds = ["v_fma_f32", "v_fmac_f32", "v_fmamk_f32", "v_fmaak_f32"];
            turn.fma = f64::from(u8::from(kinds.contains(&instruction)));
        } else if instruction.starts_with("ds_") {
            turn.lds = bytes.max(4.0);
        } else if ["buffer_", "global_", "scratch_"].iter().any(|kind| instruction.starts_with(kind)) {
            turn.vmem = 2.0 * bytes.max(4.0);
            turn.loads = f64::from(u8::from(instruction.contains("_load_")));
        } else if instruction.starts_with("s_")
            && !["s_waitcnt", "s_delay", "s_clause"].iter().any(|no| instruction.starts_with(no))
        {
            turn.salu = 1.0;
        }
        turn
    }
}

/// Bytes that a lane moves by an instruction of this name.
fn bytes_of(instruction: &str) -> f64 {
    let sizes = [("x4", 16.0), ("b128", 16.0), ("x3", 12.0), ("b96", 12.0), ("x2", 8.0), ("b64", 8.0), ("2_b32", 8.0)];
    let twice = if instruction.contains("2_b64") || instruction.contains("2st64_b64") { 2.0 } else { 1.0 };
    sizes.iter().find(|(name, _)| instruction.contains(name)).map_or(4.0, |(_, bytes)| bytes * twice)
}

/// A block of the text and what its instructions cost.
struct Block {
    number: usize,
    cost: Turn,
    /// The blocks that it jumps to.
    jumps: Vec<usize>,
}

/// The blocks of a text of RADV: as LLVM writes machine code, or, of processors that it does not know, as RADV's own compiler
/// does, with what an instruction writes before an equals sign.
fn blocks(assembly: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in assembly.lines() {
        if let Some(number) = line.strip_prefix("BB").and_then(|number| number.trim_end_matches(':').trim().parse().ok()) {
            blocks.push(Block { number, cost: Turn::default(), jumps: Vec::new() });
            continue;
        }
        let Some(block) = blocks.last_mut().filter(|_| line.starts_with('\t')) else { continue };
        let text = line.rsplit(" = ").next().unwrap_or(line).trim();
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        block.cost.add(&Turn::of(name.trim_end_matches("_e32").trim_end_matches("_e64")), 1.0);
        if name.contains("branch") {
            block
                .jumps
                .extend(words.filter_map(|word| word.trim_start_matches("block:").strip_prefix("BB")?.parse::<usize>().ok()));
        }
    }
    blocks
}

/// One turn of the hot loop of `assembly`, a text of RADV; `multiply_adds` are those that the turn has.
pub fn turn(assembly: &str, multiply_adds: f64) -> Option<Turn> {
    let blocks = blocks(assembly);
    // By their first blocks, the last ones that jump back there.
    let mut loops: BTreeMap<usize, usize> = BTreeMap::new();
    for block in &blocks {
        for &to in block.jumps.iter().filter(|&&to| to <= block.number) {
            loops.insert(to, block.number);
        }
    }
    let cost = |from: usize, to: usize| {
        let mut sum = Turn::default();
        blocks.iter().filter(|block| (from..=to).contains(&block.number)).for_each(|block| sum.add(&block.cost, 1.0));
        sum
    };
    // The outermost loop with most multiply-adds, and the one inside that repeats them.
    let outermost = loops.iter().filter(|(from, to)| !loops.iter().any(|(f, t)| (f, t) != (*from, *to) && f < from && t >= to));
    let (&from, &to) = outermost.max_by(|a, b| cost(*a.0, *a.1).fma.total_cmp(&cost(*b.0, *b.1).fma))?;
    let mut whole = cost(from, to);
    let inner = loops.iter().filter(|&(f, t)| *f > from && *t <= to).map(|(f, t)| cost(*f, *t));
    if let Some(inner) = inner.max_by(|a, b| a.fma.total_cmp(&b.fma)).filter(|inner| inner.fma > 0.0) {
        let times = ((multiply_adds - whole.fma) / inner.fma).round().max(0.0);
        whole.add(&inner, times);
    }
    Some(whole)
}
