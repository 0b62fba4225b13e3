//! Loading on a miss: one caller loads a key, and who asks for it meanwhile waits for that.
//!
//! Beside the shards, and called by who misses: nothing of a shard is held while a value is loaded or waited for. A load is
//! registered until its value is stored, but not while what that displaced, or others' posts on the way, is dropped or told of; and who registers one looks
//! once more before it begins, so that no value is loaded twice because somebody looked just before it was stored. Users' code does
//! not run while the registry is locked. `Eq` of the key and `Clone` of the value run while their load is, so that neither must be
//! `Sync`; they must not block or call a cache anyway.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use equivalent::Equivalent;
use sark_shard::Lifetime;

use crate::Cache;
use crate::clock::nanos;

/// By hash, as a rule one each.
type UnderWay<K, V> = HashMap<u64, Vec<Arc<Load<K, V>>>>;

/// The loads under way.
pub(crate) struct Loads<K, V> {
    /// The process that they are under way in. A forked child has none of the threads that would end them, and one of those may
    /// have locked the registry: there, each caller loads alone.
    process: u32,
    /// Others wait for the first of a hash; the rest are of other keys, or of loads that ask for their own.
    under_way: Mutex<UnderWay<K, V>>,
    /// How many there are: as a rule none, and who invalidates has nothing to do here.
    count: AtomicUsize,
}

/// One load.
struct Load<K, V> {
    /// Who loads.
    thread: ThreadId,
    /// The key was invalidated since this began. Looked at and set around the same shard's turn, so that a value either is stored
    /// before it is removed or is not stored.
    outdated: AtomicBool,
    state: Mutex<State<K, V>>,
    ended: Condvar,
}

struct State<K, V> {
    key: K,
    outcome: Outcome<V>,
}

enum Outcome<V> {
    UnderWay,
    Loaded(V),
    /// It was an error or a panic, which is the affair of who loaded.
    Failed,
}

/// What a caller that missed has to do.
enum Turn<'l, K, V> {
    /// To load, and nobody else will meanwhile.
    Load(Loading<'l, K, V>),
    /// To load for itself, without telling anybody: this is a forked child.
    LoadAlone,
    /// Nothing: somebody else loaded it.
    Loaded(V),
    /// To look again: somebody else tried.
    Again,
}

/// A load of this thread's. Its end is told to all who wait for it, whichever way it comes.
struct Loading<'l, K, V> {
    loads: &'l Loads<K, V>,
    hash: u64,
    load: Arc<Load<K, V>>,
    registered: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is whole after a panic of `Eq` or `Clone`: neither is run in the middle of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> Loads<K, V> {
    pub(crate) fn new() -> Self {
        Self { process: std::process::id(), under_way: Mutex::new(HashMap::new()), count: AtomicUsize::new(0) }
    }

    /// Registers a load of `key`, or waits for the one there is.
    fn take_turn<Q>(&self, hash: u64, key: &Q) -> Turn<'_, K, V>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        V: Clone,
    {
        if std::process::id() != self.process {
            return Turn::LoadAlone;
        }
        let thread = thread::current().id();
        let state = State { key: key.to_owned(), outcome: Outcome::UnderWay };
        let (outdated, ended) = (AtomicBool::new(false), Condvar::new());
        let ours = Arc::new(Load { thread, outdated, state: Mutex::new(state), ended });
        let turn = match self.register(hash, &ours, false) {
            Some(load) if load.thread != thread => load.wait(key),
            Some(_) => None,
            None => return Turn::Load(Loading { loads: self, hash, load: ours, registered: true }),
        };
        turn.unwrap_or_else(|| {
            self.register(hash, &ours, true);
            Turn::Load(Loading { loads: self, hash, load: ours, registered: true })
        })
    }

    /// Gives the load of the same hash, if there is one already and this one is not to be registered beside it.
    fn register(&self, hash: u64, load: &Arc<Load<K, V>>, beside: bool) -> Option<Arc<Load<K, V>>> {
        let mut under_way = lock(&self.under_way);
        let same_hash = under_way.entry(hash).or_default();
        if let Some(first) = same_hash.first()
            && !beside
        {
            return Some(Arc::clone(first));
        }
        same_hash.push(Arc::clone(load));
        self.count.fetch_add(1, Ordering::SeqCst);
        // Before what is loaded is looked at. The other side is in `outdate`.
        fence(Ordering::SeqCst);
        None
    }

    /// What is being loaded of this hash, or of all, is not to be stored, and nobody who asks from now on waits for it. For who is about to
    /// remove what is stored already.
    #[inline]
    pub(crate) fn outdate(&self, hash: Option<u64>) {
        // After the change that makes it invalid: either this finds the load, or the load finds the change.
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

    /// Nobody finds the load any more.
    fn unregister(&self, hash: u64, load: &Arc<Load<K, V>>) {
        if std::process::id() != self.process {
            // Nobody looks in a forked child, and the registry may be locked for ever.
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
    /// Waits for the end of somebody else's load. `None` if it is of another key.
    fn wait<'l, Q>(&self, key: &Q) -> Option<Turn<'l, K, V>>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let state = lock(&self.state);
        if !key.equivalent(&state.key) {
            return None;
        }
        let under_way = |state: &mut State<K, V>| matches!(state.outcome, Outcome::UnderWay);
        let state = self.ended.wait_while(state, under_way).unwrap_or_else(PoisonError::into_inner);
        Some(match &state.outcome {
            Outcome::Loaded(value) => Turn::Loaded(value.clone()),
            Outcome::UnderWay | Outcome::Failed => Turn::Again,
        })
    }
}

impl<K, V: Clone> Loading<'_, K, V> {
    /// Ends it with a value that is stored.
    fn end(mut self, value: &V) {
        if self.is_waited_for() {
            let value = value.clone();
            lock(&self.load.state).outcome = Outcome::Loaded(value);
        }
    }
}

impl<K, V> Loading<'_, K, V> {
    /// Whether somebody waits. Nobody comes to wait after this.
    fn is_waited_for(&mut self) -> bool {
        if self.registered {
            self.registered = false;
            self.loads.unregister(self.hash, &self.load);
        }
        // Who waits has a share. In a forked child the registry has one for ever.
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
            drop(state);
            self.load.ended.notify_all();
        }
    }
}

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Clone + Send + 'static,
    H: BuildHasher,
{
    /// The value of `key`; on a miss, what `load` returns, which is [inserted](Self::insert) first.
    ///
    /// Many callers may miss the same key at the same time: one of them loads it, and the others wait for that and get its value
    /// (`moka` users know this as `get_with_by_ref`), also where the cache doesn't keep it. If `load` panics, the panic
    /// reaches the call that ran it, and one of those who wait loads in its turn.
    ///
    /// `load` runs on the calling thread with nothing held. It may take its time, and use the cache: if it asks for the same key
    /// again, it loads that for itself. Two loads that each ask for the other's key, on two threads, wait for each other for ever,
    /// and so does one that lets another thread ask for its key and waits for that. In a forked child every caller loads for itself.
    ///
    /// If the key is invalidated or removed meanwhile, the value that was being loaded is given to who asked before that, but not
    /// stored, and who asks after it loads anew. An `insert` meanwhile comes before the insertion at the end.
    ///
    /// Who waits blocks his thread. In an async runtime call it where that is allowed (`spawn_blocking` in tokio): tasks that wait on all of
    /// its threads for a load that needs one of them wait for ever.
    ///
    /// `key` may be a borrowed form that has `K` as its owned one ([`ToOwned`]), such as `str` for `String`; for other keys, `&K`.
    ///
    /// ```
    /// let cache = sark_cache::Cache::new(100);
    /// let length = |key: &str| cache.get_or_insert_with(key, || key.len());
    /// assert_eq!((length("four"), cache.get("four")), (4, Some(4)));
    /// assert_eq!(cache.get_or_insert_with("four", || unreachable!("it is there")), 4);
    /// ```
    pub fn get_or_insert_with<Q>(&self, key: &Q, load: impl FnOnce() -> V) -> V
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Sync + ?Sized,
    {
        match self.get_or_load(key, || Ok::<_, Infallible>((load(), Lifetime::Default))) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), for a `load` that may fail. An error reaches the call that ran it and
    /// is not kept; one of those who wait loads in its turn. (`moka` gives them all the first one's error.) So if it always fails, the
    /// last of n who wait for a key hears of it after n loads: a `load` that takes its time to fail should give up early.
    ///
    /// # Errors
    /// With the error of `load`.
    ///
    /// ```
    /// let cache = sark_cache::Cache::new(100);
    /// let number = |text: &str| cache.get_or_try_insert_with(text, || text.parse::<i32>());
    /// assert_eq!(number("42"), Ok(42));
    /// assert!(number("many").is_err() && !cache.contains_key("many"));
    /// ```
    pub fn get_or_try_insert_with<Q, E>(&self, key: &Q, load: impl FnOnce() -> Result<V, E>) -> Result<V, E>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.get_or_load(key, || Ok((load()?, Lifetime::Default)))
    }

    /// As [`get_or_try_insert_with`](Self::get_or_try_insert_with), for a `load` that also says how long its value may be kept, as
    /// [`insert_with_ttl`](Self::insert_with_ttl) is told.
    ///
    /// # Errors
    /// With the error of `load`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = sark_cache::Cache::new(100);
    /// let decide = || Ok::<_, std::io::Error>(("allow", Duration::from_secs(60)));
    /// assert_eq!(cache.get_or_try_insert_with_ttl("user:42", decide)?, "allow");
    /// assert!(cache.expires_in("user:42").is_some_and(|time| time <= Duration::from_secs(60)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn get_or_try_insert_with_ttl<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<(V, Duration), E>,
    ) -> Result<V, E>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.get_or_load(key, || {
            let (value, time_to_live) = load()?;
            Ok((value, Lifetime::For(nanos(time_to_live))))
        })
    }

    fn get_or_load<Q, E>(&self, key: &Q, load: impl FnOnce() -> Result<(V, Lifetime), E>) -> Result<V, E>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let inner = self.inner();
        // What it displaces is dropped when nobody waits for the load any more, since that may be user's code that loads in its turn.
        let mut out = inner.outgoing();
        let load_and_store = |outdated: Option<&AtomicBool>| {
            let (value, lifetime) = load()?;
            if let Lifetime::For(nanos) = lifetime {
                inner.common.time.prepare_for(nanos);
            }
            let arrival = inner.arrival(key.to_owned(), value.clone(), lifetime);
            let index = inner.approach(arrival.hash);
            inner.insert_by_request(index, arrival, inner.common.time.for_storing(), outdated, &mut out);
            Ok(value)
        };
        let value = loop {
            if let Some(value) = self.get(key) {
                break value;
            }
            // What others' posts displaced is, too, wherever they are served on the way: by a look at the cache, or by `load`, which may
            // use it. Dropped after the load.
            let _others = inner.delegates.put_off_others();
            match inner.loads.take_turn(inner.hash(key), key) {
                Turn::Loaded(value) => break value,
                Turn::LoadAlone => break load_and_store(None)?,
                Turn::Load(loading) => {
                    // Since the miss somebody else may have ended loading it. Looked at without a trace, or it counts as a second miss.
                    let there = if self.contains_key(key) { self.get(key) } else { None };
                    let value = match there {
                        Some(value) => value,
                        None => load_and_store(Some(&loading.load.outdated))?,
                    };
                    loading.end(&value);
                    break value;
                }
                Turn::Again => {}
            }
        };
        // Before the answer is made: if this panics, an answer that is there already would be leaked.
        drop(out);
        Ok(value)
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
