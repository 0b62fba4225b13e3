//! The capacity is a hard bound on the whole cache, and all of it can be used.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::Census;
use sark_cache::{Builder, Cache, Dispatch};

fn builder<V: Send + 'static>(dispatch: Dispatch) -> Builder<u64, V> {
    Cache::builder().dispatch(dispatch).pin(false)
}

under_both_dispatches! {
    fn nothing_is_evicted_while_the_whole_is_below_its_capacity(dispatch) {
        for (capacity, shards) in [(8, 8), (100, 7), (1000, 16), (5000, 3)] {
            let cache = builder(dispatch).max_capacity(capacity).shards(shards).build().unwrap();
            for key in 0..capacity {
                assert!(cache.insert(key, key));
            }
            assert_eq!(cache.entry_count(), capacity);
            assert!((0..capacity).all(|key| cache.contains_key(&key)));
            assert_eq!(cache.stats().evicted, 0);
            cache.insert(capacity, capacity);
            assert_eq!((cache.entry_count(), cache.stats().evicted), (capacity, 1));
            assert!(cache.contains_key(&capacity), "what was inserted last is there");
        }
    }

    fn distinct_keys_from_many_threads_up_to_the_capacity_all_stay(dispatch) {
        for round in 0..20 {
            let cache = builder(dispatch).max_capacity(400).shards(5).build().unwrap();
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let cache = &cache;
                    scope.spawn(move || {
                        for key in 0..100 {
                            cache.insert(thread * 100 + key, round);
                            // Replacing needs no room, not even for a moment.
                            cache.insert(thread * 100 + key / 2, round);
                        }
                    });
                }
            });
            assert_eq!((cache.entry_count(), cache.stats().evicted), (400, 0));
        }
    }

    fn setting_the_capacity_from_inside_is_refused_and_changes_nothing(dispatch) {
        let cache = builder(dispatch).max_capacity(100).shards(4).build().unwrap();
        (0..100).for_each(|key| assert!(cache.insert(key, key)));
        for capacity in [10, 50, 1000] {
            let inside = || cache.get_with(&1, |_| cache.set_capacity(capacity));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(inside)).is_err());
            assert_eq!((cache.capacity(), cache.entry_count()), (100, 100));
        }
    }

    fn an_entry_that_fits_into_the_cache_gets_its_room_whatever_others_store_meanwhile(dispatch) {
        for heavy in [1000, 900, 600] {
            let cache = builder(dispatch).max_capacity(1000).shards(8).weigher(|_, &weight| weight).build().unwrap();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for thread in 1..=2 {
                    let (cache, done) = (&cache, &done);
                    scope.spawn(move || {
                        for key in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                            cache.insert((thread << 32) | (key % 100), 3);
                        }
                    });
                }
                let others: Vec<_> = (3..=4).map(|thread| {
                    let cache = &cache;
                    scope.spawn(move || (0..100).all(|key| cache.insert((thread << 32) | key, heavy)))
                }).collect();
                let kept = others.into_iter().all(|other| other.join().unwrap());
                done.store(true, Ordering::Relaxed);
                assert!(kept, "one of {heavy} was refused");
            });
            assert!(cache.weighted_size() <= 1000);
        }
    }

    fn a_capacity_of_zero_keeps_nothing_not_even_entries_that_weigh_nothing(dispatch) {
        let cache = builder(dispatch).max_capacity(10).shards(2).weigher(|_, _| 0).build().unwrap();
        (0..10).for_each(|key| assert!(cache.insert(key, key)));
        cache.set_capacity(0);
        assert_eq!((cache.entry_count(), cache.insert(1, 1), cache.get(&1)), (0, false, None));
        cache.set_capacity(10);
        assert!(cache.insert(1, 1));
    }

    fn the_smallest_caches_are_exact_lru(dispatch) {
        for capacity in 1..=3_u64 {
            let cache = builder(dispatch).max_capacity(capacity).build().unwrap();
            let mut order: Vec<u64> = Vec::new();
            for step in 0..2000_u64 {
                let key = (step * 7919 + step / 3) % 5;
                if step % 3 == 0 {
                    let found = cache.get(&key).is_some();
                    assert_eq!(found, order.contains(&key), "step {step}, capacity {capacity}");
                    if let Some(place) = order.iter().position(|&other| other == key) {
                        let key = order.remove(place);
                        order.push(key);
                    }
                } else {
                    cache.insert(key, step);
                    order.retain(|&other| other != key);
                    order.push(key);
                    if order.len() as u64 > capacity {
                        order.remove(0);
                    }
                }
                assert_eq!(cache.entry_count(), order.len() as u64);
            }
        }
    }

    fn weights_are_bounded_and_counted(dispatch) {
        let cache = builder(dispatch).weigher(|_, &weight| weight).max_capacity(100).build().unwrap();
        for key in 0..50 {
            assert!(cache.insert(key, 30_u32));
            assert!(cache.weighted_size() <= 100);
        }
        assert_eq!((cache.weighted_size(), cache.entry_count()), (90, 3));
        assert!(cache.insert(100, 0));
        assert!(cache.insert(101, 100), "as heavy as the whole cache is allowed");
        assert_eq!(cache.get(&101), Some(100));
        assert!(cache.weighted_size() <= 100);
    }

    fn an_entry_heavier_than_the_cache_is_refused_and_its_older_value_forgotten(dispatch) {
        let cache = builder(dispatch).weigher(|_, &weight| weight).max_capacity(100).build().unwrap();
        cache.insert(1, 10_u32);
        cache.insert(2, 10);
        assert!(!cache.insert(1, 101));
        assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(10)));
        assert_eq!((cache.stats().rejected, cache.weighted_size()), (1, 10));
    }

    fn in_a_batch_a_later_value_wins_over_one_that_had_to_wait_for_room(dispatch) {
        let cache = builder(dispatch).weigher(|_, &weight| weight).max_capacity(100).shards(8).build().unwrap();
        assert_eq!(cache.insert_many([(1, 101_u32), (1, 5), (2, 6)]), 2);
        assert_eq!(cache.get_many(&[1, 2]), [Some(5), Some(6)], "after one that is too heavy for the cache");
        cache.invalidate_all();
        cache.insert_many((0..100).map(|key| (key, 1)));
        assert_eq!(cache.insert_many([(1, 80_u32), (1, 5)]), 2);
        assert_eq!(cache.get(&1), Some(5), "after one that needs the room of other shards");
    }

    fn entries_and_weight_can_be_bounded_together(dispatch) {
        let cache = builder(dispatch).weigher(|_, &weight| weight).max_capacity(100).max_entries(5).build().unwrap();
        for key in 0..20 {
            cache.insert(key, 1_u32);
            assert!(cache.entry_count() <= 5);
        }
        assert_eq!((cache.entry_count(), cache.weighted_size()), (5, 5));
        cache.insert(100, 98);
        assert_eq!((cache.entry_count(), cache.weighted_size()), (3, 100));
    }

    fn an_entry_gets_the_room_of_other_shards_if_its_own_has_none(dispatch) {
        let cache = builder(dispatch).weigher(|_, &weight| weight).max_capacity(1000).shards(8).build().unwrap();
        for key in 0..1000 {
            cache.insert(key, 1_u32);
        }
        assert_eq!(cache.weighted_size(), 1000);
        for heavy in [900, 1000, 500] {
            assert!(cache.insert(5000 + u64::from(heavy), heavy));
            assert_eq!(cache.get(&(5000 + u64::from(heavy))), Some(heavy));
            assert!(cache.weighted_size() <= 1000);
        }
        assert_eq!(cache.insert_many((0..100).map(|key| (key, 400_u32))), 100);
        assert!(cache.weighted_size() <= 1000);
    }

    fn two_threads_that_each_want_all_the_room_both_get_it_in_turn(dispatch) {
        let cache = builder(dispatch).weigher(|_, &weight| weight).max_capacity(64).shards(8).build().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let cache = &cache;
                scope.spawn(move || {
                    for key in 0..300_u64 {
                        assert!(cache.insert(key * 3 + thread, 64_u32));
                        assert!(cache.weighted_size() <= 64);
                    }
                });
            }
        });
    }

    fn the_capacity_can_be_changed_both_ways(dispatch) {
        let cache = builder(dispatch).max_capacity(1000).shards(4).build().unwrap();
        for key in 0..1000 {
            cache.insert(key, key);
        }
        cache.set_capacity(100);
        assert_eq!((cache.entry_count(), cache.capacity()), (100, 100));
        assert_eq!(cache.stats().evicted, 900);
        cache.insert(5000, 1);
        assert_eq!(cache.entry_count(), 100);
        cache.set_capacity(2000);
        for key in 0..2000 {
            cache.insert(key, key);
        }
        assert_eq!(cache.entry_count(), 2000);
        cache.set_capacity(0);
        assert_eq!(cache.entry_count(), 0);
        assert!(!cache.insert(1, 1));
        cache.set_capacity(1);
        assert!(cache.insert(1, 1));
    }

    fn lowering_the_capacity_keeps_what_was_used_last(dispatch) {
        let cache = builder(dispatch).max_capacity(100).shards(1).build().unwrap();
        for key in 0..100 {
            cache.insert(key, key);
        }
        cache.get(&0);
        cache.set_capacity(10);
        assert!(cache.contains_key(&0));
        assert!((91..100).all(|key| cache.contains_key(&key)));
    }

    fn every_value_is_dropped_once_and_never_more_are_alive_than_fit(dispatch) {
        const THREADS: u64 = 8;
        let operations = 20_000 * stress();
        let census = Census::default();
        let cache: Cache<u64, common::Counted> =
            builder(dispatch).max_capacity(64).shards(4).build().unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (cache, census, over) = (&cache, &census, &over);
                scope.spawn(move || {
                    let mut random = (thread + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    for _ in 0..operations {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let key = random % 200;
                        match (random >> 32) % 8 {
                            0..3 => drop(cache.get(&key)),
                            3..6 => drop(cache.insert(key, census.make(key))),
                            6 => drop(cache.remove(&key)),
                            _ => drop(cache.get_many(&[key, key + 1, key + 2])),
                        }
                        if cache.entry_count() > 64 {
                            over.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(!over.load(Ordering::Relaxed), "the entry count was above the capacity");
        // In flight, per thread: the value being inserted, the value it displaces, and the clones of a batch
        // of three.
        let in_flight = i64::try_from(THREADS).unwrap() * 5;
        assert!(census.most_alive() <= 64 + in_flight, "{} values were alive at once", census.most_alive());
        assert_eq!(u64::try_from(census.alive()).unwrap(), cache.entry_count());
        drop(cache);
        assert_eq!(census.alive(), 0, "of {} values", census.made());
    }
}

/// How many times as long as usual the long tests run: the value of `SARK_STRESS`, or 1.
fn stress() -> u64 {
    std::env::var("SARK_STRESS").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}
