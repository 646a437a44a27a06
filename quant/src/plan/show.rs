//! A plan as text for people (a table) and as JSON for programs. What is absent: printing.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use super::options::IMATRIX;
use super::value::{Plan, PlanEntry};
use crate::message::{Message, Names, Subject};

/// A plan whose settings are shown by a program's names for them, see [`Plan::named`].
#[derive(Clone, Copy)]
pub struct Named<'a> {
    plan: &'a Plan,
    name: Names<'a>,
}

impl Plan {
    /// The plan to be shown, as a table or as JSON, with settings by the names that `name` gives them.
    pub fn named<'a>(&'a self, name: Names<'a>) -> Named<'a> {
        Named { plan: self, name }
    }
}

/// The library's own name.
fn own(subject: Subject) -> String {
    subject.to_string()
}

impl Serialize for Plan {
    /// `{"recipe", "file_type", "bytes", "bpw", "tensors": [{"tensor", "shape", "from", "to", "bytes", "reason"}]}`; in a tensor
    /// also `renamed_from` where blocks before its own are pruned, and `needs_imatrix` where it cannot be made without.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.named(&own).serialize(serializer)
    }
}

impl Serialize for Named<'_> {
    /// As a [`Plan`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self { plan, name } = self;
        let tensors: Vec<Row> = plan.entries.iter().map(|entry| Row { entry, name }).collect();
        let mut out = serializer.serialize_struct("Plan", 5)?;
        out.serialize_field("recipe", &plan.recipe.name)?;
        out.serialize_field("file_type", &plan.recipe.ftype)?;
        out.serialize_field("bytes", &plan.bytes())?;
        out.serialize_field("bpw", &plan.bits_per_weight())?;
        out.serialize_field("tensors", &tensors)?;
        out.end()
    }
}

/// An entry of a plan with a program's names for settings.
struct Row<'a> {
    entry: &'a PlanEntry,
    name: Names<'a>,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self { entry, name } = self;
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("tensor", &entry.tensor)?;
        if let Some(source) = &entry.renamed_from {
            out.serialize_entry("renamed_from", source)?;
        }
        out.serialize_entry("shape", &entry.shape)?;
        out.serialize_entry("from", &entry.from)?;
        out.serialize_entry("to", &entry.to)?;
        out.serialize_entry("bytes", &entry.bytes())?;
        out.serialize_entry("reason", &entry.reason.describe(name))?;
        if entry.needs_imatrix {
            out.serialize_entry("needs_imatrix", &true)?;
        }
        out.end()
    }
}

impl fmt::Display for Plan {
    /// One line a tensor: name, shape, encoding before and after, bytes, why; then the sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named(&own).fmt(f)
    }
}

impl fmt::Display for Named<'_> {
    /// As a [`Plan`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self { plan, name } = self;
        let rows: Vec<[String; 6]> = plan
            .entries
            .iter()
            .map(|e| {
                let shape: Vec<String> = e.shape.iter().map(usize::to_string).collect();
                let (from, to) = (e.from.to_string(), e.to.to_string());
                [e.tensor.clone(), shape.join(" x "), from, to, e.bytes().to_string(), e.reason.describe(name)]
            })
            .collect();
        let title = ["tensor", "shape", "from", "to", "bytes", "why"].map(str::to_owned);
        let width = |column: usize| {
            let cells = rows.iter().chain([&title]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        for [tensor, shape, from, to, bytes, why] in [&title].into_iter().chain(&rows) {
            let [a, b, c, d, e] = widths;
            writeln!(f, "{tensor:<a$}  {shape:>b$}  {from:<c$}  {to:<d$}  {bytes:>e$}  {why}")?;
        }
        let (tensors, bytes) = (plan.entries.len(), plan.bytes());
        write!(f, "{}: {tensors} tensors of {bytes} bytes, {:.3} bits per weight", plan.recipe.name, plan.bits_per_weight())?;
        match plan.entries.iter().filter(|e| e.needs_imatrix).count() {
            0 => Ok(()),
            lacking => {
                let them = Message::from("can be made only with an importance matrix that has them (").then(IMATRIX).then(")");
                write!(f, "; {lacking} of them {}", them.describe(name))
            }
        }
    }
}
