//! Where rows of tasks come from: local files, and with the feature `hub` data sets of the hub, whose progress and whose end on
//! request go through the one who waits. Absent: which rows a task takes.

use std::sync::Arc;

use bitworth_tasks::rows::DataSources;
use bitworth_tasks::rows::map::DataMap;

use crate::Watch;
use crate::error::Result;

/// Calls `work` with the sources; `watch` sees what is fetched meanwhile.
#[cfg(feature = "hub")]
pub fn with_sources<T: Send>(
    map: Option<DataMap>,
    watch: Watch<'_>,
    work: impl FnOnce(Arc<DataSources>) -> Result<T> + Send,
) -> Result<T> {
    use bitworth_hub::{DataSets, Watcher};

    let relay = Arc::new(relay::Relay::default());
    let told = relay.clone();
    let watcher = Watcher { progress: Box::new(relay::Teller(relay.clone())), stop: Box::new(move || told.is_stopped()) };
    let data_sets = Arc::new(relay::OfHub(DataSets::new(watcher)));
    let sources = Arc::new(DataSources { map, data_sets: Some(data_sets) });
    let done = relay.pass_while(watch, move || work(sources));
    if watch.stopped() {
        return Err(crate::error::Error::interrupted());
    }
    done
}

/// Calls `work` with the sources.
#[cfg(not(feature = "hub"))]
pub fn with_sources<T: Send>(
    map: Option<DataMap>,
    _watch: Watch<'_>,
    work: impl FnOnce(Arc<DataSources>) -> Result<T> + Send,
) -> Result<T> {
    work(Arc::new(DataSources { map, data_sets: None }))
}

#[cfg(feature = "hub")]
mod relay {
    //! Documents are made in threads that may outlive the one who waits for them, so what they tell is kept here and passed on.

    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use bitworth_hub::DataSets;
    use bitworth_quant::Progress;
    use bitworth_quant::message::Message;
    use bitworth_quant::progress::Unit;
    use bitworth_tasks::rows::data_set::{DataSetFiles, Listed};

    use crate::Watch;

    /// How often what was told is passed on.
    const OFTEN: Duration = Duration::from_millis(20);

    /// Data sets of the hub.
    #[derive(Debug)]
    pub struct OfHub(pub DataSets);

    impl DataSetFiles for OfHub {
        fn list(&self, data_set: &str, revision: &str) -> Result<Option<Listed>, Message> {
            let list = self.0.list(data_set, revision).map_err(|e| e.message())?;
            Ok(list.map(|list| Listed { files: list.files, whole: list.whole }))
        }

        fn fetch(&self, data_set: &str, revision: &str, paths: &[&str]) -> Result<Vec<PathBuf>, Message> {
            self.0.fetch(data_set, revision, paths).map_err(|e| e.message())
        }
    }

    /// What is told, in order.
    enum Told {
        Start(u64, Unit, String),
        Advance(u64),
        Stage(String),
        Finish,
    }

    /// What was told and not passed on, and whether the work is to end.
    #[derive(Default)]
    pub struct Relay {
        told: Mutex<Vec<Told>>,
        stop: AtomicBool,
    }

    impl Relay {
        pub fn is_stopped(&self) -> bool {
            self.stop.load(Ordering::Relaxed)
        }

        fn tell(&self, what: Told) {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        }

        fn pass(&self, watch: Watch<'_>) {
            self.stop.store(watch.stopped(), Ordering::Relaxed);
            for what in self.told.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                match what {
                    Told::Start(total, unit, name) => watch.progress.start(total, unit, &name),
                    Told::Advance(delta) => watch.progress.advance(delta),
                    Told::Stage(name) => watch.progress.stage(&name),
                    Told::Finish => watch.progress.finish(),
                }
            }
        }

        /// Does `work` in another thread and passes on what is told meanwhile.
        pub fn pass_while<T: Send>(&self, watch: Watch<'_>, work: impl FnOnce() -> T + Send) -> T {
            let done = std::thread::scope(|scope| {
                let worker = scope.spawn(work);
                while !worker.is_finished() {
                    self.pass(watch);
                    // This thread may be the only one that there is for what the other hands out.
                    if rayon::yield_now() != Some(rayon::Yield::Executed) {
                        std::thread::sleep(OFTEN);
                    }
                }
                worker.join()
            });
            self.pass(watch);
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }
    }

    /// The end that tells.
    pub struct Teller(pub Arc<Relay>);

    impl Progress for Teller {
        fn start(&self, total: u64, unit: Unit, what: &str) {
            self.0.tell(Told::Start(total, unit, what.to_owned()));
        }

        fn advance(&self, delta: u64) {
            self.0.tell(Told::Advance(delta));
        }

        fn stage(&self, what: &str) {
            self.0.tell(Told::Stage(what.to_owned()));
        }

        fn finish(&self) {
            self.0.tell(Told::Finish);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::sync::atomic::AtomicU64;

        struct Count(AtomicU64);

        impl Progress for Count {
            fn start(&self, _: u64, _: Unit, _: &str) {}

            fn advance(&self, delta: u64) {
                self.0.fetch_add(delta, Ordering::Relaxed);
            }

            fn finish(&self) {}
        }

        #[test]
        fn what_is_told_is_passed_on_and_the_end_comes_back() {
            let (count, stop) = (Count(AtomicU64::new(0)), AtomicBool::new(false));
            let relay = Arc::new(Relay::default());
            let teller = Teller(relay.clone());
            let worker = relay.clone();
            let answer = relay.pass_while(Watch { progress: &count, stop: &stop }, || {
                teller.advance(3);
                teller.advance(4);
                stop.store(true, Ordering::Relaxed);
                while !worker.is_stopped() {
                    std::thread::yield_now();
                }
                5
            });
            assert_eq!((answer, count.0.load(Ordering::Relaxed)), (5, 7));
        }
    }
}
