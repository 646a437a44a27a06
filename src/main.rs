//! The program `bitworth`; everything is in the library.

fn main() -> std::process::ExitCode {
    bitworth::main(std::env::args_os())
}
