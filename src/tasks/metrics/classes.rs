//! Aggregates over right and chosen classes: F1, Matthews' correlation coefficient, Brier's score. A figure is a list of the
//! right class and the chosen one (for Brier's score, the probabilities of all).
//!
//! Source: scikit-learn 1.7, `f1_score` (binary), `matthews_corrcoef`; G. W. Brier 1950 as lm-evaluation-harness sums it.

use bitworth_quant::message::Message;
use bitworth_text::python;
use serde_json::Value;

use super::number;

fn pairs(values: &[Value]) -> Result<Vec<(&Value, &Value)>, Message> {
    let pair = |value: &Value| -> Result<(), Message> {
        match value.as_array().map(Vec::as_slice) {
            Some([_, _]) => Ok(()),
            _ => Err(format!("{} is no pair of a right and a chosen class", python::repr(value)).into()),
        }
    };
    values.iter().try_for_each(pair)?;
    Ok(values.iter().map(|value| (&value[0], &value[1])).collect())
}

/// F1 of class 1 among the classes 0 and 1; 0 where it occurs nowhere.
pub(super) fn f1(values: &[Value]) -> Result<f64, Message> {
    let (mut both, mut one) = (0.0, 0.0);
    for (gold, chosen) in pairs(values)? {
        let (gold, chosen) = (number(gold)?, number(chosen)?);
        if [gold, chosen].iter().any(|class| *class != 0.0 && *class != 1.0) {
            return Err(format!("f1 is of the classes 0 and 1, and there are {gold} and {chosen}").into());
        }
        both += gold * chosen;
        one += f64::from(u8::from(gold != chosen));
    }
    Ok(if both + one == 0.0 { 0.0 } else { 2.0 * both / (2.0 * both + one) })
}

/// F1 of every class, weighted by how often it is right (scikit-learn's `average="weighted"`); 0 where a class occurs nowhere.
pub(crate) fn weighted_f1(values: &[Value]) -> Result<f64, Message> {
    let pairs = pairs(values)?;
    let mut classes: Vec<&Value> = Vec::new();
    for (gold, _) in &pairs {
        if !classes.iter().any(|known| python::equal(known, gold)) {
            classes.push(gold);
        }
    }
    let mut sum = 0.0;
    for class in classes {
        let is = |value: &Value| python::equal(value, class);
        let gold = pairs.iter().filter(|(gold, _)| is(gold)).count() as f64;
        let chosen = pairs.iter().filter(|(_, chosen)| is(chosen)).count() as f64;
        let both = pairs.iter().filter(|(gold, chosen)| is(gold) && is(chosen)).count() as f64;
        sum += gold * 2.0 * both / (gold + chosen);
    }
    Ok(sum / pairs.len() as f64)
}

/// F1 over all classes at once (scikit-learn's `average="micro"`), which is the share of right choices where each has one class.
pub(crate) fn micro_f1(values: &[Value]) -> Result<f64, Message> {
    let pairs = pairs(values)?;
    let same = pairs.iter().filter(|(gold, chosen)| python::equal(gold, chosen)).count();
    Ok(same as f64 / pairs.len() as f64)
}

/// Matthews' coefficient of any number of classes (Gorodkin 2004); 0 where one side has one class only.
pub(super) fn matthews(values: &[Value]) -> Result<f64, Message> {
    let pairs = pairs(values)?;
    let mut classes: Vec<&Value> = Vec::new();
    for value in pairs.iter().flat_map(|(gold, chosen)| [*gold, *chosen]) {
        if !classes.iter().any(|known| python::equal(known, value)) {
            classes.push(value);
        }
    }
    let place = |value: &Value| classes.iter().position(|known| python::equal(known, value)).unwrap_or_default();
    let (mut gold, mut chosen) = (vec![0.0; classes.len()], vec![0.0; classes.len()]);
    let mut right = 0.0;
    for (a, b) in &pairs {
        let (a, b) = (place(a), place(b));
        gold[a] += 1.0;
        chosen[b] += 1.0;
        right += f64::from(u8::from(a == b));
    }
    let count = pairs.len() as f64;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let covariance = right * count - product(&gold, &chosen);
    let spread = (count * count - product(&chosen, &chosen)) * (count * count - product(&gold, &gold));
    Ok(if spread == 0.0 { 0.0 } else { covariance / spread.sqrt() })
}

/// The mean over documents of the squared distance between the probabilities and the right class.
pub(super) fn brier(values: &[Value]) -> Result<f64, Message> {
    let mut sum = 0.0;
    for (gold, chosen) in pairs(values)? {
        let probabilities =
            chosen.as_array().ok_or_else(|| Message::from("brier_score needs the probabilities of all choices"))?;
        let gold = gold.as_i64().and_then(|gold| usize::try_from(gold).ok()).filter(|gold| *gold < probabilities.len());
        let gold = gold.ok_or_else(|| Message::from("brier_score needs a right class among the choices"))?;
        for (at, probability) in probabilities.iter().enumerate() {
            sum += (number(probability)? - f64::from(u8::from(at == gold))).powi(2);
        }
    }
    Ok(sum / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(of: fn(&[Value]) -> Result<f64, Message>, values: Value, expected: f64) {
        let found = of(values.as_array().unwrap()).unwrap();
        assert!((found - expected).abs() <= 1e-12, "{found}, expected {expected}");
    }

    /// Expected: scikit-learn 1.7.
    #[test]
    fn classes_are_scored_as_scikit_learn_scores_them() {
        check(f1, json!([[1, 1], [1, 0], [0, 1], [0, 0], [1, 1]]), 2.0 / 3.0);
        check(f1, json!([[0, 0]]), 0.0);
        check(matthews, json!([[1, 1], [1, 0], [0, 1], [0, 0], [1, 1]]), 1.0 / 6.0);
        check(matthews, json!([[0, 0], [1, 2], [2, 2], [1, 1], [0, 1]]), 0.4375);
        check(matthews, json!([[1, 1], [1, 1]]), 0.0);
        check(brier, json!([[0, [0.5, 0.5]], [1, [0.25, 0.75]]]), 0.3125);
        assert!(f1(&[json!([2, 1])]).is_err() && brier(&[json!([-100, [1.0]])]).is_err() && f1(&[json!(1)]).is_err());
    }
}
