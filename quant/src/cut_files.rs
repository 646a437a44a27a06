//! Files that are cut short while they are mapped, or that a disk or a network file system cannot read any more: reading such a
//! map faults (SIGBUS), and the system ends the process without a word. A program that asks for it ends with an error that names
//! the file instead. Where maps stand is kept in a list that the signal's handler can read: it may neither lock nor allocate.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

/// Bytes of a path that are kept; of a longer one, the end.
const PATH: usize = 512;

/// Where a file is mapped. Entries are never freed, so that the handler may look at any of them at any time; those of maps that
/// are gone are used again.
struct Entry {
    /// The first address; 0 where the entry is free.
    start: AtomicUsize,
    bytes: AtomicUsize,
    path: [AtomicU8; PATH],
    path_bytes: AtomicUsize,
    next: AtomicPtr<Entry>,
}

static FIRST: AtomicPtr<Entry> = AtomicPtr::new(std::ptr::null_mut());
/// Held while the list is changed.
static CHANGES: Mutex<()> = Mutex::new(());

/// All entries.
fn entries() -> impl Iterator<Item = &'static Entry> {
    let mut at = FIRST.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: the list holds null, or pointers to entries that are never freed.
        #[allow(unsafe_code)]
        let entry: Option<&'static Entry> = unsafe { at.as_ref() };
        at = entry?.next.load(Ordering::Acquire);
        entry
    })
}

/// An entry of the list, for as long as its map stands.
pub(crate) struct Watched(&'static Entry);

impl Watched {
    /// `bytes` of the file at `path` stand at the address `start`.
    pub(crate) fn new(path: &Path, start: usize, bytes: usize) -> Self {
        let _changing = CHANGES.lock().unwrap_or_else(|e| e.into_inner());
        let entry = entries().find(|entry| entry.start.load(Ordering::Acquire) == 0).unwrap_or_else(|| {
            let entry = Box::leak(Box::new(Entry {
                start: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
                path: [const { AtomicU8::new(0) }; PATH],
                path_bytes: AtomicUsize::new(0),
                next: AtomicPtr::new(FIRST.load(Ordering::Acquire)),
            }));
            FIRST.store(entry, Ordering::Release);
            entry
        });
        let path = path.as_os_str().as_encoded_bytes();
        let path = &path[path.len().saturating_sub(PATH)..];
        entry.path.iter().zip(path).for_each(|(kept, byte)| kept.store(*byte, Ordering::Relaxed));
        entry.path_bytes.store(path.len(), Ordering::Relaxed);
        entry.bytes.store(bytes, Ordering::Relaxed);
        // A reader that sees this store sees the ones above, too.
        entry.start.store(start, Ordering::Release);
        Self(entry)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
    }
}

/// From now on, a mapped model file that cannot be read any more ends the process with an error on stderr that names it, and with
/// the exit code 2. For programs: what they were writing stays behind, as when they are killed. Other faults do what they did
/// before. Does nothing where the system has no such signal.
pub fn end_with_an_error() {
    #[cfg(unix)]
    handler::install();
}

#[cfg(unix)]
mod handler {
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering;

    use nix::libc::{c_int, c_void, siginfo_t};
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    use super::{PATH, entries};

    /// What was done before.
    static BEFORE: OnceLock<SigAction> = OnceLock::new();

    const WHAT: &[u8] = b": cannot be read any more: it was cut short while it was in use, or its disk or network file system \
                          failed; fetch or copy it again, and run the command again\n";

    pub(super) fn install() {
        let action = SigAction::new(SigHandler::SigAction(end), SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK, SigSet::empty());
        // SAFETY: the handler reads atomics and calls only what POSIX allows in one.
        #[allow(unsafe_code)]
        let before = unsafe { sigaction(Signal::SIGBUS, &action) };
        // A system that refuses leaves faults what they are.
        if let Ok(before) = before {
            let _ = BEFORE.set(before);
        }
    }

    extern "C" fn end(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
        // SAFETY: the system gives a handler with SA_SIGINFO a whole record, and the address is what SIGBUS has.
        #[allow(unsafe_code)]
        let address = unsafe { (*info).si_addr() } as usize;
        let hit = entries().find(|entry| {
            let start = entry.start.load(Ordering::Acquire);
            start > 0 && (start..start + entry.bytes.load(Ordering::Relaxed)).contains(&address)
        });
        match hit {
            Some(entry) => {
                let mut path = [0; PATH];
                path.iter_mut().zip(&entry.path).for_each(|(byte, kept)| *byte = kept.load(Ordering::Relaxed));
                let path = &path[..entry.path_bytes.load(Ordering::Relaxed).min(PATH)];
                for part in [b"error: ".as_slice(), path, WHAT] {
                    let _ = rustix::io::write(rustix::stdio::stderr(), part);
                }
                // SAFETY: ends the process at once, without what others have registered for its end.
                #[allow(unsafe_code)]
                unsafe {
                    nix::libc::_exit(2)
                }
            }
            // The same instruction faults again and meets what was there before.
            None => {
                let before = BEFORE.get().copied();
                let default = || SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
                // SAFETY: as above.
                #[allow(unsafe_code)]
                let _ = unsafe { sigaction(Signal::SIGBUS, &before.unwrap_or_else(default)) };
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::mmap::map_file;

    const CUT: &str = "BITWORTH_TEST_CUT_FILE";

    #[test]
    fn a_file_cut_short_under_its_map_is_named() {
        // The process that faults is another one: this test once more.
        if let Some(path) = std::env::var_os(CUT) {
            end_with_an_error();
            let path = Path::new(&path);
            std::fs::write(path, vec![1; 1 << 16]).unwrap();
            drop(map_file(path).unwrap());
            let map = map_file(path).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_len(1 << 12).unwrap();
            assert_eq!(map[0], 1);
            assert_eq!(map[1 << 15], 1, "it was cut off");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.gguf");
        let name = std::thread::current().name().unwrap().to_owned();
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.arg(&name).env("RUST_TEST_NOCAPTURE", "1").env(CUT, &path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let expected = format!("error: {}: cannot be read any more", path.display());
        assert!(said.contains(&expected), "{said}");
    }

    #[test]
    fn entries_of_maps_that_are_gone_are_used_again() {
        let first = Watched::new(Path::new("a"), 1 << 60, 1);
        let entry: *const Entry = first.0;
        drop(first);
        // Other tests map files meanwhile and may take it first; the list does not grow by more than they need.
        let before = entries().count();
        for _ in 0..1000 {
            drop(Watched::new(Path::new("b"), 1 << 60, 1));
        }
        assert!(entries().any(|other| std::ptr::eq(other, entry)) && entries().count() < before + 100);
    }
}
