//! The records of one lane, side by side. Absent: where they come from and what is refused (`gather`).

use std::collections::BTreeMap;

use crate::scored::Sequences;
use bitworth_eval::record::{ItemRecord, LaneRecord, Origin, Speed, Windowing};

/// What makes a row of the summary: where records differ in this, they are not put together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey {
    /// The model's name.
    pub model: String,
    /// The device that ran.
    pub device: String,
    /// The arithmetic of the activations.
    pub arithmetic: String,
    /// The lane's name.
    pub lane: String,
}

impl LaneKey {
    /// That of a record.
    pub(crate) fn of(origin: &Origin) -> Self {
        let Origin { model, device, arithmetic, lane, .. } = origin.clone();
        Self { model, device, arithmetic, lane }
    }

    /// Whether two lanes may be compared item by item: the same model, device and arithmetic.
    pub fn same_run(&self, other: &Self) -> bool {
        (&self.model, &self.device, &self.arithmetic) == (&other.model, &other.device, &other.arithmetic)
    }
}

/// All records of one lane.
#[derive(Debug)]
pub struct GatheredLane<'a> {
    /// Which lane, where.
    pub key: LaneKey,
    /// What it is.
    pub lane: &'a LaneRecord,
    /// Sequences of the pass over windows, by text and number.
    pub windows: Sequences<'a>,
    /// Sequences of the rolling pass, by text and number.
    pub rolling: Sequences<'a>,
    /// Items by task and number.
    pub items: BTreeMap<&'a str, BTreeMap<u32, &'a ItemRecord>>,
    /// Timings, as they came; also those of other calls that timed the same files.
    pub speeds: Vec<GatheredSpeed<'a>>,
}

/// A timing, and where it was taken.
#[derive(Debug, Clone, Copy)]
pub struct GatheredSpeed<'a> {
    /// The device, which may be another one than that of the lane's scores.
    pub device: &'a str,
    /// The timing.
    pub speed: &'a Speed,
}

impl<'a> GatheredLane<'a> {
    /// Whether it was asked anything: a text or a task.
    pub fn is_scored(&self) -> bool {
        !(self.windows.is_empty() && self.rolling.is_empty() && self.items.is_empty())
    }

    /// The sequences that perplexity and divergence are taken from: windows, or else the rolling pass.
    pub fn scored(&self) -> &Sequences<'a> {
        if self.windows.is_empty() { &self.rolling } else { &self.windows }
    }

    /// The sequences of a pass.
    pub(crate) fn pass(&self, pass: Windowing) -> &Sequences<'a> {
        match pass {
            Windowing::Windows => &self.windows,
            Windowing::Rolling => &self.rolling,
        }
    }
}
