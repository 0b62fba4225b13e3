//! `get_or_insert_async` and its relatives: loads run by a task, whose other callers await its end.
//!
//! They need no particular runtime: a waiting task leaves its waker with the load. A future that is dropped
//! before it has loaded ends its load without a value, and one of the waiting callers loads in its turn.

use std::hash::{BuildHasher, Hash};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use equivalent::Equivalent;
use sark_shard::Lifetime;

use super::{Load, Loading, Running, Turn, Waited, Waiting, lock};
use crate::Cache;
use crate::clock::nanos;

impl<'l, K, V: Clone> Future for Waiting<'l, K, V> {
    type Output = Waited<'l, K, V>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Waited<'l, K, V>> {
        if !self.loads.is_of_this_process() {
            // A forked child, where the load that this waited for never ends.
            return Poll::Ready(Waited::Nothing);
        }
        // Cloned before anything is locked, and the older one is dropped after: both are the runtime's code.
        let waker = context.waker().clone();
        let load = Arc::clone(&self.load);
        let mut state = lock(&load.state);
        if !self.goes_on(&state, true) {
            return Poll::Ready(self.end(&mut state, true));
        }
        // Left under the lock that the outcome is set under, so no wake-up is lost.
        let task = *self.task.get_or_insert_with(|| {
            state.next_task += 1;
            state.next_task
        });
        let older = state.tasks.insert(task, waker);
        drop(state);
        drop(older);
        Poll::Pending
    }
}

/// Runs a load's future. While it is polled, and while it is dropped, it is known whose load it is in.
struct Run<'l, 'f, K, V, F> {
    load: &'l Load<K, V>,
    future: Pin<&'f mut Option<F>>,
}

impl<K, V, F: Future> Future for Run<'_, '_, K, V, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _running = Running::new(self.load);
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(context),
            None => unreachable!("it is there until this is dropped"),
        }
    }
}

impl<K, V, F> Drop for Run<'_, '_, K, V, F> {
    fn drop(&mut self) {
        let _running = Running::new(self.load);
        self.future.set(None);
    }
}

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Clone + Send + 'static,
    H: BuildHasher,
{
    /// Returns the value of `key`. On a miss it awaits `load`, [inserts](Self::insert) the result and returns
    /// it.
    ///
    /// This is [`get_or_insert_with`](Self::get_or_insert_with) for async code, on any runtime. (`moka` users
    /// know it as `future::Cache::get_with_by_ref`.) If many callers miss the same key at the same time, one
    /// of them awaits its `load`. The others wait for that and get its value, even if the cache doesn't keep
    /// it; their own `load` is dropped without having been polled. Only waiting for a load is asynchronous:
    /// the look-up and the insertion take as long as [`get`](Self::get) and [`insert`](Self::insert) do.
    ///
    /// If the future is dropped while it loads, or `load` panics, one of the waiting callers loads in its
    /// turn.
    ///
    /// `load` may use the cache. If it asks for the same key again, the inner call loads for itself; so does
    /// [`get_or_insert_with`](Self::get_or_insert_with) for a key that a task is loading, because a thread
    /// that waits for a task may be the one that the task needs. Two loads that ask for each other's key wait
    /// for ever, and so does a load that spawns a task that asks for its key and waits for the answer.
    ///
    /// As with an async mutex, a future that has begun and is then neither polled nor dropped keeps others
    /// waiting: don't await a key in one arm of a `select!` while another of its futures, which may be loading
    /// it, is held back. A large `load`, or one that loads other keys in its turn, is better put into a
    /// `Box::pin`: the future is two to three times as large as its `load`.
    ///
    /// An invalidation, a removal or an insertion of the key meanwhile has the same effect as on
    /// [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// ```
    /// use sark_cache::Cache;
    ///
    /// async fn decide(user: &str) -> String {
    ///     format!("allow {user}") // ... after asking a service
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let cache = Cache::new(100);
    /// assert_eq!(cache.get_or_insert_async("alice", decide("alice")).await, "allow alice");
    /// assert_eq!(cache.get("alice").as_deref(), Some("allow alice"));
    /// # });
    /// ```
    pub fn get_or_insert_async<Q>(&self, key: &Q, load: impl Future<Output = V>) -> impl Future<Output = V>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.get_or_await(key, load, |value| Ok((value, Lifetime::Default)), |value| value)
    }

    /// Like [`get_or_insert_async`](Self::get_or_insert_async), for a `load` that may fail.
    ///
    /// An error reaches the call whose `load` it is and is not kept; one of the waiting callers loads in its
    /// turn, as with [`get_or_try_insert_with`](Self::get_or_try_insert_with).
    ///
    /// # Errors
    /// With the error of `load`.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let cache = sark_cache::Cache::new(100);
    /// let number = |text: &'static str| cache.get_or_try_insert_async(text, async { text.parse::<i32>() });
    /// assert_eq!(number("42").await, Ok(42));
    /// assert!(number("many").await.is_err() && !cache.contains_key("many"));
    /// # });
    /// ```
    pub fn get_or_try_insert_async<Q, E>(
        &self,
        key: &Q,
        load: impl Future<Output = Result<V, E>>,
    ) -> impl Future<Output = Result<V, E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let judge = |loaded| match loaded {
            Ok(value) => Ok((value, Lifetime::Default)),
            Err(error) => Err(Err(error)),
        };
        self.get_or_await(key, load, judge, Ok)
    }

    /// Like [`get_or_try_insert_async`](Self::get_or_try_insert_async), for a `load` that also says how long
    /// its value may be kept, as [`insert_with_ttl`](Self::insert_with_ttl) is told.
    ///
    /// # Errors
    /// With the error of `load`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let cache = sark_cache::Cache::new(100);
    /// let decide = async { Ok::<_, std::io::Error>(("allow", Duration::from_secs(60))) };
    /// assert_eq!(cache.get_or_try_insert_async_with_ttl("user:42", decide).await?, "allow");
    /// assert!(cache.expires_in("user:42").is_some_and(|time| time <= Duration::from_secs(60)));
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn get_or_try_insert_async_with_ttl<Q, E>(
        &self,
        key: &Q,
        load: impl Future<Output = Result<(V, Duration), E>>,
    ) -> impl Future<Output = Result<V, E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let judge = |loaded| match loaded {
            Ok((value, time_to_live)) => Ok((value, Lifetime::For(nanos(time_to_live)))),
            Err(error) => Err(Err(error)),
        };
        self.get_or_await(key, load, judge, Ok)
    }

    /// `judge` says whether the result of `load` is to be stored or is the answer itself. `answer` makes an
    /// answer from a value. They are functions, because a future around `load` would double its size.
    async fn get_or_await<Q, T, R>(
        &self,
        key: &Q,
        load: impl Future<Output = T>,
        judge: impl FnOnce(T) -> Result<(V, Lifetime), R>,
        answer: impl FnOnce(V) -> R,
    ) -> R
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let inner = self.inner();
        let loading = loop {
            if let Some(value) = self.get(key) {
                return answer(value);
            }
            match inner.loads.take_turn(inner.hash(key), key, true) {
                Turn::Load(loading) => break loading,
                Turn::Wait(other) => match other.await {
                    Waited::Loaded(value) => return answer(value),
                    Waited::TakenOver(loading) => break loading,
                    Waited::Nothing => {}
                },
            }
        };
        if let Some(value) = self.look_again_within(&loading.load, key) {
            loading.end_as_found();
            return answer(value);
        }
        let future = pin!(Some(load));
        match judge(Run { load: &loading.load, future }.await) {
            Ok((value, lifetime)) => answer(self.store_and_end(key, value, lifetime, loading)),
            Err(error) => error,
        }
    }

    /// [`look_again`](Self::look_again) as part of `load`: the look-up may serve another caller's post and run
    /// the listener, which must not wait for this load if it blocks on a future.
    fn look_again_within<Q>(&self, load: &Load<K, V>, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + Sync + ?Sized,
    {
        let _running = Running::new(load);
        self.look_again(key)
    }

    /// Stores what was loaded and tells the waiting callers. A separate function, because what this holds must
    /// not be held while a task waits.
    fn store_and_end<Q>(&self, key: &Q, value: V, lifetime: Lifetime, loading: Loading<'_, K, V>) -> V
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        let inner = self.inner();
        // As in a load of a thread, what leaves is reported and dropped when the load has ended.
        let mut out = inner.outgoing();
        let others = inner.delegates.put_off_others();
        // Declared here, so that they end first if the insertion panics.
        let loading = loading;
        let running = Running::new(&loading.load);
        inner.store_loaded(key.to_owned(), &value, lifetime, &loading.load.outdated, &mut out);
        loading.end(&value);
        drop(running);
        drop(others);
        drop(out);
        value
    }
}
