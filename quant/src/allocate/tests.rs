//! The solver against trying all combinations, and recipes against the plans that they lead to.

use proptest::prelude::*;

use super::*;

/// The best of all combinations.
fn by_trying(units: &[Vec<Cost>], goal: Goal) -> Option<Cost> {
    let mut all = vec![Cost { bytes: 0, loss: 0.0 }];
    for choices in units {
        let with = |before: &Cost| {
            let before = *before;
            choices.iter().map(move |own| Cost { bytes: before.bytes + own.bytes, loss: before.loss + own.loss })
        };
        all = all.iter().flat_map(with).collect();
    }
    match goal {
        Goal::Bytes(most) => all.into_iter().filter(|c| c.bytes <= most).min_by(|a, b| a.loss.total_cmp(&b.loss)),
        Goal::Loss(most) => all.into_iter().filter(|c| c.loss <= most).min_by_key(|c| c.bytes),
    }
}

fn sum(units: &[Vec<Cost>], chosen: &[usize]) -> Cost {
    let own = units.iter().zip(chosen).map(|(choices, &i)| choices[i]);
    own.fold(Cost { bytes: 0, loss: 0.0 }, |all, own| Cost { bytes: all.bytes + own.bytes, loss: all.loss + own.loss })
}

/// Losses are whole numbers, so that sums are exact.
fn units_of_numbers() -> impl Strategy<Value = Vec<Vec<Cost>>> {
    let choice = (1u64..40, 0u32..60).prop_map(|(bytes, loss)| Cost { bytes, loss: f64::from(loss) });
    prop::collection::vec(prop::collection::vec(choice, 1..5), 1..6)
}

/// The largest step of one unit: what a choice between the corners of the path may lose.
fn largest_step(units: &[Vec<Cost>]) -> f64 {
    let span = |choices: &Vec<Cost>| {
        let losses = choices.iter().map(|choice| choice.loss);
        losses.clone().fold(0.0, f64::max) - losses.fold(f64::INFINITY, f64::min)
    };
    units.iter().map(span).fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn a_choice_fits_and_is_off_by_less_than_one_step(units in units_of_numbers(), most in 1u64..160) {
        let best = by_trying(&units, Goal::Bytes(most));
        let found = solve(&units, Goal::Bytes(most)).map(|chosen| sum(&units, &chosen));
        prop_assert_eq!(best.is_some(), found.is_some());
        if let (Some(best), Some(found)) = (best, found) {
            prop_assert!(found.bytes <= most);
            prop_assert!(best.loss <= found.loss && found.loss <= best.loss + largest_step(&units), "{best:?} {found:?}");
        }
    }

    #[test]
    fn a_loss_is_kept_and_the_size_is_off_by_less_than_one_step(units in units_of_numbers(), most in 0u32..200) {
        let goal = Goal::Loss(f64::from(most));
        let best = by_trying(&units, goal);
        let found = solve(&units, goal).map(|chosen| sum(&units, &chosen));
        prop_assert_eq!(best.is_some(), found.is_some());
        if let (Some(best), Some(found)) = (best, found) {
            prop_assert!(found.loss <= f64::from(most) && best.bytes <= found.bytes);
            let widest = units.iter().flatten().map(|choice| choice.bytes).max().unwrap_or(0);
            prop_assert!(found.bytes < best.bytes + widest, "{best:?} {found:?}");
        }
    }

    #[test]
    fn losses_fall_with_bytes_and_keep_their_sum(losses in prop::collection::vec(0u32..100, 1..8)) {
        let mut choices: Vec<Cost> =
            losses.iter().enumerate().map(|(i, &loss)| Cost { bytes: (i as u64 * 7) % 11, loss: f64::from(loss) }).collect();
        let before: f64 = choices.iter().map(|choice| choice.loss).sum();
        isotonic(&mut choices);
        choices.sort_by_key(|choice| choice.bytes);
        prop_assert!(choices.windows(2).all(|pair| pair[0].loss >= pair[1].loss));
        prop_assert!((choices.iter().map(|choice| choice.loss).sum::<f64>() - before).abs() < 1e-9);
    }
}

/// Convex choices with steps of one byte: every size is a corner of the path, and the choice is the best.
#[test]
fn at_the_corners_of_the_path_the_choice_is_the_best() {
    let unit = |losses: [u32; 4]| -> Vec<Cost> {
        losses.iter().enumerate().map(|(i, &loss)| Cost { bytes: i as u64 + 1, loss: f64::from(loss) }).collect()
    };
    let units = [unit([90, 40, 20, 10]), unit([50, 45, 42, 40]), unit([70, 10, 5, 4])];
    for most in 3..=12 {
        let goal = Goal::Bytes(most);
        let found = sum(&units, &solve(&units, goal).unwrap());
        assert_eq!(Some(found.loss), by_trying(&units, goal).map(|best| best.loss), "{most}");
    }
    assert_eq!(solve(&units, Goal::Bytes(2)), None);
    assert_eq!(solve(&units, Goal::Loss(1.0)), None);
    assert_eq!(solve(&[Vec::new()], Goal::Bytes(9)), None);
}

#[test]
fn noise_below_zero_and_rises_are_smoothed() {
    let mut choices = [4.0, 1.0, 3.0, -0.5].map(|loss| Cost { bytes: 0, loss });
    choices.iter_mut().enumerate().for_each(|(i, choice)| choice.bytes = i as u64);
    isotonic(&mut choices);
    assert_eq!(choices.map(|choice| choice.loss), [4.0, 2.0, 2.0, 0.0]);
}

#[test]
fn types_of_the_same_size_are_not_averaged() {
    // As q3_k, q4_k, q4_0 and q5_k: the poor one of two of a size makes neither its twin nor its neighbours worse.
    let cost = |(bytes, loss)| Cost { bytes, loss };
    for twins in [[(4, 1.0), (4, 2.0)], [(4, 2.0), (4, 1.0)]] {
        let mut choices = [(3, 1.5), twins[0], twins[1], (5, 0.5)].map(cost);
        isotonic(&mut choices);
        assert_eq!(choices.map(|choice| choice.loss), [1.5, twins[0].1, twins[1].1, 0.5]);
        let chosen = solve(&[choices.to_vec()], Goal::Bytes(4)).unwrap();
        assert_eq!(choices[chosen[0]], Cost { bytes: 4, loss: 1.0 });
    }
    // What stands for a size is averaged with other sizes, and no twin of it loses less.
    let mut choices = [(3, 1.0), (4, 2.0), (4, 1.2)].map(cost);
    isotonic(&mut choices);
    assert_eq!(choices.map(|choice| choice.loss), [1.1, 2.0, 1.1]);
}

#[test]
fn a_recipe_of_a_choice_gives_its_types() {
    let json = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 4, "vocab_size": 384, "rms_norm_eps": 1e-5
    });
    let config = crate::Config::parse("config.json".into(), json.as_object().unwrap().clone()).unwrap();
    let model = crate::Synth::new("tiny", &config, 1).unwrap();
    let options = PlanOptions::default();
    let units = units(&model, &options).unwrap();
    let names: Vec<&str> = units.iter().filter(|unit| unit.block == Some(1)).map(|unit| unit.name.as_str()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for name in ["attn_qk", "attn_v", "attn_output", "ffn_gate_up", "ffn_down"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(units.iter().any(|unit| unit.full_name() == "token_embd"));
    let types = [DType::Q3_K, DType::Q5_K, DType::Q6_K];
    let chosen: Vec<(&TensorUnit, DType)> = units.iter().enumerate().map(|(i, unit)| (unit, types[i % 3])).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.toml");
    std::fs::write(&path, recipe("mine", "q4_k_m", "made by a test\nof two lines", &chosen)).unwrap();
    let plan = Plan::of(&model, &Recipe::find(path.to_str().unwrap()).unwrap(), &options).unwrap();
    for (unit, dtype) in &chosen {
        assert!(unit.types(&plan).iter().all(|to| to == dtype), "{} {dtype}", unit.full_name());
    }
    // llama-quantize's lines say the same.
    let tensor_types = crate::plan::TensorType::parse_all(&tensor_types(&units, &plan)).unwrap();
    let by_lines = Plan::of(&model, &Recipe::find("q4_k_m").unwrap(), &PlanOptions { tensor_types, ..options }).unwrap();
    assert_eq!(by_lines.specs(), plan.specs());
    // One unit in another type, the rest as it is.
    let alone = units[0].alone(&alike(&model, DType::Q4_K, &PlanOptions::default()).unwrap());
    let changed: Vec<&str> = alone.entries.iter().filter(|e| e.from != e.to).map(|e| e.tensor.as_str()).collect();
    let mut expected: Vec<&str> = units[0].tensors.iter().map(String::as_str).collect();
    expected.sort_by_key(|name| alone.entries.iter().position(|entry| entry.tensor == *name));
    assert_eq!(changed, expected);
}
