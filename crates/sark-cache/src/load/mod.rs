//! Loading on a miss: one caller loads a key, and the callers that ask for it meanwhile wait for that load.
//!
//! Loads live outside the shards. No shard is held while a value is loaded or waited for, and a hit never
//! looks here. This file holds the registry of the loads under way, and what happens when one ends;
//! [`blocking`] has the methods for threads, [`awaiting`] those for tasks.
//!
//! * A load stays registered until its value is stored, but not while anything that the insertion displaced,
//!   or other callers' posts on the way, is dropped or reported: that is user code, and it may load in its
//!   turn.
//! * A caller that registers a load looks at the cache once more before it begins. Otherwise a value would be
//!   loaded twice if it was stored between the caller's first look and its registration.
//! * If a load ends without a value, one of the waiting callers is woken and takes it over; the others go on
//!   waiting. To wake all of them would take n steps for each of n callers of a load that always fails.
//! * No user code runs while the registry is locked. A key's `Eq` and a value's `Clone` run under the lock of
//!   one load, so that neither type has to be `Sync`. They must not block or call a cache, here as
//!   everywhere. Wakers are cloned, woken and dropped with nothing locked.
//! * A thread never waits for a load that a task runs. The task may need this very thread to make progress,
//!   and then both would wait for ever. Tasks wait for either kind, since they block nothing.
//! * A forked child has a registry of its own. It has none of the threads that would end the parent's loads,
//!   and one of those threads may hold a lock.

mod awaiting;
#[cfg(test)]
mod awaiting_tests;
mod blocking;
#[cfg(test)]
mod blocking_tests;
#[cfg(test)]
mod takeover_tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use equivalent::Equivalent;
use sark_shard::Lifetime;

use crate::arrival::Unless;
use crate::cache::Inner;
use crate::outgoing::{Outgoing, catch_and_discard};

/// Loads by the hash of their key; usually one each.
type UnderWay<K, V> = HashMap<u64, Vec<Arc<Load<K, V>>>>;

/// The loads under way.
pub(crate) struct Loads<K, V> {
    /// The process that they are under way in.
    process: u32,
    /// Those of a child that was forked from that process.
    child: OnceLock<Box<Self>>,
    under_way: Mutex<UnderWay<K, V>>,
    /// How many there are. Usually none, and then an invalidation has nothing to do here.
    count: AtomicUsize,
}

/// One load.
struct Load<K, V> {
    /// Whether a task runs it, and not a thread. Written under the lock of `state`, by the caller that takes it
    /// over. Callers that look for a load to wait for read it without that lock, and may be misled by an older
    /// value: they look again under the lock before they wait.
    by_task: AtomicBool,
    /// The key was invalidated after this load began. Set before the invalidation runs on the shard, and read
    /// on the shard as the value is stored: whichever of the two has the shard first, the value is removed or
    /// never stored.
    outdated: AtomicBool,
    state: Mutex<State<K, V>>,
    /// Tells waiting threads of a new outcome.
    ended: Condvar,
}

struct State<K, V> {
    key: K,
    outcome: Outcome<V>,
    /// The number of threads that wait.
    threads: usize,
    /// The tasks that wait and have not been woken, by the order in which they came.
    tasks: BTreeMap<u64, Waker>,
    /// The number of the task that comes next.
    next_task: u64,
}

enum Outcome<V> {
    UnderWay,
    Loaded(V),
    /// It ended with an error or a panic, which only its own caller hears of, or its future was dropped. One of
    /// the waiting callers was woken to take it over.
    Vacant,
    /// The same, and no caller waited; or the value was found in the cache, where the waiting callers look for
    /// it, too. It is not registered any more.
    Gone,
}

/// What a caller that missed does next.
enum Turn<'l, K, V> {
    /// Load. No other caller loads this key meanwhile.
    Load(Loading<'l, K, V>),
    /// Wait for a load.
    Wait(Waiting<'l, K, V>),
}

/// A caller that waits for another caller's load.
struct Waiting<'l, K, V> {
    loads: &'l Loads<K, V>,
    hash: u64,
    load: Arc<Load<K, V>>,
    /// The number of the task that waits, once it has left its waker.
    task: Option<u64>,
}

/// What a caller gets that waited.
enum Waited<'l, K, V> {
    Loaded(V),
    /// The load, without a value: it is this caller's now.
    TakenOver(Loading<'l, K, V>),
    /// Nothing. It has to look again.
    Nothing,
}

/// A load that this caller runs. If this is dropped before the load has ended, it ends without a value.
struct Loading<'l, K, V> {
    loads: &'l Loads<K, V>,
    hash: u64,
    load: Arc<Load<K, V>>,
    stage: Stage,
}

/// How far a caller's load has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    UnderWay,
    /// No other caller finds it any more, so an invalidation doesn't either.
    Unregistered,
    Ended,
}

// `ManuallyDrop`, so that it has no destructor and is there while other thread-locals are being destroyed. It
// owns nothing while nothing runs.
thread_local! {
    /// The addresses of the loads that this thread is running, the outermost first.
    static RUNNING: ManuallyDrop<RefCell<Vec<usize>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// While this exists, its thread counts as the one that runs a load.
struct Running {
    _stays_on_this_thread: PhantomData<*const ()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The contents are whole after a panic of `Eq` or `Clone`: neither runs in the middle of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a task. A panic of its waker concerns neither the caller that wakes it nor the tasks after it.
fn wake(waker: Waker) {
    catch_and_discard(|| waker.wake());
}

impl<K, V> Loads<K, V> {
    pub(crate) fn new() -> Self {
        let under_way = Mutex::new(HashMap::new());
        Self { process: std::process::id(), child: OnceLock::new(), under_way, count: AtomicUsize::new(0) }
    }

    /// Those of this process.
    fn here(&self) -> &Self {
        let mut loads = self;
        while !loads.is_of_this_process() {
            loads = loads.child.get_or_init(|| Box::new(Self::new()));
        }
        loads
    }

    fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }

    /// Registers a load of `key`, or finds the one to wait for.
    fn take_turn<Q>(&self, hash: u64, key: &Q, by_task: bool) -> Turn<'_, K, V>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        let loads = self.here();
        let ours = Arc::new(Load::new(key.to_owned(), by_task));
        if let Some(load) = loads.register_unless_waiting(hash, &ours) {
            if key.equivalent(&lock(&load.state).key) {
                return Turn::Wait(Waiting { loads, hash, load, task: None });
            }
            // Another key with the same hash.
            loads.register(hash, &ours);
        }
        Turn::Load(Loading { loads, hash, load: ours, stage: Stage::UnderWay })
    }

    /// Registers `load`, or gives the load of the same hash that its caller can wait for.
    fn register_unless_waiting(&self, hash: u64, load: &Arc<Load<K, V>>) -> Option<Arc<Load<K, V>>> {
        let mut under_way = lock(&self.under_way);
        let same_hash = under_way.entry(hash).or_default();
        // A load that asks for its own key, directly or not, must not wait for itself.
        if !same_hash.iter().any(|other| Running::contains(other))
            && let Some(other) = same_hash.iter().find(|other| other.can_be_waited_for(load.is_by_task()))
        {
            return Some(Arc::clone(other));
        }
        self.push(same_hash, load);
        None
    }

    fn register(&self, hash: u64, load: &Arc<Load<K, V>>) {
        self.push(lock(&self.under_way).entry(hash).or_default(), load);
    }

    fn push(&self, same_hash: &mut Vec<Arc<Load<K, V>>>, load: &Arc<Load<K, V>>) {
        same_hash.push(Arc::clone(load));
        self.count.fetch_add(1, Ordering::SeqCst);
        // Before what is to be loaded is looked at. The other side is in `outdate`.
        fence(Ordering::SeqCst);
    }

    /// Sees to it that values of this hash (of any, without one) that are being loaded are not stored, and
    /// that callers that ask from now on don't wait for them. For callers that are about to remove what is
    /// stored already.
    #[inline]
    pub(crate) fn outdate(&self, hash: Option<u64>) {
        // After the change that makes the value invalid: either this finds the load, or the load sees the
        // change.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) != 0 || self.child.get().is_some() {
            self.here().outdate_some(hash);
        }
    }

    #[cold]
    fn outdate_some(&self, hash: Option<u64>) {
        let mut under_way = lock(&self.under_way);
        let outdated = match hash {
            Some(hash) => under_way.remove(&hash).into_iter().flatten().collect(),
            None => under_way.drain().flat_map(|(_, loads)| loads).collect::<Vec<_>>(),
        };
        // Before the count is lowered and the registry unlocked: another invalidation that doesn't find these
        // loads any more relies on their being marked.
        for load in &outdated {
            load.outdated.store(true, Ordering::Relaxed);
        }
        self.count.fetch_sub(outdated.len(), Ordering::SeqCst);
        drop(under_way);
        // Dropped here, where nothing is locked: a key may go with its load.
        drop(outdated);
    }

    /// Calls one of the waiting callers to take over a load that has no value, or unregisters it if none waits.
    /// Does nothing if it is not `to_be`, seen under the lock.
    fn pass_on(&self, hash: u64, load: &Arc<Load<K, V>>, to_be: impl FnOnce(&Outcome<V>) -> bool) {
        // Both locks, so that no caller finds the load after it was seen that none waits.
        let mut under_way = lock(&self.under_way);
        let mut state = lock(&load.state);
        if !to_be(&state.outcome) {
            return;
        }
        let next = if state.threads == 0 && state.tasks.is_empty() {
            state.outcome = Outcome::Gone;
            self.unregister(&mut under_way, hash, load);
            None
        } else {
            state.outcome = Outcome::Vacant;
            load.call_next(&mut state)
        };
        drop((state, under_way));
        next.into_iter().for_each(wake);
    }

    /// Sees to it that no caller finds the load any more.
    fn unregister(&self, under_way: &mut UnderWay<K, V>, hash: u64, load: &Arc<Load<K, V>>) {
        if let Some(same_hash) = under_way.get_mut(&hash)
            && let Some(place) = same_hash.iter().position(|registered| Arc::ptr_eq(registered, load))
        {
            same_hash.remove(place);
            self.count.fetch_sub(1, Ordering::SeqCst);
            if same_hash.is_empty() {
                under_way.remove(&hash);
            }
        }
    }
}

impl<K, V> Load<K, V> {
    fn new(key: K, by_task: bool) -> Self {
        let tasks = BTreeMap::new();
        Self {
            by_task: AtomicBool::new(by_task),
            outdated: AtomicBool::new(false),
            state: Mutex::new(State { key, outcome: Outcome::UnderWay, threads: 0, tasks, next_task: 0 }),
            ended: Condvar::new(),
        }
    }

    fn is_by_task(&self) -> bool {
        self.by_task.load(Ordering::Relaxed)
    }

    fn can_be_waited_for(&self, by_task: bool) -> bool {
        by_task || !self.is_by_task()
    }

    fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Tells one of the waiting callers that the load is vacant. Threads come first, since they don't wait for
    /// tasks. If it is a task, the caller wakes it.
    fn call_next(&self, state: &mut State<K, V>) -> Option<Waker> {
        if state.threads > 0 {
            self.ended.notify_one();
            return None;
        }
        state.tasks.pop_first().map(|(_, waker)| waker)
    }
}

impl<'l, K, V> Waiting<'l, K, V> {
    /// Whether the outcome is one to wait for longer.
    fn goes_on(&self, state: &State<K, V>, by_task: bool) -> bool {
        matches!(state.outcome, Outcome::UnderWay) && self.load.can_be_waited_for(by_task)
    }

    /// What there is for a caller that needs to wait no longer.
    fn end(&self, state: &mut State<K, V>, by_task: bool) -> Waited<'l, K, V>
    where
        V: Clone,
    {
        match &state.outcome {
            Outcome::Loaded(value) => return Waited::Loaded(value.clone()),
            Outcome::Vacant if !self.load.is_outdated() => {}
            // Where it is vacant, the next one is called when this is dropped.
            Outcome::Vacant | Outcome::UnderWay | Outcome::Gone => return Waited::Nothing,
        }
        state.outcome = Outcome::UnderWay;
        self.load.by_task.store(by_task, Ordering::Relaxed);
        if by_task && state.threads > 0 {
            self.load.ended.notify_all();
        }
        let load = Arc::clone(&self.load);
        Waited::TakenOver(Loading { loads: self.loads, hash: self.hash, load, stage: Stage::UnderWay })
    }
}

impl<K, V> Drop for Waiting<'_, K, V> {
    fn drop(&mut self) {
        if !self.loads.is_of_this_process() {
            // A forked child: the lock may be held for ever.
            return;
        }
        let mut state = lock(&self.load.state);
        let ours = self.task.and_then(|task| state.tasks.remove(&task));
        let is_vacant = matches!(state.outcome, Outcome::Vacant);
        drop(state);
        drop(ours);
        if is_vacant {
            // This may be the one that was called.
            self.loads.pass_on(self.hash, &self.load, |outcome| matches!(outcome, Outcome::Vacant));
        }
    }
}

impl<K, V: Clone> Loading<'_, K, V> {
    /// Ends the load with its value, which is stored already.
    fn end(mut self, value: &V) {
        if self.loads.is_of_this_process() {
            self.loads.unregister(&mut lock(&self.loads.under_way), self.hash, &self.load);
            self.stage = Stage::Unregistered;
            // Each waiting caller has a share, and no further one comes.
            if Arc::strong_count(&self.load) > 1 {
                let value = value.clone();
                let mut state = lock(&self.load.state);
                state.outcome = Outcome::Loaded(value);
                let tasks = std::mem::take(&mut state.tasks);
                drop(state);
                self.load.ended.notify_all();
                tasks.into_values().for_each(wake);
            }
        }
        self.stage = Stage::Ended;
    }

    /// Ends the load because its value was in the cache already. The waiting callers look there, too, and don't
    /// get the value from here. It may have left again by an invalidation that had looked for loads before
    /// this one was registered, and callers that asked only after that may be waiting.
    fn end_as_found(mut self) {
        if self.loads.is_of_this_process() {
            self.loads.unregister(&mut lock(&self.loads.under_way), self.hash, &self.load);
            let mut state = lock(&self.load.state);
            state.outcome = Outcome::Gone;
            let tasks = std::mem::take(&mut state.tasks);
            drop(state);
            self.load.ended.notify_all();
            tasks.into_values().for_each(wake);
        }
        self.stage = Stage::Ended;
    }
}

impl<K, V> Drop for Loading<'_, K, V> {
    fn drop(&mut self) {
        // In a forked child no caller waits, and a lock may be held for ever.
        if self.stage == Stage::Ended || !self.loads.is_of_this_process() {
            return;
        }
        if self.stage == Stage::Unregistered {
            // The clone of the value panicked. No invalidation finds the load, so it can't be taken over.
            self.load.outdated.store(true, Ordering::Relaxed);
        }
        self.loads.pass_on(self.hash, &self.load, |_| true);
    }
}

impl Running {
    fn new<K, V>(load: &Load<K, V>) -> Self {
        RUNNING.with(|running| running.borrow_mut().push(load.address()));
        Self { _stays_on_this_thread: PhantomData }
    }

    /// Whether this thread runs the load, further up its stack.
    fn contains<K, V>(load: &Load<K, V>) -> bool {
        RUNNING.with(|running| running.borrow().contains(&load.address()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with(|running| {
            let mut running = running.borrow_mut();
            running.pop();
            if running.is_empty() {
                // The list has no destructor.
                *running = Vec::new();
            }
        });
    }
}

impl<K, V, H> Inner<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Clone + Send + 'static,
    H: BuildHasher,
{
    /// Stores a value that was loaded, unless it is outdated. What leaves for that is in `out`.
    fn store_loaded(&self, key: K, value: &V, lifetime: Lifetime, outdated: &AtomicBool, out: &mut Outgoing<'_, K, V>) {
        if let Lifetime::For(nanos) = lifetime {
            self.common.time.prepare_for(nanos);
        }
        let arrival = self.arrival(key, value.clone(), lifetime);
        let index = self.approach(arrival.hash);
        let now = self.common.time.for_storing();
        self.insert_by_request(index, arrival, now, &mut Unless::Outdated(outdated), out);
    }
}
