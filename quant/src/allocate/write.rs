//! A choice of types as text: a custom recipe, and lines for llama-quantize.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{TensorUnit, parts};
use crate::DType;
use crate::plan::Plan;

/// The recipe that gives each unit a type, in the form of `configs/recipes/`; everything else is as in `base`. `about` stands at
/// its head, line by line.
pub fn recipe(name: &str, base: &str, about: &str, chosen: &[(&TensorUnit, DType)]) -> String {
    let mut text: String = about.lines().map(|line| format!("# {line}\n")).collect();
    let _ = writeln!(text, "name = \"{name}\"\nbase = \"{base}\"");
    // By name of the unit, its tensors' stems and the type: the blocks.
    let mut rules: BTreeMap<(&str, Vec<&str>, &str), Vec<usize>> = BTreeMap::new();
    for (unit, dtype) in chosen {
        let stems = unit.tensors.iter().map(|name| parts(name).1).collect();
        rules.entry((&unit.name, stems, dtype.name())).or_default().extend(unit.block);
    }
    for ((unit, stems, dtype), blocks) in rules {
        let blocks: Vec<String> = blocks.iter().map(usize::to_string).collect();
        let blocks = if blocks.is_empty() { String::new() } else { format!(r"blk\.({})\.", blocks.join("|")) };
        let (stems, to) = (stems.join("|"), dtype.to_lowercase());
        let _ = write!(text, "\n[[rule]]\nname = '^{blocks}({stems})\\.weight$'\nto = \"{to}\"\nwhy = \"{unit}, measured\"\n");
    }
    text
}

/// The types that the tensors of units have in a plan, as llama-quantize's `--tensor-type-file` takes them: a line a tensor.
pub fn tensor_types(units: &[TensorUnit], plan: &Plan) -> String {
    let mut text = String::new();
    for name in units.iter().flat_map(|unit| &unit.tensors) {
        if let Some(entry) = plan.get(name) {
            let _ = writeln!(text, "^{}$={}", name.replace('.', r"\."), entry.to.name().to_lowercase());
        }
    }
    text
}
