//! Which machine a name means. A name is a set of words; a machine is meant where one of its own names is among them and the
//! rest is known of it too (its variant, another of its names) or says nothing (`GPU`).
//!
//! Absent: guessing. What fits no machine is an error that gives the closest names.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use bitworth_quant::{Error, Result};
use regex::Regex;

use super::super::settings::{COLUMN, HARDWARE};
use super::{HardwareProfile, MAX_BANDWIDTH_GBS, MAX_MEMORY_GB, Machine, MachineKind, MemoryOption, usable};
use bitworth_quant::spelling::{closest, words};

/// Words that tell no two machines apart.
const SILENT: &[&str] = &[
    "apple",
    "nvidia",
    "amd",
    "intel",
    "geforce",
    "radeon",
    "instinct",
    "tesla",
    "quadro",
    "gpu",
    "core",
    "cores",
    "graphics",
    "processor",
    "with",
    "unstated",
    "class",
    "cu",
    "sm",
    "edition",
];
/// How many names an error gives.
const CLOSEST: usize = 6;

static MEMORY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)\b(\d+(?:\.\d+)?)[ -]?gi?b\b").expect("a constant pattern"));
static COUNT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)^\s*(\d+)\s*x[ -]+").expect("a constant pattern"));
static ASIDE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\(([^)]*)\)").expect("a constant pattern"));

/// A name taken apart.
struct Query {
    words: Vec<String>,
    memory_gb: Option<f64>,
}

impl Query {
    fn new(text: &str) -> Self {
        let memory_gb = MEMORY.captures(text).and_then(|c| c[1].parse().ok());
        let mut words = words(&MEMORY.replace_all(text, " "));
        words.retain(|word| !SILENT.contains(&word.as_str()));
        Self { words, memory_gb }
    }
}

fn is_within(part: &[String], whole: &[String]) -> bool {
    !part.is_empty() && part.iter().all(|word| whole.contains(word))
}

/// Words of the longest of a machine's names that the query has in full, if the machine accounts for all its other words.
fn fit(profile: &HardwareProfile, query: &Query) -> Option<usize> {
    let names: Vec<Vec<String>> = profile.names().map(|name| Query::new(name).words).collect();
    let best = names.iter().filter(|name| is_within(name, &query.words)).map(Vec::len).max()?;
    let known = |word: &String| names.iter().flatten().chain(&words(&profile.variant)).any(|w| w == word);
    query.words.iter().all(known).then_some(best)
}

/// The profiles that a name fits best; none where it fits none.
fn candidates<'a>(profiles: &'a [Arc<HardwareProfile>], query: &Query) -> Vec<&'a Arc<HardwareProfile>> {
    let fits: Vec<_> = profiles.iter().filter_map(|profile| Some((fit(profile, query)?, profile))).collect();
    let best = fits.iter().map(|(words, _)| *words).max();
    fits.into_iter().filter(|(words, _)| Some(*words) == best).map(|(_, profile)| profile).collect()
}

impl HardwareProfile {
    /// Everything it is called by.
    fn names(&self) -> impl Iterator<Item = &str> {
        [self.id.as_str(), self.name.as_str()].into_iter().chain(self.aliases.iter().map(String::as_str))
    }

    fn option(&self, gb: f64) -> Option<&MemoryOption> {
        self.memory.iter().find(|option| option.gb == gb)
    }

    /// The memory of that size. Sockets take what one puts in, between the least and the most.
    fn memory_of(&self, gb: f64) -> Result<MemoryOption> {
        if let Some(option) = self.option(gb) {
            return Ok(option.clone());
        }
        let range = self.memory[0].gb..=self.memory[self.memory.len() - 1].gb;
        if self.kind == MachineKind::Cpu && range.contains(&gb) {
            return Ok(MemoryOption { gb, limits: usable::limits(self.kind, gb) });
        }
        let sizes: Vec<String> = self.memory.iter().map(|option| option.gb.to_string()).collect();
        let what = format!("{} comes with {} GB, not with {gb}; name one of these", self.name, sizes.join(", "));
        Err(Error::option(HARDWARE, format!("{} {gb}GB", self.id), what))
    }

    fn largest(&self) -> MemoryOption {
        self.memory[self.memory.len() - 1].clone()
    }
}

fn unknown(profiles: &[Arc<HardwareProfile>], name: &str) -> Error {
    let names = profiles.iter().flat_map(|profile| profile.names().map(|name| (name, profile.id.as_str())));
    let names: Vec<(&str, &str)> = names.collect();
    let mut ids: Vec<&str> = Vec::new();
    for close in closest(name, names.iter().map(|(name, _)| *name), names.len()) {
        let Some((_, id)) = names.iter().find(|(name, _)| *name == close) else { continue };
        if !ids.contains(id) {
            ids.push(id);
        }
        if ids.len() == CLOSEST {
            break;
        }
    }
    Error::unknown("machine", name, ids.into_iter().chain(["...", "a .toml file like those of configs/hardware"]))
}

/// See [`super::Catalogue::find`].
pub(super) fn find(profiles: &[Arc<HardwareProfile>], name: &str) -> Result<Machine> {
    if let Some((path, rest)) = split_path(name) {
        let profile = Arc::new(super::read(path)?);
        let memory = Query::new(rest).memory_gb.map_or_else(|| Ok(profile.largest()), |gb| profile.memory_of(gb))?;
        return Ok(machine(&profile, memory, 1));
    }
    let (devices, query, found) = counted(name, |text| {
        let query = Query::new(text);
        let found = candidates(profiles, &query);
        (!found.is_empty()).then_some((query, found))
    })
    .ok_or_else(|| unknown(profiles, name))?;
    let has_memory = |p: &&&Arc<HardwareProfile>| query.memory_gb.is_none_or(|gb| p.memory_of(gb).is_ok());
    let fitting: Vec<_> = found.iter().filter(has_memory).collect();
    let profile = match fitting[..] {
        [] => found[0],
        [one] => one,
        _ => {
            let usual = fitting.iter().filter(|p| p.usual);
            let largest = usual.min_by(|a, b| b.largest().gb.total_cmp(&a.largest().gb));
            largest.ok_or_else(|| ambiguous(name, &found))?
        }
    };
    let memory = query.memory_gb.map_or_else(|| Ok(profile.largest()), |gb| profile.memory_of(gb))?;
    Ok(machine(profile, memory, devices))
}

/// The path of a `.toml` file that a name begins with, and what stands after it.
fn split_path(name: &str) -> Option<(&Path, &str)> {
    let end = name.find(".toml")? + ".toml".len();
    let (path, rest) = name.split_at(end);
    Some((Path::new(path), rest))
}

/// Tries a name as it is; then, where it begins with `2x`, as that many of the machine it names then.
fn counted<Q, F>(name: &str, look_up: impl Fn(&str) -> Option<(Q, F)>) -> Option<(u32, Q, F)> {
    if let Some((query, found)) = look_up(name) {
        return Some((1, query, found));
    }
    let count = COUNT.captures(name)?;
    let devices = count[1].parse().ok().filter(|n| (1..=1024).contains(n))?;
    let (query, found) = look_up(&name[count[0].len()..])?;
    Some((devices, query, found))
}

fn ambiguous(name: &str, found: &[&Arc<HardwareProfile>]) -> Error {
    Error::unknown("machine", name, found.iter().map(|profile| profile.id.as_str()))
}

fn machine(profile: &Arc<HardwareProfile>, memory: MemoryOption, devices: u32) -> Machine {
    Machine { profile: Arc::clone(profile), memory, devices, bandwidth_gbs: profile.bandwidth_gbs }
}

/// See [`super::Catalogue::identify`].
pub(super) fn identify(
    profiles: &[Arc<HardwareProfile>],
    hardware: &str,
    variant: &str,
    memory_gb: Option<f64>,
    bandwidth_gbs: Option<f64>,
) -> Result<Machine> {
    for (key, value, max) in [("memory_gb", memory_gb, MAX_MEMORY_GB), ("bandwidth_gbs", bandwidth_gbs, MAX_BANDWIDTH_GBS)] {
        if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0 && *v <= max)) {
            return Err(Error::option(COLUMN, key, format!("is {value}, but must lie above 0 and at most at {max}")));
        }
    }
    let (devices, query, found) = counted(hardware, |text| {
        // What stands in brackets may be another name of the machine, or a remark.
        let without = ASIDE.replace_all(text, " ").into_owned();
        let aside = ASIDE.captures(text).map(|c| c[1].to_owned());
        let with_variant = format!("{without} {variant}");
        [Some(text.to_owned()), Some(with_variant), Some(without), aside].into_iter().flatten().find_map(|text: String| {
            let query = Query::new(&text);
            let found = candidates(profiles, &query);
            (!found.is_empty()).then_some((query, found))
        })
    })
    .ok_or_else(|| unknown(profiles, hardware))?;
    let memory_gb = memory_gb.or(query.memory_gb).or(Query::new(variant).memory_gb);
    let told = words(variant);
    let off = |p: &HardwareProfile| {
        let shared = words(&p.variant).iter().filter(|word| told.contains(word)).count();
        let bandwidth = bandwidth_gbs.map_or(0.0, |b| (b / p.bandwidth_gbs).ln().abs());
        let memory = memory_gb.is_some_and(|gb| p.memory_of(gb).is_err());
        (std::cmp::Reverse(shared), memory, (bandwidth * 100.0) as u32, !p.usual)
    };
    let profile = *found.iter().min_by_key(|p| off(p)).expect("there is a candidate");
    // A row tells of a machine that there was, with the memory that it had.
    let memory = match memory_gb {
        Some(gb) => profile.option(gb).cloned().unwrap_or_else(|| MemoryOption { gb, limits: usable::limits(profile.kind, gb) }),
        None => profile.largest(),
    };
    let mut placed = machine(profile, memory, devices);
    placed.bandwidth_gbs = bandwidth_gbs.unwrap_or(profile.bandwidth_gbs);
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::super::Catalogue;

    #[test]
    fn machines_are_found_in_free_spelling() {
        let known = Catalogue::builtin();
        let check = |name: &str, expected: &str| {
            let found = known.find(name).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(found.id(), expected, "{name}");
            assert_eq!(known.find(&found.id()).unwrap(), found, "{name}: its id finds it again");
            assert_eq!(known.find(&found.label()).unwrap(), found, "{name}: its label {} finds it again", found.label());
        };
        check("m2-ultra-64gb", "m2-ultra-76-64gb");
        check("Apple M2 Ultra 64GB", "m2-ultra-76-64gb");
        check("m2 ultra 60-core 128 GB", "m2-ultra-60-128gb");
        check("M2 Ultra (76-core GPU)", "m2-ultra-76-192gb");
        check("ryzen-ai-max-395-128gb", "ryzen-ai-max-395-128gb");
        check("AMD Ryzen AI Max+ 395 128GB", "ryzen-ai-max-395-128gb");
        check("Strix Halo 64 GiB", "ryzen-ai-max-395-64gb");
        check("RTX 4090", "rtx-4090-24gb");
        check("rtx4090", "rtx-4090-24gb");
        check("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx-4090-laptop-16gb");
        check("RTX 4080 SUPER", "rtx-4080-super-16gb");
        check("RTX 3080 12GB", "rtx-3080-12gb-12gb");
        check("rtx 3080", "rtx-3080-10gb");
        check("RTX 4060 Ti 8GB", "rtx-4060-ti-8gb");
        check("A100 PCIe 80GB", "a100-pcie-80gb-80gb");
        check("NVIDIA A100 80GB PCIe", "a100-pcie-80gb-80gb");
        check("A100 SXM4 40GB", "a100-sxm-40gb-40gb");
        check("2x RTX 3090", "2x-rtx-3090-24gb");
        check("2x EPYC 9R14", "2x-epyc-9r14-384gb");
        check("Radeon 780M (7940HS) 64GB", "radeon-780m-64gb");
        check("MI50 32GB", "instinct-mi50-32gb");
    }

    #[test]
    fn every_machine_is_found_by_each_of_its_own_ids_and_names() {
        let known = Catalogue::builtin();
        for profile in known.profiles() {
            assert_eq!(known.find(&profile.id).unwrap().profile, *profile);
            for name in profile.names().chain([format!("{} {}", profile.name, profile.variant).as_str()]) {
                let found = known.find(name).unwrap_or_else(|e| panic!("{name} of {}: {e}", profile.id));
                let same = found.profile == *profile || found.profile.names().any(|other| other == name) || found.profile.usual;
                assert!(same, "{name} of {} finds {}", profile.id, found.profile.id);
            }
        }
    }

    #[test]
    fn rows_of_measurements_are_placed() {
        let known = Catalogue::builtin();
        let check = |hardware: &str, variant: &str, gb: Option<f64>, bandwidth: Option<f64>, id: &str, found: (f64, f64)| {
            let machine = known.identify(hardware, variant, gb, bandwidth).unwrap_or_else(|e| panic!("{hardware}: {e}"));
            assert_eq!(machine.profile.id, id, "{hardware} {variant}");
            assert_eq!((machine.memory.gb, machine.bandwidth_gbs), found, "{hardware} {variant}");
        };
        check("Apple M1", "7-core GPU", Some(8.0), Some(68.0), "m1-7", (8.0, 68.0));
        check("Apple M4 Max", "", None, Some(410.0), "m4-max-32", (36.0, 410.0));
        check("Apple M2 Max (CPU)", "pp 8 threads, tg 3-4 threads", Some(64.0), Some(400.0), "m2-max-cpu", (64.0, 400.0));
        check("Apple M3 Pro (CPU)", "8 threads", Some(36.0), None, "m3-pro-18", (36.0, 150.0));
        check("A100 SXM 80GB", "", Some(80.0), Some(2039.0), "a100-sxm-80gb", (80.0, 2039.0));
        check(
            "2x EPYC 9R14 (AWS c7a.metal)",
            "96 threads of 192 cores",
            Some(384.0),
            Some(921.6),
            "2x-epyc-9r14",
            (384.0, 921.6),
        );
        check("unstated (M4 Max 40-core class)", "", None, None, "m4-max-40", (128.0, 546.0));
        check("EPYC 9004", "", Some(576.0), Some(400.0), "epyc-9004", (576.0, 400.0));
        for bad in [-1.0, 0.0, f64::NAN, 1e12] {
            assert!(known.identify("RTX 4090", "", Some(bad), None).is_err());
            assert!(known.identify("RTX 4090", "", None, Some(bad)).is_err());
        }
    }

    #[test]
    fn unknown_machines_and_sizes_are_refused_with_what_there_is() {
        let known = Catalogue::builtin();
        let error = known.find("rtx-4095").unwrap_err().to_string();
        assert!(error.contains("unknown machine \"rtx-4095\"") && error.contains("rtx-4090"), "{error}");
        let error = known.find("m2-ultra-96gb").unwrap_err().to_string();
        assert!(error.contains("comes with 64, 128, 192 GB, not with 96"), "{error}");
        let error = known.find("gpu").unwrap_err().to_string();
        assert!(error.contains("unknown machine"), "{error}");
        assert!(known.find("").is_err() && known.find("nowhere/none.toml").unwrap_err().to_string().contains("nowhere"));
        assert!(known.find("RTX 4090 quantum").is_err(), "what is not known of a machine is not passed over");
    }
}
