//! Energy that the system counts: the processor's RAPL counters (Linux, `/sys/class/powercap`) and the power sensor of AMD
//! graphics (`hwmon` of the driver amdgpu). What is not there or may not be read gives nothing, and a reason.
//!
//! Which of them belong to a device: a processor's figure is that of its packages and, where it is counted apart, of the memory.
//! A graphics device inside the package is in the package's figure; its sensor counts only where there is no RAPL, because adding
//! both would count it twice. A discrete card's sensor is added to the packages that feed it. Absent: the rest of the machine
//! (drives, fans, losses of the power supply), other systems than Linux.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bitworth_engine::backend::DeviceKind;

/// How often a power sensor is read; it changes no faster.
const SAMPLE: Duration = Duration::from_millis(20);

/// What counts energy here.
pub struct EnergyMeter {
    zones: Vec<Zone>,
    sensors: Vec<Sampled>,
}

/// Why energy is not measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEnergy {
    /// There is a counter for others.
    #[error("energy is not measured: {} may not be read (on most systems by root only)", counter.display())]
    Denied {
        /// The counter.
        counter: PathBuf,
    },
    /// There is no counter.
    #[error("energy is not measured: the system counts none (no RAPL in /sys/class/powercap)")]
    None,
}

/// A counter in microjoules that begins again at `range`.
struct Zone {
    name: String,
    counter: PathBuf,
    range: u64,
}

/// A power sensor, and a thread that adds up what it says.
struct Sampled {
    name: String,
    microjoules: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The counters at one time.
pub struct Reading {
    zones: Vec<Option<u64>>,
    sensors: Vec<u64>,
}

impl EnergyMeter {
    /// What counts the energy of a device of this kind.
    ///
    /// # Errors
    /// Why nothing does.
    pub fn open(kind: DeviceKind) -> Result<Self, NoEnergy> {
        Self::under(Path::new("/sys/class"), kind)
    }

    fn under(class: &Path, kind: DeviceKind) -> Result<Self, NoEnergy> {
        let (zones, denied) = zones(&class.join("powercap"));
        let sensors = match kind {
            DeviceKind::Cpu | DeviceKind::SoftwareGpu => Vec::new(),
            DeviceKind::IntegratedGpu if !zones.is_empty() => Vec::new(),
            DeviceKind::IntegratedGpu | DeviceKind::DiscreteGpu | DeviceKind::OtherGpu => sensors(&class.join("hwmon")),
        };
        if !zones.is_empty() || !sensors.is_empty() {
            return Ok(Self { zones, sensors: sensors.into_iter().map(|(name, path)| Sampled::start(name, path)).collect() });
        }
        Err(match denied {
            Some(counter) => NoEnergy::Denied { counter },
            None => NoEnergy::None,
        })
    }

    /// The names of what is counted, for records.
    pub fn sources(&self) -> Vec<String> {
        self.zones.iter().map(|z| z.name.clone()).chain(self.sensors.iter().map(|s| s.name.clone())).collect()
    }

    /// The counters now.
    pub fn read(&self) -> Reading {
        Reading {
            zones: self.zones.iter().map(|zone| number(&zone.counter)).collect(),
            sensors: self.sensors.iter().map(|sensor| sensor.microjoules.load(Ordering::Relaxed)).collect(),
        }
    }

    /// Joules from one reading to a later one; `None` where a counter could no longer be read, or is too coarse to have moved.
    pub fn joules(&self, from: &Reading, to: &Reading) -> Option<f64> {
        let mut sum = 0;
        for ((zone, from), to) in self.zones.iter().zip(&from.zones).zip(&to.zones) {
            let (from, to) = ((*from)?, (*to)?);
            sum += if to >= from { to - from } else { zone.range.checked_sub(from)?.checked_add(to)? };
        }
        sum += to.sensors.iter().zip(&from.sensors).map(|(to, from)| to.saturating_sub(*from)).sum::<u64>();
        (sum > 0).then_some(sum as f64 / 1e6)
    }
}

/// The RAPL zones of packages and of memory below them, and a counter that may not be read, if there is one.
fn zones(powercap: &Path) -> (Vec<Zone>, Option<PathBuf>) {
    let (mut zones, mut denied) = (Vec::new(), None);
    for folder in folders(powercap) {
        let Some(name) = text(&folder.join("name")) else { continue };
        // `core` and `uncore` are parts of their package, `psys` holds it.
        if !(name.starts_with("package") || name == "dram") {
            continue;
        }
        let counter = folder.join("energy_uj");
        match (number(&counter), number(&folder.join("max_energy_range_uj"))) {
            (Some(_), Some(range)) => zones.push(Zone { name, counter, range }),
            (_, _) => denied = Some(counter),
        }
    }
    (zones, denied)
}

/// The power sensors of the driver amdgpu, in microwatts. `power1_average` is that of discrete cards, `power1_input` of others.
fn sensors(hwmon: &Path) -> Vec<(String, PathBuf)> {
    let amd = folders(hwmon).into_iter().filter(|folder| text(&folder.join("name")).as_deref() == Some("amdgpu"));
    let found = amd.filter_map(|folder| {
        let file = ["power1_average", "power1_input"].map(|file| folder.join(file)).into_iter().find(|f| number(f).is_some())?;
        Some(("amdgpu".to_owned(), file))
    });
    found.collect()
}

/// The folders in `path`, by name, so that sums and names do not depend on the file system's order.
fn folders(path: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

impl Sampled {
    fn start(name: String, sensor: PathBuf) -> Self {
        let (microjoules, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (sum, ended) = (microjoules.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(SAMPLE);
                let microwatts = number(&sensor).unwrap_or(0);
                let seconds = last.elapsed().as_secs_f64();
                last = Instant::now();
                sum.fetch_add((microwatts as f64 * seconds) as u64, Ordering::Relaxed);
            }
        });
        Self { name, microjoules, stop, thread: Some(thread) }
    }
}

impl Drop for Sampled {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder in the place of `/sys/class` with these files.
    fn class(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    const RAPL: &[(&str, &str)] = &[
        ("powercap/intel-rapl:0/name", "package-0\n"),
        ("powercap/intel-rapl:0/energy_uj", "1000000\n"),
        ("powercap/intel-rapl:0/max_energy_range_uj", "5000000\n"),
        ("powercap/intel-rapl:0:0/name", "core\n"),
        ("powercap/intel-rapl:0:0/energy_uj", "1000\n"),
        ("powercap/intel-rapl:0:0/max_energy_range_uj", "5000000\n"),
        ("powercap/intel-rapl:0:1/name", "dram\n"),
        ("powercap/intel-rapl:0:1/energy_uj", "200\n"),
        ("powercap/intel-rapl:0:1/max_energy_range_uj", "5000000\n"),
    ];
    const AMD: &[(&str, &str)] = &[
        ("hwmon/hwmon0/name", "nvme\n"),
        ("hwmon/hwmon0/power1_input", "1\n"),
        ("hwmon/hwmon3/name", "amdgpu\n"),
        ("hwmon/hwmon3/power1_average", "50000000\n"),
    ];

    fn open(dir: &tempfile::TempDir, kind: DeviceKind) -> EnergyMeter {
        EnergyMeter::under(dir.path(), kind).ok().unwrap()
    }

    #[test]
    fn packages_and_their_memory_are_counted_across_the_end_of_a_counter() {
        let dir = class(RAPL);
        let meter = open(&dir, DeviceKind::Cpu);
        assert_eq!(meter.sources(), ["package-0", "dram"]);
        let from = meter.read();
        assert_eq!(meter.joules(&from, &meter.read()), None, "a counter that did not move has no figure");
        fs::write(dir.path().join("powercap/intel-rapl:0/energy_uj"), "3500000").unwrap();
        assert_eq!(meter.joules(&from, &meter.read()), Some(2.5));
        fs::write(dir.path().join("powercap/intel-rapl:0/energy_uj"), "500000").unwrap();
        assert_eq!(meter.joules(&from, &meter.read()), Some(4.5));
        fs::remove_file(dir.path().join("powercap/intel-rapl:0/energy_uj")).unwrap();
        assert_eq!(meter.joules(&from, &meter.read()), None);
    }

    #[test]
    fn a_graphics_device_in_the_package_is_not_counted_twice() {
        let both = class(&[RAPL, AMD].concat());
        assert_eq!(open(&both, DeviceKind::IntegratedGpu).sources(), ["package-0", "dram"]);
        assert_eq!(open(&both, DeviceKind::DiscreteGpu).sources(), ["package-0", "dram", "amdgpu"]);
        assert_eq!(open(&class(AMD), DeviceKind::IntegratedGpu).sources(), ["amdgpu"]);
    }

    #[test]
    fn power_becomes_energy_over_time() {
        let (dir, begin) = (class(AMD), Instant::now());
        let meter = open(&dir, DeviceKind::DiscreteGpu);
        let from = meter.read();
        let joules = loop {
            std::thread::sleep(SAMPLE);
            if let Some(joules) = meter.joules(&from, &meter.read()) {
                break joules;
            }
        };
        assert!(joules <= 50.0 * begin.elapsed().as_secs_f64(), "{joules} J");
    }

    #[test]
    fn what_cannot_be_read_is_a_reason() {
        let why = |dir: &tempfile::TempDir| EnergyMeter::under(dir.path(), DeviceKind::Cpu).err().unwrap().to_string();
        assert!(why(&class(&[])).contains("counts none"));
        assert!(why(&class(AMD)).contains("counts none"), "a sensor of the graphics device is not the processor's");
        assert!(why(&class(&RAPL[..1])).contains("energy_uj may not be read"));
    }
}
