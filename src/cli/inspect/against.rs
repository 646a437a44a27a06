//! How two models differ: keys of the metadata, and tensors by name, type, shape and bytes.

use anyhow::Result;
use serde_json::{Value, json};

use super::brief;
use crate::cli::session::Session;
use crate::cli::{Outcome, output};
use bitworth_quant::contents::{Contents, TensorRow};

/// A difference: what is at fault, and what stands on either side.
struct Difference {
    name: String,
    here: Option<String>,
    there: Option<String>,
    document: [Value; 2],
}

pub fn run(here: &Contents, there: &Contents, session: &Session) -> Result<Outcome> {
    let (keys, tensors) = (keys(here, there), tensors(here, there));
    let as_json = |list: &[Difference]| -> Vec<Value> {
        let one = |d: &Difference| json!({ "name": d.name, "here": d.document[0], "there": d.document[1] });
        list.iter().map(one).collect()
    };
    let document =
        json!({ "metadata": as_json(&keys), "tensors": as_json(&tensors), "same": keys.is_empty() && tensors.is_empty() });
    let counts = format!("keys that differ: {}, tensors that differ: {}", keys.len(), tensors.len());
    session.print(&document, || {
        let line = |d: &Difference| {
            let side = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            format!("{:48} {}  |  {}\n", output::tame(&d.name).replace('\n', "\\n"), side(&d.here), side(&d.there))
        };
        let text: String = keys.iter().chain(&tensors).map(line).collect();
        format!("{text}{counts}\n")
    })?;
    match keys.len() + tensors.len() {
        0 => Ok(Outcome::Done),
        _ => Ok(Outcome::GateFailed(counts)),
    }
}

fn keys(here: &Contents, there: &Contents) -> Vec<Difference> {
    let names = here.metadata.iter().map(|(key, _)| key);
    let more = there.metadata.iter().map(|(key, _)| key).filter(|key| here.metadata.get(key).is_none());
    let difference = |key: &str| {
        let sides = [here.metadata.get(key), there.metadata.get(key)];
        let document = sides.map(|side| json!(side));
        let [a, b] = sides.map(|side| side.map(brief));
        (sides[0] != sides[1]).then(|| Difference { name: key.to_owned(), here: a, there: b, document })
    };
    names.chain(more).filter_map(difference).collect()
}

fn tensors(here: &Contents, there: &Contents) -> Vec<Difference> {
    let find = |contents: &'_ Contents, name: &str| contents.rows.iter().position(|row| row.name == name);
    let more = there.rows.iter().filter(|row| find(here, &row.name).is_none());
    let difference = |row: &TensorRow| {
        let sides = [here, there].map(|contents| find(contents, &row.name).map(|i| &contents.rows[i]));
        let same = matches!(sides, [Some(a), Some(b)] if (a.dtype, &a.shape, &a.sha256) == (b.dtype, &b.shape, &b.sha256));
        let text = |row: &TensorRow| {
            let shape = row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            format!("{} {shape} {}", row.dtype, row.sha256.as_deref().and_then(|hash| hash.get(..12)).unwrap_or_default())
        };
        let document = |row: &TensorRow| json!({ "type": row.dtype, "shape": row.shape, "sha256": row.sha256 });
        let [a, b] = sides.map(|side| side.map(text));
        let document = sides.map(|side| side.map_or(Value::Null, document));
        (!same).then(|| Difference { name: row.name.clone(), here: a, there: b, document })
    };
    here.rows.iter().chain(more).filter_map(difference).collect()
}
