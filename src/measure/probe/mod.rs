//! What the machine at hand can do, measured in seconds: reading and copying memory, arithmetic in f32, reading a drive. The
//! result is a hardware profile named `this`, in the form of `configs/hardware/*.toml`.
//!
//! Copied bytes count twice, once read and once written, as in STREAM (McCalpin 1995); that a cache may read a line before it is
//! written is not counted. An operation is a multiplication or an addition. Absent: what a model reaches of these figures, and
//! matrix units, which our kernels do not use.

mod cache;
mod disk;
mod profile;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitworth_quant::message::Message;
use bitworth_quant::progress::Unit;
use serde::Serialize;

pub use self::cache::last_level_cache;
pub use self::profile::{check_path, default_path, write_profile};
use super::Watch;
use super::device::{Device, DeviceSelector};
use super::error::{Error, Result};
use bitworth_engine::backend::{Backend, DeviceInfo, DeviceKind};
use bitworth_engine::cpu::{Cpu, CpuProbe};
#[cfg(feature = "gpu")]
use bitworth_engine::gpu::GpuProbe;
use bitworth_engine::probe::Probe;
use bitworth_eval::stats::Spread;

/// Bytes of memory to read and copy: more than the caches of nearly all processors hold; less where a machine has little.
const BYTES: u64 = 1 << 30;
/// What one measurement takes at least, so that clocks and schedulers do not blur it.
const AIM: Duration = Duration::from_millis(25);
/// When no further measurement of a kind begins.
const ENOUGH: Duration = Duration::from_millis(700);
const MOST_SAMPLES: usize = 15;
/// As [`BYTES`], for graphics devices, whose caches are smaller.
#[cfg(feature = "gpu")]
const GPU_BYTES: usize = 1 << 29;
/// Operations of the shortest measurement of arithmetic.
const SMALLEST_FLOPS: f64 = 1e7;

/// All that was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The machine.
    pub system: System,
    /// The processor, with all threads.
    pub cpu: Rates,
    /// The graphics device, where one was chosen.
    pub gpu: Option<Rates>,
    /// The drive, or why it was not measured.
    pub disk: Result<Disk, Message>,
}

/// What the system tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct System {
    /// The processor's name.
    pub cpu: String,
    /// Its cores, where the system tells them from threads.
    pub cores: Option<usize>,
    /// Threads that were used.
    pub threads: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// What a device reaches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rates {
    /// The device.
    pub device: DeviceInfo,
    /// Bytes of its own memory, where it has its own and tells.
    pub memory_bytes: Option<u64>,
    /// Bytes that were read or copied at a time.
    pub bytes: u64,
    /// Reading memory, in 10^9 bytes a second.
    pub read_gbs: Spread,
    /// Copying memory, bytes read and written together, in the same unit.
    pub copy_gbs: Spread,
    /// Fused multiplications and additions in f32, in 10^12 operations a second.
    pub fp32_tflops: Spread,
}

/// Reading a drive.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Disk {
    /// The folder that held the file.
    pub folder: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// In 10^9 bytes a second.
    pub read_gbs: Spread,
    /// What was measured, in words.
    pub how: String,
}

/// Measures the machine: its processor, the graphics device that `choice` means, the drive of the folder `disk`.
///
/// # Errors
/// A device that cannot be opened or fails, an interruption. A folder that cannot be written is none: the reason stands in the
/// place of the figure.
pub fn measure(choice: DeviceSelector, disk: &Path, watch: Watch<'_>) -> Result<Measured> {
    let device = Device::open(choice)?;
    let processor = Cpu::new();
    let (system, available) = system(processor.info());
    let bytes = BYTES.min(available / 4) as usize;
    let measurements = if device.info().kind == DeviceKind::Cpu { 4 } else { 7 };
    watch.progress.start(measurements, Unit::Items, "measuring");
    let cpu = rates(CpuProbe::new(&processor, bytes), processor.info(), None, watch)?;
    let gpu = match &device {
        Device::Cpu(_) => None,
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => Some(rates(GpuProbe::new(gpu, bytes.min(GPU_BYTES))?, device.info(), gpu.memory_bytes(), watch)?),
    };
    let disk = match disk::measure(disk, watch) {
        Ok(read) => Ok(Disk {
            folder: disk.to_owned(),
            bytes: read.bytes as u64,
            read_gbs: spread(&read.rates, 1e9)?,
            how: format!("a temporary file in {}, read {}", disk.display(), read.cache.describe()),
        }),
        Err(e) if e.is_interruption() => return Err(e),
        Err(e) => Err(e.message()),
    };
    watch.progress.advance(1);
    watch.progress.finish();
    Ok(Measured { system, cpu, gpu, disk })
}

/// What the system tells, and the bytes of memory that are free.
fn system(cpu: &DeviceInfo) -> (System, u64) {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let told = System {
        cpu: cpu.name.clone(),
        cores: sysinfo::System::physical_core_count(),
        threads: rayon::current_num_threads(),
        memory_bytes: system.total_memory(),
    };
    (told, system.available_memory())
}

fn rates<P: Probe>(mut probe: P, device: &DeviceInfo, memory_bytes: Option<u64>, watch: Watch<'_>) -> Result<Rates> {
    let bytes = probe.bytes();
    let mut bandwidth = |work: fn(&mut P) -> bitworth_engine::backend::Result<()>| {
        let samples = samples(watch, |times| {
            (0..times).try_for_each(|_| work(&mut probe))?;
            probe.synchronize()?;
            Ok(f64::from(times) * bytes as f64)
        })?;
        spread(&samples, 1e9)
    };
    let (read_gbs, copy_gbs) = (bandwidth(P::read)?, bandwidth(P::copy)?);
    let flops = samples(watch, |times| {
        let done = probe.multiply(f64::from(times) * SMALLEST_FLOPS)?;
        probe.synchronize()?;
        Ok(done)
    })?;
    let fp32_tflops = spread(&flops, 1e12)?;
    Ok(Rates { device: device.clone(), memory_bytes, bytes: bytes as u64, read_gbs, copy_gbs, fp32_tflops })
}

/// How much of `work` is done in a second, measured several times; `work` is told how often to do it, and says how much that was.
fn samples(watch: Watch<'_>, mut work: impl FnMut(u32) -> Result<f64>) -> Result<Vec<f64>> {
    let mut timed = |times: u32| -> Result<(f64, Duration)> {
        if watch.stopped() {
            return Err(Error::interrupted());
        }
        let begin = Instant::now();
        Ok((work(times)?, begin.elapsed()))
    };
    // The first one makes pipelines and wakes the device.
    timed(1)?;
    let mut times = 1;
    while timed(times)?.1 < AIM && times < 1 << 24 {
        times *= 2;
    }
    let (begin, mut rates) = (Instant::now(), Vec::new());
    while rates.len() < 3 || (rates.len() < MOST_SAMPLES && begin.elapsed() < ENOUGH) {
        let (done, time) = timed(times)?;
        rates.push(done / time.as_secs_f64().max(1e-9));
    }
    watch.progress.advance(1);
    Ok(rates)
}

/// The spread of rates in units of `unit` a second.
fn spread(rates: &[f64], unit: f64) -> Result<Spread> {
    let rates: Vec<f64> = rates.iter().map(|rate| rate / unit).collect();
    Spread::of(&rates).ok_or_else(|| Error::unfit("nothing was measured"))
}
