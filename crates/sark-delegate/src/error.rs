//! Errors: what can be refused, and why.
//!
//! `handle` and `group` return these; calls that can't return an error panic with the same text. A refusal
//! changes nothing, except that some requests of a `run_each` may have run that fails in a forked child.

use thiserror::Error;

/// Why a request was not accepted. Nothing was done; the request is handed back along with the reason.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryError {
    /// The calling thread is running a delegate right now: if it waited for one from inside, it could wait
    /// for itself.
    #[error(
        "called from code that is run with a state, or a shard of a cache, held (a closure, `Clone` or `Eq`): waiting there could never end"
    )]
    Reentrant,
    /// The mailbox has no room.
    #[error("the mailbox is full")]
    Full,
    /// The process is a fork of one that had other threads at work on these delegates: their state may be
    /// torn.
    #[error(
        "used in a forked child: its parent had threads at work here; make a new one in the child, or fork with no worker threads"
    )]
    Forked,
}

/// A request that was not accepted, and why.
#[derive(Clone, Copy, Error)]
#[error("{reason}")]
pub struct Refused<F> {
    /// The request, as it was passed.
    pub request: F,
    /// Why it was not accepted.
    #[source]
    pub reason: TryError,
}

// Not derived: requests are mostly closures, which have no `Debug`, and `unwrap` should work all the same.
impl<F> std::fmt::Debug for Refused<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Why delegates could not be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// There must be at least one state to run.
    #[error("states: none given, at least 1 is needed")]
    NoStates,
    /// `PerCore` without threads could not serve anything.
    #[error("workers: 0 with PerCore dispatch, at least 1 is needed")]
    NoWorkers,
    /// Threads can't have such a name.
    #[error("name: it contains a NUL character, which the name of a thread can't")]
    Name,
    /// A mailbox's capacity must be within bounds.
    #[error("mailbox: a capacity of {0} was given, 1 to 65536 is allowed")]
    Mailbox(usize),
}
