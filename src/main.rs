//! The program `bitworth`; everything is in the library.

fn main() {}
