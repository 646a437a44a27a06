//! What the names of data files say of their format, and which format a split has. Absent: reading.
//!
//! Source: Hugging Face's `datasets` 5.2 (`packaged_modules/__init__.py`, `infer_module_for_data_files_list` in `load.py`).

use bitworth_quant::message::Message;

use crate::rows::file::Kind;

/// Formats of data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Rows that are read here.
    Rows(Kind),
    /// What `datasets` reads and nobody here does, by its name.
    Other(&'static str),
}

/// What names of files end with, maybe with the name of a compression behind it.
const EXTENSIONS: &[(&str, Format)] = &[
    ("parquet", Format::Rows(Kind::Parquet)),
    ("geoparquet", Format::Rows(Kind::Parquet)),
    ("gpq", Format::Rows(Kind::Parquet)),
    ("jsonl", Format::Rows(Kind::Json)),
    ("json", Format::Rows(Kind::Json)),
    ("ndjson", Format::Rows(Kind::Json)),
    ("csv", Format::Rows(Kind::Table(b','))),
    ("tsv", Format::Rows(Kind::Table(b'\t'))),
    ("arrow", Format::Other("Arrow")),
    ("lance", Format::Other("Lance")),
    ("txt", Format::Other("plain text")),
    ("conll", Format::Other("CoNLL")),
    ("conllu", Format::Other("CoNLL")),
    ("xml", Format::Other("XML")),
    ("hdf5", Format::Other("HDF5")),
    ("h5", Format::Other("HDF5")),
    ("tar", Format::Other("WebDataset")),
    ("zip", Format::Other("ZIP")),
    ("pdf", Format::Other("PDF")),
];
/// Extensions of pictures, sounds and films; the commoner ones.
const MEDIA: &[(&str, &[&str])] = &[
    ("pictures", &["png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "ico", "jp2", "ppm", "pgm", "eps", "dds", "psd"]),
    ("sounds", &["mp3", "wav", "flac", "ogg", "opus", "aiff", "aif", "au", "w64", "m4a", "wma", "aac"]),
    ("films", &["mp4", "mkv", "avi", "mov", "webm", "mpg", "mpeg", "wmv", "flv", "m4v"]),
];

/// The format that an extension means.
fn of_extension(extension: &str) -> Option<Format> {
    let plain = EXTENSIONS.iter().find(|(known, _)| *known == extension).map(|(_, format)| *format);
    // Those of media count in capital letters too.
    let lower = extension.to_lowercase();
    let media = || MEDIA.iter().find(|(_, known)| known.contains(&lower.as_str())).map(|(name, _)| Format::Other(name));
    plain.or_else(media)
}

/// What stands behind the points in the name of a file.
fn extensions(path: &str) -> impl Iterator<Item = &str> {
    path.rsplit('/').next().unwrap_or_default().split('.').skip(1)
}

/// Whether a file is one of data: one of the parts of its name behind a point says a format.
pub(super) fn is_data(path: &str) -> bool {
    extensions(path).any(|extension| of_extension(extension).is_some())
}

/// The format that most of the files of a split have. Of formats that are as common, parquet comes before the others, then
/// JSON before CSV. `None` where no name says any.
pub(super) fn of_files(files: &[&str]) -> Option<Format> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for extension in files.iter().flat_map(|path| extensions(path)).map(str::to_lowercase) {
        match counts.iter_mut().find(|(known, _)| *known == extension) {
            Some((_, count)) => *count += 1,
            None => counts.push((extension, 1)),
        }
    }
    let favourite = |name: &str| ["csv", "json", "jsonl", "arrow", "lance", "parquet"].iter().position(|known| *known == name);
    counts.sort_by(|(a, count_a), (b, count_b)| (count_b, favourite(b), b).cmp(&(count_a, favourite(a), a)));
    counts.iter().find_map(|(extension, _)| of_extension(extension))
}

/// Whether the files of one format include that one: what makes a format the most common does not make it the only one.
pub(super) fn includes(format: Format, path: &str) -> bool {
    let same = |other: Format| match (format, other) {
        (Format::Rows(Kind::Table(_)), Format::Rows(Kind::Table(_))) => true,
        (one, other) => one == other,
    };
    extensions(path).any(|extension| of_extension(extension).is_some_and(same))
}

/// How the files of a split are read.
///
/// # Errors
/// They hold something else than rows, or one of them is of another format.
pub(super) fn kind(files: &[&str]) -> Result<Kind, Message> {
    match of_files(files) {
        Some(Format::Rows(kind)) => match files.iter().find(|path| !includes(Format::Rows(kind), path)) {
            Some(odd) => Err(format!("the files of a split have several formats: {} and {odd}", files[0]).into()),
            None => Ok(kind),
        },
        Some(Format::Other(name)) => {
            Err(format!("its files hold {name}; rows are read from parquet, JSON and CSV ({})", files[0]).into())
        }
        None => Err("it has no files of rows: parquet, JSON or CSV".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: `infer_module_for_data_files_list` of datasets 5.2.
    #[test]
    fn the_most_common_format_counts() {
        let of = |files: &[&str]| of_files(files);
        let (json, csv, tsv) = (Format::Rows(Kind::Json), Format::Rows(Kind::Table(b',')), Format::Rows(Kind::Table(b'\t')));
        assert_eq!(of(&["a.csv", "b.csv", "c.parquet"]), Some(csv));
        assert_eq!(of(&["a.csv", "c.parquet"]), Some(Format::Rows(Kind::Parquet)));
        assert_eq!(of(&["a.csv", "c.json"]), Some(json));
        assert_eq!(of(&["a.CSV", "b.tsv", "c.tsv"]), Some(tsv));
        assert_eq!(of(&["a.tsv", "b.csv"]), Some(csv));
        assert_eq!(of(&["train.jsonl.gz", "x.v1.jsonl.gz"]), Some(json));
        assert_eq!(of(&["a.png", "b.png", "metadata.csv"]), Some(Format::Other("pictures")));
        assert_eq!(of(&["LICENSE", "a.py"]), None);
    }

    #[test]
    fn what_holds_no_rows_is_named() {
        assert!(kind(&["a.png", "b.png"]).unwrap_err().to_string().contains("pictures"));
        assert!(kind(&["a.csv", "b.txt", "c.csv"]).unwrap_err().to_string().contains("b.txt"));
        assert!(kind(&["a.py"]).unwrap_err().to_string().contains("no files of rows"));
        assert_eq!(kind(&["a.json", "b.jsonl.gz"]).unwrap(), Kind::Json);
    }
}
