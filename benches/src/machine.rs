//! The machine and the versions measured, as shown at the head of every report.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;

use serde::Serialize;

use crate::workload::threads::LOAD_THREAD;

/// What the figures were measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name for itself.
    pub cpu: String,
    /// The number of CPUs this process may use.
    pub cores: usize,
    /// The operating system.
    pub os: &'static str,
}

impl Machine {
    /// Describes the machine this program runs on.
    pub fn here() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| {
            let line = info.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        Self { cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()), cores: cores(), os: std::env::consts::OS }
    }
}

/// Returns the number of CPUs this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Threads of this process, by thread ID.
pub type Threads = BTreeSet<OsString>;

/// Returns the threads of this process that are neither its first nor load threads: the ones that caches
/// started. Linux only.
pub fn threads_of_others() -> Option<Threads> {
    let first = std::process::id().to_string();
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let others = threads.filter_map(Result::ok).filter(|thread| {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        // A thread that has ended meanwhile has no name any more.
        thread.file_name() != first.as_str() && !name.is_empty() && !name.starts_with(LOAD_THREAD)
    });
    Some(others.map(|thread| thread.file_name()).collect())
}

/// Returns how many threads of others exist now that did not exist before. The difference of the two counts
/// would be wrong, since others may have ended since.
pub fn threads_since(before: Option<Threads>) -> Option<usize> {
    before.zip(threads_of_others()).map(|(before, now)| now.difference(&before).count())
}

/// Returns the versions of a crate that this program was built with.
pub fn version_of(name: &str) -> Option<String> {
    const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
    let heading = format!("name = \"{name}\"");
    let mut lines = LOCK.lines();
    let mut versions = Vec::new();
    while let Some(line) = lines.next() {
        if line == heading {
            let version = lines.next()?.strip_prefix("version = ")?;
            versions.push(version.trim_matches('"'));
        }
    }
    (!versions.is_empty()).then(|| versions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::Name;

    #[test]
    fn every_contestant_has_a_version() {
        for name in Name::ALL {
            for contestant in name.crates() {
                assert!(version_of(contestant).is_some(), "{contestant}");
            }
        }
    }
}
