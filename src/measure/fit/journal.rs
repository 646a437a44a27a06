//! What is done of a call that can be taken up again: lines of JSON beside its first unfinished file, the first for the call and
//! one for each input whose matrices are on the disk in all files. Beside each other file stands the first line alone, so that
//! another call that writes to one of the files leaves none of it behind. It is believed only by a call that would write the very
//! same bytes. Absent: the weights themselves, which stand in the unfinished files.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bitworth_quant::atomic_file::{remove_whole, write_whole};
use bitworth_quant::checkpoint::Source;
use bitworth_quant::fit::{FitReport, Shrinkage};
use bitworth_quant::hex::hex;
use bitworth_quant::quantize::Sink;
use bitworth_quant::{Checkpoint, DType};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FittedTensor;
use crate::error::{Error, Result};

/// What is larger is no journal.
const MAX_BYTES: u64 = 1 << 30;

/// A journal on the disk.
pub(super) struct Journal {
    /// Beside each file; the first has the lines of inputs.
    paths: Vec<PathBuf>,
    lines: Lines,
    /// What an earlier call did.
    inputs: Vec<DoneInput>,
    /// Lines that are not on the disk.
    pending: Vec<u8>,
}

/// A file that lines are added to.
struct Lines {
    path: PathBuf,
    file: File,
    bytes: u64,
    most: u64,
    is_full: bool,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Call {
    /// What decides the bytes of all files.
    fingerprint: String,
}

/// An input whose matrices are done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DoneInput {
    pub(super) block: usize,
    /// Its number among the sites of a block.
    pub(super) site: usize,
    /// By name of an encoding: the share of the diagonal that was used, as bits.
    pub(super) rho: Vec<(String, u32)>,
    pub(super) tensors: Vec<DoneTensor>,
}

/// A tensor that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DoneTensor {
    name: String,
    to: String,
    shrinkage: [u64; 2],
    report: [u64; 4],
    seconds: u64,
    /// How much each column matters, where a report is wanted.
    #[serde(with = "bits")]
    importance: Vec<f32>,
}

/// What stands at the place of a journal.
enum Found {
    Nothing,
    /// No journal, or none that can be read.
    Broken,
    /// The call, what it did, and the bytes of the lines that say so. A last line that was cut short counts as not written.
    Whole(Call, Vec<DoneInput>, u64),
}

impl DoneTensor {
    pub(super) fn new(fitted: &FittedTensor, importance: &[f32]) -> Self {
        Self {
            name: fitted.tensor.clone(),
            to: fitted.to.clone(),
            shrinkage: fitted.shrinkage.to_bits(),
            report: fitted.report.to_bits(),
            seconds: fitted.seconds.to_bits(),
            importance: importance.to_vec(),
        }
    }

    /// What became of it, and how much its columns matter.
    pub(super) fn read(self) -> (FittedTensor, Vec<f32>) {
        let fitted = FittedTensor {
            tensor: self.name,
            to: self.to,
            shrinkage: Shrinkage::from_bits(self.shrinkage),
            report: FitReport::from_bits(self.report),
            seconds: f64::from_bits(self.seconds),
        };
        (fitted, self.importance)
    }
}

impl Journal {
    /// Takes up what an earlier call left in the files of `sinks`, where that call was for the same bytes and no other has
    /// written to any of them since; else begins anew and says why to `note`. `how` is what decides bytes and is in none of the
    /// files. `None` without files.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub(super) fn open(source: &Checkpoint, sinks: &mut [Sink], how: &str, note: &dyn Fn(&str)) -> Result<Option<Self>> {
        let paths: Vec<PathBuf> = sinks.iter().map(Sink::journal).collect();
        let Some(first) = paths.first() else { return Ok(None) };
        let mut hash = Sha256::new_with_prefix(how);
        let mut is_empty = true;
        for sink in sinks.iter() {
            hash.update(sink.fingerprint(source)?);
            is_empty &= sink.is_empty()?;
        }
        let fingerprint = hex(&hash.finalize());
        let is_of_the_call = |path: &PathBuf| matches!(read(path), Found::Whole(call, ..) if call.fingerprint == fingerprint);
        let why = match read(first) {
            Found::Whole(call, ..) if call.fingerprint != fingerprint => {
                "it was begun from another model, with other settings or texts"
            }
            Found::Whole(..) if !paths[1..].iter().all(is_of_the_call) => "another call has written to one of its files since",
            Found::Whole(_, inputs, bytes) => match take_up(source, sinks, &inputs)? {
                true => {
                    let lines = Lines::open(first, bytes, MAX_BYTES)?;
                    return Ok(Some(Self { paths, lines, inputs, pending: Vec::new() }));
                }
                false => "the unfinished files have lost bytes that their journal has seen",
            },
            Found::Broken => "its journal is broken",
            Found::Nothing if is_empty => "",
            Found::Nothing => "its unfinished files have no journal",
        };
        for path in &paths {
            remove_whole(path)?;
        }
        sinks.iter_mut().try_for_each(Sink::start_anew)?;
        if !why.is_empty() {
            note(&format!("{}: begun anew: {why}", sinks[0].path().display()));
        }
        let mut line = Vec::new();
        add_line(&mut line, first, &Call { fingerprint })?;
        // The first one, which speaks for all, in the end.
        for path in paths.iter().rev() {
            write_whole(path, &line)?;
        }
        let lines = Lines::open(first, line.len() as u64, MAX_BYTES)?;
        Ok(Some(Self { paths, lines, inputs: Vec::new(), pending: Vec::new() }))
    }

    /// What an earlier call did; only the first time.
    pub(super) fn take_inputs(&mut self) -> Vec<DoneInput> {
        std::mem::take(&mut self.inputs)
    }

    /// Adds an input whose matrices have been written, by [`Self::write`] to be believed.
    ///
    /// # Errors
    /// What cannot be written as JSON.
    pub(super) fn add(&mut self, input: &DoneInput) -> bitworth_quant::Result<()> {
        add_line(&mut self.pending, &self.lines.path, input)
    }

    /// Puts what was added on the disk; what it speaks of must be there. What the user should know, where there is no more room.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn write(&mut self) -> bitworth_quant::Result<Option<String>> {
        let was_full = self.lines.is_full;
        self.lines.append(&std::mem::take(&mut self.pending))?;
        let path = self.lines.path.display();
        let note = || format!("{path}: too large for more; what is done from here on cannot be taken up again");
        Ok((self.lines.is_full && !was_full).then(note))
    }

    /// Removes it, because all files are whole.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub(super) fn remove(self) -> Result<()> {
        for path in &self.paths {
            remove_whole(path)?;
        }
        Ok(())
    }
}

impl Lines {
    /// Opens the file at `path` behind its first `bytes`.
    fn open(path: &Path, bytes: u64, most: u64) -> Result<Self> {
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.set_len(bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|e| Error::io(path, e))?;
        Ok(Self { path: path.to_owned(), file, bytes, most, is_full: false })
    }

    /// Adds lines and puts them on the disk; nothing, from then on, where the file would become too large.
    fn append(&mut self, lines: &[u8]) -> bitworth_quant::Result<()> {
        self.is_full |= self.bytes + lines.len() as u64 > self.most;
        if self.is_full {
            return Ok(());
        }
        let done = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        done.map_err(|e| bitworth_quant::Error::io(&self.path, e))?;
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

/// Adds a value as a line; `path` is where it will stand.
fn add_line(lines: &mut Vec<u8>, path: &Path, value: &impl Serialize) -> bitworth_quant::Result<()> {
    let text = serde_json::to_vec(value).map_err(|e| bitworth_quant::Error::file(path, e.to_string()))?;
    lines.extend(text);
    lines.push(b'\n');
    Ok(())
}

fn read(path: &Path) -> Found {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Found::Nothing,
        Ok(about) if about.len() <= MAX_BYTES => {}
        _ => return Found::Broken,
    }
    let Ok(text) = std::fs::read(path) else { return Found::Broken };
    let mut lines = text.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let Some(first) = lines.next() else { return Found::Broken };
    let Ok(call) = serde_json::from_slice::<Call>(first) else { return Found::Broken };
    let (mut inputs, mut bytes) = (Vec::new(), first.len() as u64);
    for line in lines {
        let Ok(input) = serde_json::from_slice::<DoneInput>(line) else { break };
        inputs.push(input);
        bytes += line.len() as u64;
    }
    Found::Whole(call, inputs, bytes)
}

/// Whether all that is done is there.
fn take_up(source: &Checkpoint, sinks: &mut [Sink], inputs: &[DoneInput]) -> Result<bool> {
    for done in inputs.iter().flat_map(|input| &input.tensors) {
        let tensor = Source::tensors(source).iter().find(|tensor| tensor.name == done.name);
        let Some((tensor, to)) = tensor.zip(DType::from_name(&done.to)) else { return Ok(false) };
        for sink in sinks.iter_mut() {
            if !sink.take_up(tensor, to)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Numbers as the hexadecimal digits of their bits, eight each.
mod bits {
    use std::fmt::Write;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(numbers: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(8 * numbers.len());
        for number in numbers {
            // Nothing can fail in memory.
            let _ = write!(text, "{:08x}", number.to_bits());
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = |digits: &[u8]| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 8)?;
            u32::from_str_radix(digits, 16).ok().map(f32::from_bits)
        };
        let numbers: Option<Vec<f32>> = text.as_bytes().chunks(8).map(number).collect();
        numbers.ok_or_else(|| D::Error::custom("eight hexadecimal digits for each number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(block: usize) -> DoneInput {
        let importance = vec![1.5, f32::NAN, f32::INFINITY, 1e-45, -0.0];
        let tensor =
            DoneTensor { name: "t".to_owned(), to: "Q4_0".to_owned(), shrinkage: [1, 2], report: [3; 4], seconds: 4, importance };
        DoneInput { block, site: 1, rho: vec![("Q4_0".to_owned(), 5)], tensors: vec![tensor] }
    }

    /// As text, because there is a NaN.
    fn text(inputs: &[DoneInput]) -> String {
        serde_json::to_string(inputs).unwrap()
    }

    #[test]
    fn lines_come_back_but_for_one_that_was_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        assert!(matches!(read(&path), Found::Nothing));
        let mut bytes = Vec::new();
        add_line(&mut bytes, &path, &Call { fingerprint: "f".to_owned() }).unwrap();
        let head = bytes.len();
        add_line(&mut bytes, &path, &input(0)).unwrap();
        let one = bytes.len();
        add_line(&mut bytes, &path, &input(1)).unwrap();
        assert_eq!(text(&[input(0)]).matches("3fc000007fc000007f8000000000000180000000").count(), 1);
        for (cut, count, whole) in [(bytes.len(), 2, bytes.len()), (bytes.len() - 1, 1, one), (one - 3, 0, head)] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let Found::Whole(call, inputs, found) = read(&path) else { panic!("{cut}") };
            assert_eq!((call.fingerprint.as_str(), inputs.len(), found), ("f", count, whole as u64));
            let expected: Vec<DoneInput> = (0..count).map(input).collect();
            assert_eq!(text(&inputs), text(&expected));
            // What is added stands behind the last whole line.
            let mut lines = Lines::open(&path, found, MAX_BYTES).unwrap();
            lines.append(&bytes[one..]).unwrap();
            assert!(matches!(read(&path), Found::Whole(_, inputs, _) if inputs.len() == count + 1));
        }
        for broken in [&b"{"[..], b"{\n", b"", b"[]\n"] {
            std::fs::write(&path, broken).unwrap();
            assert!(matches!(read(&path), Found::Broken));
        }
    }

    #[test]
    fn a_journal_does_not_become_larger_than_one_that_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        std::fs::write(&path, "abc\n").unwrap();
        let mut lines = Lines::open(&path, 4, 10).unwrap();
        lines.append(b"defgh\n").unwrap();
        assert!(!lines.is_full);
        lines.append(b"i\n").unwrap();
        assert!(lines.is_full);
        // Not even what would have room: what is read must be what came first.
        lines.append(b"").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc\ndefgh\n");
    }
}
