//! A value is changed, or stored where there is none, in one step.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use sark_cache::{Builder, Cache, Clock, Dispatch, RemovalCause};

fn builder<V: Send + 'static>(dispatch: Dispatch) -> Builder<u64, V> {
    Cache::builder().dispatch(dispatch).pin(false)
}

/// Counts how often it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Notes if it is dropped where a cache may not be called.
struct Calls {
    cache: Cache<u64, u64>,
    inside: Arc<AtomicBool>,
}

impl Drop for Calls {
    fn drop(&mut self) {
        if catch_unwind(AssertUnwindSafe(|| self.cache.get(&0))).is_err() {
            self.inside.store(true, Ordering::Relaxed);
        }
    }
}

under_both_dispatches! {
    fn no_change_is_lost_although_no_thread_knows_who_stores_the_value(dispatch) {
        const THREADS: u64 = 4;
        const TIMES: u64 = 300;
        let build = || builder(dispatch).shards(4).max_capacity(8);
        // A weigher must not be asked while a shard is held, so there are two ways.
        for cache in [build().build().unwrap(), build().weigher(|_, _| 1).build().unwrap()] {
            for key in 0..8 {
                let start = Barrier::new(THREADS as usize);
                std::thread::scope(|scope| {
                    for _ in 0..THREADS {
                        scope.spawn(|| {
                            start.wait();
                            for _ in 0..TIMES {
                                cache.update_or_insert(key, 1, |count| *count += 1);
                            }
                        });
                    }
                });
                assert_eq!(cache.get(&key), Some(THREADS * TIMES));
            }
            let stats = cache.stats();
            assert_eq!((stats.inserted, stats.replaced, stats.misses), (8, 0, 8));
            assert_eq!(stats.hits, 8 * (THREADS * TIMES - 1) + 8);
        }
    }

    fn a_change_returns_what_it_makes_and_keeps_the_deadline(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).max_capacity(10).time_to_live(Duration::from_secs(10)).clock(clock).build().unwrap();
        assert_eq!(cache.update_or_insert(1, 5, |_| unreachable!("there is nothing to change")), None::<()>);
        hands.advance(Duration::from_secs(4));
        assert_eq!(cache.update_or_insert(1, 0, |value| std::mem::replace(value, 6)), Some(5));
        assert_eq!((cache.get(&1), cache.expires_in(&1)), (Some(6), Some(Duration::from_secs(6))));
        hands.advance(Duration::from_secs(6));
        assert_eq!(cache.update_or_insert(1, 7, |value| *value += 1), None);
        assert_eq!((cache.get(&1), cache.expires_in(&1)), (Some(7), Some(Duration::from_secs(10))));
    }

    fn a_time_to_live_is_for_the_entry_that_is_stored(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).max_capacity(10).clock(clock).build().unwrap();
        let minute = Duration::from_secs(60);
        let used = || cache.update_or_insert_with_ttl(1, 1, minute, |used| { *used += 1; *used }).unwrap_or(1);
        assert_eq!([used(), used(), used()], [1, 2, 3]);
        hands.advance(minute);
        assert_eq!([used(), used()], [1, 2]);
        assert_eq!(cache.update_or_insert_with_ttl(2, 1, Duration::ZERO, |_| ()), None);
        assert_eq!(cache.get(&2), None);
        assert_eq!(cache.update_or_insert_with_ttl(1, 1, Duration::ZERO, |used| *used), Some(2));
        assert_eq!(cache.get(&1), Some(2));
    }

    fn a_value_heavier_than_the_cache_is_not_kept_but_may_be_what_a_change_is_about(dispatch) {
        let weigher = |_: &u64, value: &u64| u32::try_from(*value).unwrap_or(u32::MAX);
        let cache = builder(dispatch).max_capacity(100).weigher(weigher).build().unwrap();
        assert_eq!(cache.update_or_insert(1, 101, |_| ()), None);
        assert_eq!((cache.get(&1), cache.weighted_size()), (None, 0));
        cache.insert(1, 40);
        assert_eq!(cache.update_or_insert(1, 101, |value| *value += 1), Some(()));
        assert_eq!((cache.get(&1), cache.weighted_size()), (Some(41), 40));
    }

    fn room_for_a_value_may_come_from_other_shards(dispatch) {
        let cache = builder(dispatch).shards(4).max_capacity(4).build().unwrap();
        for key in 0..64 {
            assert_eq!(cache.update_or_insert(key, key, |_| ()), None);
            assert_eq!(cache.get(&key), Some(key));
            assert!(cache.entry_count() <= 4);
        }
        assert_eq!(cache.stats().misses, 64);
    }

    fn what_is_not_stored_is_dropped_with_nothing_held_and_not_reported(dispatch) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&told);
        let cache: Cache<u64, (u64, Option<Dropped>)> = builder(dispatch)
            .max_capacity(10)
            .eviction_listener(move |key, (value, _), cause: RemovalCause| note.lock().unwrap().push((key, value, cause)))
            .build()
            .unwrap();
        let drops = Arc::new(AtomicUsize::new(0));
        let dropped = || Some(Dropped(Arc::clone(&drops)));
        cache.update_or_insert(1, (10, dropped()), |_| ());
        assert_eq!(drops.load(Ordering::Relaxed), 0);
        cache.update_or_insert(1, (20, dropped()), |(value, _)| *value += 1);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert!(told.lock().unwrap().is_empty());
        cache.remove(&1);
        assert_eq!(drops.load(Ordering::Relaxed), 2);
    }

    fn a_value_that_is_not_stored_may_call_a_cache_when_it_is_dropped(dispatch) {
        let inside = Arc::new(AtomicBool::new(false));
        let value = || Calls { cache: Cache::new(10), inside: Arc::clone(&inside) };
        for weighed in [false, true] {
            let builder = builder(dispatch).max_capacity(10);
            let builder = if weighed { builder.weigher(|_, _| 1) } else { builder };
            let cache = builder.build().unwrap();
            cache.insert(1, value());
            assert_eq!(cache.update_or_insert(1, value(), |_| 2), Some(2));
            let change = |_: &mut Calls| -> () { panic!("unlucky") };
            assert!(catch_unwind(AssertUnwindSafe(|| cache.update_or_insert(1, value(), change))).is_err());
            assert!(cache.contains_key(&1));
        }
        assert!(!inside.load(Ordering::Relaxed));
    }

    fn a_panicking_change_reaches_its_caller_and_leaves_the_cache_valid(dispatch) {
        let cache = builder(dispatch).max_capacity(10).build().unwrap();
        cache.insert(1, 1);
        let change = |value: &mut u64| {
            *value = 2;
            panic!("unlucky");
        };
        assert!(catch_unwind(AssertUnwindSafe(|| cache.update_or_insert(1, 5, change))).is_err());
        assert_eq!((cache.get(&1), cache.update_or_insert(1, 5, |value| *value)), (Some(2), Some(2)));
    }
}
