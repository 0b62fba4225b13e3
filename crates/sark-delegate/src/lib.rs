//! Message passing to single-threaded state.
//!
//! [`Delegates`] own a number of states (`S:` [`Resident`]), each of which is plain single-threaded code, and
//! bring requests to them. Exactly one thread runs a state at a time, but not always the same one:
//!
//! * **`Adaptive`**: a caller that finds a state idle runs it in place, under an ownership word that is only
//!   ever *tried*. If another thread is running the state, the caller leaves a message in the state's mailbox
//!   (a bounded `crossbeam_channel`). The runner serves the mailbox before its own request and after it.
//! * **`PerCore`**: worker threads, by default one per state and pinned to cores, serve every request.
//!   Callers only send messages.
//!
//! The crate knows nothing about what the states are. `sark-cache` keeps the shards of a cache in them.
//!
//! # What is promised
//!
//! * No message is left behind, and no waiter: `docs/hand-over.md` describes the protocol, gives the reason
//!   for each atomic, and names the model that covers it.
//! * Requests of one caller on one state run in the order of the calls. A call that starts after a post
//!   returned sees that post.
//! * A panic in a request reaches the caller that sent it and no other.
//! * A waiting call made from inside a request fails at once ([`TryError::Reentrant`]).
//! * It is not wait-free: a call waits for room in a full mailbox, for its answer, and for a sender that was
//!   preempted between reserving its place in the channel and filling it.

mod aftermath;
mod barrier;
mod counts;
mod delegate;
mod entered;
mod error;
#[cfg(all(unix, not(loom), not(miri)))]
mod fork;
mod group;
mod handle;
mod inside;
mod mailbox;
mod ownership;
mod putting_off;
mod reply;
#[cfg(not(loom))]
mod signals;
mod slots;
mod submission;
mod sync;
mod task;
mod turn;
mod waiting;
mod worker;

use std::time::Duration;

pub use barrier::Barrier;
pub use counts::DispatchCounts;
pub use entered::{Entered, EnteredSeveral};
pub use error::{ConfigError, Refused, TryError};
pub use handle::{Config, Delegates, Transport};
pub use inside::is_inside;
pub use putting_off::OthersPutOff;
pub use submission::Submission;

/// Which threads run the states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// The caller runs an idle state itself; a busy one gets a message, which its runner serves. Worker
    /// threads are started only where they help.
    #[default]
    Adaptive,
    /// Worker threads run everything; every request is a message.
    PerCore,
}

/// A state that delegates can own.
///
/// Its methods run while the state is held: they must not block, and may run on any thread that uses the
/// delegates.
pub trait Resident: Send + 'static {
    /// A request that no caller waits for. It travels inline in the message.
    type Post: Send + 'static;

    /// What serving posts leaves over: everything with a destructor that isn't ours, to be dropped once the
    /// state is no longer held. One value collects the leftovers of many posts; if dropping it does nothing,
    /// of any number of them.
    type Leftovers: Default + 'static;

    /// Serves a post.
    fn accept(&mut self, post: Self::Post, leftovers: &mut Self::Leftovers);

    /// Runs maintenance. A worker calls this after [`Delegates::wake_in`] asked for it. Returns how long the
    /// next run can wait: zero means "more to do at once, but others first", `None` means "until I ask
    /// again".
    fn tend(&mut self, leftovers: &mut Self::Leftovers) -> Option<Duration> {
        let _ = leftovers;
        None
    }
}
