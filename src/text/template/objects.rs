//! Values that only templates make: what `range`, `cycler` and `joiner` give, and the views of a dictionary. They are like
//! Python's in what they print and compare equal to. Absent: anything that a template could put a value into.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use minijinja::value::{Enumerator, Object, ObjectRepr, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// Longer ranges are refused, as minijinja's own are.
const MOST: usize = 100_000;

/// `range(start, stop, step)`.
#[derive(Debug)]
pub(super) struct Range {
    start: i64,
    stop: i64,
    step: i64,
    length: usize,
}

impl Range {
    /// The global function.
    pub(super) fn make(first: i64, stop: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
        let (start, stop) = stop.map_or((0, first), |stop| (first, stop));
        let step = step.unwrap_or(1);
        let wrong = |what: &str| Error::new(ErrorKind::InvalidOperation, what.to_owned());
        let (low, high) = match step {
            0 => return Err(wrong("range() with a step of zero")),
            1.. => (start, stop),
            _ => (stop, start),
        };
        let distance = (i128::from(high) - i128::from(low)).max(0) as u128;
        let length = distance.div_ceil(u128::from(step.unsigned_abs()));
        match usize::try_from(length) {
            Ok(length) if length <= MOST => Ok(Value::from_object(Self { start, stop, step, length })),
            _ => Err(wrong("range has too many elements")),
        }
    }

    /// `repr(range)`.
    pub(super) fn text(&self) -> String {
        match self.step {
            1 => format!("range({}, {})", self.start, self.stop),
            step => format!("range({}, {}, {step})", self.start, self.stop),
        }
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = key.as_usize().filter(|at| *at < self.length)?;
        Some(Value::from(self.start + self.step * at as i64))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.length)
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.length)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// What `items()`, `keys()` and `values()` of a dictionary give.
#[derive(Debug)]
pub(super) struct View {
    /// The method's name.
    pub(super) of: &'static str,
    pub(super) items: Vec<Value>,
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(self.items.clone().into_iter()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }
}

/// `cycler(...)`.
#[derive(Debug)]
pub(super) struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Cycler {
    /// The global function.
    pub(super) fn make(items: Vec<Value>) -> Result<Value, Error> {
        if items.is_empty() {
            return Err(Error::new(ErrorKind::InvalidOperation, "cycler takes at least one item"));
        }
        Ok(Value::from_object(Self { items, at: AtomicUsize::new(0) }))
    }

    fn current(&self) -> Value {
        self.items[self.at.load(Ordering::Relaxed) % self.items.len()].clone()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "current" => Some(self.current()),
            "pos" => Some(Value::from(self.at.load(Ordering::Relaxed) % self.items.len())),
            _ => None,
        }
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "next" => {
                let () = from_args(args)?;
                let item = self.current();
                self.at.fetch_add(1, Ordering::Relaxed);
                Ok(item)
            }
            "reset" => {
                let () = from_args(args)?;
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `joiner(between)`: nothing the first time, then what stands between.
#[derive(Debug)]
pub(super) struct Joiner {
    between: String,
    used: AtomicBool,
}

impl Joiner {
    /// The global function.
    pub(super) fn make(between: Option<String>) -> Value {
        Value::from_object(Self { between: between.unwrap_or_else(|| ", ".to_owned()), used: AtomicBool::new(false) })
    }
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let () = from_args(args)?;
        Ok(Value::from(if self.used.swap(true, Ordering::Relaxed) { self.between.as_str() } else { "" }))
    }
}
