//! What a file is that is not what it should be, by its first bytes: what stands in the place of model files when a download or a
//! copy went wrong, and what editors put before a text. Absent: what files should be (see those who read them).

/// Bytes that are looked at.
pub const HEAD: usize = 256;

/// What a file is, and what to do about it.
const KINDS: &[(&[u8], &str)] = &[
    (
        b"version https://git-lfs.github.com/spec/",
        "is a Git LFS pointer, which stands for the file; run `git lfs pull` in the repository, or fetch it with `hf download`",
    ),
    (b"<!doctype html", "is an HTML page and not the file; fetch it again, from the address of the file itself"),
    (b"<html", "is an HTML page and not the file; fetch it again, from the address of the file itself"),
    (b"<?xml", "is an XML text, likely the error of a server, and not the file; fetch it again"),
    (b"Entry not found", "is the error of a server and not the file; fetch it again"),
    (b"\xef\xbb\xbf", "begins with a byte-order mark (UTF-8); save it as UTF-8 without one"),
    (b"\xff\xfe", "begins with the byte-order mark of UTF-16; save it as UTF-8 without one"),
    (b"\xfe\xff", "begins with the byte-order mark of UTF-16; save it as UTF-8 without one"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"GGUF", "is a GGUF file; give its path where a model is asked for"),
    (b"PK\x03\x04", "is a ZIP archive, as PyTorch writes weights; save the model as safetensors first"),
];

/// What the file is that begins with these bytes (the first [`HEAD`], or all), and what to do about it; `None` where it may be
/// what it should be.
pub fn of(head: &[u8]) -> Option<&'static str> {
    let head = &head[..head.len().min(HEAD)];
    let begins = |with: &[u8]| head.len() >= with.len() && head[..with.len()].eq_ignore_ascii_case(with);
    let known = KINDS.iter().find(|(with, _)| begins(with)).map(|&(_, what)| what);
    let zeros = head.len() == HEAD && head.iter().all(|&byte| byte == 0);
    known.or_else(|| zeros.then_some("begins with zeros, as a download that was not finished; fetch it again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_place_of_a_file_is_named() {
        let check = |head: &[u8], said: Option<&str>| {
            let found = of(head);
            assert_eq!(found.is_some(), said.is_some(), "{head:?}");
            assert!(found.is_none_or(|found| found.contains(said.unwrap_or_default())), "{found:?}");
        };
        check(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", Some("git lfs pull"));
        check(b"<!DOCTYPE html><html>", Some("HTML"));
        check(b"\xef\xbb\xbf{}", Some("byte-order mark"));
        check(b"\xff\xfe{\0", Some("UTF-16"));
        check(&[0; HEAD], Some("zeros"));
        check(&[0; HEAD - 1], None);
        check(b"{\"a\": 1}", None);
        check(b"", None);
    }
}
