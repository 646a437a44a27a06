//! A chat template rendered on minijinja as transformers renders it on jinja2 (`utils/chat_template_utils.py`), with bounded work
//! and output. Absent: where templates come from.

mod json;
pub(crate) mod namespaces;

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat;

use super::{ChatRole, Date, Fault, Message, Tokens};
use crate::faults::{ENDLESS, describe};

/// The template's name in the environment.
const NAME: &str = "chat";
/// Longer templates are none: published ones have up to some 20 KiB.
pub(super) const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Work a template may do, in steps of the interpreter; 64 bytes of text count as one. Published templates take some thousand.
const FUEL: u64 = 300_000;
/// Templates may go over the text of the messages so many times.
const PASSES_OVER_TEXT: u64 = 64;
/// How long a template may take, whatever it does.
const TIME: Duration = Duration::from_secs(5);
/// Values that a template nests without end are dropped level by level.
const STACK: usize = 256 << 20;

/// A template that was read. Errors say what is wrong with it, without its path.
#[derive(Debug)]
pub(super) struct Template {
    source: String,
    environment: Environment<'static>,
    /// `bos_token` and `eos_token`, where the model has them.
    tokens: Vec<(&'static str, String)>,
}

impl Template {
    pub fn new(source: &str, tokens: Tokens, today: Date) -> Result<Self, Fault> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(format!("it has {} bytes; at most {MAX_TEMPLATE_BYTES} are supported", source.len()).into());
        }
        // jinja2 knows newlines of one kind.
        let source = without_generation_tags(&source.replace("\r\n", "\n").replace('\r', "\n"));
        if let Some((line, what)) = namespaces::misused(&source) {
            let text = source.lines().nth(line - 1).unwrap_or_default().trim();
            return Err(format!("{what} in line {line}: {text}").into());
        }
        let environment = environment(today).and_then(|mut environment| {
            environment.add_template_owned(NAME, source.clone())?;
            Ok(environment)
        });
        let environment = environment.map_err(|e| describe(&source, &e))?;
        let tokens = [("bos_token", tokens.bos), ("eos_token", tokens.eos)];
        let tokens = tokens.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
        Ok(Self { source, environment, tokens })
    }

    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Fault> {
        let (environment, context) = self.prepare(messages, add_generation_prompt);
        let (send, receive) = mpsc::channel();
        let work = move || send.send(environment.get_template(NAME).and_then(|template| template.render(context)));
        // A thread of its own, which can be left behind: joining lists costs no fuel, however long they are.
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
        thread.map_err(|e| format!("no thread to render it on: {e}"))?;
        match receive.recv_timeout(TIME) {
            Ok(rendered) => Ok(rendered.map_err(|e| describe(&self.source, &e))?),
            Err(RecvTimeoutError::Timeout) => Err(ENDLESS.into()),
            Err(RecvTimeoutError::Disconnected) => Err("rendering it failed".into()),
        }
    }

    /// The environment with fuel for these messages, and what the template sees.
    fn prepare(&self, messages: &[Message], add_generation_prompt: bool) -> (Environment<'static>, Value) {
        let mut environment = self.environment.clone();
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        environment.set_fuel(Some(FUEL + PASSES_OVER_TEXT * (bytes as u64) / 64));
        let messages: Vec<Value> = messages.iter().map(value).collect();
        let tokens: BTreeMap<&'static str, Value> =
            self.tokens.iter().map(|(name, text)| (*name, Value::from(text.as_str()))).collect();
        let tokens = Value::from(tokens);
        let context = context! {
            messages => messages,
            tools => (),
            documents => (),
            add_generation_prompt => add_generation_prompt,
            ..tokens
        };
        (environment, context)
    }
}

fn value(message: &Message) -> Value {
    let role = match message.role {
        ChatRole::System => "system",
        ChatRole::User => "user",
        ChatRole::Assistant => "assistant",
    };
    context! { role => role, content => message.content.as_str() }
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
