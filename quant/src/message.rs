//! Texts for people in which settings of a library stand as values: "allow the loss with `allow_requantize`" is a text and a
//! [`Setting`], and a program with a command line tells it as "allow the loss with --allow-requantize". What a program can be
//! asked to do stands in them as a [`Command`].
//!
//! What is absent: what programs call settings and commands. [`Message::describe`] is told that.

use std::fmt;

use serde::{Serialize, Serializer};

/// Something that a caller of a library can set, under the name that the library has for it: `allow_requantize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Setting(&'static str);

impl Setting {
    /// A setting; its name is in lower case, with underscores.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// It with a value, as a remedy or a cause: `max_memory 4096`.
    pub fn with(self, value: impl fmt::Display) -> Message {
        Message { pieces: vec![Piece::Setting(self, Some(value.to_string()))] }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The enum, its list and its names from one table.
macro_rules! commands {
    ($($(#[$doc:meta])* $command:ident $name:literal,)*) => {
        /// What a program that is made of these libraries can be asked to do, as far as messages name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Command {
            $($(#[$doc])* $command,)*
        }

        impl Command {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$command,)*];

            /// Its name, in lower case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$command => $name,)*
                }
            }
        }
    };
}

commands! {
    /// Fits the constants of the speed model.
    Calibrate "calibrate",
    /// Measures what candidates lost against a reference.
    Compare "compare",
    /// Says what a model is and what its files hold.
    Inspect "inspect",
    /// Measures what every unit of a model loses in every type.
    Measure "measure",
    /// Makes files of other types.
    Quantize "quantize",
    /// Makes tables and pages of records.
    Report "report",
    /// Does a job in a folder.
    Run "run",
    /// Scores prompts.
    Score "score",
}

/// What a message names as a value. Displayed, it has the library's own words: `device`, `the command inspect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// What a caller can set.
    Setting(Setting),
    /// What a program can be asked to do.
    Command(Command),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(setting) => setting.fmt(f),
            Self::Command(command) => write!(f, "the command {}", command.name()),
        }
    }
}

/// What a program calls settings and commands.
pub type Names<'a> = &'a dyn Fn(Subject) -> String;

/// A text with settings and commands in it. Displayed, those have the library's own names.
///
/// It is also the error of small functions whose callers know which file or option it is about.
///
/// ```
/// use bitworth_quant::message::{Command, Message, Setting, Subject};
///
/// const DEVICE: Setting = Setting::new("device");
/// let message = Message::from("out of memory: use ").then(DEVICE.with("cpu"));
/// assert_eq!(message.to_string(), "out of memory: use device cpu");
/// let typed = |subject| match subject {
///     Subject::Setting(setting) => format!("--{setting}"),
///     Subject::Command(command) => format!("my-program {}", command.name()),
/// };
/// assert_eq!(message.describe(&typed), "out of memory: use --device cpu");
/// let message = message.then(", or begin with ").then(Command::Inspect);
/// assert_eq!(message.describe(&typed), "out of memory: use --device cpu, or begin with my-program inspect");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    pieces: Vec<Piece>,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A setting, and the value it has or should have.
    Setting(Setting, Option<String>),
    Command(Command),
}

impl Message {
    /// It and what comes behind it.
    #[must_use]
    pub fn then(mut self, more: impl Into<Self>) -> Self {
        for piece in more.into().pieces {
            match (self.pieces.last_mut(), piece) {
                (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
                (_, piece) => self.pieces.push(piece),
            }
        }
        self
    }

    /// Several messages with a text between each two.
    pub fn joined(messages: impl IntoIterator<Item = Self>, between: &str) -> Self {
        let join = |all: Self, next: Self| all.then(between).then(next);
        messages.into_iter().reduce(join).unwrap_or_default()
    }

    /// The text, with settings and commands by the names that `name` gives them.
    pub fn describe(&self, name: Names<'_>) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Setting(setting, None) => name(Subject::Setting(*setting)),
            Piece::Setting(setting, Some(value)) => format!("{} {value}", name(Subject::Setting(*setting))),
            Piece::Command(command) => name(Subject::Command(*command)),
        };
        self.pieces.iter().map(piece).collect()
    }

    /// The same message with the names that `name` gives to its settings and commands: whatever shows it then shows those.
    #[must_use]
    pub fn named(&self, name: Names<'_>) -> Self {
        self.describe(name).into()
    }

    /// The settings in it.
    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) | Piece::Command(_) => None,
            Piece::Setting(setting, _) => Some(*setting),
        })
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(&|subject| subject.to_string()))
    }
}

impl std::error::Error for Message {}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self { pieces: if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] } }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Setting> for Message {
    fn from(setting: Setting) -> Self {
        Self { pieces: vec![Piece::Setting(setting, None)] }
    }
}

impl From<Command> for Message {
    fn from(command: Command) -> Self {
        Self { pieces: vec![Piece::Command(command)] }
    }
}

impl From<&Message> for Message {
    fn from(message: &Message) -> Self {
        message.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Setting = Setting::new("device");
    const MAX_MEMORY: Setting = Setting::new("max_memory");

    #[test]
    fn settings_have_the_librarys_names_or_those_of_the_caller() {
        let message = Message::from("give ").then(MAX_MEMORY.with(64)).then(", or another ").then(DEVICE).then(".");
        assert_eq!(message.to_string(), "give max_memory 64, or another device.");
        let flag = |subject: Subject| format!("--{}", subject.to_string().replace('_', "-"));
        assert_eq!(message.describe(&flag), "give --max-memory 64, or another --device.");
        assert_eq!(message.named(&flag).to_string(), "give --max-memory 64, or another --device.");
        assert_eq!(message.settings().collect::<Vec<_>>(), [MAX_MEMORY, DEVICE]);
    }

    #[test]
    fn commands_are_named_by_the_caller_and_are_no_settings() {
        let message = Message::from("see what ").then(Command::Inspect).then(" says of ").then(DEVICE);
        assert_eq!(message.to_string(), "see what the command inspect says of device");
        let typed = |subject| match subject {
            Subject::Setting(setting) => setting.name().to_owned(),
            Subject::Command(command) => format!("$ {}", command.name()),
        };
        assert_eq!(message.describe(&typed), "see what $ inspect says of device");
        assert_eq!(message.settings().collect::<Vec<_>>(), [DEVICE]);
    }

    #[test]
    fn a_message_is_the_same_however_it_is_put_together() {
        assert_eq!(Message::from("a").then("").then("b"), Message::from("ab"));
        assert_eq!(Message::from(""), Message::default());
        assert_eq!(Message::joined(["a", "b", "c"].map(Message::from), " and "), "a and b and c".into());
        assert!(Message::joined([], " and ").is_empty());
    }
}
