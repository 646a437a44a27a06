//! Task files: what stands in them ([`yaml`], [`source`] with its includes), which there are ([`index`]), and what a task of
//! one is told to do ([`config`]). Absent: data, Python.

pub mod config;
pub mod index;
pub mod source;
pub mod yaml;
