//! Loads of threads, and what the registry shows of them: how many callers wait, and that nothing is left in
//! the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use super::*;
use crate::Cache;

/// Returns once this many other callers are waiting for the only load under way.
fn until_waited_for<V>(cache: &Cache<String, V>, waiting: usize)
where
    V: Send + 'static,
{
    let shares = || {
        let under_way = lock(&cache.inner().loads.under_way);
        under_way.values().flatten().map(Arc::strong_count).sum::<usize>()
    };
    // One share is the registry's, one is the loading caller's.
    while shares() < 2 + waiting {
        thread::yield_now();
    }
}

/// Lets four threads miss at the same time. The first ends its load with `first` once the other three wait
/// for it. Returns the answers and the number of loads.
fn four_at_once<E: Send>(
    cache: &Cache<String, usize>,
    first: impl Fn() -> Result<usize, E> + Sync,
) -> (Vec<thread::Result<Result<usize, E>>>, usize) {
    let loads = AtomicUsize::new(0);
    let load = || {
        if loads.fetch_add(1, Ordering::Relaxed) > 0 {
            return Ok(7);
        }
        until_waited_for(cache, 3);
        first()
    };
    let ask = || catch_unwind(AssertUnwindSafe(|| cache.get_or_try_insert_with("key", load)));
    let answers = thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert!(lock(&cache.inner().loads.under_way).is_empty());
    (answers, loads.load(Ordering::Relaxed))
}

#[test]
fn callers_that_miss_during_a_load_wait_and_get_the_same_value() {
    let (answers, loads) = four_at_once(&Cache::new(10), || Ok::<_, ()>(42));
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(42)))));
    assert_eq!(loads, 1);
}

#[test]
fn a_waiting_caller_gets_a_value_that_the_cache_does_not_keep() {
    let cache: Cache<String, usize> = Cache::builder().max_capacity(10).weigher(|_, _| 11).build().unwrap();
    let (answers, loads) = four_at_once(&cache, || Ok::<_, ()>(42));
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(42)))));
    assert_eq!((loads, cache.get("key")), (1, None));
}

#[test]
fn an_error_reaches_the_caller_that_loaded_and_a_waiting_one_loads() {
    let cache = Cache::new(10);
    let (answers, loads) = four_at_once(&cache, || Err("no"));
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(Err("no")))).count(), 1);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(Ok(7)))).count(), 3);
    assert_eq!((loads, cache.get("key")), (2, Some(7)));
}

#[test]
fn a_panic_reaches_the_caller_that_loaded_and_a_waiting_one_loads() {
    let cache = Cache::new(10);
    let (answers, loads) = four_at_once::<()>(&cache, || panic!("on purpose"));
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(Ok(7)))).count(), 3);
    assert_eq!((loads, cache.get("key")), (2, Some(7)));
}

#[test]
fn a_load_that_asks_for_its_own_key_loads_it_inside() {
    let cache = Cache::new(10);
    let outer = cache.get_or_insert_with("key", || cache.get_or_insert_with("key", || 1) + 1);
    assert_eq!((outer, cache.get("key")), (2, Some(2)));
}

#[test]
fn keys_with_the_same_hash_are_loaded_separately() {
    #[derive(Default)]
    struct Same;
    impl BuildHasher for Same {
        type Hasher = SameHasher;
        fn build_hasher(&self) -> SameHasher {
            SameHasher
        }
    }
    struct SameHasher;
    impl std::hash::Hasher for SameHasher {
        fn write(&mut self, _: &[u8]) {}
        fn finish(&self) -> u64 {
            7
        }
    }
    let cache: Cache<u32, u32, Same> = Cache::builder().max_capacity(10).hasher(Same).build().unwrap();
    let inside =
        |key: u32| thread::scope(|scope| scope.spawn(|| cache.get_or_insert_with(&key, || key)).join().unwrap());
    assert_eq!(cache.get_or_insert_with(&1, || 10 * inside(2)), 20);
    assert_eq!([cache.get(&1), cache.get(&2)], [Some(20), Some(2)]);
}

#[test]
fn a_value_invalidated_during_its_load_is_not_kept_and_later_callers_load_anew() {
    let ways: [fn(&Cache<String, usize>); 3] =
        [|cache| cache.invalidate("key"), |cache| assert_eq!(cache.remove("key"), None), Cache::invalidate_all];
    for dispatch in [crate::Dispatch::Adaptive, crate::Dispatch::PerCore] {
        for invalidate in ways {
            let (refuse, refused) = std::sync::mpsc::channel();
            let builder = Cache::builder().max_capacity(10).dispatch(dispatch).pin(false);
            let listener = move |key, value, cause| refuse.send((key, value, cause)).unwrap();
            let cache: Cache<String, usize> = builder.eviction_listener(listener).build().unwrap();
            let never = || unreachable!("it is being loaded");
            let old = thread::scope(|scope| {
                let mut beside = None;
                let old = cache.get_or_insert_with("key", || {
                    beside = Some(scope.spawn(|| cache.get_or_insert_with("key", never)));
                    until_waited_for(&cache, 1);
                    invalidate(&cache);
                    let new = scope.spawn(|| cache.get_or_insert_with("key", || 2));
                    assert_eq!(new.join().unwrap(), 2);
                    1
                });
                (old, beside.unwrap().join().unwrap())
            });
            assert_eq!(old, (1, 1), "they asked before");
            assert_eq!(cache.get("key"), Some(2));
            let told: Vec<_> = refused.try_iter().collect();
            assert_eq!(told, [("key".to_owned(), 1, sark_shard::RemovalCause::Rejected)]);
            assert_eq!(cache.inner().loads.count.load(Ordering::SeqCst), 0);
        }
    }
}

#[test]
fn neither_of_two_nested_loads_is_kept_if_their_key_is_invalidated() {
    let cache = Cache::new(10);
    let outer = cache.get_or_insert_with("key", || {
        cache.get_or_insert_with("key", || {
            cache.invalidate("key");
            1
        }) + 1
    });
    assert_eq!((outer, cache.get("key")), (2, None));
}

/// A key with one comparison that does something first.
#[derive(Clone)]
struct Meddling(u8, Meddler);
type Meddler = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

impl Hash for Meddling {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u8(0);
    }
}

impl PartialEq for Meddling {
    fn eq(&self, other: &Self) -> bool {
        let meddle = lock(&self.1).take();
        if let Some(meddle) = meddle {
            meddle();
        }
        self.0 == other.0
    }
}

impl Eq for Meddling {}

#[test]
fn what_others_posts_displace_is_reported_after_the_load_that_served_them() {
    let meddler = Meddler::default();
    let key = |number| Meddling(number, Arc::clone(&meddler));
    let itself = Arc::new(std::sync::OnceLock::<Cache<Meddling, u8>>::new());
    let (there, (tell, told)) = (Arc::clone(&itself), std::sync::mpsc::channel());
    let listener = move |key: Meddling, _, _| {
        let under_way = there.get().unwrap().inner().loads.count.load(Ordering::Relaxed);
        tell.send((key.0, under_way)).unwrap();
    };
    let cache = Cache::builder().shards(1).max_capacity(1).workers(0).eviction_listener(listener).build().unwrap();
    let cache = itself.get_or_init(|| cache);
    cache.insert(key(1), 1);
    let meddle_with = |number| {
        let (poster, post) = (cache.clone(), key(number));
        *lock(&meddler) = Some(Box::new(move || poster.post_insert(post, number)));
    };
    let loaded = cache.get_or_insert_with(&key(2), || {
        // Posts 3 while a look-up compares its key, and 4 while the insertion that follows does.
        meddle_with(3);
        assert_eq!(cache.get(&key(1)), Some(1));
        assert_eq!(cache.get(&key(3)), Some(3));
        meddle_with(4);
        2
    });
    assert_eq!((loaded, cache.get(&key(4))), (2, Some(4)));
    let mut all: Vec<_> = told.try_iter().collect();
    all.sort_unstable();
    assert_eq!(all, [(1, 0), (2, 0), (3, 0)]);
    cache.invalidate_all();
}

#[test]
fn many_callers_of_few_keys_load_each_of_them_once() {
    for dispatch in [crate::Dispatch::Adaptive, crate::Dispatch::PerCore] {
        for _ in 0..20 {
            let cache = Cache::builder().max_capacity(100).dispatch(dispatch).pin(false).build().unwrap();
            let loads = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for key in 0..10_u64 {
                            let load = || {
                                loads.fetch_add(1, Ordering::Relaxed);
                                key + 1
                            };
                            assert_eq!(cache.get_or_insert_with(&key, load), key + 1);
                        }
                    });
                }
            });
            assert_eq!(loads.load(Ordering::Relaxed), 10);
        }
    }
}

#[test]
fn keys_and_values_need_not_be_sync() {
    fn is_sync<T: Sync>(_: &T) {}
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Key(u8, std::marker::PhantomData<std::cell::Cell<u8>>);
    let cache: Cache<Key, std::cell::Cell<u8>> = Cache::new(10);
    is_sync(&cache);
}

#[test]
fn a_forked_child_has_a_registry_of_its_own_and_touches_no_lock_of_its_parent() {
    // As in a child whose parent was changing the registry, and waiting for a load, when it forked.
    let loads = Loads::<String, u32> { process: std::process::id() + 1, ..Loads::new() };
    loads.count.store(1, Ordering::SeqCst);
    let load = Arc::new(Load::new("key".to_owned(), false));
    let _locked_for_ever = (lock(&loads.under_way), lock(&load.state));
    let stage = Stage::UnderWay;
    drop(Loading { loads: &loads, hash: 7, load: Arc::clone(&load), stage });
    Loading { loads: &loads, hash: 7, load: Arc::clone(&load), stage }.end(&1);
    drop(Waiting { loads: &loads, hash: 7, load: Arc::clone(&load), task: Some(1) });

    let Turn::Load(loading) = loads.take_turn(7, "key", false) else { panic!("nothing is under way here") };
    assert!(matches!(loads.take_turn(7, "key", false), Turn::Wait(_)));
    loads.outdate(Some(8));
    assert!(!loading.load.is_outdated());
    loads.outdate(Some(7));
    assert!(loading.load.is_outdated(), "an invalidation in the child finds loads of the child");
}

#[test]
fn each_caller_that_waits_counts_as_one_miss_however_many_loads_fail() {
    let cache = Cache::<String, usize>::new(10);
    let loads = AtomicUsize::new(0);
    let load = || {
        if loads.fetch_add(1, Ordering::Relaxed) == 0 {
            until_waited_for(&cache, 5);
        }
        Err::<usize, _>("no")
    };
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(cache.get_or_try_insert_with("key", load), Err("no")));
        }
    });
    assert_eq!(loads.load(Ordering::Relaxed), 6);
    // A caller may have looked again if it had found the load and was not waiting yet when that failed.
    assert!((6..=11).contains(&cache.stats().misses), "{}", cache.stats().misses);
    assert!(lock(&cache.inner().loads.under_way).is_empty());
}

#[test]
fn of_two_invalidations_at_once_each_returns_only_when_the_load_is_marked() {
    const ROUNDS: usize = 20_000;
    let loads = Loads::<u32, u32>::new();
    let load = Mutex::new(Arc::new(Load::new(0, false)));
    let [round, done, unmarked] = [(); 3].map(|()| AtomicUsize::new(0));
    let until = |count: &AtomicUsize, least: usize| {
        while count.load(Ordering::Acquire) < least {
            thread::yield_now();
        }
    };
    let invalidate = || {
        for number in 1..=ROUNDS {
            until(&round, number);
            loads.outdate(Some(7));
            unmarked.fetch_add(usize::from(!lock(&load).is_outdated()), Ordering::Relaxed);
            done.fetch_add(1, Ordering::Release);
        }
    };
    thread::scope(|scope| {
        scope.spawn(invalidate);
        scope.spawn(invalidate);
        for number in 1..=ROUNDS {
            let fresh = Arc::new(Load::new(0, false));
            loads.register(7, &fresh);
            *lock(&load) = fresh;
            round.store(number, Ordering::Release);
            until(&done, 2 * number);
        }
    });
    assert_eq!(unmarked.into_inner(), 0);
}
