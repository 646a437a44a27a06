//! The thread behind one output: takes blocks in whatever order they were encoded, writes them in the order of the run, and
//! has them put on the disk meanwhile. What is absent: encoding.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};

use super::block::EncodedRows;
use super::hash::RunningHash;
use super::journal::{self, Done};
use super::output::{Output, QuantizeOptions, Written, WrittenFile};
use super::parts::{Part, parts};
use super::report::{Sums, TensorReport};
use crate::checkpoint::Source;
use crate::gguf::GgufWriter;
use crate::message::Message;
use crate::{Error, Progress, Result};

/// An output being written.
pub(super) struct Writer<'a> {
    output: &'a Output,
    parts: Vec<GgufWriter>,
    /// By entry of the plan: the part it is in, and its number there.
    places: Vec<(usize, usize)>,
    /// By entry of the plan; empty where no report is wanted.
    sums: Vec<Sums>,
    /// By part; empty where no hash is wanted.
    hashes: Vec<RunningHash>,
    journal: Option<Journal>,
    sync_bytes: u64,
}

struct Journal {
    path: PathBuf,
    fingerprint: String,
}

/// What is to be put on the disk: files, and then the journal that says so.
struct SyncPoint {
    files: Vec<(PathBuf, Arc<File>)>,
    journal: Option<(PathBuf, Done)>,
}

impl<'a> Writer<'a> {
    /// Opens the output's files, and takes up what an earlier run left where that is wanted and it fits.
    pub(super) fn open(source: &dyn Source, output: &'a Output, options: &QuantizeOptions) -> Result<Self> {
        let parts = parts(output)?;
        let fingerprint = match options.resume {
            true => Some(journal::fingerprint(source, output, &parts, options)?),
            false => None,
        };
        let entries = output.plan.entries.len();
        let mut places = Vec::with_capacity(entries);
        let mut writers = Vec::with_capacity(parts.len());
        for (p, Part { path, entries, layout }) in parts.into_iter().enumerate() {
            places.extend((0..entries.len()).map(|i| (p, i)));
            writers.push(match options.resume {
                true => GgufWriter::reopen(&path, layout)?,
                false => GgufWriter::create(&path, layout)?,
            });
        }
        let mut writer = Self {
            output,
            places,
            sums: if options.report.is_some() { vec![Sums::default(); entries] } else { Vec::new() },
            hashes: writers.iter().filter(|_| options.sha256).map(|w| RunningHash::new(w.layout())).collect(),
            parts: writers,
            journal: None,
            sync_bytes: options.sync_bytes,
        };
        let path = writer.parts.first().map(|part| journal::path(part.file()));
        match (path, fingerprint) {
            (Some(path), Some(fingerprint)) => {
                if let Err(why) = writer.resume(&path, &fingerprint)? {
                    (options.note)(&format!("{}: begun anew: {why}", output.path.display()));
                }
                writer.journal = Some(Journal { path, fingerprint });
            }
            // A journal left behind would speak for a file that is another one now.
            (Some(path), None) => journal::remove(&path)?,
            (None, _) => {}
        }
        Ok(writer)
    }

    /// Takes up what the journal at `path` says is done; else begins anew, and says why where there was something to take up.
    fn resume(&mut self, path: &Path, fingerprint: &str) -> Result<Result<(), Message>> {
        let why = match journal::read(path, fingerprint) {
            Ok(Some(done)) => match self.take_up(&done)? {
                true => return Ok(Ok(())),
                false => "the unfinished file has lost bytes that its journal has seen".into(),
            },
            Ok(None) if self.parts.iter().all(|part| part.file().is_empty().unwrap_or(false)) => Message::default(),
            Ok(None) => "the unfinished file has no journal".into(),
            Err(why) => why,
        };
        journal::remove(path)?;
        self.parts.iter_mut().try_for_each(GgufWriter::start_anew)?;
        self.sums.fill(Sums::default());
        Ok(if why.is_empty() { Ok(()) } else { Err(why) })
    }

    /// Whether all that is done is there.
    fn take_up(&mut self, done: &Done) -> Result<bool> {
        for (entry, sums) in done.iter() {
            let Some(&(part, index)) = self.places.get(entry) else { return Ok(false) };
            if !self.parts[part].resume(index)? {
                return Ok(false);
            }
            match (self.sums.get_mut(entry), sums) {
                (Some(own), Some(sums)) => *own = sums,
                (None, None) => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The output's files.
    pub(super) fn parts(&self) -> &[GgufWriter] {
        &self.parts
    }

    /// Whether the tensor of that entry of the plan is written.
    pub(super) fn has(&self, entry: usize) -> bool {
        let (part, index) = self.places[entry];
        self.parts[part].is_whole(index)
    }

    /// Writes what comes until no more comes, and has it put on the disk meanwhile; with a journal, all of it in the end.
    pub(super) fn run(mut self, blocks: &Receiver<EncodedRows>, progress: &dyn Progress) -> Result<Self> {
        // No room in the channel: it is taken only when the one before is on the disk.
        let (due, dues) = sync_channel::<SyncPoint>(0);
        std::thread::scope(|scope| {
            let disk = scope.spawn(move || dues.iter().try_for_each(|checkpoint| checkpoint.carry_out()));
            let written = self.write_all(blocks, progress, |checkpoint| match due.try_send(checkpoint) {
                Ok(()) => Some(true),
                Err(TrySendError::Full(_)) => Some(false),
                Err(TrySendError::Disconnected(_)) => None,
            });
            drop(due);
            let synced = disk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            synced.and(written)
        })?;
        if self.journal.is_some() {
            // Whole or not: another output may be the one that ends the run.
            self.checkpoint().carry_out()?;
        }
        Ok(self)
    }

    /// `sync` begins to put things on the disk: whether it could, or `None` where it failed before.
    fn write_all(
        &mut self,
        blocks: &Receiver<EncodedRows>,
        progress: &dyn Progress,
        sync: impl Fn(SyncPoint) -> Option<bool>,
    ) -> Result<()> {
        let (mut early, mut next, mut unsynced) = (BTreeMap::new(), 0, 0);
        // Less at first, so that a run which ends soon has something to be resumed.
        let mut due = self.sync_bytes / 16;
        for block in blocks {
            early.insert(block.number, block);
            while let Some(block) = early.remove(&next) {
                unsynced += self.write(&block)?;
                progress.advance(block.source_bytes);
                next += 1;
            }
            if unsynced >= due {
                match sync(self.checkpoint()) {
                    Some(true) => (unsynced, due) = (0, (2 * due).min(self.sync_bytes)),
                    // The disk is busy with the one before.
                    Some(false) => unsynced = due / 2,
                    None => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Writes a block; how many bytes.
    fn write(&mut self, block: &EncodedRows) -> Result<u64> {
        let (part, index) = self.places[block.entry];
        let writer = &mut self.parts[part];
        let bytes = block.bytes();
        writer.write(index, block.at, bytes)?;
        if let Some(hash) = self.hashes.get_mut(part) {
            hash.write(writer.layout(), writer.layout().offset(index) + block.at, bytes);
        }
        if let Some(own) = self.sums.get_mut(block.entry) {
            block.sums().iter().for_each(|sums| own.add(sums));
        }
        Ok(bytes.len() as u64)
    }

    fn checkpoint(&self) -> SyncPoint {
        let files = self.parts.iter().map(|part| (part.file().path().to_owned(), part.file().handle())).collect();
        let journal = self.journal.as_ref().map(|journal| {
            let tensors: Vec<usize> = (0..self.places.len()).filter(|&entry| self.has(entry)).collect();
            let sums = tensors.iter().filter_map(|&entry| self.sums.get(entry)).map(|sums| sums.to_bits()).collect();
            (journal.path.clone(), Done { fingerprint: journal.fingerprint.clone(), tensors, sums })
        });
        SyncPoint { files, journal }
    }

    /// Everything to the disk, and the hashes that are wanted; the files keep their temporary names.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.parts.iter().try_for_each(GgufWriter::sync)?;
        for (part, hash) in self.parts.iter().zip(&mut self.hashes) {
            hash.finish(part)?;
        }
        Ok(())
    }

    /// Gives the files their names.
    pub(super) fn commit(self) -> Result<Written> {
        let mut files = Vec::with_capacity(self.parts.len());
        let mut hashes = self.hashes.into_iter();
        for part in self.parts {
            let (path, sha256) = (part.file().path().to_owned(), hashes.next().map(RunningHash::hex));
            files.push(WrittenFile { path, bytes: part.commit()?, sha256 });
        }
        if let Some(journal) = self.journal {
            journal::remove(&journal.path)?;
        }
        let report = self.output.plan.entries.iter().zip(&self.sums).map(|(entry, sums)| TensorReport::new(entry, sums));
        Ok(Written {
            path: files.first().map_or_else(|| self.output.path.clone(), |file| file.path.clone()),
            bytes: files.iter().map(|file| file.bytes).sum(),
            report: report.collect(),
            files,
        })
    }
}

impl SyncPoint {
    fn carry_out(&self) -> Result<()> {
        for (path, file) in &self.files {
            file.sync_data().map_err(|e| Error::io(path, e))?;
        }
        self.journal.iter().try_for_each(|(path, done)| journal::write(path, done))
    }
}
