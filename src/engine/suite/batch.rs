//! A row's result is the same bits whichever rows come with it.

use bitworth_quant::DType;

use super::attention::attention_spans;
use super::guarded::{input, list, output};
use super::head::{logits, score};
use super::weights::Product;
use super::{Random, check_bits};
use crate::backend::{AttentionInputs, AttentionShape, Backend, Norm};

/// A row of a batch of 70 equals, bit for bit, the same row computed alone.
pub(super) fn rows_do_not_depend_on_their_batch<B: Backend>(b: &B, dtypes: &[DType]) {
    let mut random = Random::new(12);
    let (rows, inner, cols) = (70, 256, 96);
    let x = random.numbers(rows * inner);
    let gain = b.weight(random.weight(DType::F32, 1, inner).0).unwrap();
    let norm = |x: &[f32]| {
        let (rows, device_x) = (x.len() / inner, input(b, x));
        output(b, "norm", x.len(), |out| b.norm(Norm::Rms, &device_x, rows, &gain, 1e-6, out).unwrap())
    };
    check_rows("norm", &x, inner, inner, norm);
    for &dtype in dtypes {
        let weight = b.weight(random.weight(dtype, cols, inner).0).unwrap();
        for (name, run) in [("matmul", B::matmul as Product<B>), ("matvec", B::matvec)] {
            let multiply = |x: &[f32]| {
                let (rows, x) = (x.len() / inner, input(b, x));
                output(b, name, rows * cols, |out| run(b, &x, 0..rows, &weight, 0..cols, out).unwrap())
            };
            check_rows(&format!("{name} {dtype}"), &x, inner, cols, multiply);
        }
    }
}

pub(super) fn head_rows_do_not_depend_on_their_batch<B: Backend>(b: &B) {
    let mut random = Random::new(25);
    let rows = 70;
    let logits = logits(&mut random, rows, 1000);
    let targets: Vec<_> = (0..rows).map(|_| random.below(1000)).collect();
    let together = score(b, &logits, None, &targets, &[300]);
    for (t, row) in logits.chunks(1000).enumerate().step_by(23) {
        assert_eq!(score(b, row, None, &targets[t..=t], &[300]), [together[t]], "head row {t} alone and in a batch");
    }
}

fn check_rows(what: &str, x: &[f32], inner: usize, cols: usize, run: impl Fn(&[f32]) -> Vec<f32>) {
    let together = run(x);
    for t in [0, 1, 31, 32, 64, 69] {
        let alone = run(&x[t * inner..][..inner]);
        check_bits(&format!("{what}: row {t} alone and in a batch"), &together[t * cols..][..cols], &alone);
    }
    let some = run(&x[3 * inner..][..5 * inner]);
    check_bits(&format!("{what}: five rows and the batch"), &together[3 * cols..][..5 * cols], &some);
}

pub(super) fn attention_rows_do_not_depend_on_their_batch<B: Backend>(b: &B) {
    let mut random = Random::new(13);
    let (keys, shape) = (170, AttentionShape { heads: 4, kv_heads: 2, head_dim: 64, value_dim: 64, scale: 0.3, softcap: 0.0 });
    let width = shape.heads * shape.head_dim;
    let sinks = input(b, &random.numbers(shape.heads));
    for (name, spans) in attention_spans() {
        let q = random.numbers(spans.len() * width);
        let [k, v] = [(); 2].map(|()| input(b, &random.numbers(keys * shape.kv_heads * shape.head_dim)));
        let attend = |q: &[f32], spans: &[[u32; 2]]| {
            let (len, rows, q, spans) = (q.len(), spans.len(), input(b, q), list(b, spans.as_flattened()));
            let inputs = AttentionInputs { q: &q, k: &k, v: &v, spans: &spans, sinks: Some(&sinks) };
            let run = |out: &mut B::Buffer| b.attention(inputs, rows, shape, out).unwrap();
            output(b, "attention", len, run)
        };
        let together = attend(&q, &spans);
        for t in (0..spans.len()).step_by(11) {
            let alone = attend(&q[t * width..][..width], &spans[t..=t]);
            check_bits(&format!("attention {name}: row {t} alone and in a batch"), &together[t * width..][..width], &alone);
        }
    }
}
