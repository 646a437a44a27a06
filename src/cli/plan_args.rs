//! The options of llama-quantize, under its names. Absent: what they mean (see `bitworth_quant::plan`).

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use bitworth_quant::plan::{PlanOptions, TensorType, parse_override_kv, parse_prune_layers};
use bitworth_quant::{DType, Imatrix};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// What becomes which type, beside the recipe.
#[derive(Args)]
pub struct PlanArgs {
    /// Importance matrix, as llama-imatrix writes it (GGUF or .dat).
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Use the importance matrix only for tensors with this in their name; may be repeated.
    #[arg(long, value_name = "PART", requires = "imatrix", conflicts_with = "exclude_weights")]
    include_weights: Vec<String>,
    /// Use the importance matrix for no tensor with this in its name; may be repeated.
    #[arg(long, value_name = "PART", requires = "imatrix")]
    exclude_weights: Vec<String>,
    /// The recipe's default type for every tensor, without its rules.
    #[arg(long)]
    pure: bool,
    /// Type of output.weight, or of the embedding of a model without one.
    #[arg(long, value_parser = parse_dtype, value_name = "TYPE")]
    output_tensor_type: Option<DType>,
    /// Type of the token embedding.
    #[arg(long, value_parser = parse_dtype, value_name = "TYPE")]
    token_embedding_type: Option<DType>,
    #[command(flatten)]
    tensor_types: TensorTypeArgs,
    /// Leave output.weight as it is.
    #[arg(long)]
    leave_output_tensor: bool,
    /// Let tensors that are quantized already become another type, which loses more than quantizing the original.
    #[arg(long)]
    allow_requantize: bool,
    /// Set a key of the metadata: KEY=TYPE:VALUE with TYPE int, float, bool or str; may be repeated.
    #[arg(long, value_name = "KEY=TYPE:VALUE")]
    override_kv: Vec<String>,
    /// Leave these blocks out of the model, as 20,21,22.
    #[arg(long, value_name = "N,N,...")]
    prune_layers: Option<String>,
}

impl PlanArgs {
    /// Reads the files they name and checks their form.
    ///
    /// # Errors
    /// A file that cannot be read, an option that does not parse.
    pub fn read(&self) -> Result<PlanOptions> {
        Ok(PlanOptions {
            pure: self.pure,
            leave_output_tensor: self.leave_output_tensor,
            allow_requantize: self.allow_requantize,
            output_tensor_type: self.output_tensor_type,
            token_embedding_type: self.token_embedding_type,
            tensor_types: self.tensor_types.read()?,
            override_kv: self.override_kv.iter().map(|text| parse_override_kv(text)).collect::<Result<_, _>>()?,
            prune_layers: self.prune_layers.as_deref().map(parse_prune_layers).transpose()?.unwrap_or_default(),
            imatrix: self.read_imatrix()?,
            as_converter: false,
            keep_split: false,
        })
    }

    fn read_imatrix(&self) -> Result<Option<Arc<Imatrix>>> {
        let Some(path) = &self.imatrix else { return Ok(None) };
        let mut matrix = Imatrix::open(path)?;
        if !self.include_weights.is_empty() {
            matrix = matrix.only(&self.include_weights)?;
        }
        if !self.exclude_weights.is_empty() {
            matrix = matrix.without(&self.exclude_weights)?;
        }
        Ok(Some(Arc::new(matrix)))
    }
}

/// `--tensor-type` and `--tensor-type-file`, in the order in which they were given: the first pattern that fits decides, so that
/// the order of the two options counts, and clap's derived arguments would lose it.
struct TensorTypeArgs(Vec<TensorTypeArg>);

enum TensorTypeArg {
    Pattern(String),
    File(PathBuf),
}

const TENSOR_TYPE: &str = "tensor-type";
const TENSOR_TYPE_FILE: &str = "tensor-type-file";

impl Args for TensorTypeArgs {
    fn augment_args(command: Command) -> Command {
        let option = |name: &'static str| Arg::new(name).long(name).action(ArgAction::Append);
        let pattern = option(TENSOR_TYPE).value_name("PATTERN=TYPE").help(
            "Tensors whose name has a match of the regular expression (in the syntax of Rust's regex crate, without look-around) \
             become that type; may be repeated, the first match decides. Each must match something",
        );
        let file = option(TENSOR_TYPE_FILE).value_name("FILE").value_parser(clap::value_parser!(PathBuf));
        command.arg(pattern).arg(file.help("A file with many PATTERN=TYPE, white space between them"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TensorTypeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let places = |name| matches.indices_of(name).into_iter().flatten();
        let patterns = matches.get_many::<String>(TENSOR_TYPE).into_iter().flatten().cloned().map(TensorTypeArg::Pattern);
        let files = matches.get_many::<PathBuf>(TENSOR_TYPE_FILE).into_iter().flatten().cloned().map(TensorTypeArg::File);
        let mut given: Vec<_> = places(TENSOR_TYPE).zip(patterns).chain(places(TENSOR_TYPE_FILE).zip(files)).collect();
        given.sort_by_key(|(place, _)| *place);
        Ok(Self(given.into_iter().map(|(_, argument)| argument).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl TensorTypeArgs {
    fn read(&self) -> Result<Vec<TensorType>> {
        let mut types = Vec::new();
        for argument in &self.0 {
            match argument {
                TensorTypeArg::Pattern(text) => types.push(TensorType::parse(text)?),
                TensorTypeArg::File(path) => {
                    let name = || path.display().to_string();
                    let text = std::fs::read_to_string(path).with_context(name)?;
                    types.extend(TensorType::parse_all(&text).with_context(name)?);
                }
            }
        }
        Ok(types)
    }
}

/// A type by its name.
///
/// # Errors
/// One that is not known.
pub fn parse_dtype(name: &str) -> Result<DType, String> {
    let known = || DType::ALL.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ");
    DType::from_name(name).ok_or_else(|| format!("there is no such type; known: {}", known()))
}
