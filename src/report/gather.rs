//! Records by lane: sorted, freed of doubles, and checked to belong together. Nothing is computed yet.

use std::collections::BTreeMap;
use std::path::Path;

use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result};

use bitworth_eval::record::{Body, ItemRecord, LaneRecord, Origin, Protocol, Record, SequenceRecord, Speed, Windowing};

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
    fn of(origin: &Origin) -> Self {
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
pub struct GatheredLane {
    /// Which lane, where.
    pub key: LaneKey,
    /// What it is.
    pub lane: LaneRecord,
    /// Sequences of the pass over windows, by number.
    pub windows: BTreeMap<u32, SequenceRecord>,
    /// Sequences of the rolling pass, by number.
    pub rolling: BTreeMap<u32, SequenceRecord>,
    /// Items by task and number.
    pub items: BTreeMap<String, BTreeMap<u32, ItemRecord>>,
    /// Timings, as they came.
    pub speeds: Vec<Speed>,
}

impl GatheredLane {
    /// The sequences that perplexity and divergence are taken from: windows, or else the rolling pass.
    pub fn scored(&self) -> &BTreeMap<u32, SequenceRecord> {
        if self.windows.is_empty() { &self.rolling } else { &self.windows }
    }
}

/// All records, by lane.
#[derive(Debug)]
pub struct Gathered {
    /// The lanes, in the order of the summary.
    pub lanes: Vec<GatheredLane>,
    /// The text (its SHA-256) and the protocol of each pass that was made.
    pub texts: BTreeMap<Windowing, (String, Protocol)>,
    versions: Vec<String>,
}

impl Gathered {
    /// The reference that a lane was measured against; none for a reference.
    pub fn reference_of(&self, lane: &GatheredLane) -> Option<usize> {
        if lane.lane.is_reference {
            return None;
        }
        self.lanes.iter().position(|other| other.lane.is_reference && other.key.same_run(&lane.key))
    }

    /// How texts were scored and by which versions of the program, in sentences.
    pub fn protocol_notes(&self) -> Vec<String> {
        let text = |(sha, protocol): &(String, Protocol)| format!("Text with SHA-256 {sha}: {protocol}.");
        let mut notes: Vec<String> = self.texts.values().map(text).collect();
        notes.push(format!("Recorded by bitworth {}.", self.versions.join(", ")));
        notes
    }
}

/// Sorts records by lane: by model and device, the reference first, then from the most bytes to the fewest.
///
/// # Errors
/// No lane at all; records of a lane that is not described; two descriptions of a lane, two texts or protocols, two versions of a
/// task; a sequence or an item recorded twice with different numbers.
pub fn gather(records: &[Record]) -> Result<Gathered> {
    let mut lanes = described(records)?;
    let mut texts = BTreeMap::new();
    let mut task_versions = BTreeMap::new();
    for record in records {
        let key = LaneKey::of(&record.origin);
        let fail = |what: Message| Error::file(Path::new("records"), Message::from(format!("lane {}: ", key.lane)).then(what));
        let lane = lanes.get_mut(&key).ok_or_else(|| fail(format!("is not described for device {}", key.device).into()))?;
        let taken = match &record.body {
            Body::Lane(_) => Ok(()),
            Body::Speed(speed) => {
                lane.speeds.push(speed.clone());
                Ok(())
            }
            Body::Sequence(sequence) => take_sequence(lane, &mut texts, sequence),
            Body::Item(item) => take_item(lane, &mut task_versions, item),
        };
        taken.map_err(fail)?;
    }
    let mut lanes: Vec<GatheredLane> = lanes.into_values().collect();
    lanes.sort_by(|a, b| order(a).cmp(&order(b)));
    one_reference(&lanes)?;
    let mut versions: Vec<String> = records.iter().map(|r| r.origin.bitworth.clone()).collect();
    versions.sort();
    versions.dedup();
    Ok(Gathered { lanes, texts, versions })
}

/// References come first in a run: two of them stand side by side.
fn one_reference(lanes: &[GatheredLane]) -> Result<()> {
    let double = lanes.windows(2).find(|w| w.iter().all(|l| l.lane.is_reference) && w[0].key.same_run(&w[1].key));
    match double {
        Some([a, b]) => {
            let what = format!("lanes {} and {} are both the reference; {REMEDY}", a.key.lane, b.key.lane);
            Err(Error::file("records", what))
        }
        _ => Ok(()),
    }
}

fn order(lane: &GatheredLane) -> impl Ord {
    let LaneKey { model, device, arithmetic, lane: name } = lane.key.clone();
    (model, device, arithmetic, !lane.lane.is_reference, std::cmp::Reverse(lane.lane.bytes), name)
}

/// The lanes that are described, still without numbers.
fn described(records: &[Record]) -> Result<BTreeMap<LaneKey, GatheredLane>> {
    let mut lanes: BTreeMap<LaneKey, GatheredLane> = BTreeMap::new();
    for record in records {
        let Some(lane) = record.as_lane() else {
            continue;
        };
        let key = LaneKey::of(&record.origin);
        if let Some(known) = lanes.get(&key) {
            if known.lane != *lane {
                return Err(Error::file("records", format!("lane {}: is described twice, differently; {REMEDY}", key.lane)));
            }
            continue;
        }
        let empty = GatheredLane {
            key: key.clone(),
            lane: lane.clone(),
            windows: BTreeMap::new(),
            rolling: BTreeMap::new(),
            items: BTreeMap::new(),
            speeds: Vec::new(),
        };
        lanes.insert(key, empty);
    }
    if lanes.is_empty() {
        return Err(Error::file("records", "describe no lane; was the run stopped before its first result?"));
    }
    Ok(lanes)
}

const REMEDY: &str = "the folders hold different runs: report them one by one";

fn take_sequence(
    lane: &mut GatheredLane,
    texts: &mut BTreeMap<Windowing, (String, Protocol)>,
    sequence: &SequenceRecord,
) -> Result<(), Message> {
    let own = (sequence.text_sha256.clone(), sequence.protocol.clone());
    let known = texts.entry(sequence.protocol.pass).or_insert_with(|| own.clone());
    if *known != own {
        let show = |(sha, protocol): &(String, Protocol)| format!("text {sha}, {protocol}");
        return Err(format!("was scored on {}, others on {}; {REMEDY}", show(&own), show(known)).into());
    }
    let sequences = match sequence.protocol.pass {
        Windowing::Windows => &mut lane.windows,
        Windowing::Rolling => &mut lane.rolling,
    };
    keep_once(sequences, sequence.sequence, sequence).map_err(|()| twice("sequence", sequence.sequence))
}

fn take_item(lane: &mut GatheredLane, versions: &mut BTreeMap<String, u32>, item: &ItemRecord) -> Result<(), Message> {
    let version = *versions.entry(item.task.clone()).or_insert(item.task_version);
    if version != item.task_version {
        let (task, other) = (&item.task, item.task_version);
        return Err(
            format!("task {task} is there in the versions {version} and {other}, which cannot be compared; {REMEDY}").into()
        );
    }
    let items = lane.items.entry(item.task.clone()).or_default();
    keep_once(items, item.item, item).map_err(|()| twice(&item.task, item.item))
}

/// Keeps one of equal values; different ones under one number are refused.
fn keep_once<T: Clone + PartialEq>(kept: &mut BTreeMap<u32, T>, number: u32, value: &T) -> Result<(), ()> {
    let known = kept.entry(number).or_insert_with(|| value.clone());
    if known == value { Ok(()) } else { Err(()) }
}

fn twice(what: &str, number: u32) -> Message {
    format!("{what} {number} is recorded twice with different numbers; {REMEDY}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_eval::sample;

    fn error(change: impl Fn(&mut Vec<Record>)) -> String {
        let mut records = sample::records();
        change(&mut records);
        gather(&records).unwrap_err().to_string()
    }

    #[test]
    fn the_reference_comes_first_and_then_the_largest() {
        let gathered = gather(&sample::records()).unwrap();
        assert!(gathered.lanes[0].lane.is_reference);
        assert!(gathered.lanes[1..].windows(2).all(|w| w[0].lane.bytes >= w[1].lane.bytes));
        assert!((1..gathered.lanes.len()).all(|i| gathered.reference_of(&gathered.lanes[i]) == Some(0)));
        assert_eq!(gathered.reference_of(&gathered.lanes[0]), None);
    }

    #[test]
    fn the_order_of_the_records_does_not_matter() {
        let records = sample::records();
        let mut reversed: Vec<Record> = records.clone();
        reversed.reverse();
        let names = |r: &[Record]| gather(r).unwrap().lanes.iter().map(|l| l.key.clone()).collect::<Vec<_>>();
        assert_eq!(names(&records), names(&reversed));
    }

    #[test]
    fn a_run_given_twice_counts_once() {
        let records = sample::records();
        let twice = [records.clone(), records.clone()].concat();
        let count = |r: &[Record]| gather(r).unwrap().lanes[1].windows.len();
        assert_eq!(count(&twice), count(&records));
    }

    /// The first sequence among `records`.
    fn sequence(records: &mut [Record]) -> &mut SequenceRecord {
        records.iter_mut().find_map(|r| if let Body::Sequence(s) = &mut r.body { Some(s) } else { None }).unwrap()
    }

    #[test]
    fn records_that_do_not_belong_together_are_refused() {
        assert!(error(|r| r.clear()).contains("no lane"));
        assert!(error(|r| r.retain(|r| !matches!(r.body, Body::Lane(_)))).contains("no lane"));
        assert!(error(|r| r[0].origin.lane = "other".into()).contains("is not described"));
        assert!(error(|r| sequence(r).text_sha256 = "ff".into()).contains("text ff"));
        assert!(error(|r| sequence(r).protocol.ctx = 512).contains("windows of 512"));
        let double = |r: &mut Vec<Record>| {
            let mut copy = r.clone();
            sequence(&mut copy).nll_sum += 1.0;
            r.extend(copy);
        };
        assert!(error(double).contains("recorded twice"));
        let reference = |r: &mut Vec<Record>| {
            r.iter_mut().for_each(|r| {
                if let Body::Lane(lane) = &mut r.body {
                    lane.is_reference = true;
                }
            });
        };
        assert!(error(reference).contains("both the reference"));
        let version = |r: &mut Vec<Record>| {
            let item = r.iter_mut().find_map(|r| if let Body::Item(i) = &mut r.body { Some(i) } else { None });
            item.unwrap().task_version += 1;
        };
        assert!(error(version).contains("versions"));
    }
}
