//! Records as parquet files: `DIR/records/<item>.parquet`, one wide table with a row per record and nulls where a kind of record
//! has no such column. A file is written whole (beside, then renamed), so that a run can be stopped at any time and
//! [`has`] tells what is done. What the numbers mean is not known here.

pub mod sensitivity;

use std::fs::File;
use std::path::{Path, PathBuf};

use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::message::{Command, Message, Setting};
use bitworth_quant::{Error, Result};
use polars::prelude::{
    BooleanType, ChunkedArray, Column, DataFrame, DataType, Float64Type, IntoColumn, ListBuilderTrait,
    ListPrimitiveChunkedBuilder, ListType, NamedFrom, PolarsDataType, PolarsError, PolarsResult, Series, StringType, UInt32Type,
    UInt64Type,
};
use polars_io::SerReader;
use polars_io::prelude::{KeyValueMetadata, ParallelStrategy, ParquetReader, ParquetWriter};

use crate::record::{
    Against, Body, Footprint, ItemRecord, LaneRecord, OLDEST_SCHEMA, OWN_ENGINE, Origin, PHASES, Protocol, Record,
    SCHEMA_VERSION, SequenceRecord, SessionInfo, Speed, Token, TokenAgainst, WINDOWINGS,
};

/// The folder of a run that holds its records.
pub const RECORDS: &str = "records";
/// What a file's metadata holds its session under, as JSON: [`SessionInfo`].
pub const SESSION: &str = "bitworth.session";
/// The folder of a run.
pub const OUT: Setting = Setting::new("out");

/// `item` as files are named by it: what is not a letter, digit, `.`, `-` or `_` is written as `%XX`.
pub fn escaped(item: &str) -> String {
    let mut name = String::new();
    for byte in item.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => name.push(byte as char),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    name
}

/// The file of one item of work; any text will do as `item`.
pub fn path(dir: &Path, item: &str) -> PathBuf {
    dir.join(RECORDS).join(escaped(item) + ".parquet")
}

/// Whether the records of `item` were written to the run's folder `dir`.
pub fn has(dir: &Path, item: &str) -> bool {
    path(dir, item).is_file()
}

/// Writes the records of one item of work to the run's folder `dir`, in one step; records of the same item are replaced. The file
/// names the session that writes it, where one does; with a resumed sweep an earlier one may have measured a part.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn append(dir: &Path, item: &str, records: &[Record], session: Option<&SessionInfo>) -> Result<()> {
    let path = path(dir, item);
    let json = session.map(serde_json::to_string).transpose().map_err(|e| Error::file(&path, e.to_string()))?;
    write_frame(&path, frame(records), json.map(|json| vec![(SESSION.to_owned(), json)]))
}

/// The session that wrote the records of the file `path`; `None` where the file does not say, as those of earlier versions.
///
/// # Errors
/// A file that cannot be read, or says what is no session.
pub fn session(path: &Path) -> Result<Option<SessionInfo>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut reader = ParquetReader::new(file);
    let metadata = reader.get_metadata().map_err(|e| unreadable(path, &e))?;
    let pairs = metadata.key_value_metadata().iter().flatten();
    let json = pairs.filter(|pair| pair.key == SESSION).find_map(|pair| pair.value.as_deref());
    let session = json.map(serde_json::from_str).transpose();
    session.map_err(|e| Error::file(path, format!("its metadata {SESSION} is not what this program writes: {e}")))
}

/// All records of the run's folder `dir`, file by file in the order of their names. A folder that holds one for each of several
/// models has the records of all of them.
///
/// # Errors
/// No folder `records` with parquet files in it; a file that is damaged, or of a later [`SCHEMA_VERSION`].
pub fn load(dir: &Path) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for run in runs(dir) {
        for file in files(&run)? {
            records.extend(read(&file)?);
        }
    }
    Ok(records)
}

/// The sessions that wrote the records of the run's folder `dir`, each once. Files that do not say are passed over.
///
/// # Errors
/// As [`load`] and [`session`].
pub fn sessions(dir: &Path) -> Result<Vec<SessionInfo>> {
    let mut all: Vec<SessionInfo> = Vec::new();
    for run in runs(dir) {
        for file in files(&run)? {
            if let Some(told) = session(&file)?
                && !all.contains(&told)
            {
                all.push(told);
            }
        }
    }
    Ok(all)
}

/// The folder itself, or those of several models in it.
fn runs(dir: &Path) -> Vec<PathBuf> {
    let mut runs: Vec<PathBuf> = Vec::new();
    if !dir.join(RECORDS).exists() {
        runs = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        runs.retain(|run| run.join(RECORDS).is_dir());
        runs.sort();
    }
    if runs.is_empty() { vec![dir.to_owned()] } else { runs }
}

/// The files of records of a run, in the order of their names.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let folder = dir.join(RECORDS);
    let entries = std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(&folder, e))?.path();
        if path.extension().is_some_and(|e| e == "parquet") {
            files.push(path);
        }
    }
    if files.is_empty() {
        let what = Message::from("holds no records (*.parquet); run ").then(Command::Run);
        return Err(Error::file(&folder, what.then(" with this folder as ").then(OUT).then(" first")));
    }
    files.sort();
    Ok(files)
}

/// The records of one item of the run's folder `dir`.
///
/// # Errors
/// As [`load`]; an item that has no records.
pub fn load_item(dir: &Path, item: &str) -> Result<Vec<Record>> {
    let path = path(dir, item);
    let records = read(&path)?;
    if records.is_empty() { Err(Error::file(&path, "holds no record; delete it and run again")) } else { Ok(records) }
}

/// Writes a frame in one step: beside, then renamed.
///
/// # Errors
/// A frame that could not be made, a file that cannot be written.
pub fn write_parquet(path: &Path, frame: PolarsResult<DataFrame>) -> Result<()> {
    write_frame(path, frame, None)
}

fn write_frame(path: &Path, frame: PolarsResult<DataFrame>, metadata: Option<Vec<(String, String)>>) -> Result<()> {
    let fail = |e: PolarsError| Error::file(path, e.to_string());
    let mut bytes = Vec::new();
    let writer = ParquetWriter::new(&mut bytes).with_key_value_metadata(metadata.map(KeyValueMetadata::from_static));
    writer.finish(&mut frame.map_err(fail)?).map_err(fail)?;
    write_whole(path, &bytes)
}

fn unreadable(path: &Path, e: &PolarsError) -> Error {
    Error::file(path, format!("is not a readable parquet file: {e}; delete it and run again"))
}

/// The column `name` of what `get` finds in each record.
fn column<'a, T>(name: &str, records: &'a [Record], get: impl Fn(&'a Record) -> Option<T>) -> Column
where
    Series: NamedFrom<Vec<Option<T>>, [Option<T>]>,
{
    let values: Vec<Option<T>> = records.iter().map(get).collect();
    Series::new(name.into(), values).into_column()
}

fn count_list<'a>(name: &str, records: &'a [Record], get: impl Fn(&'a Record) -> Option<Vec<u32>>) -> Column {
    let mut builder = ListPrimitiveChunkedBuilder::<UInt32Type>::new(name.into(), records.len(), records.len(), DataType::UInt32);
    for record in records {
        match get(record) {
            Some(values) => builder.append_slice(&values),
            None => builder.append_null(),
        }
    }
    builder.finish().into_column()
}

fn number_list<'a>(name: &str, records: &'a [Record], get: impl Fn(&'a Record) -> Option<Vec<f64>>) -> Column {
    let mut builder =
        ListPrimitiveChunkedBuilder::<Float64Type>::new(name.into(), records.len(), records.len(), DataType::Float64);
    for record in records {
        match get(record) {
            Some(values) => builder.append_slice(&values),
            None => builder.append_null(),
        }
    }
    builder.finish().into_column()
}

#[rustfmt::skip] // one column a line
fn frame(records: &[Record]) -> PolarsResult<DataFrame> {
    let r = records;
    fn against(r: &Record) -> Option<&Against> { r.as_sequence()?.against.as_ref() }
    fn tokens(r: &Record) -> Option<&[Token]> { r.as_sequence()?.kept.as_deref() }
    fn kept<T>(r: &Record, of: fn(&Token) -> T) -> Option<Vec<T>> { Some(tokens(r)?.iter().map(of).collect()) }
    fn compared<T>(r: &Record, of: fn(&TokenAgainst) -> T) -> Option<Vec<T>> {
        let values = tokens(r)?.iter().map(|t| t.against.as_ref().map(of)).collect::<Option<Vec<T>>>();
        values.filter(|values| !values.is_empty())
    }
    let columns = vec![
        column("schema", r, |r| Some(r.origin.schema)),
        column("bitworth", r, |r| Some(r.origin.bitworth.as_str())),
        column("model", r, |r| Some(r.origin.model.as_str())),
        column("lane", r, |r| Some(r.origin.lane.as_str())),
        column("device", r, |r| Some(r.origin.device.as_str())),
        column("arithmetic", r, |r| Some(r.origin.arithmetic.as_str())),
        column("kind", r, |r| Some(kind(&r.body))),
        column("recipe", r, |r| Some(r.as_lane()?.recipe.as_str())),
        column("is_reference", r, |r| Some(r.as_lane()?.is_reference)),
        column("file", r, |r| r.as_lane()?.file.as_deref()),
        column("file_bytes", r, |r| Some(r.as_lane()?.bytes)),
        column("bpw", r, |r| Some(r.as_lane()?.bpw)),
        column("sha256", r, |r| r.as_lane()?.sha256.as_deref()),
        column("types", r, |r| r.as_lane()?.types.as_deref()),
        column("imatrix", r, |r| r.as_lane()?.imatrix.as_deref()),
        column("fell_back", r, |r| r.as_lane()?.fell_back),
        column("parts", r, |r| r.as_lane()?.parts),
        column("text_name", r, |r| r.as_sequence()?.text.as_deref()),
        column("text_sha256", r, |r| Some(r.as_sequence()?.text_sha256.as_str())),
        column("pass", r, |r| Some(name_of(WINDOWINGS, r.as_sequence()?.protocol.pass))),
        column("ctx", r, |r| Some(r.as_sequence()?.protocol.ctx)),
        column("first", r, |r| Some(r.as_sequence()?.protocol.first)),
        column("bos", r, |r| Some(r.as_sequence()?.protocol.bos)),
        column("sequence", r, |r| Some(r.as_sequence()?.sequence)),
        column("tokens", r, |r| r.as_sequence().map(|s| s.tokens).or(r.as_speed().map(|s| s.tokens))),
        column("bytes", r, |r| Some(r.as_sequence()?.bytes)),
        column("nll_sum", r, |r| Some(r.as_sequence()?.nll_sum)),
        number_list("kld", r, |r| Some(against(r)?.kld.clone())),
        column("top1_matches", r, |r| Some(against(r)?.top1_matches)),
        column("delta_p_sum", r, |r| Some(against(r)?.delta_p_sum)),
        column("delta_p_sq_sum", r, |r| Some(against(r)?.delta_p_sq_sum)),
        count_list("token_ids", r, |r| kept(r, |t| t.token)),
        number_list("token_nll", r, |r| kept(r, |t| t.nll)),
        count_list("token_rank", r, |r| kept(r, |t| t.rank)),
        number_list("token_entropy", r, |r| kept(r, |t| t.entropy)),
        count_list("token_argmax", r, |r| kept(r, |t| t.argmax)),
        number_list("token_reverse_kld", r, |r| compared(r, |a| a.reverse_kld)),
        number_list("token_delta_p", r, |r| compared(r, |a| a.delta_p)),
        count_list("token_same_top", r, |r| compared(r, |a| u32::from(a.same_top))),
        column("task", r, |r| Some(r.as_item()?.task.as_str())),
        column("task_version", r, |r| Some(r.as_item()?.task_version.as_str())),
        column("item", r, |r| Some(r.as_item()?.item)),
        column("correct", r, |r| r.as_item()?.is_correct()),
        column("value", r, |r| r.as_item()?.value),
        column("metric", r, |r| r.as_item()?.metric.as_deref()),
        number_list("logprobs", r, |r| Some(r.as_item()?.logprobs.clone())),
        count_list("greedy", r, |r| Some(r.as_item()?.greedy.as_ref()?.iter().map(|greedy| u32::from(*greedy)).collect())),
        column("gold", r, |r| r.as_item()?.gold),
        column("task_group", r, |r| r.as_item()?.group.as_deref()),
        column("cluster", r, |r| r.as_item()?.cluster.as_deref()),
        column("score_names", r, |r| Some(score_names(r.as_item()?))),
        number_list("scores", r, |r| Some(r.as_item()?.scores.iter().map(|(_, value)| *value).collect())),
        column("text", r, |r| r.as_item().map_or_else(|| r.as_left_out(), |item| item.text.as_deref())),
        column("phase", r, |r| Some(name_of(PHASES, r.as_speed()?.phase))),
        column("depth", r, |r| Some(r.as_speed()?.depth)),
        column("batch", r, |r| Some(r.as_speed()?.batch)),
        column("repetition", r, |r| Some(r.as_speed()?.repetition)),
        column("seconds", r, |r| Some(r.as_speed()?.seconds)),
        column("drifted", r, |r| Some(r.as_speed()?.drifted)),
        column("joules", r, |r| r.as_speed()?.joules),
        column("speed_arithmetic", r, |r| Some(r.as_speed()?.arithmetic.as_str())),
        column("speed_engine", r, |r| Some(r.as_speed()?.engine.as_str())),
        column("speed_shape", r, |r| r.as_speed()?.shape.as_deref()),
        column("load_seconds", r, |r| r.as_speed()?.footprint.load_seconds),
        column("memory_bytes", r, |r| r.as_speed()?.footprint.memory_bytes),
        column("device_bytes", r, |r| r.as_speed()?.footprint.device_bytes),
    ];
    DataFrame::new(records.len(), columns)
}

/// Names of figures in one text, which is the same for most items of a task and so takes little room.
fn score_names(item: &ItemRecord) -> String {
    item.scores.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("\n")
}

/// The name of a kind of record in the column `kind`.
fn kind(body: &Body) -> &'static str {
    match body {
        Body::Lane(_) => "lane",
        Body::Sequence(_) => "sequence",
        Body::Item(_) => "item",
        Body::Speed(_) => "speed",
        Body::LeftOut(_) => "left_out",
    }
}

/// The name of a value in one of the tables of `record`.
fn name_of<T: PartialEq>(table: &[(T, &'static str)], value: T) -> &'static str {
    table.iter().find(|(v, _)| *v == value).map_or("unnamed", |(_, name)| name)
}

/// Reads one file of records.
fn read(path: &Path) -> Result<Vec<Record>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let frame = ParquetReader::new(file).read_parallel(ParallelStrategy::None).set_rechunk(true).finish();
    let frame = frame.map_err(|e| unreadable(path, &e))?;
    (0..frame.height()).map(|row| record(FrameRow { frame: &frame, row }).map_err(|what| bad_row(path, row, what))).collect()
}

fn bad_row(path: &Path, row: usize, what: Message) -> Error {
    Error::file(path, Message::from(format!("row {row}: ")).then(what))
}

/// One row of a frame; the getters say what is missing.
#[derive(Clone, Copy)]
struct FrameRow<'a> {
    frame: &'a DataFrame,
    row: usize,
}

impl<'a> FrameRow<'a> {
    fn column(self, name: &str) -> Result<&'a Column, Message> {
        self.frame.column(name).map_err(|_| format!("column {name} is missing").into())
    }

    fn typed<T: PolarsDataType>(self, name: &str) -> Result<&'a ChunkedArray<T>, Message>
    where
        ChunkedArray<T>: 'static,
    {
        let series = self.column(name)?.as_materialized_series();
        let array = series.as_any().downcast_ref();
        array.ok_or_else(|| format!("column {name} has the type {}, which is not the one it should have", series.dtype()).into())
    }

    fn opt_text(self, name: &str) -> Result<Option<String>, Message> {
        Ok(self.typed::<StringType>(name)?.get(self.row).map(str::to_owned))
    }

    fn text(self, name: &str) -> Result<String, Message> {
        self.opt_text(name)?.ok_or_else(|| empty(name))
    }

    fn flag(self, name: &str) -> Result<bool, Message> {
        self.typed::<BooleanType>(name)?.get(self.row).ok_or_else(|| empty(name))
    }

    fn u32(self, name: &str) -> Result<u32, Message> {
        self.opt_u32(name)?.ok_or_else(|| empty(name))
    }

    fn opt_u32(self, name: &str) -> Result<Option<u32>, Message> {
        Ok(self.typed::<UInt32Type>(name)?.get(self.row))
    }

    fn u64(self, name: &str) -> Result<u64, Message> {
        self.opt_u64(name)?.ok_or_else(|| empty(name))
    }

    fn opt_u64(self, name: &str) -> Result<Option<u64>, Message> {
        Ok(self.typed::<UInt64Type>(name)?.get(self.row))
    }

    fn opt_f64(self, name: &str) -> Result<Option<f64>, Message> {
        Ok(self.typed::<Float64Type>(name)?.get(self.row))
    }

    fn f64(self, name: &str) -> Result<f64, Message> {
        self.opt_f64(name)?.ok_or_else(|| empty(name))
    }

    fn opt_list(self, name: &str) -> Result<Option<Vec<f64>>, Message> {
        let lists = self.typed::<ListType>(name)?;
        let Some(values) = lists.get_as_series(self.row) else {
            return Ok(None);
        };
        let values = values.f64().map_err(|_| format!("column {name} does not hold lists of f64"))?;
        values.iter().map(|v| v.ok_or_else(|| empty(name))).collect::<Result<Vec<f64>, Message>>().map(Some)
    }

    fn opt_counts(self, name: &str) -> Result<Option<Vec<u32>>, Message> {
        let lists = self.typed::<ListType>(name)?;
        let Some(values) = lists.get_as_series(self.row) else {
            return Ok(None);
        };
        let values = values.u32().map_err(|_| format!("column {name} does not hold lists of u32"))?;
        values.iter().map(|v| v.ok_or_else(|| empty(name))).collect::<Result<Vec<u32>, Message>>().map(Some)
    }

    /// A list with a number for each of `count` tokens.
    fn of_tokens<T>(self, name: &str, count: usize, list: Option<Vec<T>>) -> Result<Vec<T>, Message> {
        let list = list.ok_or_else(|| empty(name))?;
        if list.len() != count {
            return Err(format!("column {name} holds {} values for {count} tokens", list.len()).into());
        }
        Ok(list)
    }

    fn named<T: Copy>(self, name: &str, table: &[(T, &str)]) -> Result<T, Message> {
        let found = self.text(name)?;
        let entry = table.iter().find(|(_, known)| *known == found);
        entry.map(|(value, _)| *value).ok_or_else(|| format!("column {name} holds {found:?}, which is not known").into())
    }
}

fn empty(name: &str) -> Message {
    format!("column {name} is empty").into()
}

fn record(row: FrameRow<'_>) -> Result<Record, Message> {
    let schema = row.u32("schema")?;
    if !(OLDEST_SCHEMA..=SCHEMA_VERSION).contains(&schema) {
        return Err(format!(
            "written in record version {schema}, this program reads {OLDEST_SCHEMA} to {SCHEMA_VERSION}; run again into a new \
             folder"
        )
        .into());
    }
    let origin = Origin {
        schema,
        bitworth: row.text("bitworth")?,
        model: row.text("model")?,
        lane: row.text("lane")?,
        device: row.text("device")?,
        arithmetic: row.text("arithmetic")?,
    };
    let body = match row.text("kind")?.as_str() {
        "lane" => Body::Lane(lane(row, schema)?),
        "sequence" => Body::Sequence(sequence(row, schema)?),
        "item" => Body::Item(item(row, schema)?),
        "speed" => Body::Speed(speed(row, schema)?),
        "left_out" => Body::LeftOut(row.text("text")?),
        other => return Err(format!("column kind holds {other:?}, which is not known").into()),
    };
    Ok(Record { origin, body })
}

fn lane(row: FrameRow<'_>, schema: u32) -> Result<LaneRecord, Message> {
    // Versions before 3 have no columns for them.
    let (imatrix, fell_back, parts) = match schema {
        1 | 2 => (None, None, None),
        _ => (row.opt_text("imatrix")?, row.opt_u64("fell_back")?, row.opt_u32("parts")?),
    };
    Ok(LaneRecord {
        imatrix,
        fell_back,
        parts,
        recipe: row.text("recipe")?,
        is_reference: row.flag("is_reference")?,
        file: row.opt_text("file")?,
        bytes: row.u64("file_bytes")?,
        bpw: row.f64("bpw")?,
        sha256: row.opt_text("sha256")?,
        types: row.opt_text("types")?,
    })
}

fn sequence(row: FrameRow<'_>, schema: u32) -> Result<SequenceRecord, Message> {
    let protocol =
        Protocol { pass: row.named("pass", WINDOWINGS)?, ctx: row.u32("ctx")?, first: row.u32("first")?, bos: row.flag("bos")? };
    let tokens = row.u32("tokens")?;
    let against = row.opt_list("kld")?.map(|kld| against(row, kld)).transpose()?;
    if let Some(against) = against.as_ref().filter(|a| a.kld.len() != tokens as usize) {
        return Err(format!("column kld holds {} values for {tokens} tokens", against.kld.len()).into());
    }
    // Versions before 3 have no columns for them.
    let (text, kept) = match schema {
        1 | 2 => (None, None),
        _ => (row.opt_text("text_name")?, kept(row, tokens as usize, against.as_ref())?),
    };
    Ok(SequenceRecord {
        text,
        text_sha256: row.text("text_sha256")?,
        protocol,
        sequence: row.u32("sequence")?,
        tokens,
        bytes: row.u64("bytes")?,
        nll_sum: row.f64("nll_sum")?,
        against,
        kept,
    })
}

/// The tokens of a sequence, where they were kept.
fn kept(row: FrameRow<'_>, count: usize, against: Option<&Against>) -> Result<Option<Vec<Token>>, Message> {
    let Some(ids) = row.opt_counts("token_ids")? else { return Ok(None) };
    let ids = row.of_tokens("token_ids", count, Some(ids))?;
    let counts = |name| row.of_tokens(name, count, row.opt_counts(name)?);
    let numbers = |name| row.of_tokens(name, count, row.opt_list(name)?);
    let (nll, rank, entropy) = (numbers("token_nll")?, counts("token_rank")?, numbers("token_entropy")?);
    let argmax = counts("token_argmax")?;
    let compared = match against {
        Some(_) => Some((numbers("token_reverse_kld")?, numbers("token_delta_p")?, counts("token_same_top")?)),
        None => None,
    };
    let against = |i: usize| {
        let ((reverse_kld, delta_p, same_top), against) = (compared.as_ref()?, against?);
        Some(TokenAgainst { kld: against.kld[i], reverse_kld: reverse_kld[i], delta_p: delta_p[i], same_top: same_top[i] == 1 })
    };
    let token = |i: usize| Token {
        token: ids[i],
        nll: nll[i],
        rank: rank[i],
        entropy: entropy[i],
        argmax: argmax[i],
        against: against(i),
    };
    Ok(Some((0..count).map(token).collect()))
}

fn against(row: FrameRow<'_>, kld: Vec<f64>) -> Result<Against, Message> {
    Ok(Against {
        kld,
        top1_matches: row.u32("top1_matches")?,
        delta_p_sum: row.f64("delta_p_sum")?,
        delta_p_sq_sum: row.f64("delta_p_sq_sum")?,
    })
}

fn item(row: FrameRow<'_>, schema: u32) -> Result<ItemRecord, Message> {
    let item = ItemRecord {
        task: row.text("task")?,
        item: row.u32("item")?,
        logprobs: row.opt_list("logprobs")?.ok_or_else(|| empty("logprobs"))?,
        text: row.opt_text("text")?,
        ..ItemRecord::default()
    };
    if schema < 6 {
        let value = Some(f64::from(u8::from(row.flag("correct")?)));
        return Ok(ItemRecord { task_version: row.u32("task_version")?.to_string(), value, ..item });
    }
    let names = row.text("score_names")?;
    let scores = row.opt_list("scores")?.ok_or_else(|| empty("scores"))?;
    if names.lines().count() != scores.len() {
        return Err(format!("column scores holds {} values for {} names", scores.len(), names.lines().count()).into());
    }
    Ok(ItemRecord {
        task_version: row.text("task_version")?,
        value: row.opt_f64("value")?,
        metric: row.opt_text("metric")?,
        greedy: row.opt_counts("greedy")?.map(|flags| flags.into_iter().map(|flag| flag == 1).collect()),
        gold: row.opt_u32("gold")?,
        group: row.opt_text("task_group")?,
        cluster: row.opt_text("cluster")?,
        scores: names.lines().map(str::to_owned).zip(scores).collect(),
        ..item
    })
}

fn speed(row: FrameRow<'_>, schema: u32) -> Result<Speed, Message> {
    // Version 1 has no columns for what follows the seconds.
    let (drifted, joules, footprint) = match schema {
        1 => (false, None, Footprint::default()),
        _ => (row.flag("drifted")?, row.opt_f64("joules")?, footprint(row)?),
    };
    Ok(Speed {
        phase: row.named("phase", PHASES)?,
        tokens: row.u32("tokens")?,
        depth: row.u32("depth")?,
        batch: row.u32("batch")?,
        repetition: row.u32("repetition")?,
        seconds: row.f64("seconds")?,
        drifted,
        joules,
        // Earlier versions computed products in f32 alone.
        arithmetic: if schema < 4 { "f32".into() } else { row.text("speed_arithmetic")? },
        // And timed nothing but the lanes themselves in this program.
        engine: if schema < 5 { OWN_ENGINE.into() } else { row.text("speed_engine")? },
        shape: if schema < 5 { None } else { row.opt_text("speed_shape")? },
        footprint,
    })
}

fn footprint(row: FrameRow<'_>) -> Result<Footprint, Message> {
    Ok(Footprint {
        load_seconds: row.opt_f64("load_seconds")?,
        memory_bytes: row.opt_u64("memory_bytes")?,
        device_bytes: row.opt_u64("device_bytes")?,
    })
}

#[cfg(test)]
mod tests;
