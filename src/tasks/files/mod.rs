//! Task files: what stands in them ([`yaml`], [`source`] with its includes), which there are ([`index`]), and what a task of
//! one is told to do ([`config`]); those that come with the program ([`builtin`]). Absent: data, Python.

pub mod builtin;
pub mod config;
pub mod index;
pub mod source;
pub mod yaml;
