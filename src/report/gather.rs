//! Records by lane: sorted, freed of doubles, and checked to belong together. Nothing is computed yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result};
use serde::Serialize;

use crate::gathered::{GatheredLane, GatheredSpeed, LaneKey};
use crate::joined;
use crate::scored::{Sequences, TextKey, keep_once};
use crate::table::clean;
use bitworth_eval::record::{Body, ItemRecord, Origin, Protocol, Record, Windowing};

/// A text that lanes were scored on, with the protocol of one pass over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatheredText {
    /// Its name; the first eight digits of the SHA-256 where the records have none. No two texts of a pass have the same.
    pub name: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// How it was cut and scored.
    pub protocol: Protocol,
}

impl GatheredText {
    /// What its sequences are kept by.
    pub fn key(&self) -> TextKey<'_> {
        TextKey { sha256: &self.sha256, protocol: &self.protocol }
    }
}

/// A candidate that is no version of its model, and was not measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftOut {
    /// The model's name.
    pub model: String,
    /// The candidate, as the job names it.
    pub candidate: String,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    /// Why, without the candidate's name: reasons are errors, which begin with the file.
    pub fn why(&self) -> &str {
        let rest = self.reason.strip_prefix(&self.candidate).and_then(|rest| rest.strip_prefix(": "));
        rest.unwrap_or(&self.reason)
    }

    /// Candidate and reason as a line for a terminal.
    pub fn line(&self) -> String {
        clean(&format!("left out: {}: {}", self.candidate, self.why())) + "\n"
    }
}

/// Candidates that were left out, each once.
pub fn left_out(records: &[Record]) -> Vec<LeftOut> {
    let one = |record: &Record| {
        let reason = record.as_left_out()?.to_owned();
        let Origin { model, lane, .. } = &record.origin;
        Some(LeftOut { model: model.clone(), candidate: lane.clone(), reason })
    };
    records.iter().filter_map(one).collect::<BTreeSet<_>>().into_iter().collect()
}

/// All records, by lane.
#[derive(Debug)]
pub struct Gathered<'a> {
    /// The lanes, in the order of the summary.
    pub lanes: Vec<GatheredLane<'a>>,
    /// The texts, by pass and name.
    pub texts: Vec<GatheredText>,
    /// Candidates that were left out, each once.
    pub left_out: Vec<LeftOut>,
    /// Why lanes that were timed do not go together with lanes of their name that were scored, in sentences.
    pub notes: Vec<String>,
    versions: Vec<&'a str>,
}

impl<'a> Gathered<'a> {
    /// The reference that a lane was measured against; none for a reference.
    pub fn reference_of(&self, lane: &GatheredLane<'_>) -> Option<usize> {
        if lane.lane.is_reference {
            return None;
        }
        self.lanes.iter().position(|other| other.lane.is_reference && other.key.same_run(&lane.key))
    }

    /// How texts were scored and by which versions of the program, in sentences.
    pub fn protocol_notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.texts.iter().map(text_note).collect();
        notes.push(format!("Recorded by bitworth {}.", self.versions.join(", ")));
        notes
    }
}

/// A text that has no name but its hash is not named twice.
fn text_note(text: &GatheredText) -> String {
    let GatheredText { name, sha256, protocol } = text;
    let called = if sha256.starts_with(name.as_str()) { String::new() } else { format!("{name}, ") };
    let begin = if called.is_empty() { "Text with SHA-256" } else { "Text" };
    if called.is_empty() {
        format!("{begin} {sha256}: {protocol}.")
    } else {
        format!("{begin} {called}SHA-256 {sha256}: {protocol}.")
    }
}

/// Sorts records by lane: by model and device, the reference first, then from the most bytes to the fewest. Timings of files that
/// other records score join those lanes.
///
/// # Errors
/// No lane at all; records of a lane that is not described; two descriptions of a lane that differ, lanes that were scored on
/// other texts or protocols than the others of their model, two versions of a task; a sequence or an item recorded twice with
/// different numbers.
pub fn gather(records: &[Record]) -> Result<Gathered<'_>> {
    let mut lanes = described(records)?;
    let places: BTreeMap<LaneKey, usize> = lanes.iter().enumerate().map(|(i, lane)| (lane.key.clone(), i)).collect();
    let mut task_versions = BTreeMap::new();
    // Records of a lane follow each other: the place is looked up once for all of them.
    let mut last: Option<(&Origin, usize)> = None;
    for record in records {
        if record.as_left_out().is_some() {
            continue;
        }
        let fail = |what: Message| {
            let lane = format!("lane {}: ", record.origin.lane);
            Error::file(Path::new("records"), Message::from(lane).then(what))
        };
        let place = match last {
            Some((origin, place)) if *origin == record.origin => place,
            _ => *places.get(&LaneKey::of(&record.origin)).ok_or_else(|| fail(undescribed(&record.origin)))?,
        };
        last = Some((&record.origin, place));
        let lane = &mut lanes[place];
        let taken = match &record.body {
            Body::Lane(_) | Body::LeftOut(_) => Ok(()),
            Body::Speed(speed) => {
                lane.speeds.push(GatheredSpeed { device: &record.origin.device, speed });
                Ok(())
            }
            Body::Sequence(sequence) => {
                let sequences = match sequence.protocol.pass {
                    Windowing::Windows => &mut lane.windows,
                    Windowing::Rolling => &mut lane.rolling,
                };
                sequences.insert(sequence).map_err(|()| twice("sequence", sequence.sequence))
            }
            Body::Item(item) => take_item(lane, &mut task_versions, item),
        };
        taken.map_err(fail)?;
    }
    let (mut lanes, notes) = joined::join(lanes);
    lanes.sort_by(|a, b| order(a).cmp(&order(b)));
    one_reference(&lanes)?;
    same_texts(&lanes)?;
    let versions: BTreeSet<&str> = records.iter().map(|r| r.origin.bitworth.as_str()).collect();
    let left_out = left_out(records);
    Ok(Gathered { texts: texts(&lanes), lanes, left_out, notes, versions: versions.into_iter().collect() })
}

fn undescribed(origin: &Origin) -> Message {
    let Origin { model, device, arithmetic, .. } = origin;
    format!(
        "was measured ({model} on {device}, {arithmetic}), but no record says what it is: a file of records is missing that \
         describes it; put it back, or run again into a new folder"
    )
    .into()
}

/// References come first in a run: two of them stand side by side.
fn one_reference(lanes: &[GatheredLane<'_>]) -> Result<()> {
    let double = lanes.windows(2).find(|w| w.iter().all(|l| l.lane.is_reference) && w[0].key.same_run(&w[1].key));
    match double {
        Some([a, b]) => {
            let what = format!("lanes {} and {} are both the reference; {REMEDY}", a.key.lane, b.key.lane);
            Err(Error::file("records", what))
        }
        _ => Ok(()),
    }
}

/// Every lane of a model on a device that made a pass made it over the same texts in the same way: figures over other texts
/// cannot stand in one comparison. Other models may cut a text otherwise, as their tokens are others: no lanes of two are paired.
fn same_texts(lanes: &[GatheredLane<'_>]) -> Result<()> {
    for run in lanes.chunk_by(|a, b| (&a.key.model, &a.key.device) == (&b.key.model, &b.key.device)) {
        for pass in [Windowing::Windows, Windowing::Rolling] {
            let mut scored = run.iter().filter(|lane| !lane.pass(pass).is_empty());
            let Some(first) = scored.next() else { continue };
            for other in scored {
                if let Some(what) = lacks(first, other, pass).or_else(|| lacks(other, first, pass)) {
                    return Err(Error::file("records", what));
                }
            }
        }
    }
    Ok(())
}

/// What one lane was scored on and the other was not, in words.
fn lacks(has: &GatheredLane<'_>, lacks: &GatheredLane<'_>, pass: Windowing) -> Option<String> {
    let text = has.pass(pass).keys().find(|key| !lacks.pass(pass).contains(key))?;
    let otherwise = lacks.pass(pass).keys().find(|key| key.sha256 == text.sha256);
    let differs = otherwise.map_or(String::new(), |key| format!(", but with {}", differences(key.protocol, text.protocol)));
    let (model, has, lacks) = (&has.key.model, &has.key.lane, &lacks.key.lane);
    Some(format!("model {model}, lane {has}: was scored on {text}, lane {lacks} was not{differs}; {REMEDY}"))
}

/// What `own` has that `other` has not.
fn differences(own: &Protocol, other: &Protocol) -> String {
    let parts = [
        (own.ctx != other.ctx).then(|| format!("windows of {}", own.ctx)),
        (own.first != other.first).then(|| format!("scores from {}", own.first)),
        (own.bos != other.bos).then(|| if own.bos { "a start token" } else { "no start token" }.to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The texts of all lanes with names that tell them apart.
fn texts(lanes: &[GatheredLane<'_>]) -> Vec<GatheredText> {
    let mut names: BTreeMap<TextKey<'_>, String> = BTreeMap::new();
    for (key, sequences) in lanes.iter().flat_map(|lane| lane.windows.by_text().chain(lane.rolling.by_text())) {
        let short = || key.sha256.chars().take(8).collect();
        names.entry(*key).or_insert_with(|| sequences.values().find_map(|s| s.text.clone()).unwrap_or_else(short));
    }
    let alike = |key: &TextKey<'_>, name: &str| {
        names.iter().any(|(other, used)| other != key && other.protocol.pass == key.protocol.pass && used == name)
    };
    let named = |(key, name): (&TextKey<'_>, &String)| GatheredText {
        name: if alike(key, name) { format!("{name} ({})", key.mark(&names)) } else { name.clone() },
        sha256: key.sha256.to_owned(),
        protocol: key.protocol.clone(),
    };
    let mut texts: Vec<GatheredText> = names.iter().map(named).collect();
    texts.sort_by(|a, b| (a.protocol.pass, &a.name, a.key()).cmp(&(b.protocol.pass, &b.name, b.key())));
    texts
}

fn order(lane: &GatheredLane<'_>) -> impl Ord {
    let LaneKey { model, device, arithmetic, lane: name } = lane.key.clone();
    (model, device, arithmetic, !lane.lane.is_reference, std::cmp::Reverse(lane.lane.bytes), name)
}

/// The lanes that are described, still without numbers.
fn described(records: &[Record]) -> Result<Vec<GatheredLane<'_>>> {
    let mut lanes: BTreeMap<LaneKey, GatheredLane<'_>> = BTreeMap::new();
    for record in records {
        let Some(lane) = record.as_lane() else {
            continue;
        };
        let key = LaneKey::of(&record.origin);
        if let Some(known) = lanes.get_mut(&key) {
            let differs = joined::differences(known.lane, lane).into_iter();
            let differs: Vec<String> = differs.map(|(what, one, other)| format!("{what} ({one} and {other})")).collect();
            if !differs.is_empty() {
                let what = format!("is described twice, differently: in {}", differs.join(" and "));
                return Err(Error::file("records", format!("lane {}: {what}; {REMEDY}", key.lane)));
            }
            // What was only timed is nobody's reference, whatever it is elsewhere.
            if lane.is_reference {
                known.lane = lane;
            }
            continue;
        }
        let empty = GatheredLane {
            key: key.clone(),
            lane,
            windows: Sequences::default(),
            rolling: Sequences::default(),
            items: BTreeMap::new(),
            speeds: Vec::new(),
        };
        lanes.insert(key, empty);
    }
    if lanes.is_empty() {
        return Err(Error::file("records", "describe no lane; was the run stopped before its first result?"));
    }
    Ok(lanes.into_values().collect())
}

const REMEDY: &str = "the folders hold different runs: report them one by one";

fn take_item<'a>(
    lane: &mut GatheredLane<'a>,
    versions: &mut BTreeMap<&'a str, &'a str>,
    item: &'a ItemRecord,
) -> Result<(), Message> {
    let version = *versions.entry(&item.task).or_insert(&item.task_version);
    if version != item.task_version {
        let (task, other) = (&item.task, &item.task_version);
        return Err(
            format!("task {task} is there in the versions {version} and {other}, which cannot be compared; {REMEDY}").into()
        );
    }
    let items = lane.items.entry(&item.task).or_default();
    keep_once(items, item.item, item).map_err(|()| twice(&item.task, item.item))
}

fn twice(what: &str, number: u32) -> Message {
    format!("{what} {number} is recorded twice with different numbers; {REMEDY}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_eval::record::SequenceRecord;
    use bitworth_eval::sample;

    fn error(change: impl Fn(&mut Vec<Record>)) -> String {
        let mut records = sample::records();
        change(&mut records);
        gather(&records).unwrap_err().to_string()
    }

    #[test]
    fn the_reference_comes_first_and_then_the_largest() {
        let records = sample::records();
        let gathered = gather(&records).unwrap();
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
        let count = |r: &[Record]| gather(r).unwrap().lanes[1].windows.all().collect::<Vec<_>>().len();
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
        assert!(error(|r| r[0].origin.lane = "other".into()).contains("no record says what it is"));
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
            item.unwrap().task_version = "2".into();
        };
        assert!(error(version).contains("versions"));
    }

    #[test]
    fn candidates_that_were_left_out_are_told_apart_from_lanes() {
        let mut records = sample::records();
        let origin = Origin { lane: "other.gguf".into(), ..records[0].origin.clone() };
        let why = Record { origin, body: Body::LeftOut("it is another model".into()) };
        records.extend([why.clone(), why]);
        let gathered = gather(&records).unwrap();
        assert_eq!(gathered.lanes.len(), gather(&sample::records()).unwrap().lanes.len());
        let [LeftOut { candidate, reason, .. }] = &gathered.left_out[..] else { panic!("{:?}", gathered.left_out) };
        assert_eq!((candidate.as_str(), reason.as_str()), ("other.gguf", "it is another model"));
    }

    #[test]
    fn several_texts_stand_side_by_side_under_names_of_their_own() {
        let records = sample::two_texts();
        let gathered = gather(&records).unwrap();
        let names: Vec<&str> = gathered.texts.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["637a866d", "prose"], "a text without a name is called by its hash");
        assert!(gathered.lanes.iter().all(|lane| lane.windows.all().count() == 120));
        let notes = gathered.protocol_notes();
        assert!(notes[0].starts_with("Text with SHA-256 637a866d2"), "{notes:?}");
        assert!(notes[1].starts_with("Text prose, SHA-256 00ff: windows of 256"), "{notes:?}");
        let mut alike = records.clone();
        for record in &mut alike {
            if let Body::Sequence(s) = &mut record.body {
                s.text = Some("one".into());
            }
        }
        let gathered = gather(&alike).unwrap();
        let names: Vec<&str> = gathered.texts.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["one (00ff)", "one (637a866d)"]);
    }

    #[test]
    fn lanes_that_were_not_scored_on_the_same_texts_are_refused() {
        let mut records = sample::two_texts();
        records.retain(|r| r.origin.lane != "q4_0" || r.as_sequence().is_none_or(|s| s.text_sha256 != "00ff"));
        let error = gather(&records).unwrap_err().to_string();
        assert!(error.contains("text 00ff, windows of 256") && error.contains("lane q4_0 was not; the"), "{error}");
        // A lane that made no pass over a text at all is compared in what it has.
        records.retain(|r| r.origin.lane != "q4_0" || r.as_sequence().is_none());
        assert!(gather(&records).is_ok());
    }

    #[test]
    fn lanes_of_one_model_begin_alike_and_those_of_others_as_they_do() {
        let without_start = |records: &mut [Record], lane: Option<&str>| {
            for record in records.iter_mut().filter(|r| lane.is_none_or(|lane| r.origin.lane == lane)) {
                if let Body::Sequence(sequence) = &mut record.body {
                    sequence.protocol.bos = false;
                }
            }
        };
        let mut records = sample::records();
        without_start(&mut records, Some("q4_0"));
        let error = gather(&records).unwrap_err().to_string();
        let says = |part: &str| error.contains(part);
        assert!(says("model demo-model, lane bf16: ") && says("lane q4_0 was not, but with no start token; "), "{error}");
        let mut both = sample::records();
        let mut other = sample::of_model("other");
        without_start(&mut other, None);
        both.extend(other);
        let gathered = gather(&both).unwrap();
        assert_eq!((gathered.lanes.len(), gathered.texts.len()), (24, 2));
        for lane in &gathered.lanes {
            let reference = gathered.reference_of(lane).map(|place| &gathered.lanes[place].key.model);
            assert!(reference.is_none_or(|model| *model == lane.key.model));
        }
    }
}
