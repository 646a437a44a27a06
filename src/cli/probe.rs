//! `bitworth probe`: what the machine at hand can do, as a hardware profile.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::session::Session;
use super::{DeviceArgs, Outcome, output};
use bitworth_eval::stats::Spread;
use bitworth_measure::probe::{self, Measured, Rates};

/// Measure this machine in seconds: bandwidth of its memory, arithmetic, reading of a drive; and keep it as the hardware `this`.
#[derive(Args)]
pub struct ProbeArgs {
    /// Where to write the profile [default: bitworth/hardware/this.toml in your folder for configurations].
    #[arg(long, value_name = "FILE.toml")]
    out: Option<PathBuf>,
    /// Folder on the drive to measure; a file of 256 MiB is there for a few seconds.
    #[arg(long, default_value = ".", value_name = "DIR")]
    disk: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &ProbeArgs, session: &Session) -> Result<Outcome> {
    let out = args.out.clone().or_else(probe::default_path);
    let out = out.context("there is no folder for configurations (HOME is not set); say where to write with --out FILE.toml")?;
    probe::check_path(&out)?;
    let begin = std::time::Instant::now();
    let measured = probe::measure(args.device.device, &args.disk, session.watch())?;
    probe::write_profile(&out, &measured)?;
    let seconds = begin.elapsed().as_secs_f64();
    let Measured { system, cpu, gpu, disk } = &measured;
    let document = json!({
        "system": system, "cpu": cpu, "gpu": gpu, "disk": disk.as_ref().ok(),
        "disk_missing": disk.as_ref().err().map(|why| why.describe(&output::flag)),
        "profile": out, "seconds": seconds,
    });
    session.print(&document, || format!("{}profile      {}\n", table(&measured), out.display()))?;
    if let Err(why) = disk {
        session.note(&format!("the drive was not measured: {}", why.describe(&output::flag)));
    }
    Ok(Outcome::Done)
}

fn table(measured: &Measured) -> String {
    let system = &measured.system;
    let cores = system.cores.map_or(String::new(), |cores| format!("{cores} cores, "));
    let mut text = format!("cpu          {} ({cores}{} threads)\n", system.cpu, system.threads);
    text += &format!("memory       {:.1} GiB\n", system.memory_bytes as f64 / f64::from(1 << 30));
    text += &rates("cpu", &measured.cpu);
    if let Some(gpu) = &measured.gpu {
        let memory = gpu.memory_bytes.map_or(String::new(), |bytes| format!(", {} MiB", bytes >> 20));
        text += &format!("gpu          {} ({}{memory})\n", gpu.device.name, gpu.device.api);
        text += &rates("gpu", gpu);
    }
    if let Ok(disk) = &measured.disk {
        text += &format!("disk read    {}, {}\n", shown(disk.read_gbs, "GB/s"), disk.how);
    }
    text
}

fn rates(who: &str, rates: &Rates) -> String {
    let of = format!("of {} MiB", rates.bytes >> 20);
    let mut text = format!("{who} read     {} {of}\n", shown(rates.read_gbs, "GB/s"));
    text += &format!("{who} copy     {} {of}, read and written bytes together\n", shown(rates.copy_gbs, "GB/s"));
    text += &format!("{who} f32      {} of fused multiply-adds\n", shown(rates.fp32_tflops, "TFLOPS"));
    text
}

fn shown(spread: Spread, unit: &str) -> String {
    format!("{:.3} {unit} ({:.3} to {:.3})", spread.median, spread.min, spread.max)
}
