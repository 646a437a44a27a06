//! Who measured: the sessions that files of records name, and the sentence that a page says of them. Records do not depend on
//! it, and neither does Markdown, so that what was measured twice alike gives the same report.

use std::path::PathBuf;

use bitworth_eval::record::SessionInfo;
use bitworth_eval::records;
use bitworth_quant::Result;
use chrono::DateTime;

/// How many sessions the sentence lists.
const LISTED: usize = 5;

/// The sessions that measured what is in these runs' folders, each once, in the order in which they began. Files of earlier
/// versions name none.
///
/// # Errors
/// See [`records::sessions`].
pub fn load(dirs: &[PathBuf]) -> Result<Vec<SessionInfo>> {
    let mut all: Vec<SessionInfo> = Vec::new();
    for dir in dirs {
        for session in records::sessions(dir)? {
            if !all.contains(&session) {
                all.push(session);
            }
        }
    }
    all.sort_by_key(|session| session.unix_seconds);
    Ok(all)
}

/// By which program, where and when; `None` where no file says so.
pub fn sentence(sessions: &[SessionInfo]) -> Option<String> {
    let listed: Vec<String> = sessions.iter().take(LISTED).map(told).collect();
    match sessions.len() {
        0 => None,
        1 => Some(format!("Measured by {}.", listed[0])),
        count if count <= LISTED => Some(format!("Measured in {count} sessions: {}.", listed.join("; "))),
        count => Some(format!("Measured in {count} sessions: {}; and {} more.", listed.join("; "), count - LISTED)),
    }
}

fn told(session: &SessionInfo) -> String {
    let SessionInfo { unix_seconds, host, threads, bitworth, commit, .. } = session;
    let commit = commit.as_ref().map_or_else(String::new, |commit| format!(" ({commit})"));
    let host = host.as_ref().map_or_else(String::new, |host| format!(" on {host}"));
    let threads = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
    let begin = i64::try_from(*unix_seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let begin = begin.map_or_else(String::new, |begin| format!(", begun {}", begin.format("%Y-%m-%d %H:%M UTC")));
    format!("bitworth {bitworth}{commit}{host} with {threads}{begin}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Report;
    use bitworth_eval::sample;

    fn session(number: u64) -> SessionInfo {
        SessionInfo {
            unix_seconds: 1_700_000_000 + number,
            host: Some(format!("host-{number}")),
            system: None,
            threads: 1,
            bitworth: "1.2.3".into(),
            commit: Some("0123456789ab".into()),
        }
    }

    #[test]
    fn sessions_are_told_in_one_sentence() {
        assert_eq!(sentence(&[]), None);
        // As GNU date says of @1700000000.
        let one = "bitworth 1.2.3 (0123456789ab) on host-0 with 1 thread, begun 2023-11-14 22:13 UTC";
        assert_eq!(sentence(&[session(0)]).unwrap(), format!("Measured by {one}."));
        let unknown = SessionInfo { unix_seconds: u64::MAX, host: None, commit: None, threads: 2, ..session(1) };
        let both = sentence(&[session(0), unknown]).unwrap();
        assert_eq!(both, format!("Measured in 2 sessions: {one}; bitworth 1.2.3 with 2 threads."));
        let many = sentence(&(0..9).map(session).collect::<Vec<_>>()).unwrap();
        assert!(many.contains("9 sessions") && many.contains("host-4") && many.ends_with("; and 4 more."), "{many}");
        assert!(!many.contains("host-5"), "{many}");
    }

    #[test]
    fn the_page_says_who_measured_and_markdown_does_not() {
        let [told, untold] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let mut report = Report::new(&sample::records()).unwrap();
        report.write(untold.path()).unwrap();
        report.sessions = vec![session(0)];
        report.write(told.path()).unwrap();
        let read = |dir: &tempfile::TempDir, name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read(&told, "report.html").contains("Measured by bitworth 1.2.3 (0123456789ab) on host-0"));
        assert!(!read(&untold, "report.html").contains("Measured by"), "nothing is said of what is not known");
        for name in ["report.md", "summary.csv"] {
            assert_eq!(read(&told, name), read(&untold, name));
        }
    }

    #[test]
    fn every_session_is_taken_once() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let records = &sample::records()[..3];
        let append = |dir: usize, item: &str, session: Option<&SessionInfo>| {
            records::append(dirs[dir].path(), item, records, session).unwrap();
        };
        append(0, "a", Some(&session(7)));
        append(0, "b", Some(&session(7)));
        append(0, "c", None);
        append(1, "a", Some(&session(3)));
        append(1, "b", Some(&session(7)));
        let paths: Vec<PathBuf> = dirs.iter().map(|dir| dir.path().to_owned()).collect();
        assert_eq!(load(&paths).unwrap(), [session(3), session(7)]);
    }
}
