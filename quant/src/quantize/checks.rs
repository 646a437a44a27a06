//! What is refused before anything is written: plans for other models, outputs that would replace what they are made from or each
//! other.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::output::Output;
use super::parts::parts;
use crate::atomic_file::directory_of;
use crate::checkpoint::Source;
use crate::gguf::MAGIC;
use crate::tensor::Tensor;
use crate::{DType, Error, Result};

/// Every entry of the plan is for a tensor of the source, as it is there, and no tensor is meant twice.
pub(super) fn check_plan(source: &dyn Source, output: &Output) -> Result<()> {
    let all = source.kept_tensors().iter().chain(source.tensors());
    let tensors: HashMap<(&str, DType), &Tensor> = all.map(|t| ((t.name.as_str(), t.dtype), t)).collect();
    for entry in &output.plan.entries {
        let same = |t: &&&Tensor| t.cols() == entry.shape[0] && t.rows() == entry.shape[1..].iter().product::<usize>();
        if tensors.get(&(entry.source(), entry.from)).filter(same).is_none() {
            let what = format!("the plan for {} is not one for this model", output.path.display());
            return Err(Error::tensor(source.path(), &entry.tensor, what));
        }
    }
    Ok(())
}

/// Whether there is nothing at `place`, or an empty or a GGUF file.
fn may_be_replaced(place: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    match std::fs::metadata(place) {
        Err(_) => true,
        Ok(about) if !about.is_file() => false,
        Ok(about) if about.len() == 0 => true,
        Ok(_) => File::open(place).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *MAGIC,
    }
}

/// Neither may two outputs be one file, nor may an output replace what it is made from, or anything but a GGUF file.
pub(super) fn refuse_same_paths(source: &dyn Source, outputs: &[Output]) -> Result<()> {
    let matrices = outputs.iter().filter_map(|output| output.imatrix.as_ref()).map(|matrix| matrix.path());
    let inputs: Vec<PathBuf> =
        source.files().iter().map(PathBuf::as_path).chain(matrices).filter_map(|file| file.canonicalize().ok()).collect();
    let mut places = HashSet::new();
    for output in outputs {
        for part in parts(output)? {
            // The file need not exist yet, but its folder does.
            let folder = directory_of(&part.path);
            let place = folder.canonicalize().map_err(|e| Error::io(folder, e))?.join(part.path.file_name().unwrap_or_default());
            if inputs.iter().any(|input| place.canonicalize().is_ok_and(|place| place == *input)) {
                return Err(Error::file(&part.path, "is a file to be read for this; write to another name"));
            }
            if !may_be_replaced(&place) {
                return Err(Error::file(&part.path, "is there and no GGUF file; remove it or write to another name"));
            }
            if !places.insert(place) {
                return Err(Error::file(&part.path, "is asked for twice; give every output a name of its own"));
            }
        }
    }
    Ok(())
}
