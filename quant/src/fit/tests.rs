//! Fitted rows on inputs whose columns depend on each other.

use super::rounding::STRETCHES;
use super::*;
use crate::formats::TakenApart;
use crate::random::SplitMix64;

/// An input of `cols` columns that are mixtures of fewer sources, some columns much larger than others; and rows of weights.
struct World {
    cols: usize,
    mix: Vec<f64>,
    sources: usize,
    random: SplitMix64,
}

impl World {
    fn new(cols: usize, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let sources = cols / 4;
        let mut normal = || (0..6).map(|_| random.unit()).sum::<f64>() - 3.0;
        let mix = (0..cols * sources).map(|i| normal() * if (i / sources).is_multiple_of(37) { 8.0 } else { 1.0 }).collect();
        Self { cols, mix, sources, random }
    }

    fn normal(&mut self) -> f64 {
        (0..6).map(|_| self.random.unit()).sum::<f64>() - 3.0
    }

    fn inputs(&mut self, rows: usize) -> Vec<f64> {
        let mut x = Vec::new();
        for _ in 0..rows {
            let sources: Vec<f64> = (0..self.sources).map(|_| self.normal()).collect();
            for mix in self.mix.chunks_exact(self.sources) {
                x.push(mix.iter().zip(&sources).map(|(m, s)| m * s).sum::<f64>());
            }
            let at = x.len() - self.cols;
            for value in &mut x[at..] {
                *value += 0.5 * self.normal();
            }
        }
        x
    }

    fn moments(&mut self, rows: usize) -> Moments {
        let sums = [0, 1].map(|_| {
            let (x, n) = (self.inputs(rows), self.cols);
            let mut sum = vec![0.0f64; n * n];
            for row in x.chunks_exact(n) {
                for (i, a) in row.iter().enumerate() {
                    for (sum, b) in sum[i * n..][..n].iter_mut().zip(row) {
                        *sum += a * b;
                    }
                }
            }
            sum.into_iter().map(|v| v as f32).collect::<Vec<f32>>()
        });
        Moments { cols: self.cols, width: self.cols, sums: sums.into(), counts: vec![rows as u64; 2], left_out: 1..2 }
    }

    fn weights(&mut self, rows: usize) -> Vec<f32> {
        (0..rows * self.cols).map(|_| self.normal() as f32 * 0.02).collect()
    }
}

/// The mean squared error of outputs on inputs, by hand.
fn output_error(dtype: DType, w: &[f32], bytes: &[u8], x: &[f64], cols: usize) -> f64 {
    let rows = w.len() / cols;
    let mut decoded = vec![0.0; w.len()];
    let row_bytes = bytes.len() / rows;
    for (bytes, out) in bytes.chunks_exact(row_bytes).zip(decoded.chunks_exact_mut(cols)) {
        dtype.decode_row(bytes, out);
    }
    let mut error = 0.0;
    for x in x.chunks_exact(cols) {
        for (w, q) in w.chunks_exact(cols).zip(decoded.chunks_exact(cols)) {
            error += w.iter().zip(q).zip(x).map(|((w, q), x)| f64::from(w - q) * x).sum::<f64>().powi(2);
        }
    }
    error
}

fn formats() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|&dtype| fits(dtype) && !is_of_grids(dtype))
}

#[test]
fn outputs_lose_less_on_inputs_that_were_not_seen() {
    let mut world = World::new(512, 1);
    let moments = world.moments(1024);
    let (w, x) = (world.weights(32), world.inputs(64));
    for dtype in formats() {
        let input = FitInput::new(&moments, dtype, &w);
        let row_bytes = dtype.row_bytes(512).unwrap();
        let (mut fitted, mut plain) = (vec![0; 32 * row_bytes], vec![0; 32 * row_bytes]);
        let report = input.encode(dtype, &w, &mut fitted);
        for (w, out) in w.chunks_exact(512).zip(plain.chunks_exact_mut(row_bytes)) {
            dtype.encode_row(w, Some(input.importance()), out);
        }
        let (before, after) = (output_error(dtype, &w, &plain, &x, 512), output_error(dtype, &w, &fitted, &x, 512));
        assert!(after < 0.8 * before, "{dtype}: {after} after {before}");
        assert!(report.fitted > 0 && report.loss_after < report.loss_before, "{dtype}: {report:?}");
    }
}

/// With fewer rows than a quarter of the columns nothing can be judged, and the importance matrix's bytes are kept.
#[test]
fn too_few_rows_are_not_fitted_to() {
    let mut world = World::new(256, 2);
    let moments = world.moments(20);
    let w = world.weights(16);
    let input = FitInput::new(&moments, DType::Q4_K, &w);
    assert_eq!(input.shrinkage, Shrinkage::NONE);
    let mut out = vec![0; 16 * DType::Q4_K.row_bytes(256).unwrap()];
    let mut plain = out.clone();
    assert_eq!(input.encode(DType::Q4_K, &w, &mut out), FitReport { kept: 16, ..FitReport::default() });
    for (w, out) in w.chunks_exact(256).zip(plain.chunks_exact_mut(144)) {
        DType::Q4_K.encode_row(w, moments.importance().as_deref(), out);
    }
    assert_eq!(out, plain);
}

#[test]
fn threads_change_no_byte() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut world = World::new(256, 3);
            let moments = world.moments(300);
            let w = world.weights(40);
            let mut out = vec![0; 40 * DType::Q3_K.row_bytes(256).unwrap()];
            FitInput::new(&moments, DType::Q3_K, &w).encode(DType::Q3_K, &w, &mut out);
            out
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn odd_inputs_give_the_importance_matrixs_bytes() {
    let n = 256;
    let w: Vec<f32> = (0..2 * n).map(|i| (i as f32 * 0.7).sin()).collect();
    for fill in [0.0, f32::NAN, f32::INFINITY] {
        let sums = vec![vec![fill; n * n]; 2];
        let moments = Moments { cols: n, width: n, sums, counts: vec![500; 2], left_out: 1..2 };
        let input = FitInput::new(&moments, DType::Q4_K, &w);
        let mut out = vec![0; 2 * DType::Q4_K.row_bytes(n).unwrap()];
        assert_eq!(input.encode(DType::Q4_K, &w, &mut out).fitted, 0, "{fill}");
    }
    // Columns that nothing goes into.
    let mut world = World::new(n, 4);
    let mut moments = world.moments(200);
    for sum in &mut moments.sums {
        for (i, sum) in sum.iter_mut().enumerate() {
            if (i / n).is_multiple_of(3) || (i % n).is_multiple_of(3) {
                *sum = 0.0;
            }
        }
    }
    let input = FitInput::new(&moments, DType::Q4_K, &w);
    let mut out = vec![0; 2 * DType::Q4_K.row_bytes(n).unwrap()];
    input.encode(DType::Q4_K, &w, &mut out);
    let mut decoded = vec![0.0; 2 * n];
    DType::Q4_K.decode_row(&out, &mut decoded);
    assert!(decoded.iter().all(|v| v.is_finite()));
}

/// The diagonal blocks of sums `[K, K]`, one behind the other.
fn blocks(sums: &[f32], cols: usize, width: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for start in (0..cols).step_by(width) {
        let end = (start + width).min(cols);
        for i in start..end {
            out.extend_from_slice(&sums[i * cols + start..i * cols + end]);
        }
    }
    out
}

#[test]
fn columns_of_groups_that_do_not_meet_become_the_same_bytes_in_groups() {
    // Groups of 512 and 256 columns.
    let (cols, width) = (768, 512);
    let mut world = World::new(cols, 5);
    let mut whole = world.moments(500);
    for sums in &mut whole.sums {
        for (at, sum) in sums.iter_mut().enumerate() {
            if at / cols / width != at % cols / width {
                *sum = 0.0;
            }
        }
    }
    let sums = whole.sums.iter().map(|sums| blocks(sums, cols, width)).collect();
    let grouped = Moments { width, sums, ..whole.clone() };
    let w = world.weights(16);
    for dtype in [DType::Q4_K, DType::Q4_0] {
        let encoded = |moments: &Moments, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let input = FitInput::new(moments, dtype, &w);
                let mut out = vec![0; 16 * dtype.row_bytes(cols).unwrap()];
                let report = input.encode(dtype, &w, &mut out);
                (out, input.shrinkage, report.fitted)
            })
        };
        let (bytes, shrinkage, fitted) = encoded(&whole, 2);
        assert!(fitted > 0 && shrinkage.rho < 1.0, "{dtype}: {shrinkage:?}, {fitted} rows fitted");
        for threads in [1, 3] {
            assert_eq!(encoded(&grouped, threads), (bytes.clone(), shrinkage, fitted), "{dtype}");
        }
    }
}

#[test]
fn an_expert_has_its_own_rows_and_as_many_of_all_experts_as_it_has_columns() {
    let cols = 96;
    let mut world = World::new(cols, 6);
    let experts: Vec<Moments> = [150, 3, 0].iter().map(|&rows| world.moments(rows)).collect();
    let pool = Moments::pool(&experts).unwrap();
    let all = |half: usize, i: usize| experts.iter().map(|expert| f64::from(expert.sums[half][i])).sum::<f64>();
    let rows: u64 = experts.iter().flat_map(|expert| &expert.counts).sum();
    for expert in &experts {
        let joined = expert.with_pool(&pool);
        assert_eq!(joined.counts.iter().sum::<u64>(), expert.counts.iter().sum::<u64>() + cols as u64);
        let means = joined.means(&(0..cols));
        for (i, &found) in means.iter().enumerate() {
            let own = f64::from(expert.sums[0][i]) + f64::from(expert.sums[1][i]);
            let (n, n0) = (expert.counts.iter().sum::<u64>() as f64, cols as f64);
            let share = n0 / rows as f64;
            let expected = (own + share * (all(0, i) + all(1, i))) / (n + n0);
            let terms = [0, 1].map(|half| f64::from(expert.sums[half][i]).abs() + share * all(half, i).abs());
            let rounding = 1e-6 * (terms[0] + terms[1]) / (n + n0);
            assert!((f64::from(found) - expected).abs() <= rounding, "{i}: {found} and {expected}");
        }
    }
    // Of what nothing was counted there is nothing to share.
    let nothing = Moments::pool(&experts[2..]).unwrap();
    assert_eq!(experts[2].with_pool(&nothing), experts[2]);
}

/// An expert with fewer rows than a quarter of its columns has no feedback, whatever the others say, but what matters to all
/// experts matters to it.
#[test]
fn an_expert_with_few_rows_takes_the_importance_of_all_and_no_feedback() {
    let cols = 256;
    let mut world = World::new(cols, 7);
    let experts = [world.moments(600), world.moments(8)];
    let pool = Moments::pool(&experts).unwrap();
    let (w, dtype) = (world.weights(16), DType::Q3_K);
    let joined = experts[1].with_pool(&pool);
    let of = |rho: f32| {
        let input = FitInput::of(&experts[1], &joined, dtype, Shrinkage { rho, held_out: 0.5 });
        let mut out = vec![0; 16 * dtype.row_bytes(cols).unwrap()];
        (input.encode(dtype, &w, &mut out), out)
    };
    let (report, bytes) = of(0.2);
    assert!(report.fitted > 0, "{report:?}");
    assert_eq!(bytes, of(1.0).1);
    let fed_back = FitInput::of(&experts[0], &experts[0].with_pool(&pool), dtype, Shrinkage { rho: 0.2, held_out: 0.5 });
    let mut other = vec![0; bytes.len()];
    fed_back.encode(dtype, &w, &mut other);
    assert_ne!(bytes, other);
}

#[test]
fn rows_of_all_zeros_and_scales_of_zero_are_kept_as_they_are() {
    let n = 256;
    let mut world = World::new(n, 8);
    let moments = world.moments(300);
    // A row of zeros, and one with sub-blocks of zeros.
    let mut w = world.weights(2);
    w[..n].fill(0.0);
    w[n + 32..n + 96].fill(0.0);
    for dtype in formats() {
        let mut out = vec![0; 2 * dtype.row_bytes(n).unwrap()];
        FitInput::new(&moments, dtype, &w).encode(dtype, &w, &mut out);
        let mut decoded = vec![f32::NAN; 2 * n];
        dtype.decode_row(&out, &mut decoded);
        assert!(decoded[..n].iter().all(|&v| v == 0.0), "{dtype}");
        assert!(decoded[n..].iter().all(|v| v.is_finite()), "{dtype}");
    }
}

/// Formats with short blocks take rows of 288 weights; the last group is shorter.
#[test]
fn rows_that_are_no_whole_super_blocks_are_fitted() {
    let n = 288;
    let mut world = World::new(n, 9);
    let whole = world.moments(400);
    let sums = whole.sums.iter().map(|sums| blocks(sums, n, 256)).collect();
    let grouped = Moments { width: 256, sums, ..whole.clone() };
    let w = world.weights(16);
    for moments in [&whole, &grouped] {
        let mut out = vec![0; 16 * DType::Q4_0.row_bytes(n).unwrap()];
        let report = FitInput::new(moments, DType::Q4_0, &w).encode(DType::Q4_0, &w, &mut out);
        assert!(report.fitted > 0 && report.loss_after < report.loss_before, "{report:?}");
    }
}

/// Formats whose codes stand for several weights: errors go from block to block.
#[test]
fn formats_of_grids_lose_less_by_feedback_between_blocks() {
    let mut world = World::new(512, 10);
    let moments = world.moments(600);
    let (w, x) = (world.weights(8), world.inputs(32));
    for dtype in DType::ALL.iter().copied().filter(|&dtype| is_of_grids(dtype)) {
        assert!(fits(dtype), "{dtype}");
        let input = FitInput::new(&moments, dtype, &w);
        let row_bytes = dtype.row_bytes(512).unwrap();
        let (mut fitted, mut plain) = (vec![0; 8 * row_bytes], vec![0; 8 * row_bytes]);
        let report = input.encode(dtype, &w, &mut fitted);
        for (w, out) in w.chunks_exact(512).zip(plain.chunks_exact_mut(row_bytes)) {
            dtype.encode_row(w, Some(input.importance()), out);
        }
        assert!(report.fitted > 0 && report.loss_after < report.loss_before, "{dtype}: {:?} {report:?}", input.shrinkage);
        let (before, after) = (output_error(dtype, &w, &plain, &x, 512), output_error(dtype, &w, &fitted, &x, 512));
        assert!(after < before, "{dtype}: {after} after {before}");
        // The block that is rounded first has nothing to take up, and so the bytes that it has without feedback.
        let block_bytes = row_bytes / 2;
        for (fitted, plain) in fitted.chunks_exact(row_bytes).zip(plain.chunks_exact(row_bytes)) {
            assert!(fitted[..block_bytes] == plain[..block_bytes] || fitted[block_bytes..] == plain[block_bytes..], "{dtype}");
        }
    }
}

#[test]
fn an_expert_that_no_token_reached_has_the_importance_of_all() {
    let mut world = World::new(256, 11);
    let experts = [world.moments(300), world.moments(0)];
    let pool = Moments::pool(&experts).unwrap();
    let input = FitInput::of(&experts[1], &experts[1].with_pool(&pool), DType::Q4_0, Shrinkage { rho: 0.2, held_out: 0.5 });
    for (own, all) in input.importance().iter().zip(experts[0].importance().unwrap()) {
        assert!((own / all - 1.0).abs() < 1e-5, "{own} and {all}");
    }
    // Nothing to feed back, and nothing of all where nothing is known.
    assert_eq!(input.shrinkage.rho, 1.0);
    let alone = FitInput::of(&experts[1], &experts[1], DType::Q4_0, Shrinkage { rho: 0.2, held_out: 0.5 });
    assert!(alone.importance().iter().all(|&weight| weight == 1.0));
}

/// What an input says is what it does: the choice, or 1 where that cannot be done in one of its groups.
#[test]
fn the_share_of_the_diagonal_that_is_said_is_the_one_that_is_used() {
    let n = 512;
    let mut world = World::new(n, 12);
    let whole = world.moments(400);
    let sums = whole.sums.iter().map(|sums| blocks(sums, n, 256)).collect();
    let mut grouped = Moments { width: 256, sums, ..whole };
    let used = |moments: &Moments, held_out: f64| {
        let input = FitInput::of(moments, moments, DType::Q4_0, Shrinkage { rho: 0.35, held_out });
        (input.shrinkage.rho, input.shrinkage.held_out)
    };
    assert_eq!(used(&grouped, 0.5), (0.35, 0.5));
    assert_eq!(used(&grouped, 1.5), (1.0, 1.5));
    // No sums of products: with all columns against each other no damping makes it one, but its diagonal is.
    for sums in &mut grouped.sums {
        let mean = (0..256).map(|i| sums[256 * 256 + i * 257]).sum::<f32>() / 256.0;
        for (at, sum) in sums[256 * 256..].iter_mut().enumerate() {
            *sum = if at % 257 == 0 { mean } else { -mean };
        }
    }
    assert_eq!(used(&grouped, 0.5), (1.0, 0.5));
}

/// Without feedback a block loses what its scales and the nearest codes lose. The wide search finds scales that lose less than
/// all that the encoder is asked for.
#[test]
fn blocks_lose_less_than_with_the_best_scales_of_encoders() {
    let n = 512;
    let mut world = World::new(n, 13);
    let moments = world.moments(300);
    let w = world.weights(8);
    for dtype in [DType::Q4_0, DType::Q4_1, DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::IQ4_XS] {
        let input = FitInput::of(&moments, &moments, dtype, Shrinkage { rho: 1.0, held_out: 0.5 });
        let mut out = vec![0; 8 * dtype.row_bytes(n).unwrap()];
        input.encode(dtype, &w, &mut out);
        let mut matters = vec![0.0; n];
        for (k, &column) in input.groups[0].factor.order.iter().enumerate() {
            matters[column as usize] = f64::from(input.groups[0].moment[k * n + k]);
        }
        // Whatever the codes: the nearest value of each weight.
        let (integers, values) = (dtype.integers().unwrap(), CodeBits::of(dtype).unwrap().values());
        let loss = |bytes: &[u8], x: &[f32], matters: &[f64]| {
            let mut parts = TakenApart::default();
            integers.take_apart(bytes, &mut parts);
            let one = |(i, (x, matters)): (usize, (&f32, &f64))| {
                let (scale, offset) = parts.factors(i / integers.group);
                let offset = if integers.has_offsets { offset } else { 0.0 };
                let misses = values.iter().map(|&value| (x - (scale * f32::from(value) + offset)).abs());
                matters * f64::from(misses.fold(f32::INFINITY, f32::min)).powi(2)
            };
            x.iter().zip(matters).enumerate().map(one).sum::<f64>()
        };
        let (len, mut before, mut after) = (dtype.block_len(), 0.0, 0.0);
        for (i, (x, bytes)) in w.chunks_exact(len).zip(out.chunks_exact(dtype.block_bytes())).enumerate() {
            let columns = i * len % n..i * len % n + len;
            let importance = &input.importance()[columns.clone()];
            let mut encoded = vec![0; bytes.len()];
            let mut least = f64::INFINITY;
            for (stretch, importance) in
                STRETCHES.map(|stretch| (stretch, Some(importance))).into_iter().chain([(1.0, Some(importance)), (1.0, None)])
            {
                let stretched: Vec<f32> = x.iter().map(|x| stretch * x).collect();
                dtype.encode_row(&stretched, importance, &mut encoded);
                least = least.min(loss(&encoded, x, &matters[columns.clone()]));
            }
            before += least;
            after += loss(bytes, x, &matters[columns]);
        }
        assert!(after < 0.999 * before, "{dtype}: {after} after {before}");
    }
}

/// Of several texts each is left out in turn, so that their order says nothing, and what all say together lies between what the
/// best and the worst of them say alone.
#[test]
fn every_text_of_several_is_left_out_in_turn() {
    let n = 256;
    let [mut one, mut other] = [14, 15].map(|seed| World::new(n, seed));
    let (a, b) = (one.moments(400), other.moments(400));
    let w = one.weights(16);
    let of = |texts: [&Vec<f32>; 3], left_out: Range<usize>| {
        let moments = Moments { cols: n, width: n, sums: texts.map(Vec::clone).into(), counts: vec![400; 3], left_out };
        Shrinkage::choose(DType::Q3_K, &[FitSample { moments: &moments, rows: &w }])
    };
    let texts = [&a.sums[0], &a.sums[1], &b.sums[0]];
    let all = of(texts, 0..3);
    for [i, j, k] in [[2, 0, 1], [1, 0, 2], [0, 2, 1]] {
        let turned = of([texts[i], texts[j], texts[k]], 0..3);
        assert!(turned.rho == all.rho && (turned.held_out / all.held_out - 1.0).abs() < 1e-9, "{turned:?} and {all:?}");
    }
    let each = [0, 1, 2].map(|part| of(texts, part..part + 1).held_out);
    let least = each.into_iter().fold(f64::INFINITY, f64::min);
    let largest = each.into_iter().fold(0.0, f64::max);
    assert!(largest > 1.001 * least && all.held_out > least, "{each:?}, together {all:?}");
}

/// Rows of all parts are counted, and those of experts that are added to them are as many as there are columns.
#[test]
fn parts_of_which_an_expert_saw_nothing_are_not_left_out() {
    let n = 256;
    let mut world = World::new(n, 16);
    let Moments { sums, .. } = world.moments(300);
    let w = world.weights(16);
    let parts = |counts: [u64; 3]| {
        let empty = vec![0.0; n * n];
        let of = |(count, sums): (&u64, &Vec<f32>)| if *count > 0 { sums.clone() } else { empty.clone() };
        let sums = counts.iter().zip([&sums[0], &sums[1], &sums[0]]).map(of).collect();
        Moments { cols: n, width: n, sums, counts: counts.to_vec(), left_out: 0..3 }
    };
    let (seen, unseen) = (parts([300, 300, 0]), parts([300, 0, 0]));
    assert!(seen.has_enough_rows() && !unseen.has_enough_rows());
    let choose = |moments: &Moments| Shrinkage::choose(DType::Q4_0, &[FitSample { moments, rows: &w }]);
    assert!(choose(&seen).held_out < 1.0);
    assert_eq!(choose(&unseen), Shrinkage::NONE);
    let pool = Moments::pool(&[parts([300, 300, 300]), parts([0, 0, 300])]).unwrap();
    assert_eq!(pool.counts, [300, 300, 600]);
    let joined = seen.with_pool(&pool);
    assert_eq!(joined.counts, [300 + 64, 300 + 64, 128]);
    assert_eq!(joined.left_out, 0..3);
}
