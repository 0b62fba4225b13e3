//! What each operation does, one by one.

mod common;

use std::any::Any;
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use sark_cache::{Builder, Cache, Dispatch};

fn builder<K, V>(dispatch: Dispatch) -> Builder<K, V>
where
    K: std::hash::Hash + Eq + Send + 'static,
    V: Send + 'static,
{
    Cache::builder().dispatch(dispatch).pin(false)
}

fn of_capacity(dispatch: Dispatch, capacity: u64) -> Cache<String, u64> {
    builder(dispatch).max_capacity(capacity).build().unwrap()
}

/// How long a step may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// A value that holds a handle of the cache it is in, and drops that handle last of all.
struct LastHandle {
    cache: Option<Box<dyn Any + Send>>,
    wait: mpsc::Receiver<()>,
    done: mpsc::Sender<String>,
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.wait.recv_timeout(PATIENCE).expect("the others are kept");
        drop(self.cache.take());
        let _ = self.done.send(std::thread::current().name().unwrap_or_default().to_owned());
    }
}

under_both_dispatches! {
    fn a_stored_value_is_found_by_a_borrowed_key(dispatch) {
        let cache = of_capacity(dispatch, 10);
        assert!(cache.insert("one".to_owned(), 1));
        assert_eq!(cache.get("one"), Some(1));
        assert_eq!(cache.get(&"one".to_owned()), Some(1));
        assert_eq!(cache.peek("one"), Some(1));
        assert!(cache.contains_key("one"));
        assert_eq!(cache.get("two"), None);
        assert!(!cache.contains_key("two"));
    }

    fn a_later_value_takes_the_place_of_an_earlier_one(dispatch) {
        let cache = of_capacity(dispatch, 10);
        cache.insert("one".to_owned(), 1);
        cache.insert("one".to_owned(), 2);
        assert_eq!(cache.get("one"), Some(2));
        assert_eq!(cache.entry_count(), 1);
        assert_eq!(cache.stats().replaced, 1);
    }

    fn no_change_is_lost_when_threads_update_one_value(dispatch) {
        let cache: Cache<u64, u64> = builder(dispatch).max_capacity(10).build().unwrap();
        cache.insert(1, 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| assert!(cache.update(&1, |count| *count += 1).is_some())));
            }
        });
        assert_eq!(cache.get(&1), Some(2000));
        assert_eq!(cache.update(&2, |_| unreachable!("there is nothing to change")), None::<()>);
        assert_eq!((cache.stats().hits, cache.stats().misses), (2001, 1));
    }

    fn an_updated_entry_is_the_most_recently_used_and_keeps_its_deadline(dispatch) {
        let cache = of_capacity(dispatch, 2);
        cache.insert_with_ttl("old".to_owned(), 1, Duration::from_secs(3600));
        cache.insert("young".to_owned(), 2);
        assert_eq!(cache.update("old", |value| std::mem::replace(value, 10)), Some(1));
        cache.insert("new".to_owned(), 3);
        assert_eq!((cache.get("old"), cache.get("young")), (Some(10), None));
        assert!(cache.expires_in("old").unwrap() <= Duration::from_secs(3600));
    }

    fn a_panicking_change_reaches_its_caller_and_leaves_the_cache_valid(dispatch) {
        let cache = of_capacity(dispatch, 2);
        cache.insert("one".to_owned(), 1);
        let change = |value: &mut u64| {
            *value = 2;
            panic!("unlucky");
        };
        let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.update("one", change)));
        assert!(attempt.is_err());
        assert_eq!(cache.get("one"), Some(2));
    }

    fn a_removed_value_is_handed_out_once_and_is_gone(dispatch) {
        let cache = of_capacity(dispatch, 10);
        cache.insert("one".to_owned(), 1);
        assert_eq!(cache.remove("one"), Some(1));
        assert_eq!(cache.remove("one"), None);
        cache.insert("two".to_owned(), 2);
        cache.invalidate("two");
        assert_eq!(cache.get("two"), None);
        assert_eq!(cache.stats().removed, 2);
        assert_eq!(cache.entry_count(), 0);
    }

    fn invalidating_all_leaves_nothing_and_the_cache_usable(dispatch) {
        let cache = of_capacity(dispatch, 2000);
        for number in 0..2000 {
            cache.insert(number.to_string(), number);
        }
        cache.invalidate_all();
        assert_eq!(cache.entry_count(), 0);
        assert_eq!(cache.get("7"), None);
        cache.insert("7".to_owned(), 7);
        assert_eq!(cache.get("7"), Some(7));
    }

    fn looking_without_a_trace_does_not_save_an_entry_from_eviction(dispatch) {
        let cache = of_capacity(dispatch, 2);
        cache.insert("old".to_owned(), 1);
        cache.insert("young".to_owned(), 2);
        assert_eq!(cache.peek("old"), Some(1));
        assert!(cache.contains_key("old"));
        assert!(cache.expires_in("old").is_some());
        cache.insert("new".to_owned(), 3);
        assert_eq!(cache.peek("old"), None);
        assert_eq!(cache.stats().hits + cache.stats().misses, 0);
    }

    fn a_batch_answers_in_the_order_of_its_keys(dispatch) {
        let cache: Cache<u64, u64> = builder(dispatch).max_capacity(10_000).shards(7).build().unwrap();
        assert_eq!(cache.insert_many((0..1000).map(|key| (key, key * 10))), 1000);
        let keys: Vec<u64> = (0..1200).rev().chain([5, 5, 5]).collect();
        let expected: Vec<_> = keys.iter().map(|&key| (key < 1000).then_some(key * 10)).collect();
        assert_eq!(cache.get_many(&keys), expected);
        assert_eq!(cache.get_many(&[] as &[u64]), []);
        assert_eq!(cache.insert_many([]), 0);
        assert_eq!((cache.stats().hits, cache.stats().misses), (1003, 200));
    }

    fn a_batch_of_any_size_over_any_number_of_shards_gives_what_single_look_ups_give(dispatch) {
        for shards in [1, 3, 20] {
            let cache = Cache::builder().max_capacity(1000).shards(shards).dispatch(dispatch).build().unwrap();
            for key in 0..500_u64 {
                cache.insert(key, key.to_string());
            }
            for size in [1, 7, 63, 64, 65, 200, 700] {
                // Every third key isn't in the cache, and some come twice.
                let keys: Vec<u64> = (0..size).map(|n| if n % 3 == 0 { 10_000 + n } else { n * 7 % 400 }).collect();
                let expected: Vec<_> = keys.iter().map(|key| cache.get(key)).collect();
                assert_eq!(cache.get_many(&keys), expected, "{size} keys, {shards} shards");
            }
        }
    }

    fn keys_of_a_busy_shard_are_answered_with_the_rest_of_their_batch(dispatch) {
        let cache: Cache<u64, u64> = builder(dispatch).max_capacity(1000).shards(4).build().unwrap();
        cache.insert_many((0..100).map(|key| (key, key * 10)));
        let ((entered, is_busy), (go, may_go)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        std::thread::scope(|scope| {
            let cache = &cache;
            scope.spawn(move || {
                cache.get_with(&7, move |_| {
                    entered.send(()).unwrap();
                    may_go.recv().unwrap();
                })
            });
            is_busy.recv().unwrap();
            // The shard of 7 is busy until the iterator has given all keys.
            let wanted: Vec<u64> = (0..120).rev().collect();
            let mut left = wanted.iter();
            let keys = std::iter::from_fn(|| {
                let key = left.next();
                if key.is_none() {
                    let _ = go.send(());
                }
                key
            });
            let expected: Vec<_> = wanted.iter().map(|&key| (key < 100).then_some(key * 10)).collect();
            assert_eq!(cache.get_many(keys), expected);
        });
        let stats = cache.stats();
        // The keys of that shard were put aside, and looked up when it could be free again.
        assert_eq!((stats.hits, stats.misses), (101, 20));
    }

    fn a_batch_in_a_cache_of_megabytes_gives_what_single_look_ups_give(dispatch) {
        for shards in [1, 3, 20] {
            let (clock, hands) = sark_cache::Clock::manual();
            let cache = builder(dispatch).max_capacity(1000).shards(shards).clock(clock).build().unwrap();
            // Two megabytes of values. Every fifth entry expires.
            for key in 0..500_u64 {
                let life = Duration::from_secs(if key % 5 == 0 { 1 } else { 100 });
                cache.insert_with_ttl(key, [key; 512], life);
            }
            hands.advance(Duration::from_secs(10));
            for size in [1, 7, 63, 64, 65, 200, 700] {
                let keys: Vec<u64> = (0..size).map(|n| if n % 3 == 0 { 10_000 + n } else { n * 7 % 400 }).collect();
                let live = |&key: &u64| (key < 500 && key % 5 != 0).then_some([key; 512]);
                assert!(cache.get_many(&keys).into_iter().eq(keys.iter().map(live)), "{size} keys, {shards} shards");
            }
            cache.run_pending_tasks();
            assert_eq!(cache.entry_count(), 400);
            assert_eq!(cache.get_many(&[1, 2, 3]).len(), 3);
        }
    }

    fn within_a_batch_the_later_value_of_a_key_stays(dispatch) {
        let cache: Cache<u64, u64> = builder(dispatch).max_capacity(1000).shards(3).build().unwrap();
        cache.insert_many([(1, 1), (2, 2), (1, 3)]);
        assert_eq!(cache.get_many(&[1, 2]), [Some(3), Some(2)]);
    }

    fn a_posted_insertion_is_seen_by_the_next_call(dispatch) {
        let cache: Cache<u64, u64> = builder(dispatch).max_capacity(5000).shards(4).build().unwrap();
        for key in 0..5000 {
            cache.post_insert(key, key + 1);
            assert_eq!(cache.get(&key), Some(key + 1));
        }
        assert_eq!(cache.entry_count(), 5000);
    }

    fn every_request_is_counted_under_one_way_of_serving_it(dispatch) {
        let cache: Cache<u64, u64> = builder(dispatch).max_capacity(100).build().unwrap();
        for key in 0..100 {
            cache.insert(key, key);
            cache.get(&key);
            cache.post_insert(key, key);
        }
        cache.run_pending_tasks();
        let counts = cache.stats().dispatch;
        match dispatch {
            Dispatch::Adaptive => assert_eq!((counts.in_place, counts.delegated, counts.by_worker), (301, 0, 0)),
            Dispatch::PerCore => {
                assert_eq!((counts.in_place, counts.posted), (0, 100));
                assert_eq!(counts.delegated + counts.posted, counts.by_worker);
            }
        }
    }

    fn threads_are_started_when_they_are_first_needed(dispatch) {
        let cache: Cache<u64, u64> = builder(dispatch).max_capacity(100).build().unwrap();
        assert_eq!(cache.thread_count(), 0);
        cache.insert(1, 1);
        assert_eq!(cache.thread_count(), usize::from(dispatch == Dispatch::PerCore));
    }

    fn a_panicking_comparison_reaches_its_caller_and_leaves_the_cache_valid(dispatch) {
        struct Touchy(u64);
        impl std::hash::Hash for Touchy {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }
        impl PartialEq for Touchy {
            fn eq(&self, other: &Self) -> bool {
                assert!(self.0 != 13 && other.0 != 13, "unlucky");
                self.0 == other.0
            }
        }
        impl Eq for Touchy {}

        // The hashes are the same in each run. With random ones, one run in a hundred would make the index
        // compare 1 with 13, too.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let cache: Cache<Touchy, u64> = builder(dispatch).max_capacity(100).hasher(hasher).build().unwrap();
        cache.insert(Touchy(13), 0);
        let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.get(&Touchy(13))));
        assert!(attempt.is_err());
        // Few keys are looked up one by one, many together.
        for keys in [1, 40] {
            let batch: Vec<_> = (0..keys).map(|_| Touchy(13)).collect();
            let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.get_many(&batch)));
            assert!(attempt.is_err());
        }
        cache.insert(Touchy(1), 1);
        assert_eq!(cache.get(&Touchy(1)), Some(1));
        assert_eq!(cache.entry_count(), 2);
    }

    fn calling_the_cache_from_inside_a_clone_fails_at_once_on_any_shard_of_any_cache(dispatch) {
        #[derive(Default)]
        struct Caller(Option<Box<dyn Fn() + Send>>);
        impl Clone for Caller {
            fn clone(&self) -> Self {
                if let Some(call) = &self.0 {
                    call();
                }
                Self(None)
            }
        }
        for same in [true, false] {
            let build = || builder(dispatch).max_capacity(100_000).shards(4).build().unwrap();
            let cache: Cache<u64, Caller> = build();
            let target = if same { cache.clone() } else { build() };
            let inner = target.clone();
            cache.insert(1, Caller(Some(Box::new(move || {
                for key in 0..64 {
                    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| inner.contains_key(&key)));
                    assert!(attempt.is_err(), "a waiting call from inside must fail");
                }
                inner.post_insert(99, Caller(None));
            }))));
            assert!(cache.get(&1).is_some());
            assert!(target.contains_key(&99));
            cache.invalidate_all();
        }
    }

    fn the_cache_may_be_called_from_the_drop_of_a_value(dispatch) {
        struct Dropper(Box<dyn Fn() + Send + Sync>);
        impl Drop for Dropper {
            fn drop(&mut self) {
                (self.0)();
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let cache: Cache<u64, Arc<Dropper>> = builder(dispatch).max_capacity(1).build().unwrap();
        let value = || {
            let (cache, dropped) = (cache.clone(), Arc::clone(&dropped));
            Arc::new(Dropper(Box::new(move || {
                assert!(!cache.contains_key(&99));
                dropped.fetch_add(1, Ordering::Relaxed);
            })))
        };
        for key in 0..10 {
            cache.insert(key, value());
        }
        assert!(cache.remove(&9).is_some());
        assert_eq!(dropped.load(Ordering::Relaxed), 10);
    }

    fn the_last_handle_may_be_dropped_anywhere(dispatch) {
        let cache = of_capacity(dispatch, 10);
        cache.insert("one".to_owned(), 1);
        let there = cache.clone();
        drop(cache);
        std::thread::spawn(move || {
            assert_eq!(there.get("one"), Some(1));
            drop(there);
        })
        .join()
        .unwrap();
    }

    fn the_last_handle_may_be_dropped_inside_another_cache(dispatch) {
        let (outer, inner) = (of_capacity(dispatch, 10), of_capacity(dispatch, 10));
        outer.insert("one".to_owned(), 1);
        inner.insert("two".to_owned(), 2);
        assert_eq!(outer.get_with("one", |one| {
            drop(inner);
            *one
        }), Some(1));
        assert_eq!(outer.get("one"), Some(1));
    }

    fn the_last_handle_may_be_dropped_by_a_worker(dispatch) {
        let (go, wait) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let cache = builder(dispatch).max_capacity(10).name("own").build().unwrap();
        let handle = LastHandle { cache: Some(Box::new(cache.clone())), wait, done };
        // With a lifetime, so that only a worker reclaims it.
        cache.insert_with_ttl(1, handle, Duration::from_millis(1));
        drop(cache);
        go.send(()).unwrap();
        let by = is_done.recv_timeout(PATIENCE).expect("nobody dropped it");
        assert!(by.starts_with("own"), "dropped by {by}");
    }

    fn the_last_handle_may_be_dropped_when_its_thread_ends(dispatch) {
        thread_local! {
            static KEPT: RefCell<Option<Cache<String, u64>>> = const { RefCell::new(None) };
        }
        // `KEPT` is set before the thread has used a cache, or after. So when it is dropped at the thread's
        // end, what a cache keeps for a thread may be gone already or still be there.
        for used in [false, true] {
            let cache = of_capacity(dispatch, 10);
            cache.insert("one".to_owned(), 1);
            std::thread::spawn(move || {
                if used {
                    assert_eq!(cache.get("one"), Some(1));
                }
                KEPT.set(Some(cache));
                KEPT.with_borrow(|kept| assert_eq!(kept.as_ref().unwrap().get("one"), Some(1)));
            })
            .join()
            .unwrap();
        }
    }

    fn expires_in_tells_how_long_an_entry_has_left(dispatch) {
        let cache = of_capacity(dispatch, 10);
        cache.insert("forever".to_owned(), 1);
        cache.insert_with_ttl("longer than time".to_owned(), 2, Duration::from_secs(u64::MAX));
        cache.insert_with_ttl("an hour".to_owned(), 3, Duration::from_secs(3600));
        assert_eq!(cache.expires_in("forever"), Some(Duration::MAX));
        assert_eq!(cache.expires_in("longer than time"), Some(Duration::MAX));
        let left = cache.expires_in("an hour").unwrap();
        assert!(left > Duration::from_secs(3590) && left <= Duration::from_secs(3600), "{left:?}");
        assert_eq!(cache.expires_in("nothing"), None);
        assert_eq!(cache.get_many(["forever", "longer than time", "an hour"]), [Some(1), Some(2), Some(3)]);
    }
}

#[test]
fn a_batch_ends_where_its_iterator_first_ends() {
    let cache = Cache::new(100);
    (0..10).for_each(|key| assert!(cache.insert(key, key)));
    let keys = [1, 2, 3];
    let mut calls = 0;
    // The iterator would go on if it were asked again.
    let unfused = std::iter::from_fn(|| {
        calls += 1;
        (calls != 3).then_some(&keys[calls % 3])
    });
    assert_eq!(cache.get_many(unfused), [Some(2), Some(3)]);
}
