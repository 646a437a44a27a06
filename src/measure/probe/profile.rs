//! The machine at hand as a hardware profile, in the form of `configs/hardware/*.toml`: the device that models run on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bitworth_quant::atomic_file::write_whole;
use serde::Serialize;

use super::{Measured, Rates};
use crate::error::{Error, Result};
use bitworth_engine::backend::DeviceKind;

/// The keys of a profile that measuring can fill.
#[derive(Serialize)]
struct Profile {
    name: String,
    kind: &'static str,
    vendor: &'static str,
    compute_units: Option<usize>,
    bandwidth_gbs: f64,
    bandwidth_measured_gbs: f64,
    fp32_tflops: f64,
    backends: Vec<&'static str>,
    note: String,
    source: String,
    evidence: &'static str,
    memory: Vec<Memory>,
}

#[derive(Serialize)]
struct Memory {
    gb: f64,
}

/// Where the profile of the machine at hand stands unless another place is asked for: `bitworth/hardware/this.toml` in the user's
/// folder for configurations (`XDG_CONFIG_HOME`, `APPDATA` on Windows, `~/.config`); `None` where there is no such folder.
pub fn default_path() -> Option<PathBuf> {
    path_in(&|name| std::env::var_os(name))
}

fn path_in(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = folder("XDG_CONFIG_HOME").or_else(|| folder("APPDATA"));
    let config = own.or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("bitworth").join("hardware").join("this.toml"))
}

/// Writes the profile of the graphics device, or where none was measured of the processor, to `path`.
///
/// # Errors
/// A name that does not end in `.toml`, a folder or file that cannot be written.
pub fn write_profile(path: &Path, measured: &Measured) -> Result<()> {
    check_path(path)?;
    let text = toml::to_string(&profile(measured)).map_err(|e| Error::unfit(format!("the profile: {e}")))?;
    Ok(write_whole(path, format!("# Written by `bitworth probe`.\n{text}").as_bytes())?)
}

/// Whether a profile can have this name.
///
/// # Errors
/// It does not end in `.toml`.
pub fn check_path(path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| extension != "toml") {
        return Err(Error::unfit(format!("{}: a hardware profile's name ends in .toml", path.display())));
    }
    Ok(())
}

fn profile(measured: &Measured) -> Profile {
    let rates = measured.gpu.as_ref().unwrap_or(&measured.cpu);
    let vendor = vendor(&rates.device.name);
    let own_memory = rates.memory_bytes.filter(|_| rates.device.kind == DeviceKind::DiscreteGpu);
    let bytes = own_memory.unwrap_or(measured.system.memory_bytes);
    // Enough to tell machines apart, and no digits that the next measurement would change.
    let digits = |value: f64| format!("{value:.3e}").parse().unwrap_or(value);
    let bandwidth = digits(rates.read_gbs.median.max(rates.copy_gbs.median));
    let (read, copy) = (rates.read_gbs, rates.copy_gbs);
    Profile {
        name: rates.device.name.clone(),
        kind: kind(rates, vendor),
        vendor,
        compute_units: measured.system.cores.filter(|_| measured.gpu.is_none()),
        bandwidth_gbs: bandwidth,
        bandwidth_measured_gbs: bandwidth,
        fp32_tflops: digits(rates.fp32_tflops.median),
        backends: vec![backend(&rates.device.api)],
        note: format!(
            "All figures are measured, the bandwidth too: the nominal one is higher. Reading {:.1} GB/s ({:.1} to {:.1}), \
             copying {:.1} GB/s ({:.1} to {:.1}), {} threads.",
            read.median, read.min, read.max, copy.median, copy.min, copy.max, measured.system.threads
        ),
        source: format!("bitworth probe {}", env!("CARGO_PKG_VERSION")),
        evidence: "measured",
        memory: vec![Memory { gb: digits(bytes as f64 / f64::from(1 << 30)) }],
    }
}

fn kind(rates: &Rates, vendor: &str) -> &'static str {
    match (rates.device.kind, vendor) {
        (DeviceKind::DiscreteGpu, _) => "discrete-gpu",
        (DeviceKind::IntegratedGpu | DeviceKind::OtherGpu, "apple") => "apple-unified",
        (DeviceKind::IntegratedGpu | DeviceKind::OtherGpu, "nvidia") => "nvidia-unified",
        (DeviceKind::IntegratedGpu | DeviceKind::OtherGpu, "amd") => "amd-unified",
        (DeviceKind::IntegratedGpu | DeviceKind::OtherGpu, "intel") => "intel-unified",
        // Software that acts as a graphics device is the processor.
        _ => "cpu",
    }
}

fn vendor(device: &str) -> &'static str {
    let device = device.to_lowercase();
    let known =
        [("apple", "apple"), ("nvidia", "nvidia"), ("geforce", "nvidia"), ("amd", "amd"), ("radeon", "amd"), ("intel", "intel")];
    known.iter().find(|(word, _)| device.contains(word)).map_or("other", |(_, vendor)| vendor)
}

/// The programming interface as profiles name it.
fn backend(api: &str) -> &'static str {
    match api {
        "vulkan" => "Vulkan",
        "metal" => "Metal",
        "dx12" => "DX12",
        _ => "CPU",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_folder_is_found_as_the_system_has_it() {
        let path = |variables: &'static [(&str, &str)]| {
            path_in(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        let expected = |folder: &str| Some(Path::new(folder).join("bitworth/hardware/this.toml"));
        assert_eq!(path(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/c")]), expected("/c"));
        assert_eq!(path(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "relative")]), expected("/home/a/.config"));
        assert_eq!(path(&[]), None);
    }
}
