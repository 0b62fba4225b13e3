//! Message passing to single-threaded state.
//!
//! [`Delegates`] own a number of states (`S:` [`Resident`]), each of which is plain single-threaded code, and bring
//! requests to them. A state is run by exactly one thread at a time, but not always by the same thread:
//!
//! * **`Adaptive`**: a caller who finds a state idle runs it in place, under an ownership word that is only ever
//!   *tried*. If somebody else is running it, the caller leaves a message in the state's mailbox (a bounded
//!   `crossbeam_channel`), and whoever runs the state serves the mailbox, before its own request and after it.
//! * **`PerCore`**: worker threads, one a state and pinned to cores, serve every request; callers only send messages.
//!
//! The crate knows nothing of what the states are. `sark-cache` keeps the shards of a cache in them.
//!
//! # What is promised
//!
//! * No message is left behind, and no waiter: `docs/hand-over.md` has the protocol, each atomic with its reason, and
//!   the model that covers it.
//! * Requests of one caller on one state run in the order of the calls; a call that starts after a post returned sees it.
//! * A panic in a request reaches the one who sent it and nobody else.
//! * A waiting call made from inside a request fails at once ([`TryError::Reentrant`]).
//! * It is not wait-free: a call waits for room in a full mailbox, for its answer, and for a sender that was preempted
//!   between reserving its place in the channel and filling it.

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

/// Who runs the states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// The caller, when the state is idle; otherwise whoever runs it, by message. Worker threads only where they help.
    #[default]
    Adaptive,
    /// Worker threads, always; every request is a message.
    PerCore,
}

/// A state that delegates can own.
///
/// Its methods run while the state is held: they must not block, and may run on any thread that uses the delegates.
pub trait Resident: Send + 'static {
    /// A request that nobody waits for. Travels inline in the message.
    type Post: Send + 'static;

    /// What serving posts leaves over, to be dropped when the state is held no longer: whatever has a destructor that
    /// isn't ours. One is used for many posts; if dropping it does nothing, for any number of them.
    type Leftovers: Default + 'static;

    /// Serves a post.
    fn accept(&mut self, post: Self::Post, leftovers: &mut Self::Leftovers);

    /// Maintenance, run by a worker after [`Delegates::wake_in`] asked for it. Returns how long the next one can wait:
    /// zero for "more at once, others first", `None` for "until I ask again".
    fn tend(&mut self, leftovers: &mut Self::Leftovers) -> Option<Duration> {
        let _ = leftovers;
        None
    }
}
