//! A plan as text for people (a table) and as JSON for programs. What is absent: printing.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use super::value::{Plan, PlanEntry};

impl Serialize for Plan {
    /// `{"recipe", "file_type", "bytes", "bpw", "tensors": [{"tensor", "shape", "from", "to", "bytes", "reason"}]}`; in a tensor
    /// also `renamed_from` where blocks before its own are pruned, and `needs_imatrix` where it cannot be made without.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Plan", 5)?;
        out.serialize_field("recipe", &self.recipe.name)?;
        out.serialize_field("file_type", &self.recipe.ftype)?;
        out.serialize_field("bytes", &self.bytes())?;
        out.serialize_field("bpw", &self.bits_per_weight())?;
        out.serialize_field("tensors", &self.entries)?;
        out.end()
    }
}

impl Serialize for PlanEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("tensor", &self.tensor)?;
        if let Some(source) = &self.renamed_from {
            out.serialize_entry("renamed_from", source)?;
        }
        out.serialize_entry("shape", &self.shape)?;
        out.serialize_entry("from", &self.from)?;
        out.serialize_entry("to", &self.to)?;
        out.serialize_entry("bytes", &self.bytes())?;
        out.serialize_entry("reason", &self.reason)?;
        if self.needs_imatrix {
            out.serialize_entry("needs_imatrix", &true)?;
        }
        out.end()
    }
}

impl fmt::Display for Plan {
    /// One line a tensor: name, shape, encoding before and after, bytes, why; then the sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 6]> = self
            .entries
            .iter()
            .map(|e| {
                let shape: Vec<String> = e.shape.iter().map(usize::to_string).collect();
                let (from, to) = (e.from.to_string(), e.to.to_string());
                [e.tensor.clone(), shape.join(" x "), from, to, e.bytes().to_string(), e.reason.clone()]
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
        let (tensors, bytes) = (self.entries.len(), self.bytes());
        write!(f, "{}: {tensors} tensors, {bytes} bytes, {:.3} bits per weight", self.recipe.name, self.bits_per_weight())?;
        match self.entries.iter().filter(|e| e.needs_imatrix).count() {
            0 => Ok(()),
            lacking => write!(f, "; {lacking} of them can be made only with an importance matrix that has them (--imatrix)"),
        }
    }
}
