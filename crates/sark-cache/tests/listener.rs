//! Each entry that leaves is reported once, unless a caller gets it.

mod common;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use sark_cache::{Builder, Cache, Clock, Dispatch, LruTtlCache, RemovalCause};

const MINUTE: Duration = Duration::from_secs(60);

type Told = Receiver<(u8, u32, RemovalCause)>;

/// A builder of a cache that reports what leaves, and where the reports arrive.
fn telling(dispatch: Dispatch) -> (Builder<u8, u32>, Told) {
    let (tell, told) = mpsc::channel();
    let builder = Cache::builder().dispatch(dispatch).pin(false).shards(1).max_capacity(3);
    (builder.eviction_listener(move |key, value, cause| tell.send((key, value, cause)).unwrap()), told)
}

fn all(told: &Told) -> Vec<(u8, u32, RemovalCause)> {
    told.try_iter().collect()
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8),
    InsertWithTtl(u8, u8),
    PostInsert(u8),
    InsertMany(Vec<u8>),
    Get(u8),
    Update(u8),
    GetMany(Vec<u8>),
    Load(u8),
    Remove(u8),
    Invalidate(u8),
    InvalidateAll,
    Retain(u8),
    SetCapacity(u8),
    RunPendingTasks,
    Wait(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..12_u8;
    let keys = prop::collection::vec(0..12_u8, 0..6);
    let step = prop_oneof![
        6 => key.clone().prop_map(Step::Insert),
        4 => (key.clone(), 0..40_u8).prop_map(|(key, ttl)| Step::InsertWithTtl(key, ttl)),
        2 => key.clone().prop_map(Step::PostInsert),
        2 => keys.clone().prop_map(Step::InsertMany),
        3 => key.clone().prop_map(Step::Get),
        2 => key.clone().prop_map(Step::Update),
        1 => keys.prop_map(Step::GetMany),
        2 => key.clone().prop_map(Step::Load),
        2 => key.clone().prop_map(Step::Remove),
        2 => key.prop_map(Step::Invalidate),
        1 => Just(Step::InvalidateAll),
        2 => (2..5_u8).prop_map(Step::Retain),
        1 => (0..8_u8).prop_map(Step::SetCapacity),
        1 => Just(Step::RunPendingTasks),
        4 => (0..30_u8).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

/// Each value is inserted once. In the end it was reported, or was handed out, or is in the cache.
fn nothing_is_lost_or_told_twice(
    dispatch: Dispatch,
    shards: usize,
    weighted: bool,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let (builder, told) = telling(dispatch);
    let (clock, hands) = Clock::manual();
    let builder = builder.shards(shards).max_capacity(6).clock(clock);
    // Every fifth value is too heavy to be kept.
    let weight = |_: &u8, value: &u32| if value.is_multiple_of(5) { 9 } else { 1 };
    let builder = if weighted { builder.weigher(weight) } else { builder };
    let cache = builder.build().unwrap();
    let (mut inserted, mut elsewhere) = (0, BTreeSet::new());
    for step in steps {
        let mut new = || {
            inserted += 1;
            inserted
        };
        match step.clone() {
            Step::Insert(key) => {
                cache.insert(key, new());
            }
            Step::InsertWithTtl(key, ttl) => {
                cache.insert_with_ttl(key, new(), Duration::from_millis(ttl.into()));
            }
            Step::PostInsert(key) => cache.post_insert(key, new()),
            Step::InsertMany(keys) => {
                cache.insert_many(keys.into_iter().map(|key| (key, new())));
            }
            Step::Get(key) => drop(cache.get(&key)),
            Step::Update(key) => drop(cache.update(&key, |_| ())),
            Step::GetMany(keys) => drop(cache.get_many(&keys)),
            Step::Load(key) => {
                cache.get_or_insert_with(&key, new);
            }
            Step::Remove(key) => elsewhere.extend(cache.remove(&key)),
            Step::Invalidate(key) => cache.invalidate(&key),
            Step::InvalidateAll => cache.invalidate_all(),
            Step::Retain(divisor) => {
                cache.retain(|key, _| key % divisor != 0);
            }
            Step::SetCapacity(capacity) => cache.set_capacity(capacity.into()),
            Step::RunPendingTasks => cache.run_pending_tasks(),
            Step::Wait(millis) => hands.advance(Duration::from_millis(millis.into())),
        }
    }
    cache.run_pending_tasks();
    elsewhere.extend((0..12).filter_map(|key| cache.peek(&key)));
    // When the cache is gone, workers have reported everything.
    drop(cache);
    for (_, value, cause) in told {
        prop_assert!(elsewhere.insert(value), "{value} was told of ({cause:?}), and somebody has it");
    }
    prop_assert_eq!(elsewhere, (1..=inserted).collect::<BTreeSet<_>>());
    Ok(())
}

under_both_dispatches! {
    fn every_entry_is_in_the_cache_or_was_handed_out_or_was_reported_once(dispatch) {
        let mut config = ProptestConfig::default();
        if std::env::var_os("PROPTEST_CASES").is_none() {
            config.cases = if dispatch == Dispatch::PerCore { 100 } else { 500 };
        }
        proptest!(config, |(shards in 1..4_usize, weighted: bool, steps in steps())| {
            nothing_is_lost_or_told_twice(dispatch, shards, weighted, &steps)?;
        });
    }

    fn the_cause_says_why_an_entry_left(dispatch) {
        let (builder, told) = telling(dispatch);
        let (clock, hands) = Clock::manual();
        let cache = builder.clock(clock).build().unwrap();
        for key in 1..=4 {
            cache.insert(key, 10 * u32::from(key));
        }
        assert_eq!(all(&told), [(1, 10, RemovalCause::Size)]);
        cache.insert(2, 21);
        assert_eq!(all(&told), [(2, 20, RemovalCause::Replaced)]);
        cache.invalidate(&3);
        assert_eq!(all(&told), [(3, 30, RemovalCause::Explicit)]);
        assert_eq!(cache.remove(&2), Some(21));
        assert_eq!(all(&told), [], "its caller has it");
        cache.insert_with_ttl(5, 50, MINUTE);
        cache.insert_with_ttl(6, 60, MINUTE);
        hands.advance(MINUTE);
        assert_eq!(cache.get(&5), None);
        assert_eq!(all(&told), [(5, 50, RemovalCause::Expired)]);
        cache.run_pending_tasks();
        assert_eq!(all(&told), [(6, 60, RemovalCause::Expired)]);
        assert!(!cache.insert_with_ttl(7, 70, Duration::ZERO));
        assert_eq!(all(&told), [(7, 70, RemovalCause::Rejected)]);
        cache.invalidate_all();
        assert_eq!(all(&told), [(4, 40, RemovalCause::Explicit)]);
        cache.insert(8, 80);
        drop(cache);
        assert_eq!(all(&told), [], "what is left is dropped with the cache");
    }

    fn workers_report_what_expires_without_any_call(dispatch) {
        let (builder, told) = telling(dispatch);
        let cache = builder.time_to_live(Duration::from_millis(20)).build().unwrap();
        cache.insert(1, 10);
        assert_eq!(told.recv_timeout(MINUTE), Ok((1, 10, RemovalCause::Expired)));
        assert_eq!(cache.stats().expired_on_get, 0);
    }

    fn a_listener_may_use_the_cache_that_it_listens_to(dispatch) {
        // What is evicted is inserted once more, under another key.
        let itself = Arc::new(OnceLock::<Cache<u8, u32>>::new());
        let there = Arc::clone(&itself);
        let cache = Cache::builder().dispatch(dispatch).pin(false).shards(1).max_capacity(2).eviction_listener(move |key, value, _| {
            if key < 100 {
                there.get().unwrap().insert(key + 100, value);
            }
        });
        let cache = itself.get_or_init(|| cache.build().unwrap());
        for key in 1..=3 {
            cache.insert(key, 10 * u32::from(key));
        }
        // 1 came back as 101 and evicted 2, which came back as 102 and evicted 3, which came back as 103 and
        // evicted 101.
        assert_eq!([2, 3, 101, 102, 103].map(|key| cache.peek(&key)), [None, None, None, Some(20), Some(30)]);
        // The listener holds the cache that holds the listener.
        cache.invalidate_all();
    }

    fn a_panic_of_the_listener_reaches_the_call_and_the_other_entries_are_reported(dispatch) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = {
            let told = Arc::clone(&told);
            move |key: u8, _: u32, _| {
                told.lock().unwrap().push(key);
                assert_ne!(key % 2, 1, "on purpose");
            }
        };
        let cache = Cache::builder().dispatch(dispatch).pin(false).shards(1).max_capacity(4).eviction_listener(listener).build().unwrap();
        for key in 1..=4 {
            cache.insert(key, 0);
        }
        let told = || std::mem::take(&mut *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        assert!(catch_unwind(AssertUnwindSafe(|| cache.insert(5, 0))).is_err());
        assert_eq!(told(), [1]);
        assert!(cache.contains_key(&5), "the cache was done with it");
        assert!(catch_unwind(AssertUnwindSafe(|| cache.set_capacity(0))).is_err());
        assert_eq!(told(), [2, 3, 4, 5]);
    }
}

/// Puts odd keys into the second of two shards, even ones into the first.
#[derive(Clone, Default)]
struct ByParity(u64);

impl BuildHasher for ByParity {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for ByParity {
    fn write(&mut self, _: &[u8]) {
        panic!("keys are a number each");
    }

    fn write_u8(&mut self, key: u8) {
        self.0 = u64::from(key % 2) << 63 | u64::from(key).wrapping_mul(0x9E37_79B9);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn in_two_shards() -> Builder<u8, u32, ByParity> {
    Cache::builder().hasher(ByParity(0)).shards(2).max_capacity(10)
}

fn panics<R>(call: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// Runs `call` on another thread, and fails if it hangs.
fn ends(call: impl FnOnce() + Send + 'static) {
    let (end, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        call();
        end.send(()).unwrap();
    });
    match ended.recv_timeout(MINUTE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

#[test]
fn a_panic_of_the_listener_loses_nothing_of_a_batch() {
    let listener = |_, _, cause| assert_ne!(cause, RemovalCause::Replaced, "on purpose");
    let cache = in_two_shards().weigher(|_, &weight| weight).eviction_listener(listener).build().unwrap();
    cache.insert_many([(0, 1), (2, 7), (1, 1)]);
    // The value that is replaced is in the first shard, and the second shard needs room from it.
    assert!(panics(|| cache.insert_many([(0, 1), (3, 5), (7, 2)])));
    assert!([0, 3, 7].into_iter().all(|key| cache.contains_key(&key)));
}

#[test]
fn a_panic_of_the_listener_does_not_keep_shards_from_being_emptied() {
    let cache = in_two_shards().eviction_listener(|_, _, _| panic!("on purpose")).build().unwrap();
    cache.insert_many((0..4).map(|key| (key, 0)));
    assert!(panics(|| cache.invalidate_all()));
    assert_eq!(cache.entry_count(), 0);
}

#[test]
fn a_panic_of_the_listener_hides_no_deadline_of_a_posted_entry() {
    let (tell, told) = mpsc::channel();
    let listener = move |_, value, cause| {
        tell.send((value, cause)).unwrap();
        assert_ne!(cause, RemovalCause::Replaced, "on purpose");
    };
    let cache = in_two_shards().time_to_live(Duration::from_millis(50)).eviction_listener(listener).build().unwrap();
    cache.insert_with_ttl(1, 1, Duration::MAX);
    assert!(panics(|| cache.post_insert(1, 2)));
    assert_eq!(told.recv_timeout(MINUTE), Ok((1, RemovalCause::Replaced)));
    assert_eq!(told.recv_timeout(MINUTE), Ok((2, RemovalCause::Expired)));
}

#[test]
fn a_deletion_from_a_string_cache_is_reported() {
    let (tell, told) = mpsc::channel();
    let listener = move |key: String, _, cause| tell.send((key, cause)).unwrap();
    let cache = LruTtlCache::with(60, |builder| builder.max_capacity(10).eviction_listener(listener)).unwrap();
    cache.set("key".into(), "value".into(), None).unwrap();
    assert!(cache.delete("key") && !cache.delete("key"));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [("key".to_owned(), RemovalCause::Explicit)]);
}

#[test]
fn nothing_is_held_when_the_listener_runs_after_a_panic_in_a_batch() {
    struct Value(u32);
    impl Clone for Value {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 13, "on purpose");
            Self(self.0)
        }
    }
    let itself = Arc::new(OnceLock::<Cache<u8, Value>>::new());
    let (there, (tell, told)) = (Arc::clone(&itself), mpsc::channel());
    let (clock, hands) = Clock::manual();
    let builder = Cache::builder().shards(1).dispatch(Dispatch::PerCore).pin(false).max_capacity(10).clock(clock);
    let cache = builder.eviction_listener(move |_, _, _| tell.send(there.get().unwrap().contains_key(&2)).unwrap());
    let cache = itself.get_or_init(|| cache.build().unwrap());
    cache.insert_with_ttl(1, Value(1), MINUTE);
    cache.insert(2, Value(13));
    hands.advance(MINUTE);
    assert!(panics(|| cache.get_many(&[1, 2])));
    assert_eq!(told.recv_timeout(MINUTE), Ok(true));
    cache.invalidate_all();
}

#[test]
fn listeners_of_two_loads_may_ask_for_each_other_s_key() {
    let itself = Arc::new(OnceLock::<Cache<u8, u32>>::new());
    let (there, both) = (Arc::clone(&itself), Arc::new(Barrier::new(2)));
    let met = Arc::clone(&both);
    let cache = Cache::builder().shards(1).max_capacity(1).eviction_listener(move |key, _, _| {
        let cache = there.get().unwrap();
        match key {
            0 => {
                met.wait();
                cache.get_or_insert_with(&2, || 22);
            }
            1 => {
                cache.get_or_insert_with(&1, || 11);
            }
            _ => {}
        }
    });
    let cache = itself.get_or_init(|| cache.build().unwrap()).clone();
    cache.insert(0, 0);
    ends(move || {
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(cache.get_or_insert_with(&1, || 10), 10));
            scope.spawn(|| {
                cache.get_or_insert_with(&2, || {
                    both.wait();
                    20
                })
            });
        });
        cache.invalidate_all();
    });
}

/// A key that, at its second comparison, lets another thread post before it answers.
#[derive(Clone, Debug)]
struct Inviting(u8, Arc<Invitation>);

#[derive(Default)]
struct Invitation {
    comparisons: AtomicU32,
    armed: AtomicBool,
    guest: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Invitation")
    }
}

impl Hash for Inviting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.0);
    }
}

impl PartialEq for Inviting {
    fn eq(&self, other: &Self) -> bool {
        let Self(key, invitation) = self;
        let counts = *key == 0 && other.0 == 0 && invitation.armed.load(Ordering::Relaxed);
        if counts && invitation.comparisons.fetch_add(1, Ordering::Relaxed) == 1 {
            invitation.guest.get().unwrap()();
        }
        *key == other.0
    }
}

impl Eq for Inviting {}

#[test]
fn what_others_posts_displace_while_room_is_gathered_is_reported_afterwards() {
    let itself = Arc::new(OnceLock::<Cache<Inviting, u32, ByParity>>::new());
    let (there, invitation) = (Arc::clone(&itself), Arc::new(Invitation::default()));
    let key = |number| Inviting(number, Arc::clone(&invitation));
    let builder = Cache::builder().hasher(ByParity(0)).shards(2).max_capacity(10).weigher(|_, &weight| weight);
    let cache = builder.eviction_listener(move |_, weight, _| {
        if weight == 5 {
            there.get().unwrap().set_capacity(10);
        }
    });
    let cache = itself.get_or_init(|| cache.build().unwrap()).clone();
    cache.insert(key(0), 1);
    for odd in [1, 3, 5] {
        cache.insert(key(odd), 3);
    }
    assert_eq!(cache.weighted_size(), 10);
    // While the insertion holds the shard after it has gathered room, another thread posts what will displace
    // it.
    let (poster, post) = (cache.clone(), key(0));
    let guest = move || {
        let (poster, post) = (poster.clone(), post.clone());
        thread::spawn(move || poster.post_insert(post, 2)).join().unwrap();
    };
    assert!(invitation.guest.set(Box::new(guest)).is_ok());
    invitation.armed.store(true, Ordering::Relaxed);
    let last = key(0);
    ends(move || assert!(cache.insert(last, 5)));
    assert!(invitation.comparisons.load(Ordering::Relaxed) > 1, "nobody was invited");
}

#[test]
fn a_panic_of_the_listener_leaks_nothing_of_a_load() {
    let cache = Cache::builder().max_capacity(1).eviction_listener(|_, _, _| panic!("on purpose")).build().unwrap();
    let value = Arc::new(());
    cache.insert(0, Arc::clone(&value));
    let load = || cache.get_or_insert_with(&1, || Arc::clone(&value));
    assert!(catch_unwind(AssertUnwindSafe(load)).is_err());
    assert!(cache.get(&1).is_some(), "it is stored nevertheless");
    let _ = catch_unwind(AssertUnwindSafe(|| cache.invalidate_all()));
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn an_outdated_load_is_counted_as_it_is_reported() {
    let (tell, told) = mpsc::channel();
    let listener = move |key, value, cause| tell.send((key, value, cause)).unwrap();
    let cache = Cache::builder().max_capacity(10).eviction_listener(listener).build().unwrap();
    let value = cache.get_or_insert_with(&5, || {
        cache.invalidate(&5);
        50
    });
    assert_eq!((value, cache.get(&5)), (50, None));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(5, 50, RemovalCause::Rejected)]);
    assert_eq!(cache.stats().rejected, 1);
}
