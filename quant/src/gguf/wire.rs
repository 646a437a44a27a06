//! Metadata values as bytes: the type ids of the GGUF specification, reading and writing, side by side. What is absent:
//! which keys a file should have.

use super::cursor::Cursor;
use super::value::{Array, Value};
use crate::Result;

// Type ids, from the GGUF specification (`gguf_metadata_value_type`).
const U8: u32 = 0;
const I8: u32 = 1;
const U16: u32 = 2;
const I16: u32 = 3;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;
const I64: u32 = 11;
const F64: u32 = 12;

/// Arrays of arrays deeper than this are refused: no known file nests at all, and recursion must end.
const MAX_NESTING: usize = 4;

/// The fewest bytes a key-value pair can take: key length, one byte of key, type, one byte of value.
pub(super) const MIN_PAIR_BYTES: usize = 8 + 1 + 4 + 1;

/// The scalar in a one-element vector.
fn only<T: Copy>(values: Vec<T>) -> T {
    values[0]
}

/// Reads the value of `key`, its type id first.
pub(super) fn read_value(from: &mut Cursor, key: &str) -> Result<Value> {
    let type_id = from.u32(key)?;
    Ok(match type_id {
        U8 => Value::U8(only(from.numbers(1, u8::from_le_bytes, key)?)),
        I8 => Value::I8(only(from.numbers(1, i8::from_le_bytes, key)?)),
        U16 => Value::U16(only(from.numbers(1, u16::from_le_bytes, key)?)),
        I16 => Value::I16(only(from.numbers(1, i16::from_le_bytes, key)?)),
        U32 => Value::U32(from.u32(key)?),
        I32 => Value::I32(only(from.numbers(1, i32::from_le_bytes, key)?)),
        F32 => Value::F32(only(from.numbers(1, f32::from_le_bytes, key)?)),
        BOOL => Value::Bool(only(from.bools(1, key)?)),
        STRING => String::from_utf8(from.bytes(key)?.to_vec()).map_or_else(|e| Value::Bytes(e.into_bytes()), Value::String),
        ARRAY => Value::Array(read_array(from, key, 1)?),
        U64 => Value::U64(from.u64(key)?),
        I64 => Value::I64(only(from.numbers(1, i64::from_le_bytes, key)?)),
        F64 => Value::F64(only(from.numbers(1, f64::from_le_bytes, key)?)),
        other => return Err(from.error(format!("key {key:?} has the unknown value type {other}; known are 0 to {F64}"))),
    })
}

fn read_array(from: &mut Cursor, key: &str, depth: usize) -> Result<Array> {
    if depth > MAX_NESTING {
        return Err(from.error(format!("key {key:?} nests arrays more than {MAX_NESTING} deep")));
    }
    let type_id = from.u32(key)?;
    let min_bytes = match type_id {
        U8 | I8 | BOOL => 1,
        U16 | I16 => 2,
        U32 | I32 | F32 => 4,
        STRING | U64 | I64 | F64 => 8,
        ARRAY => 12,
        other => {
            return Err(from.error(format!("key {key:?} is an array of the unknown value type {other}; known are 0 to {F64}")));
        }
    };
    let n = from.count(min_bytes, &format!("length of the array {key:?}"))?;
    Ok(match type_id {
        U8 => Array::U8(from.numbers(n, u8::from_le_bytes, key)?),
        I8 => Array::I8(from.numbers(n, i8::from_le_bytes, key)?),
        U16 => Array::U16(from.numbers(n, u16::from_le_bytes, key)?),
        I16 => Array::I16(from.numbers(n, i16::from_le_bytes, key)?),
        U32 => Array::U32(from.numbers(n, u32::from_le_bytes, key)?),
        I32 => Array::I32(from.numbers(n, i32::from_le_bytes, key)?),
        F32 => Array::F32(from.numbers(n, f32::from_le_bytes, key)?),
        BOOL => Array::Bool(from.bools(n, key)?),
        STRING => read_strings(from, key, n)?,
        U64 => Array::U64(from.numbers(n, u64::from_le_bytes, key)?),
        I64 => Array::I64(from.numbers(n, i64::from_le_bytes, key)?),
        F64 => Array::F64(from.numbers(n, f64::from_le_bytes, key)?),
        _ => Array::Array((0..n).map(|_| read_array(from, key, depth + 1)).collect::<Result<_>>()?),
    })
}

/// Strings, as text where all are.
fn read_strings(from: &mut Cursor, key: &str, n: usize) -> Result<Array> {
    let bytes = (0..n).map(|_| from.bytes(key)).collect::<Result<Vec<_>>>()?;
    let text: std::result::Result<Vec<String>, _> =
        bytes.iter().map(|bytes| std::str::from_utf8(bytes).map(str::to_owned)).collect();
    Ok(text.map_or_else(|_| Array::Bytes(bytes.into_iter().map(<[u8]>::to_vec).collect()), Array::String))
}

/// Appends `text` as GGUF writes strings: u64 length, then the bytes.
pub(super) fn write_string(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    out.extend((text.as_ref().len() as u64).to_le_bytes());
    out.extend(text.as_ref());
}

/// Appends `value`, its type id first.
pub(super) fn write_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |type_id: u32, bytes: &[u8]| {
        out.extend(type_id.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(v) => put(U8, &v.to_le_bytes()),
        Value::I8(v) => put(I8, &v.to_le_bytes()),
        Value::U16(v) => put(U16, &v.to_le_bytes()),
        Value::I16(v) => put(I16, &v.to_le_bytes()),
        Value::U32(v) => put(U32, &v.to_le_bytes()),
        Value::I32(v) => put(I32, &v.to_le_bytes()),
        Value::F32(v) => put(F32, &v.to_le_bytes()),
        Value::Bool(v) => put(BOOL, &[u8::from(*v)]),
        Value::U64(v) => put(U64, &v.to_le_bytes()),
        Value::I64(v) => put(I64, &v.to_le_bytes()),
        Value::F64(v) => put(F64, &v.to_le_bytes()),
        Value::String(v) => {
            put(STRING, &[]);
            write_string(out, v);
        }
        Value::Bytes(v) => {
            put(STRING, &[]);
            write_string(out, v);
        }
        Value::Array(v) => {
            put(ARRAY, &[]);
            write_array(out, v);
        }
    }
}

fn write_array(out: &mut Vec<u8>, array: &Array) {
    fn put<T>(out: &mut Vec<u8>, type_id: u32, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
        out.extend(type_id.to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|v| write(out, v));
    }
    match array {
        Array::U8(v) => put(out, U8, v, |out, x| out.push(*x)),
        Array::I8(v) => put(out, I8, v, |out, x| out.extend(x.to_le_bytes())),
        Array::U16(v) => put(out, U16, v, |out, x| out.extend(x.to_le_bytes())),
        Array::I16(v) => put(out, I16, v, |out, x| out.extend(x.to_le_bytes())),
        Array::U32(v) => put(out, U32, v, |out, x| out.extend(x.to_le_bytes())),
        Array::I32(v) => put(out, I32, v, |out, x| out.extend(x.to_le_bytes())),
        Array::F32(v) => put(out, F32, v, |out, x| out.extend(x.to_le_bytes())),
        Array::Bool(v) => put(out, BOOL, v, |out, x| out.push(u8::from(*x))),
        Array::String(v) => put(out, STRING, v, |out, x| write_string(out, x)),
        Array::Bytes(v) => put(out, STRING, v, |out, x| write_string(out, x)),
        Array::U64(v) => put(out, U64, v, |out, x| out.extend(x.to_le_bytes())),
        Array::I64(v) => put(out, I64, v, |out, x| out.extend(x.to_le_bytes())),
        Array::F64(v) => put(out, F64, v, |out, x| out.extend(x.to_le_bytes())),
        Array::Array(v) => put(out, ARRAY, v, write_array),
    }
}
