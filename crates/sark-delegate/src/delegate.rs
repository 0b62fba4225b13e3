//! One delegate: the state, the right to run it, and its mailbox, laid out so that serving a request in place
//! touches one cache line of ours.
//!
//! # The hand-over
//!
//! A sender *announces* its message, puts it into the mailbox, and then counts it as *pending*. There are two
//! counters because they answer different questions:
//!
//! * `announced` (added to before the send, where callers run delegates) keeps the order. Zero means that the
//!   mailbox holds no message of a call that returned, so a runner may go ahead with its own request. A count
//!   made after the send can't say that. A runner takes messages oldest first; one of them may be sent but
//!   not yet counted, and would use up the count of a later one. The later one would then sit in the mailbox
//!   with a counter of zero. The models found this with three threads.
//! * `pending` (added to after the send) decides who serves. A runner releases ownership and *then* reads it,
//!   with the runner's side of the [barrier](crate::Barrier) in between. A sender adds to it and *then*,
//!   after its own side of the barrier, tries ownership. So either the runner sees the message, or the sender
//!   finds the delegate free: no message is left behind. A sender that counts a message when none was pending
//!   sees to all of them until it knows that an owner will.
//!
//! A runner that took ownership first serves what is in the mailbox, so requests are served in the order of
//! the calls.
//!
//! Under `PerCore`, requests whose callers wait may be in `slots` instead. Those are served after what is in
//! the mailbox by then.
//!
//! Some of what a runner does on behalf of others comes after the release: see [`Aftermath`].
//!
//! Called by `group` and `entered` (callers), by `worker`, and by `fork`. It never starts a thread or waits
//! for an answer.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::Resident;
use crate::aftermath::Aftermath;
use crate::barrier::Barrier;
use crate::counts::{Count, DispatchCounts, MessageCounts};
use crate::inside;
use crate::mailbox::Mailbox;
use crate::ownership::OwnershipWord;
use crate::slots::{Seat, Slots};
use crate::sync::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Mutex, Ordering, UnsafeCell, lock, spin_loop};
use crate::task::Message;
use crate::worker::on_worker_thread;

/// A runner serves at most this many messages before it lets others have the delegate ...
const BUDGET_MESSAGES: u32 = if cfg!(loom) { 1 } else { 64 };
/// ... and for about this long.
const BUDGET_TIME: Duration = Duration::from_micros(20);
/// How long a worker leaves the senders alone after it served several messages that no caller waits for, in
/// pauses of the processor: half a microsecond or one. Each look at the count of messages makes its line go
/// to and fro. Without looks they send faster, and the next look finds more. Wakers of futures wait for the
/// pause too; their answers are there already.
const PAUSES_FOR_SENDERS: u32 = if cfg!(loom) { 0 } else { 16 };
/// The clock is read once per this many messages.
const MESSAGES_PER_CLOCK_READ: u32 = 8;

/// Added to `announced` when a delegate is sealed, so that a thread that still holds it comes off the fast
/// path.
#[cfg(all(unix, not(loom), not(miri)))]
const SEALED_ANNOUNCEMENT: u32 = 1 << 31;

/// No alarm is set.
pub(crate) const NO_ALARM: u64 = u64::MAX;

/// A state and the way to it. 128 bytes: x86 fetches lines of 64 in pairs, and some Arm cores have lines of
/// 128.
#[repr(C, align(128))]
pub(crate) struct Delegate<S: Resident> {
    pub(crate) owner: OwnershipWord,
    /// Messages announced and not yet taken out: senders add before the send, runners subtract.
    announced: AtomicU32,
    /// Requests run by their callers. Written by the owner.
    in_place: Count,
    state: UnsafeCell<S>,

    // Cold from here on: not touched by a request that is served in place. Grouped by who writes it: the
    // owner ...
    counts: MessageCounts,
    /// ... senders, once per message. Messages sent and not yet taken out: senders add after the send,
    /// runners subtract. It is below zero for a moment if a message was taken out before its sender counted
    /// it.
    pending: OwnLine<AtomicI32>,
    /// ... and hardly any thread.
    seldom: OwnLine<Seldom<S>>,
}

/// Begins a cache line and shares it with nothing else.
#[repr(align(64))]
struct OwnLine<T>(T);

/// What is read with each message and written now and then. Everything that is read with each message is on
/// one line.
#[repr(C)]
struct Seldom<S: Resident> {
    /// Whether `announced` is kept: callers run this delegate, and must know whether messages are before
    /// them. Where callers never run it, the mailbox alone keeps the order, and announcing would cost the
    /// lines of two messages for each.
    announces: bool,
    /// Whether `waiting_for_room` may hold a waker.
    starved: AtomicBool,
    mailbox: Mailbox<Message<S>>,
    slots: Slots<S>,
    /// When a worker should tend this delegate, in nanoseconds since the group was made, or `NO_ALARM`.
    alarm: AtomicU64,
    /// Wakers of the futures that found the mailbox full.
    waiting_for_room: Mutex<Vec<Waker>>,
}

// SAFETY: `state` is touched only through `Owned`, which exists once at a time (the ownership word) and
// passes on what it wrote with Release/Acquire; messages are `Send`; everything else is `Sync` already.
unsafe impl<S: Resident> Sync for Delegate<S> {}
// SAFETY: `S: Send` (a supertrait of `Resident`), and so is everything a message holds.
unsafe impl<S: Resident> Send for Delegate<S> {}

impl<S: Resident> Delegate<S> {
    pub(crate) fn new(state: S, mailbox: usize, callers_run: bool, slots: Slots<S>) -> Self {
        #[cfg(not(loom))]
        const {
            // The state begins right behind the word, the counter and the count: its first fields share their
            // line.
            assert!(std::mem::offset_of!(Self, state) == 16 || align_of::<S>() > 16);
            assert!(align_of::<Self>() >= 128);
            assert!(std::mem::offset_of!(Seldom<S>, waiting_for_room) <= 64);
        }
        Self {
            owner: OwnershipWord::new(),
            announced: AtomicU32::new(0),
            in_place: Count::default(),
            state: UnsafeCell::new(state),
            counts: MessageCounts::default(),
            pending: OwnLine(AtomicI32::new(0)),
            seldom: OwnLine(Seldom {
                announces: callers_run,
                starved: AtomicBool::new(false),
                mailbox: Mailbox::new(mailbox),
                slots,
                alarm: AtomicU64::new(NO_ALARM),
                waiting_for_room: Mutex::new(Vec::new()),
            }),
        }
    }

    fn seldom(&self) -> &Seldom<S> {
        &self.seldom.0
    }

    fn pending(&self) -> &AtomicI32 {
        &self.pending.0
    }

    /// When a worker should tend this delegate, in nanoseconds since the group was made, or `NO_ALARM`.
    pub(crate) fn alarm(&self) -> &AtomicU64 {
        &self.seldom().alarm
    }

    /// Takes the right to run this delegate, if no thread has it.
    #[inline(always)]
    pub(crate) fn try_take(&self) -> Option<Owned<'_, S>> {
        if self.owner.try_take() {
            inside::enter();
            Some(Owned { delegate: self })
        } else {
            None
        }
    }

    /// Returns the right to run this delegate to a thread that holds it already: see [`Owned::keep_held`]. It
    /// must not be given back or dropped.
    ///
    /// # Safety
    /// The caller holds the delegate, and no other `Owned` of it is in use for as long as this one.
    #[inline(always)]
    pub(crate) unsafe fn held(&self) -> ManuallyDrop<Owned<'_, S>> {
        ManuallyDrop::new(Owned { delegate: self })
    }

    /// Gives back a right that was [kept](Owned::keep_held), and does nothing else: the look for messages
    /// comes after the last of several.
    #[inline]
    pub(crate) fn let_go(&self) {
        self.owner.release();
    }

    /// How many messages were announced and not taken out yet. Relaxed: the order comes from the barrier
    /// before it.
    #[inline(always)]
    fn announced(&self) -> u32 {
        self.announced.load(Ordering::Relaxed)
    }

    /// Whether any message is announced. Relaxed, as above.
    #[inline(always)]
    pub(crate) fn is_announced(&self) -> bool {
        self.announced() != 0
    }

    /// Whether messages, or requests in slots, wait to be served by some thread. Relaxed, as above.
    #[inline]
    pub(crate) fn has_messages(&self) -> bool {
        self.pending().load(Ordering::Relaxed) > 0 || self.seldom().slots.any()
    }

    /// Whether anything is announced, where that is kept, or waits to be served. For a thread that is about
    /// to fork.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn holds_messages(&self) -> bool {
        self.is_announced() || self.has_messages()
    }

    pub(crate) fn has_slots(&self) -> bool {
        self.seldom().slots.exist()
    }

    /// Returns a slot for a request whose caller waits, if one is free.
    #[inline]
    pub(crate) fn seat(&self) -> Option<Seat<'_, S>> {
        self.seldom().slots.seat()
    }

    /// Sends a message, or gives it back if there is no room. `Ok(true)`: no other message was pending, so
    /// this sender sees to those that are.
    pub(crate) fn try_send(&self, message: Message<S>) -> Result<bool, Message<S>> {
        self.announce_and(|mailbox| mailbox.try_send(message))
    }

    /// As `try_send`, but waits for room for a while.
    pub(crate) fn send_within(&self, message: Message<S>, patience: Duration) -> Result<bool, Message<S>> {
        self.announce_and(|mailbox| mailbox.send_within(message, patience))
    }

    fn announce_and(
        &self,
        send: impl FnOnce(&Mailbox<Message<S>>) -> Result<(), Message<S>>,
    ) -> Result<bool, Message<S>> {
        let Seldom { announces, mailbox, .. } = self.seldom();
        if *announces {
            self.announced.fetch_add(1, Ordering::AcqRel);
        }
        match send(mailbox) {
            Ok(()) => Ok(self.pending().fetch_add(1, Ordering::AcqRel) == 0),
            Err(message) => {
                if *announces {
                    self.announced.fetch_sub(1, Ordering::AcqRel);
                }
                Err(message)
            }
        }
    }

    pub(crate) fn counts(&self) -> DispatchCounts {
        DispatchCounts {
            in_place: self.in_place.get(),
            delegated: self.counts.delegated.get(),
            posted: self.counts.posted.get(),
            by_worker: self.counts.by_worker.get(),
            parked: self.counts.parked.get(),
            panicked: self.counts.panicked.get(),
        }
    }

    /// Registers a future that found the mailbox full: it is woken when there is room. It must try once more
    /// after this.
    pub(crate) fn wake_when_room(&self, waker: &Waker) {
        // Cloning and dropping wakers is user code: not under the lock, for which a runner may be waiting.
        let mut waker = Some(waker.clone());
        {
            let mut waiting = lock(&self.seldom().waiting_for_room);
            if !waiting.iter().any(|known| waker.as_ref().is_some_and(|waker| known.will_wake(waker))) {
                waiting.extend(waker.take());
            }
        }
        // The second try announces (or, where nothing is announced, this function changes `pending` by
        // nothing), and the runner subtracts what it served. Both are AcqRel on one counter, so whichever
        // comes second sees what the other did before. So either the runner sees `starved`, or the second try
        // sees the room.
        self.seldom().starved.store(true, Ordering::Relaxed);
        if !self.seldom().announces {
            self.pending().fetch_add(0, Ordering::AcqRel);
        }
    }

    /// Forgets all messages and gives ownership back, in a forked child: their senders don't exist here.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn restart_in_child(&self) {
        self.seldom().mailbox.abandon();
        self.seldom().slots.abandon();
        self.announced.store(0, Ordering::Relaxed);
        self.pending().store(0, Ordering::Relaxed);
        self.alarm().store(NO_ALARM, Ordering::Relaxed);
        self.owner.release();
    }

    /// Whether a thread that doesn't exist in this forked child had locked the list of those that wait for
    /// room.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn is_locked_for_ever(&self) -> bool {
        matches!(self.seldom().waiting_for_room.try_lock(), Err(std::sync::TryLockError::WouldBlock))
    }

    /// Closes the delegate for good, in a forked child that could not hold it still. If the forking thread
    /// itself holds it, that thread finds something announced when it releases, and seals it again
    /// (`Group::seal_again`).
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn seal(&self) {
        self.owner.seal();
        self.announced.fetch_or(SEALED_ANNOUNCEMENT, Ordering::Relaxed);
    }
}

/// Which messages are served, where none are announced. Where they are announced, it makes no difference: at
/// most as many are there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// All that are in the mailbox.
    All,
    /// As many as are counted. For workers, which come again: the count of a message that is left behind may
    /// have gone to an earlier one, whose sender tells them once it has counted too. (If other callers' code
    /// holds a worker up by then, it is not waited for: see `waiting`.)
    Counted,
}

/// The right to run a delegate. While it exists, waiting calls of this thread fail as reentrant.
pub(crate) struct Owned<'d, S: Resident> {
    delegate: &'d Delegate<S>,
}

/// What the release of a delegate leaves to do.
#[derive(Clone, Copy)]
pub(crate) struct Released {
    /// How many messages are announced.
    announced: u32,
    /// Whether something was put off until nothing is held: `inside::run_deferred`.
    deferred: bool,
}

impl Released {
    /// Whether there is anything to do. One branch for both.
    #[inline(always)]
    pub(crate) fn anything(self) -> bool {
        self.announced | u32::from(self.deferred) != 0
    }

    /// Whether messages are announced: then those that are pending must be served, or some other thread must
    /// see to them. Where nothing is announced, only `pending` tells.
    #[inline(always)]
    pub(crate) fn messages(self) -> bool {
        self.announced != 0
    }
}

impl<'d, S: Resident> Owned<'d, S> {
    #[inline(always)]
    pub(crate) fn delegate(&self) -> &'d Delegate<S> {
        self.delegate
    }

    /// Counts a request that its caller is about to run.
    #[inline(always)]
    pub(crate) fn count_in_place(&self) {
        self.delegate.in_place.add(1);
    }

    /// Keeps the right past the end of `self`: see [`Delegate::held`] and [`Delegate::let_go`].
    #[inline(always)]
    pub(crate) fn keep_held(self) {
        std::mem::forget(self);
    }

    /// Whether the mailbox is empty, as far as order matters to us. A call that starts after a post returned
    /// finds the post announced, or an owner before us has served it.
    #[inline(always)]
    pub(crate) fn nothing_before_us(&self) -> bool {
        !self.delegate.is_announced()
    }

    /// Runs the maintenance of the state. If it panics, the panic is counted, and maintenance doesn't run
    /// again until it is asked for.
    pub(crate) fn tend(&mut self, aftermath: &mut Aftermath<S>) -> Option<Duration> {
        aftermath.has_leftovers = true;
        let leftovers = &mut aftermath.leftovers;
        match self.run(|state| catch_unwind(AssertUnwindSafe(|| state.tend(leftovers)))) {
            Ok(next) => next,
            Err(panic) => {
                self.delegate.counts.panicked.add(1);
                aftermath.panics.push(panic);
                None
            }
        }
    }

    /// Runs a request on the state.
    #[inline(always)]
    pub(crate) fn run<R>(&mut self, request: impl FnOnce(&mut S) -> R) -> R {
        self.delegate.state.with_mut(|state| {
            // SAFETY: one `Owned` is in use per delegate at a time, and `&mut self` is there once per
            // `Owned`.
            request(unsafe { &mut *state })
        })
    }

    /// Serves what is in the mailbox, within the budget, and then what is in slots. Returns true if it came
    /// to the end of the mailbox.
    #[inline(never)]
    pub(crate) fn drain(&mut self, whose: Whose, aftermath: &mut Aftermath<S>) -> bool {
        // Nothing in here unwinds: user code is caught message by message. If we are wrong about that,
        // messages would be lost and waiters with them, so it is better to stop.
        let guard = AbortOnUnwind;
        let by_worker = on_worker_thread();
        let Seldom { mailbox, slots, .. } = self.delegate.seldom();
        // The messages that these requests come after are in the mailbox by now, and go first, whatever the
        // budget.
        let mut filled = slots.filled();
        let before_slots = if filled.any() { mailbox.len().try_into().unwrap_or(u32::MAX) } else { 0 };
        let came_to_the_end = self.drain_mailbox(whose, before_slots, by_worker, aftermath);
        // If a request forked and this is the child, what is left isn't ours.
        while !self.delegate.owner.is_sealed()
            // SAFETY: `self` is ownership, and has been since `filled` was asked for above.
            && let Some(task) = unsafe { slots.take_next(&mut filled) }
        {
            self.serve(Message::Task(task), by_worker, aftermath);
        }
        std::mem::forget(guard);
        came_to_the_end
    }

    /// Serves what is in the mailbox, within the budget, but at least `at_least` messages of it. Returns true
    /// if it came to the end of the mailbox.
    #[inline]
    fn drain_mailbox(&mut self, whose: Whose, at_least: u32, by_worker: bool, aftermath: &mut Aftermath<S>) -> bool {
        let delegate = self.delegate;
        let Seldom { announces, mailbox, slots, starved, waiting_for_room, .. } = delegate.seldom();
        // How many there may be. This isn't found out by looking into an empty mailbox, which would take a
        // line away from senders. Acquire: what senders did before they announced, or counted, is seen,
        // whatever the channel lends.
        let known = || match (*announces, whose) {
            (true, _) => delegate.announced.load(Ordering::Acquire),
            (false, Whose::Counted) => delegate.pending().load(Ordering::Acquire).max(0).cast_unsigned(),
            (false, Whose::All) => u32::MAX,
        };
        let mut waiting = known().max(at_least);
        if waiting == 0 {
            return true;
        }
        let many = delegate.pending().load(Ordering::Relaxed) > MESSAGES_PER_CLOCK_READ.cast_signed();
        let began = many.then(Instant::now);
        let mut served = 0;
        let mut somebody_waited = false;
        let came_to_the_end = loop {
            if served >= waiting {
                // A worker comes again anyway, and each look takes the count's line away from senders.
                if *announces {
                    waiting = known();
                }
                if served >= waiting {
                    break true;
                }
            }
            let Some(message) = mailbox.try_receive() else { break true };
            somebody_waited |= matches!(message, Message::Task(_));
            self.serve(message, by_worker, aftermath);
            served += 1;
            if delegate.owner.is_sealed() {
                // That request forked, and this is the child: what else is in the mailbox isn't ours.
                break false;
            }
            if served < at_least {
                continue;
            }
            let late = || began.is_some_and(|began| began.elapsed() >= BUDGET_TIME);
            if served >= BUDGET_MESSAGES || served % MESSAGES_PER_CLOCK_READ == 0 && late() {
                break false;
            }
        };
        if served > 1 && by_worker && !*announces && !somebody_waited {
            for _ in 0..PAUSES_FOR_SENDERS {
                if slots.any() {
                    break;
                }
                spin_loop();
            }
        }
        if served != 0 {
            if *announces {
                delegate.announced.fetch_sub(served, Ordering::AcqRel);
            }
            delegate.pending().fetch_sub(served.cast_signed(), Ordering::AcqRel);
            // After the subtraction of what was served; see `wake_when_room`.
            if starved.load(Ordering::Relaxed) {
                starved.store(false, Ordering::Relaxed);
                aftermath.wakers.append(&mut lock(waiting_for_room));
            }
        }
        came_to_the_end
    }

    fn serve(&mut self, message: Message<S>, by_worker: bool, aftermath: &mut Aftermath<S>) {
        let counts = &self.delegate.counts;
        counts.by_worker.add(u64::from(by_worker));
        match message {
            Message::Task(task) => {
                counts.delegated.add(1);
                let sleeper = self.run(|state| task.run(state));
                counts.parked.add(u64::from(sleeper.is_some()));
                sleeper.into_iter().for_each(|caller| aftermath.sleepers.add(caller));
            }
            Message::Post(post) => {
                counts.posted.add(1);
                aftermath.has_leftovers = true;
                let leftovers = &mut aftermath.leftovers;
                if let Err(panic) = self.run(|state| catch_unwind(AssertUnwindSafe(|| state.accept(post, leftovers)))) {
                    counts.panicked.add(1);
                    aftermath.panics.push(panic);
                }
            }
            Message::Errand(errand) => {
                counts.posted.add(1);
                // Answered at once, so that the awaiting task goes on while others are served.
                let (waker, rest) = self.run(|state| errand.perform(state));
                aftermath.wakers.extend(waker);
                aftermath.errands.extend(rest);
            }
        }
    }

    /// Gives the right back after messages were served: looks for more, then wakes the callers that were
    /// answered in their sleep. Nothing else tells them, so there is no release after `drain` but this one.
    pub(crate) fn release(self, barrier: Barrier, aftermath: &mut Aftermath<S>) -> Released {
        let released = ManuallyDrop::new(self).give_back(barrier);
        aftermath.sleepers.wake();
        released
    }

    /// Gives the right back and looks for messages, in that order. For a caller that served none and holds this
    /// in a `ManuallyDrop`. It must not be used or dropped afterwards.
    #[inline(always)]
    pub(crate) fn give_back(&mut self, barrier: Barrier) -> Released {
        self.delegate.owner.release();
        barrier.light();
        let deferred = inside::leave();
        Released { announced: self.delegate.announced(), deferred }
    }

    /// Keeps the right past the end of `self`; the word is released by other means.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn keep(self) {
        inside::leave();
        self.keep_held();
    }
}

impl<S: Resident> Drop for Owned<'_, S> {
    /// Reached only if something of ours panicked: the delegate isn't lost, and its next runner serves what
    /// came.
    #[cold]
    fn drop(&mut self) {
        self.delegate.owner.release();
        inside::leave();
    }
}

/// Ends the process if it is dropped, which happens only while unwinding: something that others rely on would
/// be half done. The normal path forgets it.
pub(crate) struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}
