//! The GGUF container (version 2 and 3, little-endian): reading, laying out and writing.

mod read;
mod value;
mod write;

pub use read::{GgufFile, TensorEntry};
pub use value::{Array, Metadata, Value};
pub use write::{Layout, TensorSpec};
