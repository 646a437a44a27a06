//! How far the activations of candidates are from the reference's, block by block, as `compare --layers` shows it.

use serde_json::{Value, json};

use bitworth_engine::sweep::{Lane, LayerError};
use bitworth_eval::record::Layer;

/// The errors of all lanes but the first.
pub struct Layers<'a> {
    lanes: Vec<(&'a str, Vec<Layer>)>,
}

impl<'a> Layers<'a> {
    /// Of a sweep's lanes.
    pub fn of(lanes: &'a [Lane], errors: &[LayerError]) -> Self {
        let layer = |error: &LayerError| Layer {
            block: error.block as u32,
            sequence: error.sequence as u32,
            rows: error.rows as u32,
            error: error.error,
            reference: error.reference,
        };
        let of = |lane: usize| errors.iter().filter(|error| error.lane == lane).map(layer).collect();
        Self { lanes: lanes.iter().enumerate().skip(1).map(|(number, lane)| (lane.name.as_str(), of(number))).collect() }
    }

    /// The lanes' names and errors.
    pub fn lanes(&self) -> impl Iterator<Item = (&'a str, &[Layer])> {
        self.lanes.iter().map(|(name, layers)| (*name, layers.as_slice()))
    }

    /// `|x - r| / |r|` over all rows behind each block.
    fn relative(layers: &[Layer]) -> Vec<f64> {
        let block = |all: &[Layer]| {
            let sum = |f: fn(&Layer) -> f64| all.iter().map(f).sum::<f64>();
            (sum(|layer| layer.error) / sum(|layer| layer.reference)).sqrt()
        };
        layers.chunk_by(|a, b| a.block == b.block).map(block).collect()
    }

    /// As JSON: by lane, one number a block.
    pub fn document(&self) -> Value {
        self.lanes().map(|(name, layers)| json!({ "name": name, "relative_error": Self::relative(layers) })).collect()
    }

    /// As a table with a row a block.
    pub fn table(&self) -> String {
        let width = |name: &str| name.chars().count().max(10);
        let mut text = "\nrelative error of activations behind each block\nblock".to_owned();
        text.extend(self.lanes().map(|(name, _)| format!("  {name:>width$}", width = width(name))));
        text.push('\n');
        let columns: Vec<(usize, Vec<f64>)> = self.lanes().map(|(name, layers)| (width(name), Self::relative(layers))).collect();
        for block in 0..columns.iter().map(|(_, errors)| errors.len()).max().unwrap_or(0) {
            text += &format!("{block:5}");
            for (width, errors) in &columns {
                text += &errors.get(block).map_or_else(|| " ".repeat(width + 2), |e| format!("  {e:width$.3e}", width = *width));
            }
            text.push('\n');
        }
        text
    }
}
