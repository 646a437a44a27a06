//! What the kernels of `q8_kernel.rs` and `q8_x86.rs` read beside a panel, and what they fill: a tile is a few rows of
//! activations times one panel. Absent: how rows become codes (`q8.rs`), panels (`packed.rs`), products.

use super::packed::PANEL;

/// Added to a number, 1.5 * 2^23 rounds it to the nearest integer, ties to even, which then stands in the low mantissa bits.
pub const ROUND: f32 = 12_582_912.0;
/// The most rows of a tile.
pub const MAX_HEIGHT: usize = 6;
/// The sums of a tile: of a panel, by row.
pub type Sums = [[f32; PANEL]; MAX_HEIGHT];

/// Room for the sums of two panels, so that no row of them crosses a cache line.
#[repr(align(64))]
#[derive(Default)]
pub struct TwoSums(pub [Sums; 2]);

/// Some rows of activations of K columns.
pub struct Q8Rows<'a> {
    /// `[count, K]`
    pub codes: &'a [i8],
    /// `[count, K / BLOCK]`
    pub scales: &'a [f32],
    /// `[count, K / group]`: scale times sum of the codes; where there are offsets.
    pub sums: &'a [f32],
    /// `[count, K / group]`: what the sum of a group's products begins with.
    pub corrections: &'a [i32],
    /// How many.
    pub count: usize,
}
