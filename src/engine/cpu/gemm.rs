//! Matrix product of f32 activations with encoded weights: `[T, K] x [N, K]^T -> [T, N]`.
//!
//! Weights are decoded a chunk of rows at a time into column panels (`[K, panel]`, so that one load brings the weights of
//! neighbouring outputs), and a register-tiled kernel runs over all T rows. Every output is one chain of fused
//! multiply-adds over k = 0, 1, ..., K-1, whatever the tile, the instruction set, the number of rows or of threads: batches of
//! any size and machines of any kind give the same bits, and the naive loop (`naive.rs`) is an exact referee.
//!
//! Absent: an integer path, half-precision accumulation.

use std::cell::Cell;

use rayon::prelude::*;

use super::isa::Isa;
use super::{CpuWeight, interleave, shared::SharedMut};

/// Columns of K handled before the kernel moves on; a panel of this depth stays in the first- or second-level cache.
const DEPTH: usize = 256;
/// Rows of activations per task.
const ROW_BLOCK: usize = 96;
/// f32 numbers of decoded weights kept at once (8 MiB).
pub const PACKED: usize = 2 << 20;
/// f32 numbers of a cache line.
const LINE: usize = 16;
/// Rows and columns of the largest register tile of any instruction set.
pub const LARGEST_TILE: (usize, usize) = (8, 48);

thread_local! {
    /// Room for decoded weights, kept from one product to the next.
    static ROOM: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Rows and columns of the register tile.
pub const fn tile(isa: Isa) -> (usize, usize) {
    match isa {
        Isa::Portable => (4, 16),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => (6, 16),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => (6, 16),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => LARGEST_TILE,
    }
}

/// `out[t, n] = sum_k x[t, k] * w[first + n, k]` for `n < count`; `out` has row length `count`.
pub fn matmul(isa: Isa, x: &[f32], rows: usize, w: &CpuWeight, first: usize, count: usize, out: &mut [f32]) {
    let (k, (_, panel)) = (w.cols, tile(isa));
    let chunk = (PACKED / k / panel).max(1) * panel;
    let mut memory = ROOM.take();
    let room = k * chunk.min(count.next_multiple_of(panel));
    if memory.len() < room + LINE {
        memory.resize(room + LINE, 0.0);
    }
    // No vector of a panel crosses a cache line.
    let begin = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let packed = &mut memory[begin..begin + room];
    let out = SharedMut::new(out);
    for start in (0..count).step_by(chunk) {
        let columns = chunk.min(count - start);
        pack(isa, w, first + start, columns, packed);
        let panels = columns.div_ceil(panel);
        let row_blocks = rows.div_ceil(ROW_BLOCK);
        // Few rows: split the panels too, so that every thread has work.
        let splits = (4 * rayon::current_num_threads()).div_ceil(row_blocks).clamp(1, panels);
        let per_split = panels.div_ceil(splits);
        // One by one, so that no thread sits on a run of tasks while another is idle.
        (0..row_blocks * splits).into_par_iter().with_max_len(1).for_each(|task| {
            let (block, split) = (task / splits, task % splits);
            let block_rows = block * ROW_BLOCK..((block + 1) * ROW_BLOCK).min(rows);
            let block_panels = split * per_split..((split + 1) * per_split).min(panels);
            for depth in (0..k).step_by(DEPTH) {
                let deep = DEPTH.min(k - depth);
                for p in block_panels.clone() {
                    let b = &packed[p * k * panel + depth * panel..][..deep * panel];
                    let width = panel.min(columns - p * panel);
                    product(
                        isa,
                        MatrixRows { data: &x[depth..], stride: k, range: block_rows.clone() },
                        b,
                        panel,
                        deep,
                        Target { data: &out, at: start + p * panel, stride: count, width, accumulate: depth > 0 },
                    );
                }
            }
        });
    }
    ROOM.set(memory);
}

/// Decodes `columns` weight rows from `first` on into panels: panel p holds, for each k, the weights of `panel` neighbouring
/// rows; a last panel that is not full is padded with zeros.
fn pack(isa: Isa, w: &CpuWeight, first: usize, columns: usize, packed: &mut [f32]) {
    let (k, (_, panel)) = (w.cols, tile(isa));
    packed[..columns.next_multiple_of(panel) * k].par_chunks_mut(panel * k).enumerate().for_each_init(
        || vec![0.0f32; panel * k],
        |decoded, (p, out)| {
            let width = panel.min(columns - p * panel);
            for (j, row) in decoded.chunks_exact_mut(k).enumerate() {
                if j < width { w.decode_row(first + p * panel + j, row) } else { row.fill(0.0) }
            }
            interleave::interleave(isa, decoded, k, panel, out);
        },
    );
}

/// Some rows of a row-major matrix.
pub struct MatrixRows<'a> {
    /// The matrix, beginning at the first column wanted.
    pub data: &'a [f32],
    /// Row length of the matrix.
    pub stride: usize,
    /// The rows.
    pub range: std::ops::Range<usize>,
}

/// Where a product goes: columns `at .. at + width` of the rows of a matrix shared between threads.
pub struct Target<'a, 'b> {
    /// The matrix; tasks write disjoint elements.
    pub data: &'a SharedMut<'b>,
    /// First column.
    pub at: usize,
    /// Row length of the matrix.
    pub stride: usize,
    /// Columns wanted, at most the panel's.
    pub width: usize,
    /// Continue the sums that stand there instead of starting at zero.
    pub accumulate: bool,
}

/// Multiplies rows with one panel `[deep, panel]`; the output rows have the numbers of the input rows.
#[allow(unsafe_code)]
pub fn product(isa: Isa, x: MatrixRows<'_>, b: &[f32], panel: usize, deep: usize, out: Target<'_, '_>) {
    let rows = x.range;
    if rows.is_empty() || deep == 0 || out.width == 0 {
        return;
    }
    // What the kernels rely on.
    assert!(b.len() >= deep * panel && out.width <= panel);
    assert!(x.data.len() >= (rows.end - 1) * x.stride + deep);
    assert!(out.data.len() >= (rows.end - 1) * out.stride + out.at + out.width);
    // SAFETY: the assertions above cover every element that a kernel reads or writes; no two tasks are given the same output
    // elements.
    unsafe {
        let call = kernel::Call {
            x: x.data.as_ptr().add(rows.start * x.stride),
            x_stride: x.stride,
            panel: b.as_ptr(),
            deep,
            out: out.data.as_ptr().add(rows.start * out.stride + out.at),
            out_stride: out.stride,
            width: out.width,
            accumulate: out.accumulate,
        };
        match isa {
            Isa::Portable => kernel::portable(&call, rows.len(), panel),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => kernel::neon(call, rows.len(), panel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => kernel::avx2(call, rows.len(), panel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => kernel::avx512(call, rows.len(), panel),
        }
    }
}

mod kernel {
    //! The register-tiled kernels. All do `acc = x * w + acc`, fused, in the order of k.
    //! Indices instead of iterators: rows and vectors are numbered by the tile.
    #![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::needless_range_loop)]

    #[cfg(target_arch = "aarch64")]
    use std::arch::aarch64::*;
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::*;

    /// Steps of k in a round of the AVX2 and AVX-512 kernels.
    #[cfg(target_arch = "x86_64")]
    const UNROLL: usize = 4;

    /// Some rows: pointers to their first elements.
    pub struct Call {
        pub x: *const f32,
        pub x_stride: usize,
        pub panel: *const f32,
        pub deep: usize,
        pub out: *mut f32,
        pub out_stride: usize,
        pub width: usize,
        pub accumulate: bool,
    }

    impl Call {
        /// Goes on to what is behind the next rows.
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        #[inline]
        fn skip(&mut self, rows: usize) {
            self.x = self.x.wrapping_add(rows * self.x_stride);
            self.out = self.out.wrapping_add(rows * self.out_stride);
        }
    }

    /// Any machine. SAFETY: `rows` rows of `x` and `out` and `deep * panel` numbers of the panel are valid.
    pub unsafe fn portable(c: &Call, rows: usize, panel: usize) {
        for row in 0..rows {
            for j0 in (0..c.width).step_by(16) {
                let width = 16.min(c.width - j0);
                let out = std::slice::from_raw_parts_mut(c.out.add(row * c.out_stride + j0), width);
                let mut acc = [0.0f32; 16];
                if c.accumulate {
                    acc[..width].copy_from_slice(out);
                }
                for k in 0..c.deep {
                    let a = *c.x.add(row * c.x_stride + k);
                    let b = std::slice::from_raw_parts(c.panel.add(k * panel + j0), 16.min(panel - j0));
                    for (acc, &b) in acc.iter_mut().zip(b) {
                        *acc = a.mul_add(b, *acc);
                    }
                }
                out.copy_from_slice(&acc[..width]);
            }
        }
    }

    /// NEON: tiles of 6 rows, panels of 16 columns. SAFETY: as [`portable`].
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
    pub unsafe fn neon(mut c: Call, rows: usize, panel: usize) {
        assert!(panel == 16);
        for _ in 0..rows / 6 {
            neon_rows::<6>(&c);
            c.skip(6);
        }
        match rows % 6 {
            0 => (),
            1 => neon_rows::<1>(&c),
            2 => neon_rows::<2>(&c),
            3 => neon_rows::<3>(&c),
            4 => neon_rows::<4>(&c),
            _ => neon_rows::<5>(&c),
        }
    }

    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn neon_rows<const R: usize>(c: &Call) {
        let mut edge = [[0.0f32; 16]; R];
        let mut acc = [[vdupq_n_f32(0.0); 4]; R];
        if c.accumulate {
            for i in 0..R {
                std::ptr::copy_nonoverlapping(c.out.add(i * c.out_stride), edge[i].as_mut_ptr(), c.width);
                for v in 0..4 {
                    acc[i][v] = vld1q_f32(edge[i].as_ptr().add(v * 4));
                }
            }
        }
        for k in 0..c.deep {
            let b: [float32x4_t; 4] = std::array::from_fn(|v| vld1q_f32(c.panel.add(k * 16 + v * 4)));
            for i in 0..R {
                let a = vdupq_n_f32(*c.x.add(i * c.x_stride + k));
                for v in 0..4 {
                    acc[i][v] = vfmaq_f32(acc[i][v], a, b[v]);
                }
            }
        }
        for i in 0..R {
            for v in 0..4 {
                vst1q_f32(edge[i].as_mut_ptr().add(v * 4), acc[i][v]);
            }
            std::ptr::copy_nonoverlapping(edge[i].as_ptr(), c.out.add(i * c.out_stride), c.width);
        }
    }

    /// AVX2: tiles of 6 rows, panels of 16 columns. SAFETY: as [`portable`], and the processor has AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(mut c: Call, rows: usize, panel: usize) {
        for _ in 0..rows / 6 {
            avx2_rows::<6>(&c, panel);
            c.skip(6);
        }
        match rows % 6 {
            0 => (),
            1 => avx2_rows::<1>(&c, panel),
            2 => avx2_rows::<2>(&c, panel),
            3 => avx2_rows::<3>(&c, panel),
            4 => avx2_rows::<4>(&c, panel),
            _ => avx2_rows::<5>(&c, panel),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn avx2_rows<const R: usize>(c: &Call, panel: usize) {
        assert!(panel == 16);
        let mut acc = [[_mm256_setzero_ps(); 2]; R];
        let full = c.width == 16;
        if c.accumulate {
            for i in 0..R {
                let row = c.out.add(i * c.out_stride);
                acc[i] = if full { [_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(8))] } else { avx2_load(row, c.width) };
            }
        }
        // One pointer a row and several steps a round: what counts and adds addresses takes slots that multiply-adds need.
        let mut x: [*const f32; R] = std::array::from_fn(|i| c.x.add(i * c.x_stride));
        let mut weights = c.panel;
        // One step of k for all rows. A macro, because it stands in this function whatever the compiler inlines.
        macro_rules! add_step {
            ($step:ident) => {
                let b = [_mm256_loadu_ps(weights.add($step * 16)), _mm256_loadu_ps(weights.add($step * 16 + 8))];
                for i in 0..R {
                    let a = _mm256_broadcast_ss(&*x[i].add($step));
                    acc[i] = [_mm256_fmadd_ps(a, b[0], acc[i][0]), _mm256_fmadd_ps(a, b[1], acc[i][1])];
                }
            };
        }
        for _ in 0..c.deep / UNROLL {
            for step in 0..UNROLL {
                add_step!(step);
            }
            weights = weights.add(UNROLL * 16);
            for x in &mut x {
                *x = x.add(UNROLL);
            }
        }
        for step in 0..c.deep % UNROLL {
            add_step!(step);
        }
        for i in 0..R {
            let row = c.out.add(i * c.out_stride);
            if full {
                _mm256_storeu_ps(row, acc[i][0]);
                _mm256_storeu_ps(row.add(8), acc[i][1]);
            } else {
                avx2_store(row, c.width, acc[i]);
            }
        }
    }

    /// The first `width` of 16 numbers, and zeros.
    #[cfg(target_arch = "x86_64")]
    #[cold]
    #[target_feature(enable = "avx2")]
    unsafe fn avx2_load(row: *const f32, width: usize) -> [__m256; 2] {
        let mut edge = [0.0f32; 16];
        std::ptr::copy_nonoverlapping(row, edge.as_mut_ptr(), width);
        [_mm256_loadu_ps(edge.as_ptr()), _mm256_loadu_ps(edge.as_ptr().add(8))]
    }

    /// Writes the first `width` of 16 numbers.
    #[cfg(target_arch = "x86_64")]
    #[cold]
    #[target_feature(enable = "avx2")]
    unsafe fn avx2_store(row: *mut f32, width: usize, numbers: [__m256; 2]) {
        let mut edge = [0.0f32; 16];
        _mm256_storeu_ps(edge.as_mut_ptr(), numbers[0]);
        _mm256_storeu_ps(edge.as_mut_ptr().add(8), numbers[1]);
        std::ptr::copy_nonoverlapping(edge.as_ptr(), row, width);
    }

    /// AVX-512: tiles of 8 rows, panels of 16, 32 or 48 columns. SAFETY: as [`portable`], and the processor has AVX-512F.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512(c: Call, rows: usize, panel: usize) {
        match panel {
            16 => avx512_wide::<1>(c, rows),
            32 => avx512_wide::<2>(c, rows),
            _ => avx512_wide::<3>(c, rows),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512_wide<const V: usize>(mut c: Call, rows: usize) {
        for _ in 0..rows / 8 {
            avx512_tile::<8, V>(&c);
            c.skip(8);
        }
        match rows % 8 {
            0 => (),
            1 => avx512_tile::<1, V>(&c),
            2 => avx512_tile::<2, V>(&c),
            3 => avx512_tile::<3, V>(&c),
            4 => avx512_tile::<4, V>(&c),
            5 => avx512_tile::<5, V>(&c),
            6 => avx512_tile::<6, V>(&c),
            _ => avx512_tile::<7, V>(&c),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn avx512_tile<const R: usize, const V: usize>(c: &Call) {
        let masks: [__mmask16; V] = std::array::from_fn(|v| match c.width.saturating_sub(v * 16) {
            0 => 0,
            n if n < 16 => (1u16 << n) - 1,
            _ => u16::MAX,
        });
        let mut acc = [[_mm512_setzero_ps(); V]; R];
        if c.accumulate {
            for i in 0..R {
                for v in 0..V {
                    acc[i][v] = _mm512_maskz_loadu_ps(masks[v], c.out.add(i * c.out_stride + v * 16));
                }
            }
        }
        // One pointer a row and several steps a round: what counts and adds addresses takes slots that multiply-adds need.
        let mut x: [*const f32; R] = std::array::from_fn(|i| c.x.add(i * c.x_stride));
        let mut weights = c.panel;
        // One step of k for all rows. A macro, because it stands in this function whatever the compiler inlines.
        macro_rules! add_step {
            ($step:ident) => {
                let mut b = [_mm512_setzero_ps(); V];
                for (v, b) in b.iter_mut().enumerate() {
                    *b = _mm512_loadu_ps(weights.add(($step * V + v) * 16));
                }
                for i in 0..R {
                    let a = _mm512_set1_ps(*x[i].add($step));
                    for v in 0..V {
                        acc[i][v] = _mm512_fmadd_ps(a, b[v], acc[i][v]);
                    }
                }
            };
        }
        for _ in 0..c.deep / UNROLL {
            for step in 0..UNROLL {
                add_step!(step);
            }
            weights = weights.add(UNROLL * V * 16);
            for x in &mut x {
                *x = x.add(UNROLL);
            }
        }
        for step in 0..c.deep % UNROLL {
            add_step!(step);
        }
        for i in 0..R {
            for v in 0..V {
                _mm512_mask_storeu_ps(c.out.add(i * c.out_stride + v * 16), masks[v], acc[i][v]);
            }
        }
    }
}
