//! Data sets of a hub on this machine: what is asked, what is kept, what is said.

mod data_sets;
mod server;
