//! The public handle: makes the delegates, takes requests, ends the threads.
//!
//! This is what users of the crate call. It checks settings and turns refusals into panics or errors; how a
//! request gets served is `group`'s business.

use std::time::Duration;

use crate::barrier::Barrier;
use crate::counts::DispatchCounts;
use crate::delegate::Delegate;
use crate::entered::{Entered, EnteredSeveral, MOST_HELD};
use crate::error::{ConfigError, Refused, TryError};
use crate::group::{Group, Shared};
use crate::inside;
use crate::putting_off::OthersPutOff;
use crate::slots::Slots;
use crate::submission::Submission;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};
use crate::task::Message;
use crate::worker::Crew;
use crate::{Dispatch, Resident};

/// How requests whose callers wait reach a worker, under `PerCore`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Through the mailbox, like everything else.
    #[default]
    Channel,
    /// Through slots that the workers look at, one for each caller.
    ///
    /// A state has as many slots as there are processors, rounded up to a power of two, 4 to 32. A caller
    /// that finds another one's request in its slot uses the mailbox. A request takes fewer journeys of cache
    /// lines; in return a worker that has nothing to do works somewhat more, and each slot takes 256 bytes.
    /// Everything that no caller waits for still goes through the mailbox, and the order of requests is the
    /// same.
    Slots,
}

/// How delegates are run. `Config::default()` is `Adaptive` with one worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which threads run the states.
    pub dispatch: Dispatch,
    /// The most worker threads there may be; each is started when it is first needed. `None`: one under
    /// `Adaptive`, one per delegate under `PerCore`. 0 is allowed under `Adaptive`: then there is never a
    /// thread.
    pub workers: Option<usize>,
    /// Whether the workers of `PerCore` are tied to cores (in turn, within the cores that the process may
    /// use).
    pub pin: bool,
    /// How requests whose callers wait reach the workers of `PerCore`.
    pub transport: Transport,
    /// How many messages a mailbox holds, 1 to 65536.
    pub mailbox: usize,
    /// What worker threads are called; a hyphen and a number follow.
    pub name: String,
    /// What keeps the hand-over safe. `None` means the cheapest form that the system offers, and so does
    /// `Membarrier` on a system that doesn't offer it.
    pub barrier: Option<Barrier>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dispatch: Dispatch::Adaptive,
            workers: None,
            pin: true,
            transport: Transport::Channel,
            mailbox: 256,
            name: "delegate".to_owned(),
            barrier: None,
        }
    }
}

/// A set of single-threaded states, each reached by message, or directly while no other thread is running it.
///
/// Dropping it does what [`shutdown`](Self::shutdown) does.
///
/// ```
/// use sark_delegate::{Config, Delegates, Resident};
///
/// struct Counter(u64);
/// impl Resident for Counter {
///     type Post = u64;
///     type Leftovers = ();
///     fn accept(&mut self, more: u64, _: &mut ()) {
///         self.0 += more;
///     }
/// }
///
/// let counters = Delegates::new(Config::default(), [Counter(0), Counter(0)])?;
/// counters.post(1, 20); // goes on
/// let mut seen = 0;
/// counters.run(1, |counter| { // waits; may borrow
///     counter.0 += 22;
///     seen = counter.0;
/// });
/// assert_eq!(seen, 42);
/// # Ok::<(), sark_delegate::ConfigError>(())
/// ```
pub struct Delegates<S: Resident> {
    pub(crate) group: Group<S>,
    #[cfg(all(unix, not(loom), not(miri)))]
    registration: crate::fork::Registration,
}

impl<S: Resident> Delegates<S> {
    /// Takes over the states. Starts no thread.
    ///
    /// # Errors
    /// [`ConfigError`] says which setting is out of range.
    pub fn new(config: Config, states: impl IntoIterator<Item = S>) -> Result<Self, ConfigError> {
        if !(1..=65536).contains(&config.mailbox) {
            return Err(ConfigError::Mailbox(config.mailbox));
        }
        let per_core = config.dispatch == Dispatch::PerCore;
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let slots = || match config.transport {
            Transport::Slots if per_core => Slots::for_callers_on(processors),
            _ => Slots::none(),
        };
        let delegates: Arc<[_]> =
            states.into_iter().map(|state| Delegate::new(state, config.mailbox, !per_core, slots())).collect();
        let count = delegates.len();
        if count == 0 {
            return Err(ConfigError::NoStates);
        }
        if config.name.contains('\0') {
            return Err(ConfigError::Name);
        }
        let workers = config.workers.unwrap_or(if per_core { count } else { 1 }).min(count);
        if per_core && workers == 0 {
            return Err(ConfigError::NoWorkers);
        }
        let cores = if per_core && config.pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
        let barrier = if config.barrier == Some(Barrier::Fences) { Barrier::Fences } else { Barrier::detect() };
        let shared = Shared {
            crew: Crew::new(workers, config.name, cores, per_core, processors),
            panics: AtomicU64::new(0),
            processors,
            forked: AtomicBool::new(false),
        };
        let group = Group::new(delegates, !per_core, barrier, Arc::new(shared));
        Ok(Self {
            #[cfg(all(unix, not(loom), not(miri)))]
            registration: crate::fork::Registration::new(group.clone()),
            group,
        })
    }

    /// The number of states.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.group.delegates.len()
    }

    /// Runs `request` on state `index`, on this thread or another, and returns its result. Waits until it has
    /// run.
    ///
    /// `request` may borrow from the caller. It must not block, and must not wait for any delegate: see
    /// [`TryError::Reentrant`]. Requests on one state run in the order of their calls. Nothing is allocated,
    /// except for the mailbox when the first message comes, and for a list of callers to be woken when the
    /// request serves some that sleep.
    ///
    /// # Panics
    /// With the panic of `request`; when called from inside a delegate; in a forked child that can't use the
    /// delegates ([`TryError::Forked`]); when `index` is out of range.
    #[inline]
    pub fn run<R: Send>(&self, index: usize, request: impl FnOnce(&mut S) -> R + Send) -> R {
        match self.group.run(index, request, true) {
            Ok(result) => result,
            Err(refused) => refuse(refused.reason),
        }
    }

    /// Puts off what serving others leaves this thread to do, until the returned value is dropped: dropping
    /// what their posts displaced, waking their futures, ending groups whose last handle was dropped inside a
    /// state.
    ///
    /// What this thread itself posted from inside a state is not put off. If the returned value is leaked,
    /// the rest is put off for ever.
    ///
    /// This is for a caller that waits for states while others wait for it by other means, such as a lock or
    /// a registry of what is under way. Their code might wait for that in turn, so it must not run in
    /// between.
    ///
    /// ```
    /// # use std::sync::Mutex;
    /// # use sark_delegate::{Config, Delegates, Resident};
    /// # struct Counter(u64);
    /// # impl Resident for Counter {
    /// #     type Post = u64;
    /// #     type Leftovers = ();
    /// #     fn accept(&mut self, more: u64, _: &mut ()) {
    /// #         self.0 += more;
    /// #     }
    /// # }
    /// let counters = Delegates::new(Config::default(), [Counter(1), Counter(2)])?;
    /// let turn = Mutex::new(());
    /// let others = counters.put_off_others();
    /// let mine = turn.lock();
    /// // Posts of others may be served on the way, but what they leave over is not dropped here
    /// let sum = counters.run(0, |counter| counter.0) + counters.run(1, |counter| counter.0);
    /// drop(mine);
    /// drop(others); // ... but here.
    /// assert_eq!(sum, 3);
    /// # Ok::<(), sark_delegate::ConfigError>(())
    /// ```
    pub fn put_off_others(&self) -> OthersPutOff<'_, S> {
        OthersPutOff::new(&self.group)
    }

    /// Takes state `index` to run it right here, if that can be done at once.
    ///
    /// It can if callers run states (`Adaptive`), no thread is running this one, no message is before us, and
    /// this thread isn't inside a state already. Otherwise the result is `None`, and then [`run`](Self::run)
    /// is the way. It is `None`, too, if `index` is out of range, where `run` panics.
    ///
    /// `run` tries this anyway. Doing it separately keeps what a request captures in registers. That saves
    /// some ten instructions, for requests that have hardly more than that. It is counted as one request,
    /// whatever is run. While the result exists, every waiting call of this thread fails as reentrant.
    ///
    /// ```
    /// # use sark_delegate::{Config, Delegates, Resident};
    /// # struct Counter(u64);
    /// # impl Resident for Counter {
    /// #     type Post = u64;
    /// #     type Leftovers = ();
    /// #     fn accept(&mut self, more: u64, _: &mut ()) {
    /// #         self.0 += more;
    /// #     }
    /// # }
    /// let counters = Delegates::new(Config::default(), [Counter(41)])?;
    /// let answer = match counters.enter(0) {
    ///     Some(mut entered) => entered.run(|counter| counter.0 + 1),
    ///     None => counters.run(0, |counter| counter.0 + 1),
    /// };
    /// assert_eq!(answer, 42);
    /// # Ok::<(), sark_delegate::ConfigError>(())
    /// ```
    #[inline(always)]
    pub fn enter(&self, index: usize) -> Option<Entered<'_, S>> {
        self.group.enter(index)
    }

    /// As [`enter`](Self::enter), for several states at once, one for each of up to
    /// [`MOST_ENTERED`](Self::MOST_ENTERED) requests.
    ///
    /// Tries each state once (if there are more than 256 states, a busy one perhaps again), and never waits
    /// for one while it holds another. The result has the states by the requests' numbers, from zero on in
    /// the order of `indexes` (not by the indexes themselves). It has none for requests beyond the first
    /// `MOST_ENTERED`.
    ///
    /// It is for batches that want to begin work on several states (have memory loaded, for example) before
    /// they finish it on the first. Hold them briefly: a caller that wants one of them meanwhile has to leave
    /// a message.
    ///
    /// # Panics
    /// When an index is out of range, where states are taken at all: those taken before are given back.
    pub fn enter_several(&self, indexes: impl IntoIterator<Item = usize>) -> EnteredSeveral<'_, S> {
        self.group.enter_several(indexes.into_iter())
    }

    /// The most requests that [`enter_several`](Self::enter_several) takes states for.
    pub const MOST_ENTERED: usize = MOST_HELD;

    /// As [`run`](Self::run), but what `run` panics for is an error, and so is a full mailbox. (A request
    /// that goes through a slot needs no room there: see [`Transport::Slots`].)
    ///
    /// # Errors
    /// [`Refused`] gives the request back with the reason.
    ///
    /// # Panics
    /// With the panic of `request`; when `index` is out of range.
    #[inline]
    pub fn try_run<F, R>(&self, index: usize, request: F) -> Result<R, Refused<F>>
    where
        F: FnOnce(&mut S) -> R + Send,
        R: Send,
    {
        self.group.run(index, request, false)
    }

    /// Runs each request on its state and returns the results in the order of the requests. Each request
    /// takes one message at most. Busy states are waited for together, and none is held while waiting.
    ///
    /// # Errors
    /// [`TryError::Reentrant`] and [`TryError::Forked`]; some requests may have run in the latter case.
    ///
    /// # Panics
    /// With the first panic among the requests, after all of them are through (a request that runs on this
    /// thread before any message was sent panics at once); when an index is out of range.
    pub fn run_each<F, R>(&self, requests: Vec<(usize, F)>) -> Result<Vec<R>, TryError>
    where
        F: FnOnce(&mut S) -> R + Send,
        R: Send,
    {
        self.group.run_each(requests)
    }

    /// Leaves `post` for state `index` and goes on. Every call that starts after this returned sees its
    /// effect.
    ///
    /// Waits only for room in a full mailbox, and from inside a delegate not even for that. There the post is
    /// kept and sent, in order, once this thread has released; calls that start after that see it.
    ///
    /// # Panics
    /// In a forked child that can't use the delegates; when `index` is out of range. A panic of
    /// [`Resident::accept`] reaches the caller only if the post ran in place; elsewhere it is counted.
    pub fn post(&self, index: usize, post: S::Post) {
        if let Err(reason) = self.group.check_fork() {
            refuse(reason);
        }
        if let Err(post) = self.accept_if_idle(index, post) {
            self.group.leave(index, Message::Post(post));
        }
    }

    /// As [`post`](Self::post), but a full mailbox is an error, and so is what `post` panics for in a forked
    /// child.
    ///
    /// # Errors
    /// [`Refused`] gives the post back with the reason.
    pub fn try_post(&self, index: usize, post: S::Post) -> Result<(), Refused<S::Post>> {
        if let Err(reason) = self.group.check_fork() {
            return Err(Refused { request: post, reason });
        }
        let Err(post) = self.accept_if_idle(index, post) else { return Ok(()) };
        match self.group.try_leave(index, Message::Post(post)) {
            Ok(()) => Ok(()),
            Err(Message::Post(request)) => Err(Refused { request, reason: TryError::Full }),
            Err(_) => unreachable!("the message that comes back is the one that was sent"),
        }
    }

    fn accept_if_idle(&self, index: usize, post: S::Post) -> Result<(), S::Post> {
        let mut leftovers = S::Leftovers::default();
        let mut post = Some(post);
        // Whether it ran can be seen from `post`. What is left over is dropped on return, with the delegate
        // released.
        let _ran = self.group.run_if_idle(index, |state| {
            if let Some(post) = post.take() {
                state.accept(post, &mut leftovers);
            }
        });
        post.map_or(Ok(()), Err)
    }

    /// Gives `request` to state `index` and returns a future of its result.
    ///
    /// The request is tried at once. If the mailbox is full, it is accepted when the future is polled and
    /// there is room. Its panic is passed on to the task that awaits it, wherever it ran.
    ///
    /// # Panics
    /// In a forked child that can't use the delegates; when `index` is out of range.
    pub fn submit<F, R>(&self, index: usize, request: F) -> Submission<'_, S, R>
    where
        F: FnOnce(&mut S) -> R + Send + 'static,
        R: Send + 'static,
    {
        if let Err(reason) = self.group.check_fork() {
            refuse(reason);
        }
        Submission::new(&self.group, index, request)
    }

    /// Asks that a worker run [`Resident::tend`] on state `index` in about `delay`. Does nothing if there may
    /// be no workers. The earliest of several wishes counts.
    pub fn wake_in(&self, index: usize, delay: Duration) {
        self.group.shared.crew.wake_in(&self.group, index, delay);
    }

    /// Returns how requests were served so far, over all states. Approximate while requests run.
    #[must_use]
    pub fn counts(&self) -> DispatchCounts {
        let mut sum =
            DispatchCounts { panicked: self.group.shared.panics.load(Ordering::Relaxed), ..Default::default() };
        for delegate in self.group.delegates.iter() {
            sum += delegate.counts();
        }
        sum
    }

    /// The number of worker threads that run now.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.group.shared.crew.running()
    }

    /// Serves what was accepted, ends the worker threads and waits for them. If one of these threads calls
    /// this, or drops the last handle, it waits for none of them: they end on their own.
    ///
    /// The states stay: requests that come later are run by their callers.
    ///
    /// # Panics
    /// When called from inside a delegate. (Dropping the handle there is fine: it is shut down once the
    /// thread has released.)
    pub fn shutdown(&self) {
        if inside::is_inside() {
            refuse(TryError::Reentrant);
        }
        self.group.shut_down();
    }
}

impl<S: Resident> Drop for Delegates<S> {
    fn drop(&mut self) {
        let group = self.group.clone();
        #[cfg(all(unix, not(loom), not(miri)))]
        let registration = self.registration;
        let end = move || {
            group.shut_down();
            #[cfg(all(unix, not(loom), not(miri)))]
            registration.end();
        };
        if inside::is_inside() {
            // Joining threads would be waiting, and the states, which go with the last of us, have
            // destructors that are user code.
            inside::defer_others(end);
        } else {
            end();
        }
    }
}

impl<S: Resident> std::fmt::Debug for Delegates<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delegates").field("len", &self.len()).field("threads", &self.threads()).finish_non_exhaustive()
    }
}

/// Ends a call that can't return a refusal.
#[cold]
#[track_caller]
fn refuse(reason: TryError) -> ! {
    panic!("{reason}")
}
