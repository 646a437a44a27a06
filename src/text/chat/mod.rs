//! Chats as a model was trained to read them: its chat template, a Jinja program that comes with the model. What a chat is stands
//! here; rendering stands in `jinja/`, and is there with the feature `chat`.
//!
//! Templates come from strangers: they can reach nothing but the chat they are given, and their work and output are bounded.
//! Absent: tools, documents, several turns of a user's own; reading template files (`quant` puts them into the metadata).

#[cfg(not(feature = "chat"))]
mod absent;
mod date;
#[cfg(feature = "chat")]
mod jinja;
#[cfg(feature = "chat")]
pub(crate) use jinja::namespaces;

use std::path::{Path, PathBuf};

use bitworth_quant::Checkpoint;
use bitworth_quant::gguf::Value as MetadataValue;

use crate::python;
#[cfg(not(feature = "chat"))]
use absent::Template;
pub use date::{Date, FormatError, NoDate};
#[cfg(feature = "chat")]
use jinja::Template;

/// A chat template that is missing, broken or that refuses a chat.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model's vocabulary cannot be read.
    #[error(transparent)]
    Model(#[from] bitworth_quant::Error),
    /// The template is missing or fails.
    #[error("{}: chat template: {what}", path.display())]
    Template {
        /// The model.
        path: PathBuf,
        /// What is wrong, and in which line of the template.
        what: String,
    },
}

impl ChatError {
    /// All of what it says, causes included.
    pub fn message(&self) -> bitworth_quant::message::Message {
        match self {
            Self::Model(e) => e.message(),
            Self::Template { .. } => self.to_string().into(),
        }
    }
}

/// What is wrong with a template; [`ChatError`] adds whose it is.
#[derive(Debug)]
struct Fault(String);

impl<T: Into<String>> From<T> for Fault {
    fn from(what: T) -> Self {
        Self(what.into())
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatRole {
    /// Instructions for the whole chat.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: ChatRole,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: ChatRole, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// The texts of a model's begin and end tokens, where it has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// `bos_token` of a template.
    pub bos: Option<String>,
    /// `eos_token` of a template.
    pub eos: Option<String>,
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
    template: Template,
}

impl ChatTemplate {
    /// The template of a checkpoint, for chats on `today`.
    ///
    /// # Errors
    /// A model without one, or with one that is no Jinja.
    pub fn of(checkpoint: &Checkpoint, today: Date) -> Result<Self, ChatError> {
        let vocab = checkpoint.vocab()?;
        let text = |id: Option<u32>| vocab.tokens.get(id? as usize).cloned();
        let error = |what: String| ChatError::Template { path: checkpoint.path().to_owned(), what };
        let file = checkpoint.template_file()?;
        if let (Some(file), Some(entry)) = (&file, &vocab.chat_template)
            && newlines(file) != newlines(entry)
        {
            tracing::warn!(
                "{} has a chat_template.jinja and another template in tokenizer_config.json; chats of the folder use the file, a \
                 GGUF made of it has the other",
                checkpoint.path().display()
            );
        }
        let Some(source) = file.as_ref().or(vocab.chat_template.as_ref()) else {
            let named = match checkpoint.metadata().get("tokenizer.chat_templates") {
                Some(MetadataValue::Array(bitworth_quant::gguf::Array::String(names))) => names.join(", "),
                _ => return Err(error("the model has none, so it cannot be asked as a chat".to_owned())),
            };
            return Err(error(format!("the model has no default one, only: {named}")));
        };
        let tokens = Tokens { bos: text(vocab.bos), eos: text(vocab.eos) };
        Self::new(checkpoint.path(), source, tokens, today)
    }

    /// A template of a model with these tokens; `path` is for messages.
    ///
    /// # Errors
    /// A template that is no Jinja, or too long; any, where the feature `chat` is off.
    pub fn new(path: &Path, source: &str, tokens: Tokens, today: Date) -> Result<Self, ChatError> {
        let template =
            Template::new(source, tokens, today).map_err(|Fault(what)| ChatError::Template { path: path.to_owned(), what })?;
        Ok(Self { path: path.to_owned(), source: source.to_owned(), template })
    }

    /// The template itself, as the model brings it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The chat as text, up to where the model is to answer. It holds the begin token where the template wants one.
    ///
    /// # Errors
    /// The template refuses the chat, fails, or does too much work: with the line of the template where that happens.
    pub fn render(&self, messages: &[Message]) -> Result<String, ChatError> {
        self.render_up_to(messages, false)
    }

    /// The same; where `goes_on` says so, the last message is the beginning of the model's answer, which ends the text as it is
    /// (transformers' `continue_final_message`).
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; a template that changes the last message.
    pub fn render_up_to(&self, messages: &[Message], goes_on: bool) -> Result<String, ChatError> {
        let fail = |what: String| ChatError::Template { path: self.path.clone(), what };
        let rendered = self.template.render(messages, !goes_on).map_err(|Fault(what)| fail(what))?;
        let Some(last) = messages.last().filter(|_| goes_on) else { return Ok(rendered) };
        up_to(&rendered, &last.content)
            .ok_or_else(|| fail("it does not write the beginning of an answer as it is given".to_owned()))
    }
}

/// The text up to the end of the last `begun` in it. As in transformers (`continue_final_message`), blanks at the end of what was
/// begun count where the text has them there.
fn up_to(rendered: &str, begun: &str) -> Option<String> {
    let bare = python::strip(begun);
    let at = rendered.rfind(bare)?;
    let end = if rendered[at..].starts_with(begun) { begun.len() } else { bare.len() };
    Some(rendered[..at + end].to_owned())
}

/// A template with newlines of one kind.
fn newlines(template: &str) -> String {
    template.replace("\r\n", "\n").replace('\r', "\n")
}

#[cfg(all(test, feature = "chat"))]
mod tests;
