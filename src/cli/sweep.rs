//! The options of a sweep: memory, taking up again, and the files that candidates leave on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bitworth_quant::Checkpoint;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::quantize::{Output, Sink, Written};
use clap::Args;

use super::files::NewFolders;
use super::size::{MEMORY_HELP, parse_memory};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{Lane, Resume, SweepLimits};
use bitworth_measure::models;

/// How much memory a sweep may take.
#[derive(Args)]
pub struct MemoryArgs {
    // Mapped pages of models included; what does not fit is scored in another pass over the model.
    #[arg(long, default_value = "4G", value_parser = parse_memory, value_name = "SIZE", help = MEMORY_HELP)]
    max_memory: u64,
}

impl MemoryArgs {
    /// The memory in MiB, one at least.
    pub fn mib(&self) -> u64 {
        (self.max_memory >> 20).max(1)
    }

    /// How a sweep is cut.
    pub fn limits(&self) -> SweepLimits {
        SweepLimits { memory_bytes: usize::try_from(self.max_memory).unwrap_or(usize::MAX), ..SweepLimits::default() }
    }
}

/// What a long sweep is given.
#[derive(Args)]
pub struct SweepArgs {
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Print the plan (passes, bytes to be read, memory, estimated time) and score nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Keep in this folder what is needed to go on after an interruption, and go on with what is there. It is removed when
    /// all is scored.
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
}

impl SweepArgs {
    /// Where it leaves what it needs to go on.
    pub fn resume(&self) -> Option<Resume<'_>> {
        self.resume.as_deref().map(|folder| Resume { folder, every_layer: false, renews: false })
    }

    /// Whether there is something to go on with.
    pub fn is_resumed(&self) -> bool {
        self.resume.as_deref().is_some_and(|folder| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
    }
}

/// The files that candidates on the fly leave, by lane.
pub struct Files {
    sinks: Vec<Option<Arc<Sink>>>,
    folders: NewFolders,
}

impl Files {
    /// Begins a file in `dir` for every one of `lanes` that is a recipe.
    ///
    /// # Errors
    /// None is, two are the same, or a file cannot be written.
    pub fn create(dir: &Path, lanes: &[Lane]) -> Result<Self> {
        let mut folders = NewFolders::default();
        let (mut outputs, mut places) = (Vec::new(), Vec::new());
        for (place, lane) in lanes.iter().enumerate() {
            let Variant::Planned(checkpoint, plan) = &lane.variant else { continue };
            let choices = PlanOptions { imatrix: plan.imatrix().cloned().map(Arc::new), ..PlanOptions::default() };
            let path = dir.join(models::file_name(checkpoint, &plan.recipe));
            outputs.push(Output::of(checkpoint.as_ref(), &plan.recipe, &choices, &path).with_context(|| lane.name.clone())?);
            places.push(place);
        }
        if outputs.is_empty() {
            bail!("--write: no candidate is a recipe (@q4_k_m), so there is nothing to write");
        }
        folders.create("--write", dir)?;
        let mut sinks = vec![None; lanes.len()];
        for (sink, place) in Sink::create_all(lanes[0].variant.checkpoint().as_ref(), outputs)?.into_iter().zip(places) {
            sinks[place] = Some(Arc::new(sink));
        }
        Ok(Self { sinks, folders })
    }

    /// By lane.
    pub fn sinks(&self) -> &[Option<Arc<Sink>>] {
        &self.sinks
    }

    /// Gives the files their names.
    ///
    /// # Errors
    /// As [`Sink::finish`].
    pub fn finish(mut self, checkpoint: &Checkpoint) -> Result<Vec<Written>> {
        let mut written = Vec::new();
        for sink in self.sinks.into_iter().flatten() {
            let Some(sink) = Arc::into_inner(sink) else { bail!("--write: a file is still being written") };
            written.push(sink.finish(checkpoint)?);
        }
        self.folders.keep();
        Ok(written)
    }
}

/// The files of all models.
pub fn inputs(lanes: &[Lane]) -> impl Iterator<Item = &Path> + Clone {
    lanes.iter().flat_map(|lane| lane.variant.checkpoint().files()).map(PathBuf::as_path)
}
