//! Templates of lm-evaluation-harness's task files, as its Jinja renders them for one document: undefined names are errors, the
//! last line break stays, values print as Python prints them, and there is the filter `regex_replace`. Rendering stands in
//! `jinja.rs`, and is there with the feature `chat`.
//!
//! Templates come from strangers: they reach nothing but the document, and their work is bounded. What no count of steps
//! bounds is bounded by time, see [`watched`]. Absent: chat templates (`super::chat`), files and macros of other templates.
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/utils.py`, `apply_template`.

#[cfg(not(feature = "chat"))]
mod absent;
#[cfg(feature = "chat")]
mod filters;
#[cfg(feature = "chat")]
mod format;
#[cfg(feature = "chat")]
mod given;
#[cfg(feature = "chat")]
mod jinja;
#[cfg(feature = "chat")]
mod methods;
#[cfg(feature = "chat")]
mod objects;
#[cfg(feature = "chat")]
mod print;
#[cfg(feature = "chat")]
mod source;
#[cfg(feature = "chat")]
mod wrap;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::faults::ENDLESS;

#[cfg(not(feature = "chat"))]
use absent as jinja;

/// Longer templates are none: the longest published ones have some 100 KiB.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// How long one template may take on one document, whatever it does.
const TIME: Duration = Duration::from_secs(5);
/// The stack of a thread that renders: nested values are dropped level by level.
const STACK: usize = 256 << 20;

/// A template that does not compile, or that fails on a document; the message names the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub(crate) String);

/// A compiled template.
#[derive(Debug)]
pub struct Template(jinja::Compiled);

/// A document as templates see it.
#[derive(Debug, Clone)]
pub struct Scope(jinja::Scope);

impl Scope {
    /// Every field of `doc` is a name.
    pub fn new(doc: &Map<String, Value>) -> Self {
        Self(jinja::Scope::new(doc))
    }
}

impl Template {
    /// Compiles `source`.
    ///
    /// # Errors
    /// It is no Jinja, or too long; any, where the feature `chat` is off.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError(format!("it has {} bytes; at most {MAX_TEMPLATE_BYTES} are supported", source.len())));
        }
        jinja::Compiled::new(source).map(Self)
    }

    /// The names that the template takes of a document, in order of the alphabet; those that it may do without are among them.
    pub fn names(&self) -> Vec<String> {
        self.0.names()
    }

    /// The text for one document. Bounded in steps; call it inside of [`watched`], which bounds the rest.
    ///
    /// # Errors
    /// A name that the document lacks, an operation that fails, too much work.
    pub fn render(&self, scope: &Scope) -> Result<String, TemplateError> {
        let clock = CLOCK.with_borrow(Clone::clone);
        if let Some(clock) = &clock {
            clock.begun.store(clock.now(), Ordering::Relaxed);
        }
        let rendered = self.0.render(&scope.0);
        if let Some(clock) = &clock {
            clock.begun.store(0, Ordering::Relaxed);
        }
        rendered
    }
}

/// When the template that renders now began, in milliseconds of its own count from 1; 0 where none does.
struct Clock {
    origin: Instant,
    begun: AtomicU64,
}

impl Clock {
    fn now(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64 + 1
    }
}

thread_local! {
    static CLOCK: RefCell<Option<Arc<Clock>>> = const { RefCell::new(None) };
}

/// Does `work`, which renders templates, on a thread of its own with a large stack, and waits for it. A template that takes
/// more than some seconds is given up together with its thread: joining lists costs no steps, however long they are.
///
/// # Errors
/// A template that does not end; a thread that cannot be had.
pub fn watched<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TemplateError> {
    let clock = Arc::new(Clock { origin: Instant::now(), begun: AtomicU64::new(0) });
    let (send, receive) = mpsc::channel();
    let own = Arc::clone(&clock);
    let body = move || {
        CLOCK.set(Some(own));
        // Nobody waits any more where sending fails.
        let _ = send.send(work());
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(body);
    thread.map_err(|e| TemplateError(format!("no thread to render templates on: {e}")))?;
    loop {
        match receive.recv_timeout(Duration::from_millis(200)) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Disconnected) => return Err(TemplateError("rendering failed".to_owned())),
            Err(RecvTimeoutError::Timeout) => {
                let begun = clock.begun.load(Ordering::Relaxed);
                if begun > 0 && clock.now().saturating_sub(begun) > TIME.as_millis() as u64 {
                    return Err(TemplateError(ENDLESS.to_owned()));
                }
            }
        }
    }
}

#[cfg(all(test, feature = "chat"))]
mod tests;
