//! The plain string cache: what services that used to keep short strings in Redis want, with errors instead of options.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::builder::ConfigError;
use crate::{Builder, Cache};

/// What an [`LruTtlCache`] refuses.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheError {
    /// The entry is heavier than the whole cache. It isn't stored, and an older value of the key is forgotten.
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
    /// The cache could not be built for another reason, which it tells.
    #[error(transparent)]
    Internal(#[from] ConfigError),
}

/// A value as an [`LruTtlCache`] stores it: the text, and the time-to-live it was stored with.
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
/// One shard, so the entry that leaves for a new one is exactly the least recently used of all. No threads: what expired
/// is reclaimed by insertions, [`size`](Self::size) and [`cleanup_expired`](Self::cleanup_expired).
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
    /// For entries that don't say otherwise.
    time_to_live: Duration,
    /// Expired entries that a `cleanup_expired` has already told of.
    told: Arc<AtomicU64>,
}

impl LruTtlCache {
    /// A cache of at most `max_size` strings, each kept for `ttl_secs` seconds unless [`set`](Self::set) says otherwise.
    ///
    /// # Errors
    /// [`CacheError::InvalidTtl`] if `ttl_secs` is zero, [`CacheError::Internal`] if `max_size` is.
    pub fn new(max_size: u64, ttl_secs: u64) -> Result<Self, CacheError> {
        Self::bounded([("max_size", max_size)], ttl_secs, |builder| builder.max_capacity(max_size))
    }

    /// The same with a second bound: keys and values together take up at most `max_bytes` bytes.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`CacheError::Internal`] if `max_bytes` is zero.
    pub fn with_max_bytes(max_size: u64, max_bytes: u64, ttl_secs: u64) -> Result<Self, CacheError> {
        Self::bounded([("max_size", max_size), ("max_bytes", max_bytes)], ttl_secs, |builder| {
            builder.max_entries(max_size).max_capacity(max_bytes).weigher(bytes)
        })
    }

    /// As [`with`](Self::with), but a bound of zero is called what the caller calls it.
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

    /// As [`new`](Self::new), with the rest set up by `configure`, which gets a builder with one shard and no workers. The
    /// time-to-live is `ttl_secs`, whatever it says of that.
    ///
    /// # Errors
    /// [`CacheError::InvalidTtl`] if `ttl_secs` is zero, [`CacheError::Internal`] for what the builder refuses.
    pub fn with(
        ttl_secs: u64,
        configure: impl FnOnce(Builder<String, Text>) -> Builder<String, Text>,
    ) -> Result<Self, CacheError> {
        if ttl_secs == 0 {
            return Err(CacheError::InvalidTtl);
        }
        let time_to_live = Duration::from_secs(ttl_secs);
        // Last, since it is what values are marked with.
        let builder = configure(Cache::builder().shards(1).workers(0)).time_to_live(time_to_live);
        Ok(Self { cache: builder.build()?, time_to_live, told: Arc::default() })
    }

    /// The value of `key`, if it is there and alive. Makes it the most recently used.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.cache.get_with(key, |text| text.as_str().to_owned())
    }

    /// As [`get`](Self::get), with the time that is left and the time-to-live that it was stored with.
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

    /// The values of many keys, in the order of the keys, as [`get`](Self::get) gives them one by one.
    #[must_use]
    pub fn get_many<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Vec<Option<String>> {
        let found = self.cache.get_many(keys);
        found.into_iter().map(|value| value.map(|value| value.text.into_string())).collect()
    }

    /// Stores `value` under `key` for `ttl`, or for the default. A `ttl` of zero means: don't keep it, and forget an older
    /// value.
    ///
    /// # Errors
    /// [`CacheError::CapacityExceeded`] if it is heavier than the whole cache.
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

    /// Removes `key`; says whether it was there and alive.
    pub fn delete(&self, key: &str) -> bool {
        self.cache.invalidate_found(key)
    }

    /// Removes everything.
    pub fn clear(&self) {
        self.cache.invalidate_all();
    }

    /// How many live entries there are, everything due reclaimed first. Never above `max_size`.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }

    /// Reclaims everything due, and says how many entries expired since the last call, whoever reclaimed them.
    pub fn cleanup_expired(&self) -> u64 {
        self.cache.run_pending_tasks();
        let expired = self.cache.stats().expired;
        // Of two calls at once, each tells of what the other hasn't.
        expired.saturating_sub(self.told.fetch_max(expired, Ordering::AcqRel))
    }

    /// The cache beneath, with everything it offers.
    #[must_use]
    pub fn as_cache(&self) -> &Cache<String, Text> {
        &self.cache
    }
}

/// What an entry weighs: the bytes of its key and its value.
#[expect(clippy::ptr_arg, reason = "a weigher gets what the cache stores")]
fn bytes(key: &String, value: &Text) -> u32 {
    u32::try_from(key.len().saturating_add(value.text.len())).unwrap_or(u32::MAX)
}
