//! A Hugging Face checkpoint directory: `model.safetensors`, or `model.safetensors.index.json` and its shards, or numbered
//! shards alone, mapped into memory. Gives the tensors as they are, under their own names. What is absent: GGUF names,
//! permutations and shapes (see `convert`), and decoding (see `formats`).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::{Dtype as HfDtype, SafeTensors};
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::mmap::{FileMap, Span, map_file};
use crate::packing::{Fp4, Packed};
use crate::{DType, Error, Result, kind};

/// File name of an unsharded checkpoint, and the beginning of the names of shards.
const SINGLE: &str = "model.safetensors";
/// File name of the list of shards.
const INDEX: &str = "model.safetensors.index.json";
/// A list of shards larger than this is not believed (those of the largest public models have some 10 MB).
const MAX_INDEX_BYTES: u64 = 256 << 20;
/// The length of the header stands in the first eight bytes.
const LENGTH_BYTES: usize = 8;

/// One tensor of a checkpoint.
#[derive(Clone)]
pub struct HfTensor {
    /// Its name, as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Shape in the order of the framework: rows first, row length last. Empty for a scalar.
    pub shape: Vec<usize>,
    /// The file it lies in.
    pub file: Arc<Path>,
    /// That file, mapped.
    pub map: Arc<FileMap>,
    /// Where its bytes are in the map.
    pub range: std::ops::Range<usize>,
    stored: HfDtype,
    /// Where it is made from several tensors of the files; the fields above are then those of the first.
    packed: Option<Arc<dyn Packed>>,
    /// Bytes of all tensors it is made from.
    stored_bytes: u64,
}

impl HfTensor {
    /// Its encoding as a GGUF type.
    ///
    /// # Errors
    /// [`Error::Tensor`] for anything but F32, F16 and BF16. It comes here and not on opening, because checkpoints carry
    /// buffers of other types that no conversion uses (attention masks, position ids).
    pub fn dtype(&self) -> Result<DType> {
        if let Some(packed) = &self.packed {
            // Blocks that GGUF has are as good as floats; with a factor besides they are not.
            return Ok(packed.fp4().map(Fp4::dtype).filter(|&dtype| dtype == DType::MXFP4).unwrap_or(DType::F32));
        }
        match self.stored {
            HfDtype::F32 => Ok(DType::F32),
            HfDtype::F16 => Ok(DType::F16),
            HfDtype::BF16 => Ok(DType::BF16),
            other => {
                let what = format!(
                    "its type {other} is not supported without the scales that belong to it; F32, F16 and BF16 are, so convert \
                     the checkpoint to one of them"
                );
                Err(Error::tensor(&self.file, &self.name, what))
            }
        }
    }

    /// The type as the file names it (`BF16`, `U8`, ...), for the encodings that [`Self::dtype`] refuses.
    pub fn stored_dtype(&self) -> String {
        self.stored.to_string()
    }

    /// A weight that is made from several tensors, of which `first` is one.
    pub(crate) fn packed(first: &Self, name: String, shape: Vec<usize>, packed: Arc<dyn Packed>, stored_bytes: u64) -> Self {
        Self { name, shape, packed: Some(packed), stored_bytes, ..first.clone() }
    }

    /// Bytes of the tensors that it is made from, or its own.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// What it is made from, where that are several tensors.
    pub(crate) fn packing(&self) -> Option<&Arc<dyn Packed>> {
        self.packed.as_ref()
    }

    /// Whether it is made from several tensors.
    pub(crate) fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// Its bytes as a part of the file.
    pub(crate) fn span(&self) -> Span {
        Span { map: Arc::clone(&self.map), range: self.range.clone() }
    }

    /// Its bytes, row-major, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }
}

/// All tensors of a checkpoint.
pub struct HfTensors {
    path: PathBuf,
    files: Vec<Arc<Path>>,
    tensors: Vec<HfTensor>,
    /// Names of those that an adapter has changed.
    adapted: HashSet<String>,
}

impl HfTensors {
    /// Opens a checkpoint directory, or a single `.safetensors` file. The tensors come in the order in which llama.cpp's
    /// converter meets them: shards by file name, within a shard tensors by name.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::File`] for files that are missing, cut short, or whose header lies; [`Error::Tensor`] for
    /// a tensor that is in two shards, or in the index but in no shard, or the other way round.
    pub fn open(path: &Path) -> Result<Self> {
        let index = path.join(INDEX);
        let (names, listed) = if path.is_file() {
            (vec![path.to_owned()], None)
        } else if index.is_file() {
            let listed = read_index(&index)?;
            let single = path.join(SINGLE);
            if single.is_file() && listed.iter().all(|entry| entry.shard != SINGLE) {
                let what = format!("stands beside {INDEX}, which names other files; remove the one that is left over");
                return Err(Error::file(single, what));
            }
            (shard_paths(path, &index, &listed)?, Some(listed))
        } else if path.join(SINGLE).is_file() {
            (vec![path.join(SINGLE)], None)
        } else if path.is_dir() {
            (unlisted_shards(path)?, None)
        } else {
            return Err(Error::file(path, "no such file or directory"));
        };

        let mut tensors = Vec::new();
        for name in &names {
            tensors.extend(read_file(name)?);
        }
        refuse_duplicates(&tensors)?;
        if let Some(listed) = listed {
            compare_with_index(&index, &listed, &tensors)?;
        }
        let files = names.into_iter().map(Arc::from).collect();
        Ok(Self { path: path.to_owned(), files, tensors, adapted: HashSet::new() })
    }

    /// The directory or file it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files, in order.
    pub fn files(&self) -> &[Arc<Path>] {
        &self.files
    }

    /// All tensors, in the converter's order.
    pub fn tensors(&self) -> &[HfTensor] {
        &self.tensors
    }

    /// The same files with other tensors.
    pub(crate) fn with_tensors(self, tensors: Vec<HfTensor>) -> Self {
        Self { tensors, ..self }
    }

    /// And with more files.
    pub(crate) fn with_files(mut self, files: &[Arc<Path>]) -> Self {
        self.files.extend_from_slice(files);
        self
    }

    /// And with these tensors changed by an adapter.
    pub(crate) fn with_adapted(mut self, names: Vec<String>) -> Self {
        self.adapted.extend(names);
        self
    }

    /// Whether an adapter has changed a tensor.
    pub(crate) fn is_adapted(&self, name: &str) -> bool {
        self.adapted.contains(name)
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&HfTensor> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

/// The tensors of one file, by name. The header's length, its JSON, the offsets (no gaps, no overlaps, nothing past the
/// end) and the sizes are checked by the `safetensors` crate.
fn read_file(path: &Path) -> Result<Vec<HfTensor>> {
    let map = map_file(path)?;
    if let Some(what) = kind::of(&map) {
        return Err(Error::file(path, what));
    }
    let (header_bytes, header) = SafeTensors::read_metadata(&map)
        .map_err(|e| Error::file(path, format!("not a whole safetensors file: {e}; fetch it again")))?;
    let data = LENGTH_BYTES + header_bytes;
    let file: Arc<Path> = Arc::from(path);
    let mut tensors: Vec<HfTensor> = header
        .tensors()
        .into_iter()
        .map(|(name, info)| HfTensor {
            name,
            shape: info.shape.clone(),
            file: Arc::clone(&file),
            map: Arc::clone(&map),
            range: data + info.data_offsets.0..data + info.data_offsets.1,
            stored: info.dtype,
            packed: None,
            stored_bytes: (info.data_offsets.1 - info.data_offsets.0) as u64,
        })
        .collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

fn refuse_duplicates(tensors: &[HfTensor]) -> Result<()> {
    let mut seen = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|t| !seen.insert(t.name.as_str())) {
        Some(t) => Err(Error::tensor(&t.file, &t.name, "is in an earlier shard too; the shards do not belong together")),
        None => Ok(()),
    }
}

/// One entry of the index: a tensor and the name of its shard.
struct Listed {
    tensor: String,
    shard: String,
}

/// The `weight_map` of an index. Read as pairs, so that a tensor listed twice is seen.
#[derive(serde::Deserialize)]
struct Index {
    #[serde(deserialize_with = "pairs")]
    weight_map: Vec<Listed>,
}

fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Listed>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<Listed>;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("a map from tensor names to file names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut listed = Vec::new();
            while let Some((tensor, shard)) = map.next_entry()? {
                listed.push(Listed { tensor, shard });
            }
            Ok(listed)
        }
    }
    deserializer.deserialize_map(Pairs)
}

fn read_index(path: &Path) -> Result<Vec<Listed>> {
    let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if size > MAX_INDEX_BYTES {
        return Err(Error::file(path, format!("has {size} bytes, more than any index of shards; fetch it again")));
    }
    let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    if let Some(what) = kind::of(&text) {
        return Err(Error::file(path, what));
    }
    let index: Index = serde_json::from_slice(&text)
        .map_err(|e| Error::file(path, format!("is not an index of shards: {e}; fetch it again")))?;
    let mut seen = HashSet::with_capacity(index.weight_map.len());
    match index.weight_map.iter().find(|l| !seen.insert(l.tensor.as_str())) {
        Some(twice) => Err(Error::tensor(path, &twice.tensor, "is listed twice")),
        None => Ok(index.weight_map),
    }
}

/// The shards the index names, sorted, each once, all of them there.
fn shard_paths(directory: &Path, index: &Path, listed: &[Listed]) -> Result<Vec<PathBuf>> {
    let mut names: Vec<&str> = listed.iter().map(|l| l.shard.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut paths = Vec::with_capacity(names.len());
    for name in names {
        // An index is a stranger's file: it must not lead us out of its directory.
        if Path::new(name).file_name() != Some(name.as_ref()) || name.contains(['/', '\\']) {
            return Err(Error::file(index, format!("names the shard {name:?}, which is not a plain file name")));
        }
        let path = directory.join(name);
        if !path.is_file() {
            return Err(Error::file(&path, format!("this shard, named by {INDEX}, is missing; fetch it")));
        }
        paths.push(path);
    }
    if paths.is_empty() {
        return Err(Error::file(index, "names no shards; fetch it again"));
    }
    Ok(paths)
}

/// The shards of a directory without an index, as llama.cpp's converter takes them (`get_model_part_names` in conversion/base.py,
/// b11434): `model*.safetensors` by name. Their numbers say whether all are there.
fn unlisted_shards(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).map_err(|e| Error::io(directory, e))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(directory, e))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    let shards: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| name.starts_with("model") && name.ends_with(".safetensors")).collect();
    if shards.is_empty() {
        return Err(Error::file(directory, without_weights(&names)));
    }
    let numbered: Vec<(u32, u32)> = shards.iter().filter_map(|name| shard_number(name)).collect();
    let Some(&(_, count)) = numbered.first() else {
        return Ok(shards.into_iter().map(|name| directory.join(name)).collect());
    };
    if numbered.len() != shards.len() || numbered.iter().any(|&(_, other)| other != count) {
        let what = format!("has shards of more than one model and no {INDEX} that says which belong together; fetch that");
        return Err(Error::file(directory, what));
    }
    let missing: Vec<String> =
        (1..=count).filter(|number| !numbered.contains(&(*number, count))).take(8).map(|number| number.to_string()).collect();
    if !missing.is_empty() {
        let what = format!(
            "has {} of {count} shards and no {INDEX}; missing are number {}{}; fetch them",
            numbered.len(),
            missing.join(", "),
            if numbered.len() + missing.len() < count as usize { ", ..." } else { "" }
        );
        return Err(Error::file(directory, what));
    }
    Ok(shards.into_iter().map(|name| directory.join(name)).collect())
}

/// The number of `model-00001-of-00003.safetensors`, and how many there are.
fn shard_number(name: &str) -> Option<(u32, u32)> {
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (_, number) = rest.rsplit_once('-')?;
    let (number, count) = (number.parse().ok()?, count.parse().ok()?);
    // More files than any model has would only make a long list.
    (1..=count).contains(&number).then_some((number, count)).filter(|&(_, count)| count <= 1 << 16)
}

/// What to say of a directory that has other files than these weights.
fn without_weights(names: &[String]) -> String {
    let any = |fits: &dyn Fn(&str) -> bool| names.iter().any(|name| fits(name));
    let remedy = if any(&|name| name == "adapter_config.json") {
        "it is a LoRA adapter; give the model that it was trained on, and merge the adapter while converting"
    } else if any(&|name| name.ends_with(".gguf")) {
        "it has GGUF files; give the path of one of them"
    } else if any(&|name| name.starts_with("consolidated") && name.ends_with(".safetensors")) {
        "its weights are in Mistral's own form; fetch the files of the Hugging Face form too (model*.safetensors)"
    } else if any(&|name| name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth")) {
        "its weights are in PyTorch's form; save the model as safetensors with transformers \
         (AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR))"
    } else {
        "give the directory of a Hugging Face checkpoint in safetensors form"
    };
    format!("holds neither {SINGLE} nor {INDEX} nor shards; {remedy}")
}

/// Every listed tensor is in the shard the index gives for it, and every tensor of a shard is listed.
fn compare_with_index(index: &Path, listed: &[Listed], tensors: &[HfTensor]) -> Result<()> {
    let found: HashSet<(&str, &std::ffi::OsStr)> =
        tensors.iter().map(|t| (t.name.as_str(), t.file.file_name().unwrap_or_default())).collect();
    if let Some(l) = listed.iter().find(|l| !found.contains(&(l.tensor.as_str(), l.shard.as_ref()))) {
        let what = format!("the index puts it into {}, where it is not; fetch index and shards of the same revision", l.shard);
        return Err(Error::tensor(index, &l.tensor, what));
    }
    let names: HashSet<&str> = listed.iter().map(|l| l.tensor.as_str()).collect();
    if let Some(t) = tensors.iter().find(|t| !names.contains(t.name.as_str())) {
        let what = format!("is not in {INDEX}; fetch index and shards of the same revision");
        return Err(Error::tensor(&t.file, &t.name, what));
    }
    Ok(())
}
