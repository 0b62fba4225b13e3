//! What callers, futures and workers share: the delegates, the crew, and the rules by which a request gets served.
//!
//! A request is run in place if the group allows it and the delegate is idle, and goes through the mailbox otherwise.
//! This file is the sender's side of that; `delegate` is the runner's side, `waiting` the patience in between.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::Resident;
use crate::barrier::Barrier;
use crate::delegate::{AbortOnUnwind, Aftermath, Delegate, Owned, Released, Runner};
use crate::error::{Refused, TryError};
use crate::inside;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, yield_now};
use crate::task::{Message, StackTask};
use crate::waiting;
use crate::worker::Crew;

/// After so many rounds of serving others, a caller leaves the rest to a worker if there may be one.
const ROUNDS_FOR_OTHERS: u32 = 4;
/// How often a poster looks again where the process-wide barrier was refused.
const LOOKS_WITHOUT_BARRIER: u32 = 1000;

/// Shared by the handle, the workers, and work that was put off.
pub(crate) struct Group<S: Resident> {
    pub(crate) delegates: Arc<[Delegate<S>]>,
    /// Whether callers run idle delegates themselves (`Adaptive`).
    pub(crate) callers_run: bool,
    pub(crate) barrier: Barrier,
    pub(crate) shared: Arc<Shared>,
}

/// What doesn't depend on the state.
pub(crate) struct Shared {
    pub(crate) crew: Crew,
    /// Panics of code that nobody waits for.
    pub(crate) panics: AtomicU64,
    /// Whether waiting may begin with spinning: there is more than one processor for this process.
    pub(crate) processors: usize,
    /// Set in a forked child when the delegates could not be held still: every call is an error from then on.
    pub(crate) forked: AtomicBool,
}

impl<S: Resident> Clone for Group<S> {
    fn clone(&self) -> Self {
        Self {
            delegates: Arc::clone(&self.delegates),
            callers_run: self.callers_run,
            barrier: self.barrier,
            shared: Arc::clone(&self.shared),
        }
    }
}

/// A request that was sent, and who sees to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Senders and runners among themselves: the sender helps while it waits.
    AmongCallers {
        /// This message was counted when no other was: its sender sees to all that are counted until an owner does.
        first: bool,
    },
    /// A worker thread that was told.
    ToWorker,
}

impl<S: Resident> Group<S> {
    /// Runs `request` on delegate `index` and returns its result, whoever runs it. Waits for that, and for room in a
    /// full mailbox if `wait_for_room`.
    #[inline]
    pub(crate) fn run<F, R>(&self, index: usize, request: F, wait_for_room: bool) -> Result<R, Refused<F>>
    where
        F: FnOnce(&mut S) -> R + Send,
        R: Send,
    {
        if inside::is_inside() {
            return Err(Refused { request, reason: TryError::Reentrant });
        }
        if self.callers_run
            && let Some(owned) = self.delegates[index].try_take()
        {
            if owned.nothing_before_us() {
                return Ok(self.finish_in_place(index, owned, request));
            }
            return match self.run_behind_messages(index, owned, request) {
                Ok(result) => Ok(result),
                Err(request) => self.run_by_message(index, request, wait_for_room),
            };
        }
        self.run_by_message(index, request, wait_for_room)
    }

    /// Runs `request` if callers may, nobody is running the delegate, and what waits in its mailbox can be served first.
    pub(crate) fn run_if_idle<F, R>(&self, index: usize, request: F) -> Result<R, F>
    where
        F: FnOnce(&mut S) -> R,
    {
        if !self.callers_run || inside::is_inside() {
            return Err(request);
        }
        match self.delegates[index].try_take() {
            Some(owned) if owned.nothing_before_us() => Ok(self.finish_in_place(index, owned, request)),
            Some(owned) => self.run_behind_messages(index, owned, request),
            None => Err(request),
        }
    }

    /// The delegate is ours and no message is before us.
    #[inline(always)]
    fn finish_in_place<R>(&self, index: usize, owned: Owned<'_, S>, request: impl FnOnce(&mut S) -> R) -> R {
        let unwinding = LookAfterUnwinding { group: self, index };
        // Declared after the guard, so that a panic releases first and looks for messages then.
        let mut owned = owned;
        let result = owned.run_in_place(request);
        let released = owned.release(self.barrier);
        std::mem::forget(unwinding);
        if released.anything() {
            self.after_release(index, released);
        }
        result
    }

    /// The delegate is ours, and messages are before us: they first. Gives the request back if they are too many.
    #[cold]
    fn run_behind_messages<F, R>(&self, index: usize, mut owned: Owned<'_, S>, request: F) -> Result<R, F>
    where
        F: FnOnce(&mut S) -> R,
    {
        let mut aftermath = Aftermath::new();
        let outcome = if owned.drain(Runner::Caller, &mut aftermath) {
            Ok(catch_unwind(AssertUnwindSafe(|| owned.run_in_place(request))))
        } else {
            Err(request)
        };
        let released = owned.release(self.barrier);
        self.settle(aftermath);
        if released.anything() {
            self.after_release(index, released);
        }
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
        if let Err(reason) = self.check_fork(index) {
            return Err(Refused { request, reason });
        }
        let task = StackTask::new(request);
        // From here to the answer, leaving this frame would leave a dangling pointer in the mailbox.
        let guard = AbortOnUnwind;
        // SAFETY: `task` isn't moved before it is done: either `publish` gives the message back, or `wait` returns
        // once it is done, and the guard sees to it that nothing unwinds out of here in between.
        let message = Message::Task(unsafe { task.pointer() });
        match self.publish(index, message, wait_for_room) {
            Ok(sent) => waiting::wait(self, index, task.header(), sent),
            Err(_message) => {
                std::mem::forget(guard);
                return Err(Refused { request: task.into_closure(), reason: TryError::Full });
            }
        }
        std::mem::forget(guard);
        match task.into_outcome() {
            Ok(result) => Ok(result),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Runs each request on its delegate: idle ones at once, one after the other, then all busy ones by one message
    /// each, waiting for them together. Never waits while holding one. Results in the order of the requests; the first
    /// panic is passed on after all are through.
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
            self.check_fork(index)?;
            if self.callers_run
                && let Some(owned) = self.delegates[index].try_take()
            {
                if owned.nothing_before_us() {
                    results[position] = Some(self.finish_in_place(index, owned, request));
                    continue;
                }
                match self.run_behind_messages(index, owned, request) {
                    Ok(result) => results[position] = Some(result),
                    Err(request) => tasks.push((position, index, StackTask::new(request))),
                }
                continue;
            }
            tasks.push((position, index, StackTask::new(request)));
        }
        let guard = AbortOnUnwind;
        let mut sent = Vec::with_capacity(tasks.len());
        for (_, index, task) in &tasks {
            // SAFETY: `tasks` is neither moved nor grown before all its tasks are done, and the guard sees to it that
            // nothing unwinds out of here in between.
            let message = Message::Task(unsafe { task.pointer() });
            match self.publish(*index, message, true) {
                Ok(how) => sent.push(how),
                Err(_) => unreachable!("a waiting sender is not refused"),
            }
        }
        for ((_, index, task), sent) in tasks.iter().zip(sent) {
            waiting::wait(self, *index, task.header(), sent);
        }
        std::mem::forget(guard);
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

    /// Sends a request that its caller waits for. Gives it back if there is no room and waiting for it isn't wanted.
    fn publish(&self, index: usize, message: Message<S>, wait_for_room: bool) -> Result<Sent, Message<S>> {
        let delegate = &self.delegates[index];
        let first = match delegate.try_send(message) {
            Ok(first) => first,
            Err(message) if wait_for_room => {
                // Whoever counted the messages that fill the mailbox sees to their being served; helping is quicker.
                self.serve_if_free(index);
                delegate.send(message)
            }
            Err(message) => return Err(message),
        };
        Ok(if !self.callers_run && self.ring(index) { Sent::ToWorker } else { Sent::AmongCallers { first } })
    }

    /// Sends a request that nobody waits for, or gives it back if there is no room.
    pub(crate) fn try_leave(&self, index: usize, message: Message<S>) -> Result<(), Message<S>> {
        let first = self.delegates[index].try_send(message)?;
        self.see_to(index, first);
        Ok(())
    }

    /// Sends a request that nobody waits for, waiting for room; from inside a delegate, once that is released.
    pub(crate) fn leave(&self, index: usize, message: Message<S>) {
        if let Err(message) = self.try_leave(index, message) {
            if inside::is_inside() {
                let group = self.clone();
                inside::defer(Box::new(move || group.leave(index, message)));
                return;
            }
            self.serve_if_free(index);
            let first = self.delegates[index].send(message);
            self.see_to(index, first);
        }
    }

    /// Makes sure that a message just sent is served although its sender goes away.
    fn see_to(&self, index: usize, first: bool) {
        if !self.callers_run && self.ring(index) {
            return;
        }
        if !first && self.callers_run {
            // Whoever sent the first one sees to all of them.
            return;
        }
        if inside::is_inside() {
            let group = self.clone();
            inside::defer(Box::new(move || group.serve_after_barrier(index)));
            return;
        }
        self.serve_after_barrier(index);
    }

    /// Either finds the delegate free and serves it, or knows that whoever runs it sees the message.
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

    /// Serves the messages of a delegate that nobody runs.
    pub(crate) fn serve_if_free(&self, index: usize) {
        if let Some(owned) = self.delegates[index].try_take() {
            let released = self.serve(owned, Runner::Caller).0;
            if released.anything() {
                self.after_release(index, released);
            }
        }
    }

    /// Serves what waits, releases, and does what that leaves. Also says whether all that waited was served.
    pub(crate) fn serve(&self, mut owned: Owned<'_, S>, runner: Runner) -> (Released, bool) {
        let mut aftermath = Aftermath::new();
        let caught_up = owned.drain(runner, &mut aftermath);
        let released = owned.release(self.barrier);
        self.settle(aftermath);
        (released, caught_up)
    }

    pub(crate) fn settle(&self, aftermath: Aftermath<S>) {
        let panics = aftermath.settle();
        if panics != 0 {
            self.shared.panics.fetch_add(panics, Ordering::Relaxed);
        }
    }

    /// Messages were seen after a release, or something was put off: neither is left behind.
    #[cold]
    pub(crate) fn after_release(&self, index: usize, mut released: Released) {
        for round in 1.. {
            if released.deferred {
                inside::run_deferred();
            }
            // What is announced and not pending yet is seen to by its sender, after the send.
            if !released.messages || !self.delegates[index].has_messages() {
                return;
            }
            // Who has it by now looks for messages after its own release.
            let Some(owned) = self.delegates[index].try_take() else { return };
            let (next, caught_up) = self.serve(owned, Runner::Caller);
            released = next;
            if released.messages && (!caught_up || round >= ROUNDS_FOR_OTHERS) && self.ring(index) {
                released.messages = false;
            }
        }
    }

    /// Tells the delegate's worker that messages wait, starting it if need be. False if there is none to be had.
    pub(crate) fn ring(&self, index: usize) -> bool {
        self.shared.crew.ring(self, index)
    }

    #[inline]
    pub(crate) fn check_fork(&self, index: usize) -> Result<(), TryError> {
        if self.delegates[index].owner.is_sealed() { Err(TryError::Forked) } else { Ok(()) }
    }
}

/// Dropped only when a request that ran in place unwinds, after the delegate was released.
struct LookAfterUnwinding<'g, S: Resident> {
    group: &'g Group<S>,
    index: usize,
}

impl<S: Resident> Drop for LookAfterUnwinding<'_, S> {
    #[cold]
    fn drop(&mut self) {
        self.group.barrier.light();
        let messages = self.group.delegates[self.index].is_announced();
        self.group.after_release(self.index, Released { messages, deferred: true });
    }
}
