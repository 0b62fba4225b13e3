//! A plain string cache for services that used to keep short strings in Redis, with errors instead of
//! options.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::builder::ConfigError;
use crate::{Builder, Cache};

/// Why an [`LruTtlCache`] refused something.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheError {
    /// The entry is heavier than the whole cache. It isn't stored, and an older value of the key is
    /// forgotten.
    #[error("value: key and value are {weight} bytes, at most {capacity} fit into the cache")]
    CapacityExceeded {
        /// Bytes of key and value.
        weight: u64,
        /// Bytes that the cache may hold.
        capacity: u64,
    },
    /// A default time-to-live of zero, with which nothing would ever be kept.
    #[error("ttl_secs: 0 was given, at least 1 is needed")]
    InvalidTtl,
    /// The cache could not be built for another reason, which the error tells.
    #[error(transparent)]
    Internal(#[from] ConfigError),
}

/// A value as an [`LruTtlCache`] stores it: the text, and the time-to-live that it was stored with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    text: Box<str>,
    time_to_live: Duration,
}

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// For how long it was stored.
    #[must_use]
    pub fn time_to_live(&self) -> Duration {
        self.time_to_live
    }
}

/// What [`LruTtlCache::get_with_ttl`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedText {
    /// The value.
    pub text: String,
    /// For how long it will still be served.
    pub remaining: Duration,
    /// For how long it was stored.
    pub time_to_live: Duration,
}

/// A bounded cache of strings with a default time-to-live. Clones are handles of the same cache.
///
/// It has one shard, so the entry that leaves for a new one is exactly the least recently used of all. It has
/// no threads: insertions, [`size`](Self::size) and [`cleanup_expired`](Self::cleanup_expired) reclaim what
/// expired.
///
/// ```
/// use std::time::Duration;
/// use sark_cache::LruTtlCache;
///
/// let cache = LruTtlCache::new(1000, 300)?;
/// cache.set("user:1".to_owned(), "allow".to_owned(), None)?;
/// cache.set("user:2".to_owned(), "deny".to_owned(), Some(Duration::from_secs(60)))?;
/// assert_eq!(cache.get("user:1").as_deref(), Some("allow"));
/// assert_eq!(cache.size(), 2);
/// assert!(cache.delete("user:1"));
/// # Ok::<(), sark_cache::CacheError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LruTtlCache {
    cache: Cache<String, Text>,
    /// For entries that are stored without a time-to-live.
    time_to_live: Duration,
    /// How many expired entries the calls of `cleanup_expired` have reported so far.
    told: Arc<AtomicU64>,
}

impl LruTtlCache {
    /// Creates a cache of at most `max_size` strings.
    ///
    /// Each is kept for `ttl_secs` seconds, unless [`set`](Self::set) says otherwise.
    ///
    /// # Errors
    /// [`CacheError::InvalidTtl`] if `ttl_secs` is zero, [`CacheError::Internal`] if `max_size` is.
    pub fn new(max_size: u64, ttl_secs: u64) -> Result<Self, CacheError> {
        Self::bounded([("max_size", max_size)], ttl_secs, |builder| builder.max_capacity(max_size))
    }

    /// Creates a cache with a second bound: keys and values together take at most `max_bytes` bytes.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and [`CacheError::Internal`] if `max_bytes` is zero.
    pub fn with_max_bytes(max_size: u64, max_bytes: u64, ttl_secs: u64) -> Result<Self, CacheError> {
        Self::bounded([("max_size", max_size), ("max_bytes", max_bytes)], ttl_secs, |builder| {
            builder.max_entries(max_size).max_capacity(max_bytes).weigher(bytes)
        })
    }

    /// Like [`with`](Self::with), but a bound of zero is reported by the name that the caller has for it.
    fn bounded<const N: usize>(
        bounds: [(&'static str, u64); N],
        ttl_secs: u64,
        configure: impl FnOnce(Builder<String, Text>) -> Builder<String, Text>,
    ) -> Result<Self, CacheError> {
        match bounds.into_iter().find(|&(_setting, given)| given == 0) {
            Some((setting, _zero)) if ttl_secs != 0 => Err(ConfigError::ZeroCapacity { setting }.into()),
            _ => Self::with(ttl_secs, configure),
        }
    }

    /// Creates a cache that `configure` sets up.
    ///
    /// `configure` gets a builder with one shard and no workers. The time-to-live is `ttl_secs`, whatever
    /// `configure` says about it.
    ///
    /// # Errors
    /// [`CacheError::InvalidTtl`] if `ttl_secs` is zero, [`CacheError::Internal`] for what the builder
    /// refuses.
    pub fn with(
        ttl_secs: u64,
        configure: impl FnOnce(Builder<String, Text>) -> Builder<String, Text>,
    ) -> Result<Self, CacheError> {
        if ttl_secs == 0 {
            return Err(CacheError::InvalidTtl);
        }
        let time_to_live = Duration::from_secs(ttl_secs);
        // Set last, since values are marked with this time-to-live.
        let builder = configure(Cache::builder().shards(1).workers(0)).time_to_live(time_to_live);
        Ok(Self { cache: builder.build()?, time_to_live, told: Arc::default() })
    }

    /// Returns the value of `key`, if it is there and live. Makes it the most recently used one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.cache.get_with(key, |text| text.as_str().to_owned())
    }

    /// Like [`get`](Self::get), with the time that is left and the time-to-live that the value was stored
    /// with.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let cache = sark_cache::LruTtlCache::new(10, 300)?;
    /// cache.set("user:1".to_owned(), "allow".to_owned(), None)?;
    /// let found = cache.get_with_ttl("user:1").unwrap();
    /// assert_eq!((found.text.as_str(), found.time_to_live), ("allow", Duration::from_secs(300)));
    /// assert!(found.remaining <= found.time_to_live);
    /// # Ok::<(), sark_cache::CacheError>(())
    /// ```
    #[must_use]
    pub fn get_with_ttl(&self, key: &str) -> Option<TimedText> {
        let inner = self.cache.inner();
        let hash = inner.hash(key);
        let now = inner.common.time.for_reading();
        let mut expired = inner.outgoing();
        inner.delegates.run(inner.approach(hash), |cell| {
            let deadline = cell.shard.entry(hash, key, now).and_then(|entry| entry.deadline);
            cell.get(hash, key, now, &mut expired, |value| TimedText {
                text: value.as_str().to_owned(),
                remaining: deadline
                    .map_or(Duration::MAX, |deadline| Duration::from_nanos(deadline.0.saturating_sub(now.0))),
                time_to_live: value.time_to_live,
            })
        })
    }

    /// Returns the values of many keys, in the order of the keys, as [`get`](Self::get) would one by one.
    #[must_use]
    pub fn get_many<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Vec<Option<String>> {
        let found = self.cache.get_many(keys);
        found.into_iter().map(|value| value.map(|value| value.text.into_string())).collect()
    }

    /// Stores `value` under `key` for `ttl`, or for the default time-to-live.
    ///
    /// A `ttl` of zero means: don't keep the value, and forget an older one.
    ///
    /// # Errors
    /// [`CacheError::CapacityExceeded`] if key and value are heavier than the whole cache.
    pub fn set(&self, key: String, value: String, ttl: Option<Duration>) -> Result<(), CacheError> {
        let text = Text { text: value.into_boxed_str(), time_to_live: ttl.unwrap_or(self.time_to_live) };
        let weight = bytes(&key, &text);
        let kept = match ttl {
            Some(ttl) => self.cache.insert_with_ttl(key, text, ttl),
            None => self.cache.insert(key, text),
        };
        if kept || ttl == Some(Duration::ZERO) {
            return Ok(());
        }
        Err(CacheError::CapacityExceeded { weight: u64::from(weight), capacity: self.cache.capacity() })
    }

    /// Removes `key`, and returns whether it was there and live.
    pub fn delete(&self, key: &str) -> bool {
        self.cache.invalidate_found(key)
    }

    /// Removes all entries.
    pub fn clear(&self) {
        self.cache.invalidate_all();
    }

    /// The number of live entries. Reclaims everything due first. Never above `max_size`.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }

    /// Reclaims everything due, and returns how many entries expired since the last call, whatever reclaimed
    /// them.
    pub fn cleanup_expired(&self) -> u64 {
        self.cache.run_pending_tasks();
        let expired = self.cache.stats().expired;
        // Of two calls at the same time, each reports what the other has not.
        expired.saturating_sub(self.told.fetch_max(expired, Ordering::AcqRel))
    }

    /// Returns the cache underneath, with everything that it offers.
    #[must_use]
    pub fn as_cache(&self) -> &Cache<String, Text> {
        &self.cache
    }
}

/// The weight of an entry: the bytes of its key and its value.
#[expect(clippy::ptr_arg, reason = "a weigher gets what the cache stores")]
fn bytes(key: &String, value: &Text) -> u32 {
    u32::try_from(key.len().saturating_add(value.text.len())).unwrap_or(u32::MAX)
}
