//! The next thing is made ready while the one before is used: one thread makes, the calling one uses. One finished thing at most
//! waits, so two exist at a time.

use std::sync::mpsc::sync_channel;

use crate::engine::error::Result;

/// Calls `using` with what `make` makes of each job, in order.
///
/// # Errors
/// The first error of either.
pub fn prefetch<J: Send, T: Send>(
    jobs: impl Iterator<Item = J> + Send,
    make: impl Fn(J) -> Result<T> + Send,
    mut using: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    // No room in the channel: the thread keeps what it made until it is taken.
    let (ready, taken) = sync_channel::<Result<T>>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for job in jobs {
                let made = make(job);
                let failed = made.is_err();
                // Nobody takes it: the other side has failed.
                if ready.send(made).is_err() || failed {
                    return;
                }
            }
        });
        // Owned here, so that the thread is not waited for while it waits for us.
        let taken = taken;
        for thing in taken.iter() {
            using(thing?)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::error::EngineError;

    #[test]
    fn things_come_in_order_and_either_side_may_fail() {
        let mut seen = Vec::new();
        let double = |n: u32| if n == 7 { Err(EngineError::Interrupted) } else { Ok(2 * n) };
        prefetch(0..5, double, |n| Ok(seen.push(n))).unwrap();
        assert_eq!(seen, [0, 2, 4, 6, 8]);
        assert!(prefetch(5..10, double, |n| Ok(seen.push(n))).is_err());
        assert_eq!(seen[5..], [10, 12]);
        let refuse = |n: u32| if n == 4 { Err(EngineError::Interrupted) } else { Ok(()) };
        assert!(prefetch(0..1000, |n| Ok(n), refuse).is_err());
    }
}
