//! The next thing is made ready while the one before is used: one thread makes, the calling one uses. One finished thing at most
//! waits, so two exist at a time. While there is nothing to use, the calling thread helps with what the other one has put into
//! the thread pool: as a pool's only worker, it would wait for ever otherwise.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use crate::error::Result;

/// How long a worker of the pool waits before it looks for work again.
const NAP: Duration = Duration::from_micros(200);

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
        while let Some(thing) = next(&taken) {
            using(thing?)?;
        }
        Ok(())
    })
}

/// What comes next; `None` when nothing will.
fn next<T>(taken: &Receiver<T>) -> Option<T> {
    loop {
        match taken.try_recv() {
            Ok(thing) => return Some(thing),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => {}
            Some(rayon::Yield::Idle) => match taken.recv_timeout(NAP) {
                Ok(thing) => return Some(thing),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            },
            // No worker of a pool, whose help nobody waits for.
            None => return taken.recv().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EngineError;

    #[test]
    fn the_only_worker_of_a_pool_helps_what_it_waits_for() {
        use rayon::prelude::*;
        let pool = std::sync::Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let (own, (done, finished)) = (pool.clone(), std::sync::mpsc::channel());
        // Whoever waits for it does not hang with it.
        std::thread::spawn(move || {
            let makers = own.clone();
            let make = move |n: u32| Ok(makers.install(|| (0..1000u32).into_par_iter().map(|i| i % (n + 1)).sum::<u32>()));
            let mut sums = Vec::new();
            own.install(|| {
                prefetch(0..4, make, |sum| {
                    sums.push(sum);
                    Ok(())
                })
            })
            .unwrap();
            let _ = done.send(sums);
        });
        assert_eq!(finished.recv_timeout(Duration::from_secs(60)).unwrap(), [0, 500, 999, 1500]);
    }

    #[test]
    fn things_come_in_order_and_either_side_may_fail() {
        let mut seen = Vec::new();
        let mut take = |n: u32| {
            seen.push(n);
            Ok(())
        };
        let double = |n: u32| if n == 7 { Err(EngineError::Interrupted) } else { Ok(2 * n) };
        prefetch(0..5, double, &mut take).unwrap();
        assert!(prefetch(5..10, double, &mut take).is_err());
        assert_eq!(seen, [0, 2, 4, 6, 8, 10, 12]);
        let refuse = |n: u32| if n == 4 { Err(EngineError::Interrupted) } else { Ok(()) };
        assert!(prefetch(0..1000, Ok, refuse).is_err());
    }
}
