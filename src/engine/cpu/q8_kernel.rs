//! The kernels of `q8.rs`: a few rows of 8-bit activations times one panel of small integers, on each instruction set.
//!
//! All compute the same: exact integers within a group, then `sum = fma(integer, weight scale * activation scale, sum)`; then,
//! with offsets, `sum = fma(offset, activation sum, sum)`, group after group. Weights that are not negative multiply as
//! bytes without a sign; what was added to them for that comes off again with the sum of the activations (`corrections`).
//! Indices instead of iterators: rows and vectors are numbered by the tile.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::needless_range_loop)]

use super::isa::Isa;
use super::packed::{BLOCK, PANEL, Packing, Panel, Unpack};
#[cfg(target_arch = "aarch64")]
use super::q8_neon as neon;
use super::q8_tile::{Q8Rows, Sums};
#[cfg(target_arch = "x86_64")]
use super::{q8_avx512 as avx512, q8_tile::MAX_HEIGHT, q8_x86 as x86};

/// The instructions that multiply integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dot {
    /// What the target guarantees.
    Portable,
    /// NEON, which every 64-bit Arm processor has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Its dot products of four columns.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    /// Its products of matrices of two rows and eight columns.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
    /// AVX2: pairs of products in 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-VNNI: four products in 32 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 VNNI: the same, and twice as wide.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Dot {
    /// Those that the processor has beside `isa`, slowest first.
    pub fn of(isa: Isa) -> Vec<Self> {
        let mut all = vec![Self::Portable];
        match isa {
            Isa::Portable => {}
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                all.push(Self::Neon);
                if std::arch::is_aarch64_feature_detected!("dotprod") {
                    all.push(Self::NeonDot);
                    if std::arch::is_aarch64_feature_detected!("i8mm") {
                        all.push(Self::NeonI8mm);
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => {
                all.push(Self::Avx2);
                if is_x86_feature_detected!("avxvnni") {
                    all.push(Self::AvxVnni);
                }
                if isa == Isa::Avx512 && is_x86_feature_detected!("avx512vnni") {
                    all.push(Self::Avx512Vnni);
                }
            }
        }
        all
    }

    /// Up to this many rows it reads packed codes; for more it is faster to unpack them once.
    pub fn narrow(self) -> usize {
        match self {
            Self::Portable => 0,
            #[cfg(target_arch = "aarch64")]
            Self::Neon | Self::NeonDot | Self::NeonI8mm => 8,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni | Self::Avx512Vnni => 8,
        }
    }

    /// Rows of a tile.
    pub fn height(self) -> usize {
        match self {
            Self::Portable => 1,
            #[cfg(target_arch = "aarch64")]
            Self::Neon | Self::NeonDot | Self::NeonI8mm => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => MAX_HEIGHT,
        }
    }

    /// What unpacks codes for it.
    pub fn unpack(self) -> Unpack {
        match self {
            Self::Portable => Unpack { codes: super::packed::unpack, shifts: false },
            #[cfg(target_arch = "aarch64")]
            Self::Neon | Self::NeonDot | Self::NeonI8mm => Unpack { codes: super::packed::unpack, shifts: false },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => Unpack { codes: x86::unpack, shifts: false },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => Unpack { codes: x86::unpack_shifted, shifts: true },
        }
    }

    /// What is added to codes in a product: what packing added, or what makes signed ones unsigned.
    pub fn added(self, packing: Packing, added: u8) -> i32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx512Vnni if packing.signed() => 128,
            _ if packing.signed() => 0,
            _ => i32::from(added),
        }
    }
}

/// The sums of `x.count` rows, at most `dot.height()`, with the rows of one panel or of two neighbouring ones.
pub fn product(dot: Dot, x: &Q8Rows<'_>, panels: [Option<&Panel<'_>>; 2], out: &mut [Sums; 2]) {
    #[cfg(target_arch = "x86_64")]
    if let (Dot::Avx512Vnni, [Some(first), Some(second)]) = (dot, panels)
        && first.codes.unpacked
        && second.codes.unpacked
        && first.codes.shifted == second.codes.shifted
    {
        check(dot, x, first);
        check(dot, x, second);
        // SAFETY: `check` covers all that a kernel reads; a Dot comes from Dot::of, which checked the processor.
        return unsafe { avx512::two_panels(x, [first, second], out) };
    }
    for (panel, out) in panels.into_iter().zip(out) {
        let Some(panel) = panel else { continue };
        check(dot, x, panel);
        match dot {
            Dot::Portable => portable(x, panel, out),
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Dot::Neon => unsafe { neon::neon(x, panel, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Dot::NeonDot => unsafe { neon::dotprod(x, panel, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Dot::NeonI8mm => unsafe { neon::matrices(x, panel, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 => unsafe { x86::avx2(x, panel, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Dot::AvxVnni => unsafe { x86::avx_vnni(x, panel, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Dot::Avx512Vnni => unsafe { avx512::one_panel(x, panel, out) },
        }
    }
}

/// What the kernels rely on.
fn check(dot: Dot, x: &Q8Rows<'_>, w: &Panel<'_>) {
    let blocks = x.codes.len() / x.count.max(1) / BLOCK;
    let (k, groups) = (blocks * BLOCK, blocks * BLOCK / w.group);
    assert!(matches!(w.group, 16 | 32) && 0 < x.count && x.count <= dot.height());
    assert!(x.codes.len() == x.count * k && x.scales.len() == x.count * blocks && x.corrections.len() == x.count * groups);
    let block_bytes = if w.codes.unpacked { BLOCK * PANEL } else { w.codes.packing.block_bytes() };
    assert!(w.codes.bytes.len() == blocks * block_bytes && w.scales.len() == groups * PANEL);
    assert!(w.offsets.is_empty() || (w.offsets.len() == groups * PANEL && x.sums.len() == x.count * groups));
    assert!(w.codes.unpacked || dot.narrow() > 0);
    assert!(!w.codes.shifted || dot.unpack().shifts);
}

fn portable(x: &Q8Rows<'_>, w: &Panel<'_>, out: &mut Sums) {
    let k = x.codes.len() / x.count;
    let groups = k / w.group;
    let lines = w.codes.bytes.as_chunks::<4>().0.as_chunks::<PANEL>().0;
    for row in 0..x.count {
        let out = &mut out[row];
        out.fill(0.0);
        let x_quads = x.codes[row * k..][..k].as_chunks::<4>().0;
        for g in 0..groups {
            let mut dots = [x.corrections[row * groups + g]; PANEL];
            for q in g * w.group / 4..(g + 1) * w.group / 4 {
                for (dot, w) in dots.iter_mut().zip(&lines[q]) {
                    for i in 0..4 {
                        *dot += i32::from(x_quads[q][i]) * i32::from(w[i] as i8);
                    }
                }
            }
            let scale = x.scales[row * (k / BLOCK) + g * w.group / BLOCK];
            for j in 0..PANEL {
                out[j] = (dots[j] as f32).mul_add(w.scales[g * PANEL + j] * scale, out[j]);
            }
            if !w.offsets.is_empty() {
                let sum = x.sums[row * groups + g];
                for j in 0..PANEL {
                    out[j] = w.offsets[g * PANEL + j].mul_add(sum, out[j]);
                }
            }
        }
    }
}
