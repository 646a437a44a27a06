//! What a filter or a method is given: arguments by position or by name, as Python takes them. Absent: what is done with them.

use minijinja::value::{Kwargs, Rest};
use minijinja::{Error, ErrorKind, Value};

pub(super) fn wrong(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_string())
}

/// The arguments of these names, in their order.
pub(super) fn bind<const N: usize>(names: [&str; N], rest: Rest<Value>, options: &Kwargs) -> Result<[Option<Value>; N], Error> {
    if rest.0.len() > N {
        return Err(wrong(format!("too many arguments; it takes {}", names.join(", "))));
    }
    let mut made: [Option<Value>; N] = std::array::from_fn(|_| None);
    let mut given = rest.0.into_iter();
    for (slot, name) in made.iter_mut().zip(names) {
        let by_name = if options.has(name) { Some(options.get::<Value>(name)?) } else { None };
        *slot = match (given.next(), by_name) {
            (Some(_), Some(_)) => return Err(wrong(format!("the argument {name} is given twice"))),
            (by_position, by_name) => by_position.or(by_name),
        };
    }
    options.assert_all_used()?;
    Ok(made)
}
