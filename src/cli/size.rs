//! Sizes as options take them: a number with a unit. Absent: sizes in results (see `bitworth_report::number`).

use parse_size::Config;

/// What every `--max-memory` says, so that it means the same to every command.
pub const MEMORY_HELP: &str = "Most memory to take, as 512M or 4G (of 1024, as MiB and GiB); a bare number is MiB. Results do \
    not depend on it, unless a note says so";

/// Memory in bytes: `512M`, `4G`, `4GiB` in powers of 1024; a bare number is MiB.
///
/// # Errors
/// What is no size, or too large for 64 bits.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let config = Config::new().with_binary().with_default_factor(1 << 20);
    config.parse_size(text).map_err(|e| format!("{e}; give a size as 512M or 4G, or a number of MiB"))
}

/// The size of a file in bytes, above 0: `500M`, `5G` in powers of 1000, as llama.cpp counts them, `5GiB` in powers of 1024; a
/// bare number is bytes.
///
/// # Errors
/// What is no size, 0, or too large for 64 bits.
pub fn parse_file_size(text: &str) -> Result<u64, String> {
    let bytes = Config::new().with_decimal().parse_size(text).map_err(|e| e.to_string());
    let bytes = bytes.and_then(|bytes| if bytes == 0 { Err("a file has more than 0 bytes".to_owned()) } else { Ok(bytes) });
    bytes.map_err(|e| format!("{e}; give a size as 500M or 5G"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_the_same_number_in_every_spelling() {
        for (text, expected) in [
            ("0", 0),
            ("4096", 4 << 30),
            ("4096M", 4 << 30),
            ("4G", 4 << 30),
            ("4g", 4 << 30),
            ("4GiB", 4 << 30),
            ("4 GiB", 4 << 30),
            ("0.5G", 512 << 20),
            ("512M", 512 << 20),
            ("64k", 64 << 10),
            ("100B", 100),
        ] {
            assert_eq!(parse_memory(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_command_says_the_same_of_its_memory() {
        let mut found = 0;
        for command in <crate::cli::Cli as clap::CommandFactory>::command().get_subcommands() {
            for option in command.get_arguments().filter(|option| option.get_long() == Some("max-memory")) {
                let help = option.get_help().map(ToString::to_string).unwrap_or_default();
                let rest = help.strip_prefix(MEMORY_HELP).unwrap_or_else(|| panic!("{}: {help}", command.get_name()));
                // What clap says of a default, or the option itself.
                let has_default = !option.get_default_values().is_empty() || rest.starts_with(" [default: ");
                assert!(has_default, "{}: {help}", command.get_name());
                found += 1;
            }
        }
        assert!(found >= 6, "{found}");
    }

    #[test]
    fn files_are_counted_in_thousands() {
        for (text, expected) in [("7", 7), ("64k", 64_000), ("256M", 256_000_000), ("2G", 2_000_000_000), ("2GiB", 2 << 30)] {
            assert_eq!(parse_file_size(text), Ok(expected), "{text}");
        }
        assert!(parse_file_size("0").unwrap_err().contains("more than 0 bytes"));
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "M", "-1", "1X", "G4", "99999999999999G"] {
            assert!(parse_memory(text).unwrap_err().contains("as 512M or 4G"), "{text}");
            assert!(parse_file_size(text).unwrap_err().contains("as 500M or 5G"), "{text}");
        }
    }
}
