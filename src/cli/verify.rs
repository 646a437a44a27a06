//! `bitworth verify`: whether a GGUF file derives from a model.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bitworth_quant::Imatrix;
use bitworth_quant::checkpoint::Container;
use bitworth_quant::quantize::{Match, TensorMatch, verify};
use clap::Args;
use serde_json::json;

use super::session::Session;
use super::{Outcome, output};
use bitworth_measure::models;

/// Say whether a GGUF file's tensors are what a model gives in the file's own types.
///
/// Exit code 1 where one is not, is of no tensor of the model, or is missing.
#[derive(Args)]
pub struct VerifyArgs {
    /// GGUF file.
    file: String,
    /// The model it is to derive from: Hugging Face directory, GGUF file or hf:OWNER/NAME.
    #[arg(long, value_name = "MODEL")]
    base: String,
    /// The importance matrix it was made with.
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
}

/// The key that files made with `quantize --fit` have.
const FITTED: &str = "bitworth.fit.version";

pub fn run(args: &VerifyArgs, session: &Session) -> Result<Outcome> {
    let path = models::locate(&args.file, session.watch())?;
    if path.is_dir() {
        bail!("{}: is a folder; give a GGUF file", path.display());
    }
    let file = Container::open(&path)?;
    let base = models::open_to_quantize(&args.base, session.watch())?;
    let imatrix = args.imatrix.as_deref().map(Imatrix::open).transpose()?;
    let watch = session.watch();
    let found = verify(&file, base.as_ref(), imatrix.as_ref(), watch.stop, watch.progress)?;
    let count = |kind: Match| found.iter().filter(|t| t.found == kind).count();
    let failed = found.iter().filter(|t| !t.found.holds()).count();
    let document = json!({
        "file": file.path(),
        "base": base.name(),
        "holds": failed == 0,
        "same": count(Match::Same),
        "rounding": count(Match::Rounding),
        "failed": failed,
        "tensors": found,
    });
    session.print(&document, || {
        let shown = found.iter().filter(|t| t.found != Match::Same);
        let lines: String = shown.map(line).collect();
        let rounding = match count(Match::Rounding) {
            0 => String::new(),
            n => format!(", {n} equal but for rounding (another compiler's or processor's fused multiply-add)"),
        };
        let failed = if failed > 0 { format!(", {failed} do not hold") } else { String::new() };
        format!("{lines}{} of {} tensors are byte for byte the same{rounding}{failed}\n", count(Match::Same), found.len())
    })?;
    if failed == 0 {
        return Ok(Outcome::Done);
    }
    if file.metadata().get(FITTED).is_some() {
        session.note(
            "the file says that it was made with --fit: its codes follow a text, so bytes cannot show that it derives from the \
             model; errors of fitted tensors are a little above those of plain ones, errors of other weights many times them",
        );
    }
    Ok(Outcome::GateFailed(format!("{}: {failed} tensors are not what {} gives", path.display(), args.base)))
}

fn line(t: &TensorMatch) -> String {
    let (name, dtype) = (output::tame(&t.tensor).replace('\n', "\\n"), t.dtype.name());
    format!("{name:40} {dtype:6}  {}\n", t.sentence())
}
