//! An in-process LRU + TTL cache that many threads share.
//!
//! A [`Cache`] consists of shards, and each shard is plain single-threaded code. Callers do not share a lock
//! with each other. A caller runs an idle shard itself, and hands its work to a busy one by message.
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
//! * **The capacity is a hard bound** on the whole cache at every moment, in entries, weight or both. All of
//!   it can be used: nothing is evicted while the whole cache is below it. When [`Cache::set_capacity`]
//!   lowers it, the new bound holds once the call returns.
//! * **Nothing is served past its deadline.** An entry is live while `now < stored_at + ttl`. A hit doesn't
//!   extend that time; time-to-idle is what hits extend. Wherever workers may run, the memory of expired
//!   entries comes back without any call. [`Cache::run_pending_tasks`] reclaims it anywhere.
//! * **The order of eviction is exact LRU** per shard. A small cache has one shard, so there it is exact over
//!   all entries.
//! * **Operations on a key are linearizable.** A batch as a whole is not atomic. Every call that starts after
//!   [`Cache::post_insert`] returned sees the posted entry.
//! * **A panic in your code** reaches the call that ran it and leaves the cache valid.
//! * **No thread starts before it is needed,** and none is busy while there is nothing to do.
//!
//! # Who runs a shard
//!
//! Exactly one thread at a time, in one of two ways ([`Dispatch`]):
//!
//! * `Adaptive`, the default: the caller runs the shard itself if no other thread is running it. Otherwise it
//!   leaves a message, which the thread that runs the shard serves.
//! * `PerCore`: worker threads, one for each shard and pinned to cores by default, serve every request as a
//!   message.
//!
//! Both run the same engine and pass the same tests. [`Cache`] says which of your code may run on which
//! thread.
//!
//! # Where to look
//!
//! * [`Builder`]: capacity, weigher, lifetimes, eviction listener, shards and threads.
//! * [`Cache::get`], [`get_with`](Cache::get_with), [`insert`](Cache::insert),
//!   [`insert_with_ttl`](Cache::insert_with_ttl), [`update`](Cache::update),
//!   [`update_or_insert`](Cache::update_or_insert) and [`remove`](Cache::remove) work on one entry.
//!   [`Cache::get_many`] and [`insert_many`](Cache::insert_many) work on a batch of them,
//!   and [`Cache::post_insert`] doesn't wait.
//! * [`Cache::get_or_insert_with`], for threads, and [`Cache::get_or_insert_async`], for tasks, load a value
//!   on a miss, once for all callers that miss it at the same time.
//! * [`Cache::iter`] goes through all entries, and [`Cache::retain`] removes those that a predicate rejects.
//! * [`Cache::stats`] counts hits, misses and removals.
//! * [`Clock::manual`] is a clock that tests move by hand.
//! * [`LruTtlCache`] is a ready-made cache of strings whose operations return errors.

mod arrival;
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
mod upsert;

pub use builder::{Builder, ConfigError};
pub use cache::Cache;
pub use clock::{Clock, Hands, Timekeeping};
pub use equivalent::Equivalent;
pub use iter::Iter;
pub use sark_delegate::{Dispatch, DispatchCounts, Transport};
pub use sark_shard::RemovalCause;
pub use stats::Stats;
pub use string_cache::{CacheError, LruTtlCache, Text, TimedText};

/// The README's Rust example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
