//! What callers, futures and workers share: the delegates, the crew, and the rules by which a request gets
//! served.
//!
//! A request is run in place if the group allows it and the delegate is idle, and goes through the mailbox,
//! or a slot, otherwise. This file is the sender's side of that; `delegate` is the runner's side, and
//! `waiting` the patience in between.
//!
//! Called by `handle`, `submission`, `entered`, `putting_off`, `waiting`, `worker` and `fork`. It never waits
//! while it holds a delegate.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::Resident;
use crate::aftermath::Aftermath;
use crate::barrier::Barrier;
use crate::delegate::{AbortOnUnwind, Delegate, Owned, Released, Whose};
use crate::entered::{Entered, EnteredSeveral};
use crate::error::{Refused, TryError};
use crate::inside;
use crate::slots::Seat;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, spin_loop, yield_now};
use crate::task::{Message, StackTask, TaskPointer};
use crate::turn;
use crate::waiting::{self, Pending};
use crate::worker::{Crew, Rung, on_worker_thread};

/// A busy delegate is looked at this many times before it gets a message: most are held for less time than a
/// message takes.
const LOOKS_BEFORE_MESSAGE: u32 = if cfg!(loom) { 1 } else { 3 };
/// So many pauses of the processor come before the first look, and four times as many before each further
/// one, since every look takes the line away from the runner that is working on it. Together they take some
/// 20 microseconds where a pause takes 140 cycles, as on Intel's servers. On a delegate that all use all the
/// time, callers thereby take turns of that length. Looks that come sooner find it free between two requests
/// of its runner, and turns become shorter than what it costs to hand it over.
const PAUSES_BEFORE_LOOK: u32 = if cfg!(loom) { 0 } else { 16 };
/// After this many rounds of serving others, a caller leaves the rest to a worker if there may be one.
const ROUNDS_FOR_OTHERS: u32 = 4;
/// After this many rounds of serving others with no end in sight, a caller runs in between what is left to do
/// outside: futures are woken only then, and what is to be dropped takes memory.
const ROUNDS_PER_SETTLING: u32 = 16;
/// How long a sender waits for room before it sees whether it can make some.
const PATIENCE_FOR_ROOM: Duration = Duration::from_millis(1);
/// How often a poster looks again where the process-wide barrier was refused.
const LOOKS_WITHOUT_BARRIER: u32 = 1000;

/// Shared by the handle, the workers, and work that was put off.
pub(crate) struct Group<S: Resident> {
    pub(crate) delegates: Arc<[Delegate<S>]>,
    /// The delegates that callers run themselves when they are idle: all of them (`Adaptive`), or none. So
    /// one comparison of an index says that there is such a delegate and that it may be entered.
    for_callers: Arc<[Delegate<S>]>,
    pub(crate) barrier: Barrier,
    pub(crate) shared: Arc<Shared>,
}

/// What doesn't depend on the state.
pub(crate) struct Shared {
    pub(crate) crew: Crew,
    /// Panics of code that no caller waits for.
    pub(crate) panics: AtomicU64,
    /// How many processors this process may use. Waiting begins with spinning only if there is more than one.
    pub(crate) processors: usize,
    /// Set in a forked child if the delegates could not be held still: every call is an error from then on.
    pub(crate) forked: AtomicBool,
}

impl<S: Resident> Clone for Group<S> {
    fn clone(&self) -> Self {
        Self {
            delegates: Arc::clone(&self.delegates),
            for_callers: Arc::clone(&self.for_callers),
            barrier: self.barrier,
            shared: Arc::clone(&self.shared),
        }
    }
}

/// How a delegate was left by a thread that served it.
pub(crate) struct Served {
    /// There are messages again.
    pub(crate) more: bool,
    /// All that waited was served.
    pub(crate) caught_up: bool,
}

/// A request that was sent, and who sees to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Senders and runners among themselves: the sender helps while it waits.
    AmongCallers {
        /// This message was counted when no other was: its sender sees to all that are counted until an owner
        /// does.
        first: bool,
    },
    /// A worker thread that was told.
    ToWorker,
}

impl<S: Resident> Group<S> {
    pub(crate) fn new(delegates: Arc<[Delegate<S>]>, callers_run: bool, barrier: Barrier, shared: Arc<Shared>) -> Self {
        let for_callers = if callers_run { Arc::clone(&delegates) } else { Arc::from([]) };
        Self { delegates, for_callers, barrier, shared }
    }

    /// Whether callers run idle delegates themselves.
    #[inline]
    pub(crate) fn callers_run(&self) -> bool {
        !self.for_callers.is_empty()
    }

    /// Takes delegate `index` if callers may run it, no thread does, and no message is before us.
    #[inline(always)]
    pub(crate) fn enter(&self, index: usize) -> Option<Entered<'_, S>> {
        if inside::is_inside() {
            return None;
        }
        let owned = self.for_callers.get(index)?.try_take()?;
        if owned.nothing_before_us() {
            owned.count_in_place();
            return Some(Entered::new(self, owned));
        }
        // Dropping the right serves what is before us.
        drop(Entered::new(self, owned));
        None
    }

    /// Takes those that callers may run, that no thread runs, and that have no message before us.
    pub(crate) fn enter_several(&self, indexes: impl Iterator<Item = usize>) -> EnteredSeveral<'_, S> {
        EnteredSeveral::new(self, indexes, self.callers_run() && !inside::is_inside())
    }

    /// Runs `request` on delegate `index` and returns its result, whichever thread runs it. Waits for that,
    /// and for room in a full mailbox if `wait_for_room`.
    #[inline]
    pub(crate) fn run<F, R>(&self, index: usize, request: F, wait_for_room: bool) -> Result<R, Refused<F>>
    where
        F: FnOnce(&mut S) -> R + Send,
        R: Send,
    {
        match self.enter(index) {
            Some(mut entered) => Ok(entered.run(request)),
            None => self.run_by_message(index, request, wait_for_room),
        }
    }

    /// Runs `request` if callers may, no thread is running the delegate, and what waits in its mailbox can be
    /// served first.
    #[inline]
    pub(crate) fn run_if_idle<F, R>(&self, index: usize, request: F) -> Result<R, F>
    where
        F: FnOnce(&mut S) -> R,
    {
        match self.enter(index) {
            Some(mut entered) => Ok(entered.run(request)),
            None => self.run_if_free(index, request),
        }
    }

    /// As `run_if_idle`, for when messages may be before us.
    #[cold]
    fn run_if_free<F, R>(&self, index: usize, request: F) -> Result<R, F>
    where
        F: FnOnce(&mut S) -> R,
    {
        if !self.callers_run() || inside::is_inside() {
            return Err(request);
        }
        match self.delegates[index].try_take() {
            Some(owned) => self.run_behind_messages(index, owned, request),
            None => Err(request),
        }
    }

    /// Runs `request` on a delegate that is ours but has messages before us: serves them first. Gives the
    /// request back if they are too many.
    #[cold]
    fn run_behind_messages<F, R>(&self, index: usize, mut owned: Owned<'_, S>, request: F) -> Result<R, F>
    where
        F: FnOnce(&mut S) -> R,
    {
        let mut aftermath = Aftermath::new();
        let outcome = if owned.drain(Whose::All, &mut aftermath) {
            owned.count_in_place();
            Ok(catch_unwind(AssertUnwindSafe(|| owned.run(request))))
        } else {
            Err(request)
        };
        let released = owned.release(self.barrier, &mut aftermath);
        self.look_after(index, released.messages(), aftermath);
        self.met_others_on(index);
        match outcome {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(request) => Err(request),
        }
    }

    /// Leaves a message that points at the request on this stack, and waits for the answer.
    #[cold]
    #[inline(never)]
    fn run_by_message<F, R>(&self, index: usize, request: F, wait_for_room: bool) -> Result<R, Refused<F>>
    where
        F: FnOnce(&mut S) -> R + Send,
        R: Send,
    {
        if inside::is_inside() {
            return Err(Refused { request, reason: TryError::Reentrant });
        }
        if let Err(reason) = self.check_fork() {
            return Err(Refused { request, reason });
        }
        let mut request = request;
        let (looks, pauses) = match (self.callers_run(), self.shared.processors) {
            (false, _) => (0, 0),
            // On a single processor a thread that holds it isn't running. But it may be free, after messages
            // that were before us were served.
            (true, 1) => (1, 0),
            (true, _) => (LOOKS_BEFORE_MESSAGE, PAUSES_BEFORE_LOOK),
        };
        for look in 0..looks {
            for _ in 0..pauses * 4_u32.pow(look) {
                spin_loop();
            }
            if self.delegates[index].owner.looks_free() {
                match self.run_if_free(index, request) {
                    Ok(result) => return Ok(result),
                    Err(back) => request = back,
                }
            }
        }
        let task = StackTask::new(request);
        // From here to the answer, leaving this frame would leave a dangling pointer in the mailbox or a
        // slot.
        let guard = AbortOnUnwind;
        // SAFETY: `task` isn't moved before it is done: either `publish` gives the message back, or `wait`
        // returns once it is done, and the guard sees to it that nothing unwinds out of here in between.
        let pointer = unsafe { task.pointer() };
        // In use until the request is answered.
        let seat = self.delegates[index].seat();
        match self.publish(index, pointer, seat.as_ref(), wait_for_room) {
            Ok(sent) => {
                let soon = sent == Sent::ToWorker && waiting::is_soon_done(self.shared.processors, task.header());
                if !soon && !waiting::wait(self, &[Pending { index, task: task.header(), sent }]) {
                    std::mem::forget(guard);
                    return Err(Refused { request: never_served(task), reason: TryError::Forked });
                }
            }
            Err(_message) => {
                std::mem::forget(guard);
                let reason = self.check_fork().err().unwrap_or(TryError::Full);
                return Err(Refused { request: never_served(task), reason });
            }
        }
        std::mem::forget(guard);
        drop(seat);
        self.met_others_on(index);
        match task.into_outcome() {
            Ok(result) => Ok(result),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Runs each request on its delegate: idle ones at once, one after the other, then all busy ones by one
    /// message each, waiting for them together. Never waits while holding one. Returns the results in the
    /// order of the requests; the first panic is passed on after all are through.
    pub(crate) fn run_each<F, R>(&self, requests: Vec<(usize, F)>) -> Result<Vec<R>, TryError>
    where
        F: FnOnce(&mut S) -> R + Send,
        R: Send,
    {
        if inside::is_inside() {
            return Err(TryError::Reentrant);
        }
        let mut results: Vec<Option<R>> = Vec::with_capacity(requests.len());
        let mut tasks = Vec::new();
        for (position, (index, request)) in requests.into_iter().enumerate() {
            results.push(None);
            self.check_fork()?;
            // A request that has to wait for its turn isn't overtaken by a later one on the same delegate.
            let overtakes = tasks.iter().any(|(_, before, _)| *before == index);
            let request = if overtakes {
                request
            } else {
                match self.run_if_idle(index, request) {
                    Ok(result) => {
                        results[position] = Some(result);
                        continue;
                    }
                    Err(request) => request,
                }
            };
            tasks.push((position, index, StackTask::new(request)));
        }
        let guard = AbortOnUnwind;
        let mut pending = Vec::with_capacity(tasks.len());
        // In use until all are answered.
        let mut seats = Vec::new();
        for (_, index, task) in &tasks {
            // SAFETY: `tasks` is neither moved nor grown before all its tasks are done, and the guard sees to
            // it that nothing unwinds out of here in between.
            let pointer = unsafe { task.pointer() };
            // A request that goes through a slot could be overtaken by a later one, or overtake one before
            // it.
            let alone = || tasks.iter().filter(|(_, other, _)| other == index).take(2).count() == 1;
            let seat = if self.delegates[*index].has_slots() && alone() { self.delegates[*index].seat() } else { None };
            let published = self.publish(*index, pointer, seat.as_ref(), true);
            seats.extend(seat);
            match published {
                Ok(sent) => pending.push(Pending { index: *index, task: task.header(), sent }),
                Err(_sealed) => break,
            }
        }
        let answered = waiting::wait(self, &pending) && pending.len() == tasks.len();
        std::mem::forget(guard);
        if !answered {
            // A forked child: some of them may be half done, by threads that don't exist here.
            std::mem::forget(tasks);
            return Err(TryError::Forked);
        }
        let mut panicked = None;
        for (position, _, task) in tasks {
            match task.into_outcome() {
                Ok(result) => results[position] = Some(result),
                Err(panic) => panicked = panicked.or(Some(panic)),
            }
        }
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Sends a request that its caller waits for: through `seat`, if there is one, which must be of this
    /// delegate and always has room. Gives the request back if there is no room and waiting for it isn't
    /// wanted, and in a forked child that can't use the delegate.
    fn publish(
        &self,
        index: usize,
        task: TaskPointer<S>,
        seat: Option<&Seat<'_, S>>,
        wait_for_room: bool,
    ) -> Result<Sent, Message<S>> {
        let first = match seat {
            Some(seat) => {
                seat.fill(task);
                // It isn't counted among the messages, so none of the others is left to us.
                false
            }
            None => match self.delegates[index].try_send(Message::Task(task)) {
                Ok(first) => first,
                Err(message) if wait_for_room => self.send_when_room(index, message)?,
                Err(message) => return Err(message),
            },
        };
        Ok(if !self.callers_run() && self.ring(index) { Sent::ToWorker } else { Sent::AmongCallers { first } })
    }

    /// Sends when there is room. The sender that counted the messages which take up the room sees to their
    /// being served, or the worker that it told does. But that sender may be waiting for room elsewhere
    /// first, and that worker may be this very thread. So this thread helps, again and again. Gives the
    /// message back only in a forked child that can't use the delegate.
    fn send_when_room(&self, index: usize, mut message: Message<S>) -> Result<bool, Message<S>> {
        loop {
            if self.may_help(index) {
                self.serve_if_free(index);
            }
            match self.delegates[index].send_within(message, PATIENCE_FOR_ROOM) {
                Ok(first) => return Ok(first),
                Err(back) if self.check_fork().is_err() => return Err(back),
                Err(back) => message = back,
            }
        }
    }

    /// Sends a request that no caller waits for, or gives it back if there is no room.
    pub(crate) fn try_leave(&self, index: usize, message: Message<S>) -> Result<(), Message<S>> {
        if inside::is_inside() && inside::is_deferred(self.order_key(index)) {
            // It would overtake a post that this thread was told was accepted.
            return Err(message);
        }
        let first = self.delegates[index].try_send(message)?;
        self.see_to(index, first);
        Ok(())
    }

    /// Sends a request that no caller waits for, waiting for room; from inside a delegate, once that is
    /// released.
    pub(crate) fn leave(&self, index: usize, message: Message<S>) {
        if let Err(message) = self.try_leave(index, message) {
            if inside::is_inside() {
                let group = self.clone();
                inside::defer(self.order_key(index), move || group.leave(index, message));
                return;
            }
            // Refused only in a forked child, where the poster's next call reports it.
            if let Ok(first) = self.send_when_room(index, message) {
                self.see_to(index, first);
            }
        }
    }

    /// Returns what distinguishes this mailbox from all others of the process.
    fn order_key(&self, index: usize) -> usize {
        std::ptr::from_ref(&self.delegates[index]).addr()
    }

    /// Makes sure that a message just sent is served although its sender goes away.
    fn see_to(&self, index: usize, first: bool) {
        if !self.callers_run() && self.ring(index) {
            return;
        }
        if !first && self.callers_run() {
            // The sender that counted its message when none was pending sees to all of them.
            return;
        }
        if inside::is_inside() {
            let group = self.clone();
            inside::defer(inside::NO_ORDER, move || group.serve_after_barrier(index));
            return;
        }
        self.serve_after_barrier(index);
    }

    /// Either finds the delegate free and serves it, or knows that its runner sees the message.
    pub(crate) fn serve_after_barrier(&self, index: usize) {
        if self.barrier.heavy() {
            self.serve_if_free(index);
            return;
        }
        for _ in 0..LOOKS_WITHOUT_BARRIER {
            self.serve_if_free(index);
            if !self.delegates[index].has_messages() {
                return;
            }
            yield_now();
        }
        self.ring(index);
    }

    /// Serves the messages of a delegate that no thread runs.
    pub(crate) fn serve_if_free(&self, index: usize) {
        if let Some(owned) = self.delegates[index].try_take() {
            let mut aftermath = Aftermath::new();
            let served = self.serve(owned, Whose::All, &mut aftermath);
            self.look_after(index, served.more, aftermath);
        }
    }

    /// Serves what waits and releases.
    pub(crate) fn serve(&self, mut owned: Owned<'_, S>, whose: Whose, aftermath: &mut Aftermath<S>) -> Served {
        let caught_up = owned.drain(whose, aftermath);
        let delegate = owned.delegate();
        let released = owned.release(self.barrier, aftermath);
        self.seal_again(delegate);
        Served { more: released.messages() || delegate.has_messages(), caught_up }
    }

    pub(crate) fn settle(&self, aftermath: Aftermath<S>) {
        if inside::is_putting_off() && !aftermath.is_empty() {
            let group = self.clone();
            inside::defer_others(move || group.settle(aftermath));
            return;
        }
        self.count_panics(aftermath.settle());
    }

    /// Does what was put off until nothing is held.
    pub(crate) fn run_deferred(&self) {
        self.count_panics(inside::run_deferred());
    }

    fn count_panics(&self, panics: u64) {
        if panics != 0 {
            self.shared.panics.fetch_add(panics, Ordering::Relaxed);
        }
    }

    /// Sees to what a release left: messages that were seen after it, and work that was put off. Neither is
    /// left behind.
    #[cold]
    pub(crate) fn after_release(&self, delegate: &Delegate<S>, released: Released) {
        let index = self.index_of(delegate);
        self.look_after(index, released.messages(), Aftermath::new());
        if released.messages() {
            self.met_others_on(index);
        }
    }

    /// Returns the index of one of this group's delegates.
    pub(crate) fn index_of(&self, delegate: &Delegate<S>) -> usize {
        (std::ptr::from_ref(delegate).addr() - self.delegates.as_ptr().addr()) / size_of::<Delegate<S>>()
    }

    /// Sees to what is left after a release: first the messages that are left to us, then other callers'
    /// code. The other way round, that code could wait for a caller that waits for us (its `Drop` takes a
    /// lock that the caller holds, for example).
    pub(crate) fn look_after(&self, index: usize, messages: bool, mut aftermath: Aftermath<S>) {
        self.serve_what_is_left(index, messages, &mut aftermath);
        self.finish(aftermath);
    }

    /// The first half of `look_after`. With several delegates, doing both halves for one after the other
    /// would be wrong in the same way.
    pub(crate) fn serve_what_is_left(&self, index: usize, mut messages: bool, aftermath: &mut Aftermath<S>) {
        let delegate = &self.delegates[index];
        for round in 1_u32.. {
            if self.seal_again(delegate) {
                break;
            }
            // A message that is announced and not pending yet is seen to by its sender, after the send.
            if !messages || !delegate.has_messages() {
                break;
            }
            // The thread that has it by now looks for messages after its own release.
            let Some(owned) = delegate.try_take() else { break };
            let Served { more, caught_up } = self.serve(owned, Whose::All, aftermath);
            messages = more && !((!caught_up || round >= ROUNDS_FOR_OTHERS) && self.ring(index));
            if round.is_multiple_of(ROUNDS_PER_SETTLING) {
                self.settle(std::mem::replace(aftermath, Aftermath::new()));
            }
        }
    }

    /// The second half: other callers' code.
    pub(crate) fn finish(&self, aftermath: Aftermath<S>) {
        self.settle(aftermath);
        self.run_deferred();
    }

    /// Notes that this thread wanted a delegate that others want, and holds nothing now.
    fn met_others_on(&self, index: usize) {
        if self.callers_run() {
            turn::met_others_on(self.order_key(index));
        }
    }

    /// Tells the delegate's worker that messages wait, starting it if need be. Returns false if there is none
    /// to rely on.
    pub(crate) fn ring(&self, index: usize) -> bool {
        match self.shared.crew.ring(self, index) {
            Rung::Told => true,
            // It comes back to them, but when is up to other callers' code. With `PerCore` that is the deal,
            // unless the code that is kept waiting is that very code.
            Rung::Elsewhere => !self.callers_run() && !on_worker_thread(),
            Rung::Nobody => false,
        }
    }

    /// Whether this thread may serve the delegate although its request is sent: always where callers run
    /// delegates, and under `PerCore` when waiting for the worker might never end.
    pub(crate) fn may_help(&self, index: usize) -> bool {
        self.callers_run() || on_worker_thread() || !self.shared.crew.attends(index)
    }

    /// Serves what was accepted, ends the worker threads and waits for them.
    pub(crate) fn shut_down(&self) {
        if self.shared.forked.load(Ordering::Relaxed) {
            return;
        }
        self.shared.crew.shut_down();
        for index in 0..self.delegates.len() {
            if self.delegates[index].has_messages() {
                self.serve_if_free(index);
            }
        }
    }

    /// See `fork`.
    #[cfg(not(all(unix, not(loom), not(miri))))]
    #[inline]
    pub(crate) fn seal_again(&self, _: &Delegate<S>) -> bool {
        false
    }

    /// Returns an error if this is a forked child that can't use the delegates: then all of them are sealed.
    /// (The group is asked because a delegate's own word is where its runner writes.)
    #[inline]
    pub(crate) fn check_fork(&self) -> Result<(), TryError> {
        if self.shared.forked.load(Ordering::Relaxed) { Err(TryError::Forked) } else { Ok(()) }
    }
}

/// Returns the request of a task that was not delivered.
fn never_served<S, F, R>(task: StackTask<S, F, R>) -> F
where
    F: FnOnce(&mut S) -> R + Send,
    R: Send,
{
    match task.into_closure() {
        Some(request) => request,
        // Its runner didn't come with us into the forked child.
        None => panic!("{}", TryError::Forked),
    }
}
