//! What a file is that is not what it should be, by its first bytes: what stands in the place of model files when a download or a
//! copy went wrong, and what editors put before a text; and the texts of files that should be UTF-8. Absent: what files should be
//! (see those who read them).

use crate::message::Message;

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
    // Servers put newlines before their pages.
    let text = head.trim_ascii_start();
    let begins = |with: &[u8]| text.len() >= with.len() && text[..with.len()].eq_ignore_ascii_case(with);
    let known = KINDS.iter().find(|(with, _)| begins(with)).map(|&(_, what)| what);
    let zeros = head.len() == HEAD && head.iter().all(|&byte| byte == 0);
    known.or_else(|| zeros.then_some("begins with zeros, as a download that was not finished; fetch it again"))
}

/// What to do about another encoding.
const CONVERT: &str = "convert it to UTF-8 from the encoding that it has, as iconv does";

/// The text of a file of data, which must be UTF-8.
///
/// # Errors
/// Says what the bytes are instead, or where they are not UTF-8, and what to do.
pub fn utf8(bytes: Vec<u8>) -> Result<String, Message> {
    String::from_utf8(bytes).map_err(|e| {
        let (at, bytes) = (e.utf8_error().valid_up_to(), e.as_bytes());
        let line = 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
        let what = || format!("is not UTF-8: line {line}, byte {at} of the file; {CONVERT}");
        of(bytes).map_or_else(what, str::to_owned).into()
    })
}

/// Most bytes of a Git LFS pointer.
const POINTER: usize = 1024;
/// At most one byte in this many of a text may be broken.
const BROKEN: usize = 20;

/// The text of a file of prose. A byte that is not UTF-8 becomes U+FFFD, as in llama.cpp: of a text that was cut within a
/// character, or has a few bytes of another encoding. Returns the text and the number of those bytes.
///
/// # Errors
/// UTF-16, other kinds of files, and what has more than one broken byte in 20: says what it is and what to do.
pub fn prose(bytes: Vec<u8>) -> Result<(String, usize), Message> {
    // UTF-16 without a mark: every other byte is zero.
    let zeros = bytes.iter().filter(|&&byte| byte == 0).count();
    let many_zeros = 4 * zeros > bytes.len();
    // A page may well be the text that is wanted; what stands for another file is not.
    if bytes.len() <= POINTER && bytes.starts_with(KINDS[0].0) {
        return Err(KINDS[0].1.into());
    }
    let bytes = match String::from_utf8(bytes) {
        Ok(text) if !many_zeros => return Ok((text, 0)),
        Ok(text) => text.into_bytes(),
        Err(e) => e.into_bytes(),
    };
    if let Some(what) = of(&bytes) {
        return Err(what.into());
    }
    let all = bytes.len();
    if many_zeros {
        return Err(
            format!("{zeros} of its {all} bytes are zero, as in UTF-16; save it as UTF-8, as `iconv -f utf-16` does").into()
        );
    }
    let mut text = String::with_capacity(bytes.len());
    let mut broken = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        broken += chunk.invalid().len();
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    if broken > 8 && BROKEN * broken > all {
        return Err(format!("{broken} of its {all} bytes are not UTF-8; {CONVERT}").into());
    }
    Ok((text, broken))
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
        check(b"\r\n\n  <html>", Some("HTML"));
        check(b"\xef\xbb\xbf{}", Some("byte-order mark"));
        check(b"\xff\xfe{\0", Some("UTF-16"));
        check(&[0; HEAD], Some("zeros"));
        check(&[0; HEAD - 1], None);
        check(b"{\"a\": 1}", None);
        check(b"", None);
    }

    #[test]
    fn broken_bytes_of_prose_are_counted_and_other_encodings_named() {
        let check = |bytes: &[u8], text: &str, broken: usize| {
            assert_eq!(prose(bytes.to_vec()).unwrap(), (text.to_owned(), broken), "{bytes:?}");
        };
        check("caf\u{e9}".as_bytes(), "caf\u{e9}", 0);
        // Cut within a character of three bytes: llama.cpp takes each byte for itself.
        check(b"a\xe4\xbd", "a\u{fffd}\u{fffd}", 2);
        check(b"caf\xe9 noir", "caf\u{fffd} noir", 1);
        let refused = |bytes: &[u8], said: &str| {
            let what = prose(bytes.to_vec()).unwrap_err().to_string();
            assert!(what.contains(said), "{what}");
        };
        let wide = |order: fn(u16) -> [u8; 2]| "\u{feff}long enough".encode_utf16().flat_map(order).collect::<Vec<u8>>();
        refused(&wide(u16::to_le_bytes), "UTF-16");
        refused(&wide(u16::to_be_bytes), "UTF-16");
        refused(&wide(u16::to_le_bytes)[2..], "UTF-16");
        refused(&[0x80; 100], "100 of its 100 bytes are not UTF-8");
    }

    #[test]
    fn data_must_be_utf8() {
        let refused = |bytes: &[u8], said: &str| {
            let what = utf8(bytes.to_vec()).unwrap_err().to_string();
            assert!(what.contains(said), "{what}");
        };
        refused(b"{}\n{\"a\": \"caf\xe9\"}\n", "line 2, byte 13");
        refused(b"\xff\xfe{\0}\0", "UTF-16");
        assert_eq!(utf8(b"{}".to_vec()).unwrap(), "{}");
    }
}
