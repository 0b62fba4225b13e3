//! `get_or_insert_with` and its relatives: loads run by a thread, whose other callers block until it has
//! ended.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hash};
use std::sync::PoisonError;
use std::time::Duration;

use equivalent::Equivalent;
use sark_shard::Lifetime;

use super::{Loading, Running, Turn, Waited, Waiting, lock};
use crate::Cache;
use crate::clock::nanos;

impl<'l, K, V: Clone> Waiting<'l, K, V> {
    /// Blocks until the other caller's load has ended, or there is no point in waiting.
    pub(super) fn wait(self) -> Waited<'l, K, V> {
        let mut state = lock(&self.load.state);
        state.threads += 1;
        while self.goes_on(&state, false) {
            state = self.load.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.threads -= 1;
        self.end(&mut state, false)
    }
}

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Clone + Send + 'static,
    H: BuildHasher,
{
    /// Returns the value of `key`. On a miss it runs `load`, [inserts](Self::insert) the result and returns
    /// it.
    ///
    /// If many callers miss the same key at the same time, one of them loads it. The others wait for that
    /// load and get its value, even if the cache doesn't keep it. (`moka` users know this as
    /// `get_with_by_ref`.) If `load` panics, the panic reaches the call that ran it, and one of the waiting
    /// callers loads in its turn.
    ///
    /// `load` runs on the calling thread while nothing is held. It may take its time, and it may use the
    /// cache: if it asks for the same key again, the inner call loads for itself. Two loads on two threads
    /// that ask for each other's key wait for ever, and so does a load that lets another thread ask for its
    /// key and waits for the answer.
    ///
    /// If the key is invalidated or removed meanwhile, callers that asked before get the value that is being
    /// loaded, but the cache doesn't store it, and callers that ask afterwards load anew. If the key is
    /// inserted meanwhile, the loaded value replaces that.
    ///
    /// A waiting caller blocks its thread. In async code use
    /// [`get_or_insert_async`](Self::get_or_insert_async). A call of this method never waits for a load that
    /// a task runs, but loads for itself.
    ///
    /// `key` may be a borrowed form of `K`, such as `str` for `String`, if `K` is the type that it is [turned
    /// into](ToOwned) when owned.
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

    /// Like [`get_or_insert_with`](Self::get_or_insert_with), for a `load` that may fail.
    ///
    /// An error reaches the call that ran `load` and is not kept; one of the waiting callers loads in its
    /// turn. (`moka` gives all of them the first one's error.) So if `load` always fails, the last of n
    /// waiting callers gets its error after n loads: a `load` that takes long to fail should give up early.
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

    /// Like [`get_or_try_insert_with`](Self::get_or_try_insert_with), for a `load` that also says how long
    /// its value may be kept, as [`insert_with_ttl`](Self::insert_with_ttl) is told.
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
        // What the insertion displaces is dropped when the load has ended, since that may be user code that loads
        // in its turn.
        let mut out = inner.outgoing();
        let run = |loading: Loading<'_, K, V>| {
            let _running = Running::new(&loading.load);
            if let Some(value) = self.look_again(key) {
                loading.end_as_found();
                return Ok(value);
            }
            let (value, lifetime) = load()?;
            inner.store_loaded(key.to_owned(), &value, lifetime, &loading.load.outdated, &mut out);
            loading.end(&value);
            Ok(value)
        };
        let value = loop {
            if let Some(value) = self.get(key) {
                break value;
            }
            // The same goes for what others' posts displace, wherever they are served on the way: by a look at the
            // cache, or by `load` if it uses the cache.
            let _others = inner.delegates.put_off_others();
            match inner.loads.take_turn(inner.hash(key), key, false) {
                Turn::Load(loading) => break run(loading)?,
                Turn::Wait(other) => match other.wait() {
                    Waited::Loaded(value) => break value,
                    Waited::TakenOver(loading) => break run(loading)?,
                    Waited::Nothing => {}
                },
            }
        };
        // Dropped before the answer is made: if this panics, an answer that exists already would be leaked.
        drop(out);
        Ok(value)
    }

    /// Looks whether another caller has finished loading `key` since the miss. If not, it leaves no trace,
    /// since that would count as a second miss.
    pub(super) fn look_again<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        if self.contains_key(key) { self.get(key) } else { None }
    }
}
