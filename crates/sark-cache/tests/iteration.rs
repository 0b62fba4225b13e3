//! Iteration over all entries and removal by a predicate, while other things happen.

mod common;

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::Census;
use sark_cache::{Builder, Cache, Clock, Dispatch, RemovalCause};

const SECOND: Duration = Duration::from_secs(1);

fn builder<K, V>(dispatch: Dispatch) -> Builder<K, V>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
{
    Cache::builder().dispatch(dispatch).pin(false).max_capacity(10_000)
}

fn filled(dispatch: Dispatch, shards: usize, entries: u64) -> Cache<u64, u64> {
    let cache = builder(dispatch).shards(shards).build().unwrap();
    assert_eq!(cache.insert_many((0..entries).map(|key| (key, key * 10))), entries as usize);
    cache
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort();
    items
}

fn panics<R>(call: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// Runs `meanwhile` while another thread uses 500 entries, which therefore stay, and stores and removes new
/// ones.
fn beside_churn(dispatch: Dispatch, meanwhile: impl Fn(&Cache<u64, u64>)) -> Cache<u64, u64> {
    let cache = builder(dispatch).max_capacity(2000).shards(3).build().unwrap();
    cache.insert_many((0..500).map(|key| (key, key)));
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let churn = scope.spawn(|| {
            for key in 1000.. {
                cache.insert(key, key);
                assert_eq!(cache.get(&(key % 500)), Some(key % 500));
                if key % 3 == 0 {
                    cache.remove(&(key - 100));
                }
                if key % 500 == 0 {
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        // Others have been evicted by then.
        while rounds.load(Ordering::Relaxed) < 8 {
            assert!(!churn.is_finished(), "one of them did not stay");
            thread::yield_now();
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| meanwhile(&cache)));
        stop.store(true, Ordering::Relaxed);
        assert!(outcome.is_ok());
    });
    cache
}

/// A value that runs something when it is cloned and when it is dropped.
struct Hooked {
    number: u64,
    on_clone: Option<Hook>,
    on_drop: Option<Hook>,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

impl Hooked {
    fn new(number: u64) -> Self {
        Self { number, on_clone: None, on_drop: None }
    }

    fn with(number: u64, on_drop: Option<Hook>) -> Self {
        Self { number, on_clone: None, on_drop }
    }
}

impl Clone for Hooked {
    fn clone(&self) -> Self {
        if let Some(hook) = &self.on_clone {
            hook();
        }
        Self { on_clone: self.on_clone.clone(), on_drop: self.on_drop.clone(), ..*self }
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        if let Some(hook) = self.on_drop.take() {
            hook();
        }
    }
}

impl PartialEq for Hooked {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Hooked {}

impl Hash for Hooked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

under_both_dispatches! {
    fn an_iteration_yields_each_entry_once_and_nothing_else(dispatch) {
        for shards in [1, 3, 20] {
            for entries in [0, 1, 31, 32, 33, 65, 1000] {
                let cache = filled(dispatch, shards, entries);
                let expected: Vec<_> = (0..entries).map(|key| (key, key * 10)).collect();
                assert_eq!(sorted(&cache), expected);
                assert_eq!(sorted(cache.iter()), expected);
                let mut iter = cache.iter();
                assert_eq!(iter.size_hint(), (0, None));
                while iter.next().is_some() {}
                assert_eq!((iter.next(), iter.size_hint()), (None, (0, Some(0))));
                cache.insert(100_000, 1);
                assert_eq!(iter.next(), None, "an end is an end");
                assert!(format!("{iter:?}").starts_with("Iter {"));
            }
        }
    }

    fn entries_that_stay_are_yielded_once_while_others_come_and_go(dispatch) {
        beside_churn(dispatch, |cache| {
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| for _ in 0..10 {
                        let mut times = HashMap::<u64, u32>::new();
                        for (key, value) in cache {
                            assert_eq!(key, value);
                            *times.entry(key).or_default() += 1;
                        }
                        assert!((0..500).all(|key| times.get(&key) == Some(&1)));
                        assert!(times.values().all(|&times| times == 1));
                    });
                }
            });
        });
    }

    fn each_entry_that_stays_is_judged_once_while_others_come_and_go(dispatch) {
        let cache = beside_churn(dispatch, |cache| {
            for _ in 0..10 {
                let mut times = HashMap::<u64, u32>::new();
                cache.retain(|&key, _| {
                    *times.entry(key).or_default() += 1;
                    key < 500 || key % 2 == 0
                });
                assert!((0..500).all(|key| times.get(&key) == Some(&1)));
                assert!(times.values().all(|&times| times == 1));
            }
        });
        assert_eq!(cache.iter().count() as u64, cache.entry_count(), "room was lost");
    }

    fn the_cache_may_be_changed_during_an_iteration(dispatch) {
        let cache = filled(dispatch, 3, 1000);
        for (key, value) in &cache {
            assert_eq!(cache.remove(&key), Some(value));
            cache.insert(100_000 + key, value);
        }
        assert_eq!(cache.entry_count(), 1000);
        assert!(cache.iter().all(|(key, _)| key >= 100_000));
        // A new value takes the place of the older one, so this ends.
        for (key, value) in &cache {
            cache.insert(key, value + 1);
        }
        assert_eq!(cache.entry_count(), 1000);
    }

    fn an_expired_entry_is_not_yielded_even_if_it_was_read_ahead(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).shards(1).clock(clock).build().unwrap();
        for key in 0..60 {
            cache.insert_with_ttl(key, (), SECOND * (1 + key % 3));
        }
        cache.insert(99, ());
        hands.advance(SECOND);
        assert_eq!(sorted(&cache).len(), 41);
        let mut iter = cache.iter();
        let (first, ()) = iter.next().unwrap();
        hands.advance(SECOND);
        let rest = iter.map(|(key, ())| key).filter(|&key| key != first);
        assert!(rest.into_iter().all(|key| key % 3 == 2 || key == 99));
        hands.advance(SECOND);
        assert_eq!(sorted(&cache), [(99, ())]);
        assert_eq!(cache.entry_count(), 61, "who looks reclaims nothing");
    }

    fn an_entry_that_is_used_after_it_was_read_ahead_is_yielded(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).shards(1).time_to_idle(2 * SECOND).clock(clock).build().unwrap();
        for key in 0..50 {
            cache.insert(key, key);
        }
        let mut iter = cache.iter();
        let first = iter.next().unwrap();
        hands.advance(SECOND);
        assert_eq!(cache.update(&7, |value| std::mem::replace(value, 70)), Some(7));
        assert_eq!(cache.get(&8), Some(8));
        hands.advance(SECOND);
        let rest = iter.filter(|&entry| entry != first);
        assert_eq!(sorted(rest), [(7, 70), (8, 8)]);
    }

    fn an_entry_that_takes_the_place_of_an_expired_one_that_was_read_ahead_comes_once(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).shards(1).workers(usize::from(dispatch == Dispatch::PerCore)).clock(clock).build().unwrap();
        for key in 0..40_u64 {
            cache.insert_with_ttl(key, 0, SECOND * if key == 5 { 1 } else { 100 });
        }
        let mut iter = cache.iter();
        iter.next();
        hands.advance(SECOND);
        assert_eq!(cache.get(&5), None);
        // The last slot that was freed is the next one to be used, and the iteration has not been there yet.
        cache.remove(&35);
        cache.insert(5, 7);
        assert_eq!(iter.filter(|&entry| entry == (5, 7)).count(), 1);
    }

    fn an_iteration_is_not_a_use(dispatch) {
        let (clock, hands) = Clock::manual();
        let builder = builder(dispatch).max_capacity(100).shards(1).time_to_idle(2 * SECOND);
        let cache = builder.clock(clock).build().unwrap();
        for key in 0..100 {
            cache.insert(key, key);
        }
        let before = cache.stats();
        hands.advance(SECOND);
        assert_eq!(cache.iter().count(), 100);
        assert_eq!(cache.retain(|_, _| true), 0);
        let after = cache.stats();
        assert_eq!((after.hits, after.misses, after.replaced), (before.hits, before.misses, before.replaced));
        assert_eq!(cache.expires_in(&0), Some(SECOND));
        cache.insert(100, 100);
        assert_eq!((cache.peek(&0), cache.peek(&1)), (None, Some(1)), "the eldest leaves");
    }

    fn few_entries_left_of_many_take_few_requests(dispatch) {
        let cache = builder(dispatch).max_capacity(60_000).shards(1).build().unwrap();
        cache.insert_many((0..60_000).map(|key| (key, ())));
        let requests = || {
            let counts = cache.stats().dispatch;
            counts.in_place + counts.delegated
        };
        let before = requests();
        assert_eq!(cache.retain(|key, ()| key % 10_000 == 7), 59_994);
        let all = requests() - before;
        assert!((1875..2000).contains(&all), "{all} requests: so many entries at a time are judged");
        let before = requests();
        assert_eq!(cache.iter().count(), 6);
        let few = requests() - before;
        assert!(few < 12, "{few} requests");
    }

    fn rejected_entries_are_reported_and_counted_and_their_room_is_free(dispatch) {
        let (tell, told) = mpsc::channel();
        let listener = move |key, value, cause| {
            tell.send((thread::current().id(), (key, value, cause))).unwrap();
        };
        let builder = builder(dispatch).shards(3).weigher(|_: &u64, &value: &u32| value);
        let builder = builder.eviction_listener(listener);
        let (clock, hands) = Clock::manual();
        let cache = builder.clock(clock).build().unwrap();
        for key in 0..300 {
            cache.insert_with_ttl(key, 7, SECOND * (1 + u32::from(key % 10 == 0)));
        }
        for key in 300..500 {
            cache.insert(key, 3);
        }
        assert_eq!((cache.entry_count(), cache.weighted_size()), (500, 2700));
        // A tenth of the first entries are left, and half of the others.
        hands.advance(SECOND);
        assert_eq!(cache.retain(|key, &value| value == 7 || key % 2 == 0), 100);
        assert_eq!((cache.entry_count(), cache.weighted_size()), (30 + 100, 30 * 7 + 300));
        let (by, told): (Vec<_>, Vec<_>) = told.try_iter().unzip();
        assert!(by.iter().all(|&thread| thread == thread::current().id()));
        let explicit = (300..500).filter(|key| key % 2 == 1).map(|key| (key, 3, RemovalCause::Explicit));
        let expired = (0..300).filter(|key| key % 10 != 0).map(|key| (key, 7, RemovalCause::Expired));
        assert_eq!(sorted(told), sorted(explicit.chain(expired)));
        assert_eq!((cache.stats().removed, cache.stats().expired), (100, 270));
        assert_eq!(cache.retain(|_, _| false), 130);
        assert_eq!((cache.entry_count(), cache.weighted_size()), (0, 0));
        // All room is free again.
        (0..1000).for_each(|key| assert!(cache.insert(key, 10)));
        assert_eq!((cache.entry_count(), cache.stats().evicted), (1000, 0));
    }

    fn removed_entries_are_dropped_by_the_calling_thread_and_may_use_the_cache(dispatch) {
        let cache = builder(dispatch).shards(2).build().unwrap();
        let (there, (tell, told)) = (cache.clone(), mpsc::channel());
        let on_drop: Hook = Arc::new(move || {
            tell.send((thread::current().id(), there.contains_key(&1000))).unwrap();
        });
        for key in 0..200 {
            cache.insert(key, Hooked::with(key, Some(Arc::clone(&on_drop))));
        }
        cache.insert(1000, Hooked::new(0));
        drop(on_drop);
        assert_eq!(cache.retain(|&key, _| key == 1000), 200);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(thread::current().id(), true); 200]);
    }

    fn a_value_whose_load_began_before_a_retain_is_not_stored(dispatch) {
        let cache = filled(dispatch, 2, 10);
        let value = cache.get_or_insert_with(&50, || {
            assert_eq!(cache.retain(|&key, _| key < 5), 5);
            1
        });
        assert_eq!((value, cache.get(&50), cache.entry_count()), (1, None, 5));
        assert_eq!(cache.get_or_insert_with(&50, || 2), 2);
        assert_eq!(cache.get(&50), Some(2));
    }

    fn a_panic_of_the_predicate_reaches_the_caller_and_what_was_removed_before_is_reported(dispatch) {
        let told = Arc::new(Mutex::new(BTreeSet::new()));
        let listener = {
            let told = Arc::clone(&told);
            move |key: u64, value: common::Counted, cause| {
                assert_eq!((key, cause), (value.number, RemovalCause::Explicit));
                assert!(told.lock().unwrap().insert(key));
            }
        };
        let census = Census::default();
        let cache = builder(dispatch).shards(2).eviction_listener(listener).build().unwrap();
        cache.insert_many((0..500).map(|key| (key, census.make(key))));
        let (mut judged, mut refused) = (0, BTreeSet::new());
        let keep = |&key: &u64, _: &common::Counted| {
            judged += 1;
            assert!(judged < 400, "on purpose");
            if key % 2 == 0 {
                refused.insert(key);
            }
            key % 2 == 1
        };
        assert!(panics(|| cache.retain(keep)));
        assert!(refused.len() > 100 && refused.len() < 250);
        assert_eq!(*told.lock().unwrap(), refused);
        let left = 500 - refused.len();
        assert_eq!((cache.entry_count(), census.alive()), (left as u64, left as i64));
        assert_eq!(cache.iter().count(), left);
        assert_eq!(cache.retain(|key, _| key % 2 == 1), 250 - refused.len() as u64);
        drop(cache);
        census.wait_until_nothing_is_alive();
    }

    fn after_a_panic_of_a_destructor_or_the_listener_the_other_entries_are_judged_and_reported(dispatch) {
        for by_listener in [true, false] {
            let cleared = Arc::new(AtomicU64::new(0));
            let count = {
                let cleared = Arc::clone(&cleared);
                move || assert!(!cleared.fetch_add(1, Ordering::Relaxed).is_multiple_of(100), "on purpose")
            };
            let mut builder = builder(dispatch).shards(2);
            let on_drop: Option<Hook> = if by_listener {
                builder = builder.eviction_listener(move |_, _, _| count());
                None
            } else {
                Some(Arc::new(count))
            };
            let cache = builder.build().unwrap();
            for key in 0..500 {
                cache.insert(key, Hooked::with(key, on_drop.clone()));
            }
            // Two destructors that panic in one visit would abort, as anywhere.
            assert!(panics(|| cache.retain(|_, _| false)));
            let cleared = cleared.load(Ordering::Relaxed);
            assert_eq!((cache.entry_count(), cleared), (0, 500), "by listener: {by_listener}");
        }
    }

    fn an_entry_whose_clone_panics_is_skipped_and_nothing_is_dropped_inside(dispatch) {
        let cache: Cache<Hooked, Hooked> = builder(dispatch).shards(1).build().unwrap();
        for number in 0..100 {
            let (mut key, mut value) = (Hooked::new(number), Hooked::new(number));
            if number == 40 {
                key.on_clone = Some(Arc::new(|| panic!("on purpose")));
            }
            if number == 50 {
                value.on_clone = Some(Arc::new(|| panic!("on purpose")));
                // With a shard held, this would panic a second time and abort.
                let there = cache.clone();
                key.on_drop = Some(Arc::new(move || drop(there.peek(&Hooked::new(1)))));
            }
            cache.insert(key, value);
        }
        let (mut numbers, mut panicked) = (BTreeSet::new(), 0);
        let mut iter = cache.iter();
        loop {
            match catch_unwind(AssertUnwindSafe(|| iter.next())) {
                Ok(Some((key, value))) => assert!(key.number == value.number && numbers.insert(key.number)),
                Ok(None) => break,
                Err(_) => panicked += 1,
            }
        }
        drop(iter);
        assert_eq!(panicked, 2);
        assert_eq!(numbers, (0..100).filter(|number| ![40, 50].contains(number)).collect());
        assert_eq!(cache.entry_count(), 100);
        // Dropping the iterator early leaves nothing behind either.
        let mut iter = cache.iter();
        while !panics(|| iter.next()) {}
        while !panics(|| iter.next()) {}
        drop(iter);
        cache.invalidate_all();
    }

    fn entries_that_were_read_ahead_are_dropped_with_the_iterator(dispatch) {
        let census = Census::default();
        let cache = builder(dispatch).shards(1).build().unwrap();
        cache.insert_many((0..200).map(|key| (key, census.make(key))));
        let mut iter = cache.iter();
        drop((iter.next(), iter.next()));
        assert!((201..=232).contains(&census.alive()), "{}", census.alive());
        drop(iter);
        assert_eq!(census.alive(), 200);
    }

    fn calls_from_inside_a_clone_or_a_predicate_fail_at_once(dispatch) {
        let cache: Cache<u64, Hooked> = builder(dispatch).shards(2).build().unwrap();
        let other = filled(dispatch, 1, 10);
        let there = cache.clone();
        let calls = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&calls);
        let on_clone = move || {
            assert!(panics(|| there.iter().next()) && panics(|| there.retain(|_, _| false)));
            assert!(panics(|| other.iter().next()) && panics(|| other.retain(|_, _| false)));
            count.fetch_add(1, Ordering::Relaxed);
        };
        cache.insert(1, Hooked { number: 1, on_clone: Some(Arc::new(on_clone)), on_drop: None });
        assert!(cache.get(&1).is_some());
        assert_eq!(cache.iter().count(), 1);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        assert!(panics(|| cache.retain(|_, _| cache.contains_key(&1))));
        // Posting is allowed, as everywhere inside.
        let removed = cache.retain(|_, _| {
            cache.post_insert(2, Hooked::new(2));
            true
        });
        assert!(removed == 0 && cache.contains_key(&1) && cache.contains_key(&2));
        cache.invalidate_all();
    }

    fn the_capacity_may_change_during_an_iteration_even_to_zero(dispatch) {
        let cache = filled(dispatch, 3, 3000);
        let mut iter = cache.iter();
        let mut seen: BTreeSet<u64> = iter.by_ref().take(100).map(|(key, _)| key).collect();
        cache.set_capacity(1000);
        let left: BTreeSet<u64> = cache.iter().map(|(key, _)| key).collect();
        assert_eq!((left.len(), seen.len()), (1000, 100));
        cache.set_capacity(100_000);
        cache.insert_many((10_000..20_000).map(|key| (key, 0)));
        for (key, _) in iter {
            assert!(seen.insert(key), "{key} comes twice");
        }
        assert!(left.is_subset(&seen));
        let mut iter = cache.iter();
        assert!(iter.next().is_some());
        cache.set_capacity(0);
        assert!(iter.count() < 32, "what was read ahead");
        assert_eq!((cache.iter().next(), cache.retain(|_, _| false)), (None, 0));
    }

    fn an_iteration_ends_although_the_cache_is_emptied_and_filled_meanwhile(dispatch) {
        let cache = filled(dispatch, 3, 3000);
        let mut iter = cache.iter();
        assert_eq!(iter.by_ref().take(100).count(), 100);
        cache.invalidate_all();
        cache.insert_many((10_000..10_500).map(|key| (key, 0)));
        let rest: Vec<_> = iter.map(|(key, _)| key).collect();
        assert!(rest.iter().filter(|&&key| key < 10_000).count() < 32);
        assert_eq!(rest.iter().collect::<BTreeSet<_>>().len(), rest.len());
    }

    fn keys_and_values_need_only_be_send(dispatch) {
        #[derive(Clone, PartialEq, Eq)]
        struct Key(Cell<u64>);
        impl Hash for Key {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.get().hash(state);
            }
        }
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).clock(clock).build().unwrap();
        for key in 0..50 {
            cache.insert_with_ttl(Key(Cell::new(key)), Cell::new(key), SECOND);
        }
        let mut iter = cache.iter();
        assert!(iter.next().is_some());
        hands.advance(SECOND);
        assert!(iter.next().is_none());
        let mut judged = Vec::new();
        cache.insert(Key(Cell::new(7)), Cell::new(70));
        // It may borrow, and change what it borrows.
        assert_eq!(cache.retain(|key, value| { judged.push((key.0.get(), value.get())); false }), 1);
        assert_eq!((judged, cache.entry_count()), (vec![(7, 70)], 0));
    }
}

#[test]
fn iterating_starts_no_worker() {
    let cache: Cache<u64, u64> = Cache::builder().max_capacity(1000).workers(0).build().unwrap();
    cache.insert_many((0..1000).map(|key| (key, key)));
    assert_eq!((cache.iter().count(), cache.retain(|key, _| key % 2 == 0)), (1000, 500));
    assert_eq!((cache.thread_count(), cache.entry_count()), (0, 500));
}
