//! The referee: the operations as plain loops, one number after the other. `gemm.rs` and `q8.rs` must agree to the last bit.
#![cfg(test)]

use bitworth_quant::formats::TakenApart;

use super::CpuWeight;

/// `out[t, n] = sum_k x[t, k] * w[n, k]`, one chain of fused multiply-adds each.
pub fn matmul(x: &[f32], rows: usize, w: &CpuWeight) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows * w.rows);
    let mut row = vec![0.0; w.cols];
    for t in 0..rows {
        for n in 0..w.rows {
            w.decode_row(n, &mut row);
            out.push(x[t * w.cols..][..w.cols].iter().zip(&row).fold(0.0f32, |acc, (x, w)| x.mul_add(*w, acc)));
        }
    }
    out
}

/// The same in 8 bits: activations rounded in blocks of 32, exact integers within a group of columns, groups added up in order.
pub fn matmul_q8(x: &[f32], rows: usize, w: &CpuWeight) -> Vec<f32> {
    let integers = w.dtype.integers().unwrap();
    let (k, group) = (w.cols, integers.group);
    let mut out = Vec::with_capacity(rows * w.rows);
    let mut parts = TakenApart::default();
    for t in 0..rows {
        let (mut x_scales, mut x_codes) = (Vec::new(), Vec::new());
        for block in x[t * k..(t + 1) * k].chunks(32) {
            let scale = block.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
            x_scales.push(scale);
            x_codes.extend(block.iter().map(|x| if scale == 0.0 { 0 } else { (x * (1.0 / scale)).round_ties_even() as i32 }));
        }
        for n in 0..w.rows {
            integers.take_apart(&w.bytes[n * w.row_bytes..][..w.row_bytes], &mut parts);
            let mut sum = 0.0f32;
            for g in 0..k / group {
                let (x, w) = (&x_codes[g * group..][..group], &parts.codes[g * group..][..group]);
                let dot: i32 = x.iter().zip(w).map(|(x, w)| x * i32::from(*w)).sum();
                let x_scale = x_scales[g * group / 32];
                let (scale, offset) = parts.factors(g);
                sum = (dot as f32).mul_add(scale * x_scale, sum);
                if integers.has_offsets {
                    sum = offset.mul_add(x_scale * x.iter().sum::<i32>() as f32, sum);
                }
            }
            out.push(sum);
        }
    }
    out
}
