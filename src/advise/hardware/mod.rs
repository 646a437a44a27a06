//! Machines: what bounds the speed of a model on each (bandwidth, arithmetic) and how much memory a model may take there.
//!
//! One TOML file a machine under `configs/hardware/`, embedded into the program; a user's own file is as good as those. Absent:
//! measuring the machine at hand, and how much of its nominal figures a machine reaches.

mod names;
mod profiles;
mod usable;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use bitworth_quant::{Error, Result};
use serde::{Deserialize, Serialize, Serializer};

pub use profiles::PROFILES;
pub use usable::Limit;

/// What kind of machine it is; how much of its memory a model may take follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineKind {
    /// Apple silicon: one memory for CPU and GPU.
    AppleUnified,
    /// An AMD processor with graphics in the same memory.
    AmdUnified,
    /// An NVIDIA processor with graphics in the same memory.
    NvidiaUnified,
    /// An Intel processor with graphics in the same memory.
    IntelUnified,
    /// A card with memory of its own.
    DiscreteGpu,
    /// A processor without graphics, or one whose graphics are not used.
    Cpu,
}

/// Who made what computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // names
pub enum Vendor {
    Apple,
    Nvidia,
    Amd,
    Intel,
    #[default]
    Other,
}

/// One size of memory that a machine can be bought with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryOption {
    /// The size as sold.
    pub gb: f64,
    /// How much of it a model may take, by platform: the usual one first; never empty.
    pub limits: Vec<Limit>,
}

impl MemoryOption {
    /// GiB that a model may take as the usual platform comes.
    pub fn usable_gib(&self) -> f64 {
        self.limits[0].usable_gib
    }

    /// GiB that a model may take once the usual platform's limit is raised; as it comes, where there is no limit to raise.
    pub fn raised_gib(&self) -> f64 {
        self.limits[0].raised_gib.unwrap_or(self.limits[0].usable_gib)
    }
}

/// A machine's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HardwareProfile {
    /// The name of its file, as `m2-ultra-76`.
    pub id: String,
    /// As people call it.
    pub name: String,
    /// What tells machines of that name apart, as `76-core GPU`; may be empty.
    pub variant: String,
    /// Whether the name alone means this one, where several have it.
    pub usual: bool,
    /// Other names.
    pub aliases: Vec<String>,
    /// What kind of machine it is.
    pub kind: MachineKind,
    /// Who made what computes.
    pub vendor: Vendor,
    /// The generation of what computes: `m2`, `ampere`, `rdna3.5`, `zen4`, ...
    pub generation: String,
    /// GPU cores, streaming multiprocessors, compute units, Xe cores; processor cores of a [`MachineKind::Cpu`].
    pub compute_units: Option<u32>,
    /// The year it came out, with a fraction.
    pub released: Option<f64>,
    /// Nominal bandwidth of the memory, in 10^9 bytes a second.
    pub bandwidth_gbs: f64,
    /// What a copy or read test reached.
    pub bandwidth_measured_gbs: Option<f64>,
    /// Peak rate of dense FP16 products with FP32 sums, by matrix units where there are any, in 10^12 operations a second.
    pub fp16_tflops: Option<f64>,
    /// Peak rate of FP32 arithmetic, in the same unit.
    pub fp32_tflops: Option<f64>,
    /// Whether it has units for products of matrices.
    pub matrix_units: bool,
    /// The sizes of memory, smallest first; never empty.
    pub memory: Vec<MemoryOption>,
    /// The programming interfaces it is used through, the usual one first.
    pub backends: Vec<String>,
    /// Price in US dollars, see `price_note`.
    pub price_usd: Option<f64>,
    /// For what and when the price holds.
    pub price_note: String,
    /// What else should be known.
    pub note: String,
    /// Where the figures come from.
    pub source: String,
    /// How sure they are: `read` (in the source), `computed` (from other figures), `recalled` (from memory).
    pub evidence: String,
}

/// What a file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    usual: bool,
    #[serde(default)]
    aliases: Vec<String>,
    kind: MachineKind,
    #[serde(default)]
    vendor: Vendor,
    #[serde(default)]
    generation: String,
    compute_units: Option<u32>,
    released: Option<f64>,
    bandwidth_gbs: Option<f64>,
    bandwidth_measured_gbs: Option<f64>,
    fp16_tflops: Option<f64>,
    fp32_tflops: Option<f64>,
    #[serde(default)]
    matrix_units: bool,
    memory: Vec<FileMemory>,
    #[serde(default)]
    backends: Vec<String>,
    price_usd: Option<f64>,
    #[serde(default)]
    price_note: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    evidence: String,
}

/// A size of memory in a file; what is left out follows from the kind of machine.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMemory {
    gb: f64,
    usable_gib: Option<f64>,
    raised_gib: Option<f64>,
}

/// The smallest bandwidth and rate that are believed: microcontrollers have more.
const MIN_FIGURE: f64 = 1e-3;
/// The largest figures that are believed; they are beyond the largest machines of today by a factor of ten and more.
const MAX_BANDWIDTH_GBS: f64 = 200_000.0;
const MAX_TFLOPS: f64 = 100_000.0;
const MAX_MEMORY_GB: f64 = 65_536.0;
const MAX_PRICE_USD: f64 = 10_000_000.0;

impl HardwareProfile {
    /// The machine that the TOML `text` of the file at `path` describes; its id is the name of the file.
    ///
    /// # Errors
    /// [`Error::File`] for TOML that does not parse or keys that are unknown or missing; [`Error::Key`] for a figure that is
    /// missing, negative or absurd.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
        let id = path.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        if file.name.trim().is_empty() {
            return Err(Error::key(path, "name", "is empty; give the name of the machine"));
        }
        let Some(bandwidth_gbs) = file.bandwidth_gbs else {
            let what = "is missing; give the memory's nominal bandwidth in GB/s (bits of the bus / 8 x 10^9 transfers a second)";
            return Err(Error::key(path, "bandwidth_gbs", what));
        };
        let check = |key: &str, value: Option<f64>, unit: &str, max: f64| match value {
            Some(v) if !(v.is_finite() && v > 0.0 && v <= max) => {
                Err(Error::key(path, key, format!("is {v}, but must lie above 0 and at most at {max} {unit}")))
            }
            _ => Ok(()),
        };
        check("bandwidth_gbs", Some(bandwidth_gbs), "GB/s", MAX_BANDWIDTH_GBS)?;
        // A test counts what the caches served too, but not many times the nominal figure.
        check("bandwidth_measured_gbs", file.bandwidth_measured_gbs, "GB/s, twice the nominal", 2.0 * bandwidth_gbs)?;
        check("fp16_tflops", file.fp16_tflops, "TFLOPS", MAX_TFLOPS)?;
        check("fp32_tflops", file.fp32_tflops, "TFLOPS", MAX_TFLOPS)?;
        check("price_usd", file.price_usd, "US dollars", MAX_PRICE_USD)?;
        check("compute_units", file.compute_units.map(f64::from), "units", 1e6)?;
        for (key, value) in
            [("bandwidth_gbs", Some(bandwidth_gbs)), ("fp16_tflops", file.fp16_tflops), ("fp32_tflops", file.fp32_tflops)]
        {
            if let Some(v) = value.filter(|v| *v < MIN_FIGURE) {
                return Err(Error::key(path, key, format!("is {v}, but must be at least {MIN_FIGURE}; mind the unit")));
            }
        }
        if let Some(year) = file.released.filter(|year| !(1990.0..=2100.0).contains(year)) {
            return Err(Error::key(path, "released", format!("is {year}, but must be a year, as 2025.5")));
        }
        if file.memory.is_empty() {
            return Err(Error::key(path, "memory", "is empty; give the sizes it has, as [{ gb = 64 }]"));
        }
        let mut memory = Vec::with_capacity(file.memory.len());
        for option in &file.memory {
            check("memory.gb", Some(option.gb), "GB", MAX_MEMORY_GB)?;
            check("memory.usable_gib", option.usable_gib, "GiB, all there is", option.gb)?;
            check("memory.raised_gib", option.raised_gib, "GiB, all there is", option.gb)?;
            memory.push(MemoryOption { gb: option.gb, limits: usable::limits(file.kind, option.gb) });
            let first = &mut memory.last_mut().expect("just pushed").limits[0];
            first.usable_gib = option.usable_gib.unwrap_or(first.usable_gib);
            first.raise_to(option.raised_gib.or(first.raised_gib));
        }
        memory.sort_by(|a, b| a.gb.total_cmp(&b.gb));
        let backends =
            if file.backends.is_empty() { vec![usual_backend(file.kind, file.vendor).to_owned()] } else { file.backends };
        Ok(Self {
            id,
            name: file.name,
            variant: file.variant,
            usual: file.usual,
            aliases: file.aliases,
            kind: file.kind,
            vendor: file.vendor,
            generation: file.generation,
            compute_units: file.compute_units,
            released: file.released,
            bandwidth_gbs,
            bandwidth_measured_gbs: file.bandwidth_measured_gbs,
            fp16_tflops: file.fp16_tflops,
            fp32_tflops: file.fp32_tflops,
            matrix_units: file.matrix_units,
            memory,
            backends,
            price_usd: file.price_usd,
            price_note: file.price_note,
            note: file.note,
            source: file.source,
            evidence: file.evidence,
        })
    }
}

/// What a machine is used through, where its file does not say.
fn usual_backend(kind: MachineKind, vendor: Vendor) -> &'static str {
    match (kind, vendor) {
        (MachineKind::Cpu, _) => "CPU",
        (MachineKind::AppleUnified, _) | (_, Vendor::Apple) => "Metal",
        (MachineKind::NvidiaUnified, _) | (_, Vendor::Nvidia) => "CUDA",
        _ => "Vulkan",
    }
}

/// A machine as someone has it: a profile with one size of memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Machine {
    /// The figures.
    #[serde(serialize_with = "whole")]
    pub profile: Arc<HardwareProfile>,
    /// The memory of one device.
    pub memory: MemoryOption,
    /// Equal devices side by side, as in `2x RTX 3090`.
    pub devices: u32,
    /// Nominal bandwidth of one device in GB/s: the profile's, or what [`Catalogue::identify`] was told.
    pub bandwidth_gbs: f64,
}

fn whole<S: Serializer>(profile: &Arc<HardwareProfile>, s: S) -> std::result::Result<S::Ok, S::Error> {
    profile.as_ref().serialize(s)
}

impl Machine {
    /// The name to show: name, variant where the name alone means another one, memory.
    pub fn label(&self) -> String {
        let p = &self.profile;
        let count = if self.devices > 1 { format!("{}x ", self.devices) } else { String::new() };
        let variant = if p.usual || p.variant.is_empty() { String::new() } else { format!(" {}", p.variant) };
        let size = format!("{} GB", self.memory.gb);
        let memory = if p.name.contains(&size.replace(' ', "")) { String::new() } else { format!(" {size}") };
        format!("{count}{}{variant}{memory}", p.name)
    }

    /// The name in lower case by which [`Catalogue::find`] finds it again: `m2-ultra-76-64gb`.
    pub fn id(&self) -> String {
        let count = if self.devices > 1 { format!("{}x-", self.devices) } else { String::new() };
        format!("{count}{}-{}gb", self.profile.id, self.memory.gb)
    }
}

/// All machines that are known.
#[derive(Debug, Clone)]
pub struct Catalogue {
    profiles: Vec<Arc<HardwareProfile>>,
}

static BUILTIN: LazyLock<Result<Catalogue>> = LazyLock::new(|| {
    let parse = |&(id, text): &(&str, &str)| {
        HardwareProfile::parse(Path::new(&format!("configs/hardware/{id}.toml")), text).map(Arc::new)
    };
    Ok(Catalogue { profiles: PROFILES.iter().map(parse).collect::<Result<_>>()? })
});

impl Catalogue {
    /// The machines that come with the program.
    pub fn builtin() -> Self {
        // A test parses every one of the embedded files.
        BUILTIN.as_ref().expect("the embedded profiles are sound").clone()
    }

    /// The profiles, those of the program first.
    pub fn profiles(&self) -> &[Arc<HardwareProfile>] {
        &self.profiles
    }

    /// Adds a machine; it takes the place of one with the same id.
    pub fn add(&mut self, profile: HardwareProfile) {
        self.profiles.retain(|p| p.id != profile.id);
        self.profiles.push(Arc::new(profile));
    }

    /// Adds every `.toml` file of a folder.
    ///
    /// # Errors
    /// [`Error::Io`]; as [`HardwareProfile::parse`]; [`Error::File`] where there is none.
    pub fn add_folder(&mut self, folder: &Path) -> Result<()> {
        let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
        let mut files =
            entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| Error::io(folder, e))).collect::<Result<Vec<_>>>()?;
        files.retain(|file| file.extension() == Some(OsStr::new("toml")));
        if files.is_empty() {
            return Err(Error::file(folder, "has no .toml files; configs/hardware shows what one looks like"));
        }
        files.sort();
        for file in files {
            self.add(read(&file)?);
        }
        Ok(())
    }

    /// Adds the machine of a file.
    ///
    /// # Errors
    /// [`Error::Io`]; as [`HardwareProfile::parse`].
    pub fn add_file(&mut self, file: &Path) -> Result<()> {
        self.add(read(file)?);
        Ok(())
    }

    /// The machine of a name: an id, a name or an alias, with the size of memory where there are several (the largest, where
    /// it is not given), in any spelling (`m2-ultra-64gb`, `Apple M2 Ultra 64GB`, `2x RTX 3090`); or the path of a `.toml`
    /// file, after which ` 64GB` may stand.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the closest names; [`Error::Option`] for a size of memory that the machine does not come with;
    /// of a file as [`HardwareProfile::parse`].
    pub fn find(&self, name: &str) -> Result<Machine> {
        names::find(&self.profiles, name)
    }

    /// The machine of a row of measurements: its name, what tells it from others of that name (free text), its memory and
    /// nominal bandwidth. The row's own memory and bandwidth hold, where it gives them.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the closest names; [`Error::Option`] for figures that are negative or absurd.
    pub fn identify(&self, hardware: &str, variant: &str, memory_gb: Option<f64>, bandwidth_gbs: Option<f64>) -> Result<Machine> {
        names::identify(&self.profiles, hardware, variant, memory_gb, bandwidth_gbs)
    }
}

/// Reads the file of one machine.
fn read(path: &Path) -> Result<HardwareProfile> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    HardwareProfile::parse(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: &str = "name = \"Mine\"\nkind = \"discrete-gpu\"\nbandwidth_gbs = 500\nmemory = [{ gb = 16 }]\n";

    fn check_refused(from: &str, to: &str, expected: &[&str]) {
        let text = MINE.replace(from, to);
        assert_ne!(text, MINE, "{from}");
        let error = HardwareProfile::parse(Path::new("mine.toml"), &text).unwrap_err().to_string();
        assert!(error.starts_with("mine.toml: ") && expected.iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn every_profile_of_the_folder_is_in_the_table_and_sound() {
        let mut names: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/hardware"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let table: Vec<&str> = PROFILES.iter().map(|(id, _)| *id).collect();
        assert_eq!(names, table, "PROFILES and configs/hardware differ");
        for profile in Catalogue::builtin().profiles() {
            let id = &profile.id;
            assert!(!profile.source.is_empty() && !profile.evidence.is_empty(), "{id} has no source");
            assert!(!profile.generation.is_empty() && profile.released.is_some() && profile.compute_units.is_some(), "{id}");
            assert!(profile.fp32_tflops.is_some() || profile.fp16_tflops.is_some(), "{id} has no rate");
            for option in &profile.memory {
                assert!(option.usable_gib() < option.gb && option.usable_gib() <= option.raised_gib(), "{id} {option:?}");
            }
        }
    }

    #[test]
    fn a_file_of_ones_own_needs_four_keys() {
        let mine = HardwareProfile::parse(Path::new("dir/mine.toml"), MINE).unwrap();
        assert_eq!((mine.id.as_str(), mine.backends[0].as_str(), mine.memory[0].usable_gib()), ("mine", "Vulkan", 15.0));
        check_refused("gb = 16", "gb = 16, usable_gib = 17", &["memory.usable_gib: is 17", "at most at 16"]);
        let text = MINE.replace("gb = 16", "gb = 16, usable_gib = 12, raised_gib = 14");
        let limit = &HardwareProfile::parse(Path::new("mine.toml"), &text).unwrap().memory[0].limits[0];
        assert_eq!((limit.usable_gib, limit.raised_gib), (12.0, Some(14.0)));
    }

    #[test]
    fn missing_negative_and_absurd_figures_are_refused() {
        check_refused("bandwidth_gbs = 500\n", "", &["bandwidth_gbs: is missing", "GB/s"]);
        check_refused("= 500", "= -500", &["bandwidth_gbs: is -500", "above 0"]);
        check_refused("= 500", "= 0", &["bandwidth_gbs: is 0"]);
        check_refused("= 500", "= nan", &["bandwidth_gbs: is NaN"]);
        check_refused("= 500", "= inf", &["bandwidth_gbs: is inf"]);
        check_refused("= 500", "= 1e-9", &["bandwidth_gbs: is 0.000000001", "at least 0.001"]);
        check_refused("= 500", "= 500\nfp32_tflops = 1e-300", &["fp32_tflops", "at least 0.001"]);
        check_refused("= 500", "= 1e9", &["bandwidth_gbs: is 1000000000", "200000"]);
        check_refused("= 500", "= 500\nbandwidth_measured_gbs = 5000", &["bandwidth_measured_gbs: is 5000", "1000"]);
        check_refused("= 500", "= \"fast\"", &["bandwidth_gbs", "line 3"]);
        check_refused("= 500", "= 500\nfp16_tflops = -1", &["fp16_tflops: is -1"]);
        check_refused("= 500", "= 500\nreleased = 25", &["released: is 25"]);
        check_refused("= 500", "= 500\nbandwith = 3", &["bandwith", "bandwidth_gbs"]);
        check_refused("gb = 16", "gb = -16", &["memory.gb: is -16"]);
        check_refused("[{ gb = 16 }]", "[]", &["memory: is empty"]);
        check_refused("discrete-gpu", "gpu", &["kind", "discrete-gpu"]);
        check_refused("\"Mine\"", "\" \"", &["name: is empty"]);
    }

    #[test]
    fn folders_of_ones_own_machines_join_the_known_ones() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalogue = Catalogue::builtin();
        let error = catalogue.add_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no .toml files"), "{error}");
        std::fs::write(folder.path().join("mine.toml"), MINE).unwrap();
        std::fs::write(folder.path().join("rtx-4090.toml"), MINE.replace("Mine", "RTX 4090")).unwrap();
        catalogue.add_folder(folder.path()).unwrap();
        assert_eq!(catalogue.find("mine").unwrap().bandwidth_gbs, 500.0);
        assert_eq!(catalogue.find("RTX 4090").unwrap().bandwidth_gbs, 500.0, "a file takes the place of a known machine");
        let path = folder.path().join("mine.toml");
        assert_eq!(Catalogue::builtin().find(path.to_str().unwrap()).unwrap().profile.name, "Mine");
        std::fs::write(folder.path().join("bad.toml"), "name = 1").unwrap();
        assert!(catalogue.add_folder(folder.path()).unwrap_err().to_string().contains("bad.toml"));
    }
}
