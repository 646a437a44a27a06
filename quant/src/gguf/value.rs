//! GGUF metadata: typed values under ordered keys. Order is part of the format here, because a file must be reproducible
//! byte for byte.

use serde::{Serialize, Serializer};

/// One metadata value, in the types the GGUF specification names. It serializes as the number, text or list that it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)] // the variants are the specification's own names
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// A string that is not UTF-8, as old converters wrote some: it is kept as it is, and is no text.
    #[serde(serialize_with = "readable")]
    Bytes(Vec<u8>),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A homogeneous array; nested arrays are read but no file we write has one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    /// Strings of which some are not UTF-8 (see [`Value::Bytes`]).
    #[serde(serialize_with = "readable_list")]
    Bytes(Vec<Vec<u8>>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    Array(Vec<Array>),
}

impl Array {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(all) => all.len(),
            Self::I8(all) => all.len(),
            Self::U16(all) => all.len(),
            Self::I16(all) => all.len(),
            Self::U32(all) => all.len(),
            Self::I32(all) => all.len(),
            Self::F32(all) => all.len(),
            Self::Bool(all) => all.len(),
            Self::String(all) => all.len(),
            Self::Bytes(all) => all.len(),
            Self::U64(all) => all.len(),
            Self::I64(all) => all.len(),
            Self::F64(all) => all.len(),
            Self::Array(all) => all.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A string that is not UTF-8: what can be shown of it.
fn readable<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

fn readable_list<S: Serializer>(all: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(all.iter().map(|bytes| String::from_utf8_lossy(bytes)))
}

/// Key-value pairs in file order. A key occurs once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(Vec<(String, Value)>);

impl Metadata {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pairs of which the caller knows that no key occurs twice.
    pub(super) fn from_unique(pairs: Vec<(String, Value)>) -> Self {
        Self(pairs)
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Sets `key` where it stands, or appends it.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, v)) => *v = value,
            None => self.0.push((key, value)),
        }
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.remove(at).1)
    }

    /// All pairs in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value under `key` as an unsigned number, whatever integer type the file gave it.
    pub fn u64(&self, key: &str) -> Option<u64> {
        match *self.get(key)? {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The value under `key` as an f32.
    pub fn f32(&self, key: &str) -> Option<f32> {
        match *self.get(key)? {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The value under `key` as a boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match *self.get(key)? {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value under `key` as text.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(v) => Some(v),
            _ => None,
        }
    }

    /// The value under `key` as an array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Array(Array::String(v)) => Some(v),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::{Array, Value};

    #[test]
    fn arrays_know_how_many_values_they_have() {
        for (array, expected) in [
            (Array::U8(vec![]), 0),
            (Array::String(vec!["a".into(), "b".into()]), 2),
            (Array::F64(vec![0.0; 3]), 3),
            (Array::Array(vec![Array::U8(vec![1, 2, 3])]), 1),
        ] {
            assert_eq!((array.len(), array.is_empty()), (expected, expected == 0), "{array:?}");
            assert_eq!(json!(array).as_array().map(Vec::len), Some(expected), "as many as are written");
        }
    }

    #[test]
    fn values_serialize_as_the_numbers_texts_and_lists_that_they_are() {
        for (value, expected) in [
            (Value::U64(u64::MAX), json!(u64::MAX)),
            (Value::F32(0.5), json!(0.5)),
            (Value::F32(f32::NAN), Json::Null),
            (Value::Bool(true), json!(true)),
            (Value::String("a".into()), json!("a")),
            // What is not UTF-8 is shown as far as it can be.
            (Value::Bytes(vec![b'a', 0xff]), json!("a\u{fffd}")),
            (Value::Array(Array::I8(vec![-1, 2])), json!([-1, 2])),
            (Value::Array(Array::Bytes(vec![vec![b'b'], vec![0xff]])), json!(["b", "\u{fffd}"])),
            (Value::Array(Array::Array(vec![Array::Bool(vec![false]), Array::U8(Vec::new())])), json!([[false], []])),
        ] {
            assert_eq!(json!(value), expected, "{value:?}");
        }
    }
}
