//! Forms that configurations may choose between: one value or a list of them, a name or a table. Errors say what a key takes in
//! the words of TOML, never as a type of this program.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a configuration gives as a table.
pub(super) trait TomlTable {
    /// What its key takes, with an example.
    const TAKES: &'static str;
}

/// A table, and no list of its values in their order, which serde takes, too.
struct Whole<T>(T);

impl<'de, T: Deserialize<'de> + TomlTable> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + TomlTable> Visitor<'de> for Value<T> {
            type Value = Whole<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::TAKES)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Whole)
            }
        }
        deserializer.deserialize_any(Value(PhantomData))
    }
}

/// For keys that take a table, or are left out.
pub(super) fn toml_table<'de, D: Deserializer<'de>, T: Deserialize<'de> + TomlTable>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(table)| Some(table))
}

/// For keys that take a list of tables, or one.
pub(super) fn toml_tables<'de, D: Deserializer<'de>, T: Deserialize<'de> + TomlTable>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    OneOrMany::deserialize(deserializer).map(|OneOrMany(all)| all)
}

/// One table, or a list of them.
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de> + TomlTable> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + TomlTable> Visitor<'de> for Values<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}; or a list of such tables", T::TAKES)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                let all = Vec::<Whole<T>>::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(OneOrMany(all.into_iter().map(|Whole(one)| one).collect()))
            }
        }
        deserializer.deserialize_any(Values(PhantomData))
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// For values that a key gives alone or in a list.
pub(super) fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Values<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Values<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("one value or a list")
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
            T::deserialize(value.into_deserializer()).map(|one| vec![one])
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
            T::deserialize(value.into_deserializer()).map(|one| vec![one])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
    }
    deserializer.deserialize_any(Values(PhantomData))
}

/// A name alone, or a table.
pub(super) enum NameOr<T> {
    Name(String),
    Whole(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NameOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Value<T> {
            type Value = NameOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a model's name or a table, as \"my-model\" or { model = \"my-model\", recipes = [\"q4_k_m\"] }")
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(NameOr::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(NameOr::Whole)
            }
        }
        deserializer.deserialize_any(Value(PhantomData))
    }
}

impl<T: Serialize> Serialize for NameOr<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => name.serialize(serializer),
            Self::Whole(whole) => whole.serialize(serializer),
        }
    }
}

/// What the parser says of a configuration: of a value of a wrong kind in the words of TOML, where its own name types of this
/// program.
pub(super) fn told(error: &toml::de::Error) -> String {
    let (text, what) = (error.to_string(), error.message());
    match text.trim_end().strip_suffix(what) {
        // The place comes first.
        Some(place) => format!("{place}{}", in_toml(what)),
        None => in_toml(text.trim_end()),
    }
}

/// The word that stands for another one, by a list of such pairs.
fn word(words: &[(&str, &'static str)], of: &str) -> Option<&'static str> {
    words.iter().find(|(known, _)| *known == of).map(|(_, word)| *word)
}

/// What serde says of a value, in the words of TOML.
fn in_toml(what: &str) -> String {
    const FOUND: [(&str, &str); 2] = [("invalid type: map", "a table"), ("invalid type: sequence", "a list")];
    const TAKEN: [(&str, &str); 8] = [
        ("usize", "a whole number, 0 or more"),
        ("u64", "a whole number, 0 or more"),
        ("u32", "a whole number, 0 or more"),
        ("f64", "a number"),
        ("a boolean", "true or false"),
        ("a string", "a text in quotes"),
        ("a sequence", "a list in brackets, as [\"a\", \"b\"] or [1, 2]"),
        ("a map", "a table"),
    ];
    let Some((found, taken)) = what.rsplit_once(", expected ") else { return what.to_owned() };
    let found = word(&FOUND, found).map_or_else(|| found.to_owned(), |found| format!("invalid type: {found}"));
    format!("{found}, expected {}", word(&TAKEN, taken).unwrap_or(taken))
}
