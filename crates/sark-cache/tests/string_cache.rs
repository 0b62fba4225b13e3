//! The plain string cache, as services use it.

use std::time::Duration;

use sark_cache::{CacheError, Clock, LruTtlCache};

const SECOND: Duration = Duration::from_secs(1);

fn set(cache: &LruTtlCache, key: &str, value: &str) {
    cache.set(key.to_owned(), value.to_owned(), None).unwrap();
}

#[test]
fn it_keeps_strings_up_to_its_size_least_recently_used_first_out() {
    let cache = LruTtlCache::new(3, 60).unwrap();
    for key in ["a", "b", "c"] {
        set(&cache, key, key);
    }
    assert_eq!(cache.get("a").as_deref(), Some("a"));
    set(&cache, "d", "d");
    assert_eq!((cache.get("b"), cache.size()), (None, 3));
    assert!(cache.delete("a"));
    assert!(!cache.delete("a"));
    cache.clear();
    assert_eq!(cache.size(), 0);
}

#[test]
fn a_size_or_a_time_to_live_of_zero_is_refused() {
    assert_eq!(LruTtlCache::new(10, 0).unwrap_err(), CacheError::InvalidTtl);
    let refused = |cache: Result<LruTtlCache, CacheError>| cache.unwrap_err().to_string();
    assert!(refused(LruTtlCache::new(0, 10)).starts_with("max_size: 0"));
    assert!(refused(LruTtlCache::with_max_bytes(0, 10, 10)).starts_with("max_size: 0"));
    assert!(refused(LruTtlCache::with_max_bytes(10, 0, 10)).starts_with("max_bytes: 0"));
    assert!(refused(LruTtlCache::with(10, |builder| builder.max_capacity(0))).starts_with("max_capacity: 0"));
    assert!(LruTtlCache::new(10, u64::MAX).is_ok());
}

#[test]
fn the_time_to_live_of_with_wins_over_that_of_its_builder() {
    let (clock, hands) = Clock::manual();
    let cache = LruTtlCache::with(60, |builder| builder.max_capacity(10).clock(clock).time_to_live(SECOND)).unwrap();
    set(&cache, "key", "value");
    hands.advance(59 * SECOND);
    let found = cache.get_with_ttl("key").unwrap();
    assert_eq!((found.time_to_live, found.remaining), (60 * SECOND, SECOND));
}

#[test]
fn a_clone_is_another_handle_of_the_same_cache() {
    let (clock, hands) = Clock::manual();
    let cache = LruTtlCache::with(60, |builder| builder.max_capacity(10).clock(clock)).unwrap();
    let another = cache.clone();
    set(&cache, "key", "value");
    assert_eq!(another.get("key").as_deref(), Some("value"));
    hands.advance(60 * SECOND);
    assert_eq!((cache.cleanup_expired(), another.cleanup_expired()), (1, 0), "each is told of once");
}

#[test]
fn a_time_to_live_of_zero_forgets_an_older_value_and_is_no_error() {
    let cache = LruTtlCache::new(10, 60).unwrap();
    set(&cache, "key", "old");
    assert_eq!(cache.set("key".to_owned(), "new".to_owned(), Some(Duration::ZERO)), Ok(()));
    assert_eq!((cache.get("key"), cache.size()), (None, 0));
}

#[test]
fn a_value_heavier_than_the_cache_is_an_error_that_says_so() {
    let cache = LruTtlCache::with_max_bytes(10, 20, 60).unwrap();
    set(&cache, "key", "12345");
    let refused = cache.set("key".to_owned(), "x".repeat(30), None);
    assert_eq!(refused, Err(CacheError::CapacityExceeded { weight: 33, capacity: 20 }));
    assert_eq!(cache.get("key"), None, "an older value would be wrong now");
}

#[test]
fn sizes_and_clean_ups_count_what_expired_whatever_reclaimed_it() {
    let (clock, hands) = Clock::manual();
    let cache = LruTtlCache::with(60, |builder| builder.max_capacity(100).clock(clock)).unwrap();
    for key in 0..10 {
        set(&cache, &key.to_string(), "v");
    }
    cache.set("long".to_owned(), "v".to_owned(), Some(120 * SECOND)).unwrap();
    assert_eq!(cache.cleanup_expired(), 0);
    hands.advance(60 * SECOND);
    assert_eq!(cache.get("3"), None); // reclaims one
    assert_eq!(cache.size(), 1); // reclaims the others
    assert_eq!(cache.cleanup_expired(), 10);
    assert_eq!(cache.cleanup_expired(), 0);
    hands.advance(60 * SECOND);
    assert_eq!((cache.cleanup_expired(), cache.size()), (1, 0));
}

#[test]
fn an_entry_tells_the_time_it_was_stored_for_and_what_is_left_of_it() {
    let (clock, hands) = Clock::manual();
    let cache = LruTtlCache::with(60, |builder| builder.max_capacity(2).clock(clock)).unwrap();
    set(&cache, "default", "a");
    cache.set("own".to_owned(), "b".to_owned(), Some(10 * SECOND)).unwrap();
    hands.advance(4 * SECOND);
    let times = |key| cache.get_with_ttl(key).map(|found| (found.text, found.remaining, found.time_to_live));
    assert_eq!(times("own"), Some(("b".to_owned(), 6 * SECOND, 10 * SECOND)));
    assert_eq!(times("default"), Some(("a".to_owned(), 56 * SECOND, 60 * SECOND)));
    set(&cache, "new", "c");
    assert_eq!(times("own"), None, "to ask is a use: the other one is more recent");
    hands.advance(56 * SECOND);
    assert_eq!(cache.get_many(["default", "new"]), [None, Some("c".to_owned())]);
}

#[test]
fn it_starts_no_thread() {
    let cache = LruTtlCache::new(10, 1).unwrap();
    set(&cache, "key", "value");
    assert_eq!(cache.as_cache().thread_count(), 0);
}
