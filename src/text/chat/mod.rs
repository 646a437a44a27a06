//! Chats as a model was trained to read them: its chat template, a Jinja program that comes with the model, rendered on
//! minijinja as transformers renders it on jinja2 (`utils/chat_template_utils.py`).
//!
//! Templates come from strangers: they can reach nothing but the chat they are given, and their work and output are bounded.
//! Absent: tools, documents, several turns of a user's own; reading template files (`quant` puts them into the metadata).

mod date;
mod json;
mod namespaces;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use bitworth_quant::Checkpoint;
use bitworth_quant::gguf::Value as Key;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat;

pub use date::{Date, FormatError, NoDate};

/// The template's name in the environment.
const NAME: &str = "chat";
/// Longer templates are none: published ones have up to some 20 KiB.
const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Work a template may do, in steps of the interpreter; 64 bytes of text count as one. Published templates take some thousand.
const FUEL: u64 = 300_000;
/// Templates may go over the text of the messages so many times.
const PASSES_OVER_TEXT: u64 = 64;
/// How long a template may take, whatever it does.
const TIME: Duration = Duration::from_secs(5);
/// What is said of a template that takes longer.
const ENDLESS: &str = "it does not come to an end in reasonable time";
/// Values that a template nests without end are dropped level by level.
const STACK: usize = 256 << 20;

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

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
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
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }

    fn value(&self) -> Value {
        let role = match self.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        context! { role => role, content => self.content.as_str() }
    }
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
    environment: Environment<'static>,
    /// `bos_token` and `eos_token`, where the model has them.
    tokens: Vec<(&'static str, String)>,
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
        let Some(source) = &vocab.chat_template else {
            let named = match checkpoint.metadata().get("tokenizer.chat_templates") {
                Some(Key::Array(bitworth_quant::gguf::Array::String(names))) => names.join(", "),
                _ => return Err(error("the model has none, so it cannot be asked as a chat".to_owned())),
            };
            return Err(error(format!("the model has no default one, only: {named}")));
        };
        Self::new(checkpoint.path(), source, text(vocab.bos), text(vocab.eos), today)
    }

    /// A template with the texts of a model's begin and end tokens; `path` is for messages.
    ///
    /// # Errors
    /// A template that is no Jinja, or too long.
    pub fn new(path: &Path, source: &str, bos: Option<String>, eos: Option<String>, today: Date) -> Result<Self, ChatError> {
        let fail = |what: String| ChatError::Template { path: path.to_owned(), what };
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(fail(format!("it has {} bytes; at most {MAX_TEMPLATE_BYTES} are supported", source.len())));
        }
        let source = without_generation_tags(source);
        if let Some((line, what)) = namespaces::misused(&source) {
            let text = source.lines().nth(line - 1).unwrap_or_default().trim();
            return Err(fail(format!("{what} in line {line}: {text}")));
        }
        let environment = environment(today).and_then(|mut environment| {
            environment.add_template_owned(NAME, source.clone())?;
            Ok(environment)
        });
        let environment = environment.map_err(|e| fail(describe(&source, &e)))?;
        let tokens = [("bos_token", bos), ("eos_token", eos)];
        let tokens = tokens.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
        Ok(Self { path: path.to_owned(), source, environment, tokens })
    }

    /// The chat as text, up to where the model is to answer. It holds the begin token where the template wants one.
    ///
    /// # Errors
    /// The template refuses the chat, fails, or does too much work: with the line of the template where that happens.
    pub fn render(&self, messages: &[Message]) -> Result<String, ChatError> {
        let fail = |what: String| ChatError::Template { path: self.path.clone(), what };
        let (environment, context) = self.prepare(messages);
        let (send, receive) = mpsc::channel();
        let work = move || send.send(environment.get_template(NAME).and_then(|template| template.render(context)));
        // A thread of its own, which can be left behind: joining lists costs no fuel, however long they are.
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
        thread.map_err(|e| fail(format!("no thread to render it on: {e}")))?;
        match receive.recv_timeout(TIME) {
            Ok(rendered) => rendered.map_err(|e| fail(describe(&self.source, &e))),
            Err(RecvTimeoutError::Timeout) => Err(fail(ENDLESS.to_owned())),
            Err(RecvTimeoutError::Disconnected) => Err(fail("rendering it failed".to_owned())),
        }
    }

    /// The environment with fuel for these messages, and what the template sees.
    fn prepare(&self, messages: &[Message]) -> (Environment<'static>, Value) {
        let mut environment = self.environment.clone();
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        environment.set_fuel(Some(FUEL + PASSES_OVER_TEXT * (bytes as u64) / 64));
        let messages: Vec<Value> = messages.iter().map(Message::value).collect();
        let tokens: BTreeMap<&'static str, Value> =
            self.tokens.iter().map(|(name, text)| (*name, Value::from(text.as_str()))).collect();
        let tokens = Value::from(tokens);
        let context = context! {
            messages => messages,
            tools => (),
            documents => (),
            add_generation_prompt => true,
            ..tokens
        };
        (environment, context)
    }
}

/// minijinja set up as transformers sets jinja2 up.
fn environment(today: Date) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(pycompat::unknown_method_callback);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", |what: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("it says: {what}")))
    });
    environment.add_function("strftime_now", move |format: String| {
        today.format(&format).map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
    });
    Ok(environment)
}

/// `{% generation %}` marks what the model said, for training; here it is a scope of its own and nothing else.
fn without_generation_tags(source: &str) -> String {
    let mut made = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(begin) = rest.find("{%") {
        let (before, tag) = rest.split_at(begin + 2);
        made += before;
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let signs: &[char] = &['-', '+'];
        let word = match tag[..end].trim_matches(signs).trim() {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => continue,
        };
        made += &tag[..end].replacen(tag[..end].trim_matches(signs).trim(), word, 1);
        rest = &tag[end..];
    }
    made + rest
}

/// What went wrong and where in the template.
fn describe(source: &str, error: &Error) -> String {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => ENDLESS.to_owned(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let line = error.line().and_then(|number| Some((number, source.lines().nth(number.checked_sub(1)?)?)));
    match line {
        Some((number, text)) => {
            let text = text.trim();
            let shown: String = text.chars().take(120).collect();
            let more = if shown.len() < text.len() { "..." } else { "" };
            format!("line {number}, `{shown}{more}`: {what}")
        }
        None => what,
    }
}

#[cfg(test)]
mod tests;
