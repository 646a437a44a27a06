//! The options of a sweep: memory, plan, taking up again, and the files that candidates leave on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::quantize::{Output, Sink, Written};
use bitworth_quant::{Checkpoint, Imatrix, Recipe};
use clap::Args;
use serde_json::{Value, json};

use super::files::NewFolders;
use super::size::{MEMORY_HELP, parse_memory};
use bitworth_engine::sweep::{self, Lane, Resume, SweepLimits, SweepPlan};
use bitworth_measure::device::Device;
use bitworth_measure::models;
use bitworth_measure::on_device;
use bitworth_measure::text::TextWindows;

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
    /// What a sweep does.
    pub fn options(&self) -> sweep::SweepOptions<'_> {
        let resume = self.resume.as_deref().map(|folder| Resume { folder, every_layer: false });
        sweep::SweepOptions { limits: self.memory.limits(), resume, ..sweep::SweepOptions::default() }
    }

    /// Whether there is something to go on with.
    pub fn is_resumed(&self) -> bool {
        self.resume.as_deref().is_some_and(|folder| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
    }

    /// The plan for a text, as JSON and for a person.
    ///
    /// # Errors
    /// As [`sweep::plan`].
    pub fn plan(&self, device: &Device, lanes: &[Lane], text: &TextWindows) -> Result<(Value, String)> {
        let (plan, rate) = on_device!(device, backend => {
            (sweep::plan(backend, lanes, &text.sequences, &self.memory.limits())?, sweep::flops_per_second(backend)?)
        });
        let seconds = plan.flops / rate;
        let mut document = serde_json::to_value(&plan)?;
        document["lanes"] = json!(lanes.iter().map(|lane| &lane.name).collect::<Vec<_>>());
        document["estimated_seconds"] = json!(seconds);
        document["device"] = json!(device.info());
        Ok((document, describe(&plan, lanes.len(), seconds, rate)))
    }
}

fn describe(plan: &SweepPlan, lanes: usize, seconds: f64, rate: f64) -> String {
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let SweepPlan {
        passes, rows_given, rows_computed, chunk_rows, bytes_per_pass, bytes_read, peak_bytes, flops, evicts, ..
    } = plan;
    let kept = if *evicts { "leave the file cache" } else { "may stay in the file cache" };
    format!(
        "{lanes} lanes, {} passes over {:.1} MiB of models: {:.1} MiB to be read, which {kept}\n\
         {rows_computed} rows a lane for {rows_given} tokens, {chunk_rows} at a time through a layer\n\
         at most {:.0} MiB of memory\n\
         {:.1} TFLOP, about {seconds:.0} s at the {:.0} GFLOP/s of a large product here (reading and quantizing not counted)\n",
        passes.len(),
        mib(*bytes_per_pass),
        mib(*bytes_read),
        mib(*peak_bytes),
        flops / 1e12,
        rate / 1e9,
    )
}

/// The files that candidates on the fly leave, by lane.
pub struct Files {
    sinks: Vec<Option<Arc<Sink>>>,
    folders: NewFolders,
}

impl Files {
    /// Begins a file in `dir` for every one of `candidates` (the lanes behind the first) that is a recipe.
    ///
    /// # Errors
    /// None is, two are the same, or a file cannot be written.
    pub fn create(dir: &Path, checkpoint: &Checkpoint, candidates: &[String], imatrix: Option<&Arc<Imatrix>>) -> Result<Self> {
        let mut folders = NewFolders::default();
        let (mut outputs, mut lanes) = (Vec::new(), Vec::new());
        for (lane, candidate) in candidates.iter().enumerate() {
            let Some(name) = candidate.strip_prefix('@') else { continue };
            let recipe = Recipe::find(name)?;
            let choices = PlanOptions { imatrix: imatrix.cloned(), ..PlanOptions::default() };
            let path = dir.join(models::file_name(checkpoint, &recipe));
            outputs.push(Output::of(checkpoint, &recipe, &choices, &path).with_context(|| candidate.clone())?);
            lanes.push(lane + 1);
        }
        if outputs.is_empty() {
            bail!("--write: no candidate is a recipe (@q4_k_m), so there is nothing to write");
        }
        folders.create("--write", dir)?;
        let mut sinks = vec![None; candidates.len() + 1];
        for (sink, lane) in Sink::create_all(checkpoint, outputs)?.into_iter().zip(lanes) {
            sinks[lane] = Some(Arc::new(sink));
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
