//! Loading on a miss: one caller loads a key, and the callers that ask for it meanwhile wait for that load.
//!
//! Loads live outside the shards. No shard is held while a value is loaded or waited for, and a hit never
//! looks here. This file holds the registry of the loads under way; [`blocking`] has the methods for threads,
//! [`awaiting`] those for tasks.
//!
//! * A load stays registered until its value is stored. It is unregistered before anything that the insertion
//!   displaced, or that other callers' posts displaced on the way, is dropped or reported: that is user code,
//!   and it may load in its turn.
//! * A caller that registers a load looks at the cache once more before it begins. Otherwise a value would be
//!   loaded twice if it was stored between the caller's first look and its registration.
//! * No user code runs while the registry is locked. A key's `Eq` and a value's `Clone` run under the lock of
//!   one load, so that neither type has to be `Sync`. They must not block or call a cache, here as
//!   everywhere.
//! * A thread never waits for a load that a task runs. The task may need this very thread to make progress,
//!   and then both would wait for ever. Tasks wait for either kind, since they block nothing.

mod awaiting;
#[cfg(test)]
mod awaiting_tests;
mod blocking;
#[cfg(test)]
mod blocking_tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, ThreadId};

use equivalent::Equivalent;
use sark_shard::Lifetime;

use crate::cache::Inner;
use crate::outgoing::Outgoing;

/// Loads by the hash of their key; usually one each.
type UnderWay<K, V> = HashMap<u64, Vec<Arc<Load<K, V>>>>;

/// The loads under way.
pub(crate) struct Loads<K, V> {
    /// The process that they are under way in. A forked child has none of the threads that would end them,
    /// and one of those threads may have locked the registry. So in a child every caller loads for itself.
    process: u32,
    under_way: Mutex<UnderWay<K, V>>,
    /// How many there are. Usually none, and then an invalidation has nothing to do here.
    count: AtomicUsize,
}

/// One load.
struct Load<K, V> {
    loader: Loader,
    /// The key was invalidated after this load began. Set before the invalidation runs on the shard, and read
    /// on the shard as the value is stored: whichever of the two has the shard first, the value is removed or
    /// never stored.
    outdated: AtomicBool,
    state: Mutex<State<K, V>>,
    /// Tells waiting threads that the load has ended.
    ended: Condvar,
}

/// What runs a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    Thread(ThreadId),
    /// A future, which may move from thread to thread, and may go unpolled for any length of time.
    Task,
}

struct State<K, V> {
    key: K,
    outcome: Outcome<V>,
    /// The wakers of the tasks that wait, each at its own place. A task that gives up leaves its place empty.
    tasks: Vec<Option<Waker>>,
}

enum Outcome<V> {
    UnderWay,
    Loaded(V),
    /// It ended with an error or a panic, which only its own caller hears of, or its future was dropped.
    Failed,
}

/// What a caller that missed does next.
enum Turn<'l, K, V> {
    /// Load. No other caller loads this key meanwhile.
    Load(Loading<'l, K, V>),
    /// Load, and tell no other caller: this is a forked child.
    LoadAlone,
    /// Wait for this load.
    Wait(Arc<Load<K, V>>),
}

/// A load that this caller runs. However it ends, the callers that wait for it are told when this is dropped.
struct Loading<'l, K, V> {
    loads: &'l Loads<K, V>,
    hash: u64,
    load: Arc<Load<K, V>>,
    registered: bool,
}

thread_local! {
    /// The addresses of the loads of tasks that are being run on this thread, outermost first.
    static RUNNING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// While this exists, its thread counts as the one that runs a task's load.
struct Running {
    _stays_on_this_thread: PhantomData<*const ()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The contents are whole after a panic of `Eq` or `Clone`: neither runs in the middle of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> Loads<K, V> {
    pub(crate) fn new() -> Self {
        Self { process: std::process::id(), under_way: Mutex::new(HashMap::new()), count: AtomicUsize::new(0) }
    }

    /// Registers a load of `key`, or finds the one to wait for.
    fn take_turn<Q>(&self, hash: u64, key: &Q, loader: Loader) -> Turn<'_, K, V>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        if std::process::id() != self.process {
            return Turn::LoadAlone;
        }
        let state = State { key: key.to_owned(), outcome: Outcome::UnderWay, tasks: Vec::new() };
        let (outdated, ended) = (AtomicBool::new(false), Condvar::new());
        let ours = Arc::new(Load { loader, outdated, state: Mutex::new(state), ended });
        if let Some(load) = self.register_unless_waiting(hash, &ours) {
            if load.is_of(key) {
                return Turn::Wait(load);
            }
            // Another key with the same hash.
            self.register(hash, &ours);
        }
        Turn::Load(Loading { loads: self, hash, load: ours, registered: true })
    }

    /// Registers `load`, or gives the load of the same hash that its caller can wait for.
    fn register_unless_waiting(&self, hash: u64, load: &Arc<Load<K, V>>) -> Option<Arc<Load<K, V>>> {
        let mut under_way = lock(&self.under_way);
        let same_hash = under_way.entry(hash).or_default();
        // A load that asks for its own key, directly or not, must not wait for itself.
        if !same_hash.iter().any(|other| other.is_run_here())
            && let Some(other) = same_hash.iter().find(|other| load.can_wait_for(other))
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
        // This comes before the load reads what it loads. The other side is in `outdate`.
        fence(Ordering::SeqCst);
    }

    /// Prevents values of this hash (or of any hash, if there is none) that are being loaded from being
    /// stored, and callers that ask from now on from waiting for them. For callers that are about to remove
    /// what is stored already.
    #[inline]
    pub(crate) fn outdate(&self, hash: Option<u64>) {
        // This comes after the change that makes the value invalid: either this finds the load, or the load
        // sees the change.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) != 0 && std::process::id() == self.process {
            self.outdate_some(hash);
        }
    }

    #[cold]
    fn outdate_some(&self, hash: Option<u64>) {
        let mut under_way = lock(&self.under_way);
        let outdated = match hash {
            Some(hash) => under_way.remove(&hash).into_iter().flatten().collect(),
            None => under_way.drain().flat_map(|(_, loads)| loads).collect::<Vec<_>>(),
        };
        self.count.fetch_sub(outdated.len(), Ordering::SeqCst);
        drop(under_way);
        for load in outdated {
            load.outdated.store(true, Ordering::Relaxed);
        }
    }

    /// Takes the load off the registry, so that no caller finds it any more.
    fn unregister(&self, hash: u64, load: &Arc<Load<K, V>>) {
        if std::process::id() != self.process {
            // A forked child: no caller looks, and the registry may be locked for ever.
            return;
        }
        let mut under_way = lock(&self.under_way);
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
    fn is_of<Q>(&self, key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        key.equivalent(&lock(&self.state).key)
    }

    /// Whether the calling thread runs this load further up its stack.
    fn is_run_here(&self) -> bool {
        match self.loader {
            Loader::Thread(thread) => thread == thread::current().id(),
            Loader::Task => Running::contains(self.address()),
        }
    }

    fn can_wait_for(&self, other: &Self) -> bool {
        self.loader == Loader::Task || other.loader != Loader::Task
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<K, V: Clone> Loading<'_, K, V> {
    /// Ends the load with its value, which is stored already.
    fn end(mut self, value: &V) {
        if self.is_waited_for() {
            let value = value.clone();
            lock(&self.load.state).outcome = Outcome::Loaded(value);
        }
    }
}

impl<K, V> Loading<'_, K, V> {
    /// Whether a caller waits for this load. After this, no further caller comes to wait.
    fn is_waited_for(&mut self) -> bool {
        if self.registered {
            self.registered = false;
            self.loads.unregister(self.hash, &self.load);
        }
        // Each waiting caller has a share. In a forked child the registry has one for ever.
        Arc::strong_count(&self.load) > 1
    }
}

impl<K, V> Drop for Loading<'_, K, V> {
    fn drop(&mut self) {
        if self.is_waited_for() {
            let mut state = lock(&self.load.state);
            if matches!(state.outcome, Outcome::UnderWay) {
                state.outcome = Outcome::Failed;
            }
            let tasks = std::mem::take(&mut state.tasks);
            drop(state);
            self.load.ended.notify_all();
            tasks.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

impl Running {
    fn new<K, V>(load: &Load<K, V>) -> Self {
        // While a thread's locals are being destroyed there is no list, and nothing is known to run.
        let _ = RUNNING.try_with(|running| running.borrow_mut().push(load.address()));
        Self { _stays_on_this_thread: PhantomData }
    }

    fn contains(address: usize) -> bool {
        RUNNING.try_with(|running| running.borrow().contains(&address)).unwrap_or(false)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = RUNNING.try_with(|running| running.borrow_mut().pop());
    }
}

impl<K, V, H> Inner<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Clone + Send + 'static,
    H: BuildHasher,
{
    /// Stores a value that was loaded, unless it is outdated. What this displaces is in `out`.
    fn store_loaded(
        &self,
        key: K,
        value: &V,
        lifetime: Lifetime,
        outdated: Option<&AtomicBool>,
        out: &mut Outgoing<'_, K, V>,
    ) {
        if let Lifetime::For(nanos) = lifetime {
            self.common.time.prepare_for(nanos);
        }
        let arrival = self.arrival(key, value.clone(), lifetime);
        let index = self.approach(arrival.hash);
        self.insert_by_request(index, arrival, self.common.time.for_storing(), outdated, out);
    }
}
