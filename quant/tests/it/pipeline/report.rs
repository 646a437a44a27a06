//! The error report against sums taken the plain way, and the importance of columns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bitworth_quant::checkpoint::Tensor;
use bitworth_quant::quantize::{Output, QuantizeOptions, TensorReport, encode_tensor};
use bitworth_quant::{DType, Imatrix};

use super::run;
use crate::support::memory::{Memory, output_of};

const SHAPES: [(&str, &[usize]); 4] = [("plain", &[256, 300]), ("experts", &[256, 20, 3]), ("row", &[256]), ("zero", &[256, 2])];

fn source() -> Memory {
    let tensor = |(name, shape): (&str, &[usize])| {
        let weight = |k: usize| if name == "zero" { 0.0 } else { ((k * 2654435761) % 65521) as f32 / 65521.0 - 0.4 };
        let bytes = (0..shape.iter().product()).flat_map(|k| weight(k).to_le_bytes()).collect();
        (Tensor { name: name.to_owned(), dtype: DType::F32, shape: shape.to_vec() }, bytes)
    };
    Memory::new(SHAPES.into_iter().map(tensor).collect())
}

/// Weights that differ from column to column and from expert to expert.
fn imatrix() -> Imatrix {
    let weights = |n: usize, factor: usize| (0..n).map(|i| 0.1 + (i * factor % 37) as f32).collect();
    Imatrix::new(Path::new("m"), [("plain".to_owned(), weights(256, 5)), ("experts".to_owned(), weights(768, 7))].into())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// Each row with the importance of its expert's columns.
fn encoded(x: &[f32], rows_per_expert: usize, dtype: DType, w: Option<&[f32]>) -> Vec<u8> {
    let row = |(r, x): (usize, &[f32])| {
        let mut out = vec![0; dtype.row_bytes(256).unwrap()];
        dtype.encode_row(x, w.map(|w| &w[r / rows_per_expert * 256..][..256]), &mut out);
        out
    };
    x.chunks(256).enumerate().flat_map(row).collect()
}

#[test]
fn the_report_is_the_plain_sums_and_experts_have_their_own_importance() {
    let source = source();
    let dir = tempfile::tempdir().unwrap();
    let imatrix = Arc::new(imatrix());
    let ticks = AtomicU64::new(0);
    let clock = || ticks.fetch_add(1, Ordering::Relaxed) as f64;
    let types = [DType::F32, DType::F16, DType::Q4_0, DType::Q6_K];
    let output = |dtype: DType, imatrix: Option<Arc<Imatrix>>| {
        let path = dir.path().join(format!("{dtype}{}", imatrix.is_some()));
        Output { imatrix, ..output_of(&source, &path, |t| if t.shape.len() == 1 { DType::F32 } else { dtype }) }
    };
    let outputs: Vec<_> = types.iter().flat_map(|&t| [output(t, None), output(t, Some(Arc::clone(&imatrix)))]).collect();
    let made = run(&source, &outputs, &QuantizeOptions { report: Some(&clock), ..QuantizeOptions::default() }).unwrap();
    for (made, output) in made.iter().zip(&outputs) {
        let bytes = bitworth_quant::gguf::GgufFile::open(&made.path).unwrap();
        for ((entry, report), (name, shape)) in output.plan.entries.iter().zip(&made.report).zip(SHAPES) {
            let x = floats(&source.bytes[name]);
            let w = output.imatrix.as_ref().filter(|_| !entry.to.is_float()).and_then(|m| m.weights(name));
            let rows_per_expert = shape.get(1).copied().unwrap_or(1);
            let expected =
                if entry.to == DType::F32 { source.bytes[name].clone() } else { encoded(&x, rows_per_expert, entry.to, w) };
            let stored = bytes.bytes(bytes.tensors.iter().find(|t| t.name == name).unwrap());
            assert!(stored[..] == expected[..], "{name} as {}", entry.to);
            let on_the_fly = encode_tensor(&source, name, entry.to, output.imatrix.as_deref()).unwrap();
            assert!(on_the_fly == expected, "{name} as {}", entry.to);

            let mut y = vec![0.0; x.len()];
            entry.to.decode_row(&expected, &mut y);
            check(report, &x, &y, rows_per_expert, w);
            assert_eq!((report.from, report.to, &report.reason), (DType::F32, entry.to, &"a test".into()));
            assert!(report.seconds >= 1.0, "the clock was asked");
        }
    }
}

fn check(report: &TensorReport, x: &[f32], y: &[f32], rows_per_expert: usize, w: Option<&[f32]>) {
    let weight = |i: usize| w.map_or(0.0, |w| f64::from(w[i / 256 / rows_per_expert * 256 + i % 256]));
    let sum = |f: &dyn Fn(usize, f64, f64) -> f64| (0..x.len()).map(|i| f(i, f64::from(x[i]), f64::from(y[i]))).sum::<f64>();
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
    let (xx, yy, xy) = (sum(&|_, x, _| x * x), sum(&|_, _, y| y * y), sum(&|_, x, y| x * y));
    let name = &report.tensor;
    assert!(near(report.rmse, (sum(&|_, x, y| (x - y).powi(2)) / x.len() as f64).sqrt()), "{name}");
    assert!(near(report.norm, xx.sqrt()), "{name}");
    assert!(near(report.cosine, if xx == 0.0 { 1.0 } else { xy / (xx * yy).sqrt() }), "{name}: {}", report.cosine);
    let largest = x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).abs()).fold(0.0, f64::max);
    assert_eq!(report.max_abs_error, largest, "{name}");
    let weighted = w.map(|_| sum(&|i, x, y| weight(i) * (x - y).powi(2)) / sum(&|i, x, _| weight(i) * x * x));
    assert_eq!(report.weighted_error.is_some(), weighted.is_some(), "{name}");
    assert!(report.weighted_error.zip(weighted).is_none_or(|(a, b)| near(a, b)), "{name}");
}

#[test]
fn there_is_no_report_unless_it_is_asked_for() {
    let source = source();
    let dir = tempfile::tempdir().unwrap();
    let made = run(&source, &[output_of(&source, &dir.path().join("a"), |t| t.dtype)], &QuantizeOptions::default()).unwrap();
    assert_eq!((made[0].report.len(), &made[0].files[0].sha256), (0, &None));
}
