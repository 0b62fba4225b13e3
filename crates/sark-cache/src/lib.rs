//! An embedded LRU + TTL cache whose shards are plain single-threaded code, and whose callers hand work to a shard by
//! message instead of sharing a lock with each other.
//!
//! ```
//! use std::time::Duration;
//! use sark_cache::Cache;
//!
//! let cache = Cache::builder().max_capacity(100_000).time_to_live(Duration::from_secs(300)).build()?;
//! cache.insert("user:42".to_owned(), "allow");
//! assert_eq!(cache.get("user:42"), Some("allow"));
//!
//! let there = cache.clone(); // a handle of the same cache
//! std::thread::spawn(move || there.insert("user:43".to_owned(), "deny")).join().unwrap();
//! assert_eq!(cache.get_many(["user:42", "user:43"]), [Some("allow"), Some("deny")]);
//! # Ok::<(), sark_cache::ConfigError>(())
//! ```
//!
//! # What it promises
//!
//! * **The capacity is a hard bound** on the whole cache at every moment, in entries, weight or both, and all of it can be
//!   used: nothing is evicted while the whole is below it. After [`Cache::set_capacity`] to less, it holds again when the call returns.
//! * **Nothing is served past its deadline**: an entry is live while `now < stored_at + ttl`. A hit doesn't extend that
//!   (time-to-idle does). Memory of what expired comes back with nobody calling wherever workers may run, and on
//!   [`Cache::run_pending_tasks`] anywhere.
//! * **The order of eviction is exact LRU** per shard, and over everything if there is one shard, which is so for small caches.
//! * **Operations on a key are linearizable.** A batch is not atomic as a whole. A posted insertion is seen by every call that
//!   starts after the post returned.
//! * A panic in your code reaches the call that ran it, and leaves the cache valid.
//! * No thread is started before it is needed, and none is busy while there is nothing to do.
//!
//! # Who runs a shard
//!
//! See [`Dispatch`]. Both ways run the same engine and pass the same tests.

mod batch;
mod builder;
mod cache;
mod clock;
mod gathering;
mod hints;
mod iter;
mod ledger;
mod load;
mod outgoing;
mod resident;
mod retain;
mod stats;
mod storing;
mod string_cache;

pub use builder::{Builder, ConfigError};
pub use cache::Cache;
pub use clock::{Clock, Hands, Timekeeping};
pub use equivalent::Equivalent;
pub use iter::Iter;
pub use sark_delegate::{Dispatch, DispatchCounts, Transport};
pub use sark_shard::RemovalCause;
pub use stats::Stats;
pub use string_cache::{CacheError, LruTtlCache, Text, TimedText};
