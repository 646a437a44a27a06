//! The GGUF container (version 2 and 3, little-endian): reading, laying out and writing.

mod cursor;
mod open;
mod read;
mod value;
mod wire;
mod write;

pub(crate) use cursor::Cursor;
pub use open::GgufFile;
pub(crate) use open::SPLIT_KEYS;
pub use read::TensorEntry;
pub(crate) use read::{MAGIC, alignment as alignment_of};
pub use value::{Array, Metadata, Value};
pub use write::{GgufWriter, Layout, TensorSpec};
