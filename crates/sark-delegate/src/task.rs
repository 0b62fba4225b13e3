//! Requests on their way: what a message is, and who owns it.
//!
//! * A caller that waits keeps its request on its own stack ([`StackTask`]) and sends a pointer. This
//!   allocates nothing, and the closure may borrow from the caller. The caller doesn't leave before the task
//!   is `DONE`.
//! * A caller that doesn't wait sends something that owns itself: a typed post, inline in the message, or an
//!   [`Errand`] that carries a closure and the reply that its future waits for.
//!
//! Made by `group` and `submission`, run by `delegate` (always with ownership), waited for in `waiting`.
//! Nothing in here waits.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::task::Waker;

use crate::Resident;
use crate::sync::{Arc, AtomicU32, Ordering, Thread, UnsafeCell, current};

/// What lies in a mailbox.
pub(crate) enum Message<S: Resident> {
    /// A request whose caller waits.
    Task(TaskPointer<S>),
    /// A typed request that no caller waits for.
    Post(S::Post),
    /// A closure that no caller waits for, or that a future does.
    Errand(Errand<S>),
}

/// Points at the header of a [`StackTask`] whose caller waits.
pub(crate) struct TaskPointer<S>(NonNull<Header<S>>);

// SAFETY: the pointer is used by one thread at a time, the one that took it out of the mailbox or a slot, and
// `StackTask::new` lets only closures and results that are `Send` behind it.
unsafe impl<S> Send for TaskPointer<S> {}

/// Published, not yet run; the caller is awake.
const WAITING: u32 = 0;
/// Published, not yet run; the caller sleeps or is about to. The runner that completes the task wakes it once
/// the delegate is released.
const PARKED: u32 = 1;
/// Completed: the result is written, and only the caller touches the task from now on.
const DONE: u32 = 2;

/// The part of a task that doesn't depend on its closure.
#[repr(C)]
pub(crate) struct Header<S> {
    /// Runs the closure of the `StackTask` that this header begins.
    ///
    /// # Safety
    /// The pointer must come from the same task's [`StackTask::pointer`], and may be passed once.
    execute: unsafe fn(NonNull<Header<S>>, &mut S),
    /// `WAITING` -> `PARKED` by the caller, `-> DONE` by the runner.
    state: AtomicU32,
    /// The caller's wake handle. The caller writes it while the state is `WAITING`, before it says `PARKED`;
    /// the runner that finds `PARKED` reads it.
    thread: UnsafeCell<Option<Thread>>,
}

impl<S> Header<S> {
    /// Whether the answer is there. `Acquire`: the caller sees everything that the closure did.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Says that the caller is about to sleep. Returns false if the answer came first.
    pub(crate) fn announce_parking(&self) -> bool {
        if self.state.load(Ordering::Relaxed) == WAITING {
            self.thread.with_mut(|thread| {
                // SAFETY: only this thread, the caller, takes the state from WAITING to PARKED, and the
                // runner touches the cell only after it read PARKED.
                unsafe { *thread = Some(current()) };
            });
        }
        match self.state.compare_exchange(WAITING, PARKED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == PARKED,
        }
    }
}

enum Body<F, R> {
    Ready(F),
    Running,
    Finished(std::thread::Result<R>),
}

/// A waiting caller's request, on its stack. It begins a cache line: the runner fetches that line from the
/// caller's core, and a small request fits on it together with its result.
#[repr(C, align(64))]
pub(crate) struct StackTask<S, F, R> {
    header: Header<S>,
    body: UnsafeCell<Body<F, R>>,
}

impl<S, F, R> StackTask<S, F, R>
where
    F: FnOnce(&mut S) -> R + Send,
    R: Send,
{
    pub(crate) fn new(closure: F) -> Self {
        Self {
            header: Header { execute: Self::execute, state: AtomicU32::new(WAITING), thread: UnsafeCell::new(None) },
            body: UnsafeCell::new(Body::Ready(closure)),
        }
    }

    pub(crate) fn header(&self) -> &Header<S> {
        &self.header
    }

    /// Returns the pointer that goes into a message or a slot.
    ///
    /// # Safety
    /// `self` must stay where it is, and alive, until `header().is_done()` or until the message that holds
    /// the pointer was taken back unsent.
    pub(crate) unsafe fn pointer(&self) -> TaskPointer<S> {
        TaskPointer(NonNull::from(self).cast())
    }

    /// Runs the closure and keeps its result in the task.
    ///
    /// # Safety
    /// As for [`Header::execute`]: `task` points at the header of a live `StackTask<S, F, R>`, once.
    unsafe fn execute(task: NonNull<Header<S>>, state: &mut S) {
        // SAFETY: by contract `task` came from `pointer` on a `StackTask<S, F, R>`, whose header is its first
        // field (repr(C)). The pointer is derived from a reference to the whole task, which lives until it is
        // DONE: `complete` comes last.
        let task = unsafe { task.cast::<Self>().as_ref() };
        task.body.with_mut(|body| {
            // SAFETY: between publishing and DONE only the runner touches the body, and a message is taken
            // out once.
            let body = unsafe { &mut *body };
            let Body::Ready(closure) = std::mem::replace(body, Body::Running) else {
                unreachable!("a task is delivered once");
            };
            *body = Body::Finished(catch_unwind(AssertUnwindSafe(|| closure(state))));
        });
    }

    /// Returns the result, or the panic, of a completed task.
    pub(crate) fn into_outcome(self) -> std::thread::Result<R> {
        assert!(self.header.is_done(), "only a completed task has an outcome");
        let mut outcome = None;
        self.body.with_mut(|body| {
            // SAFETY: DONE was read with Acquire, so the runner is through with the task; `self` is ours
            // alone.
            let body = unsafe { &mut *body };
            if let Body::Finished(result) = std::mem::replace(body, Body::Running) {
                outcome = Some(result);
            }
        });
        outcome.expect("a completed task has an outcome")
    }

    /// Returns the closure of a task that was never delivered; `None` if it was.
    pub(crate) fn into_closure(self) -> Option<F> {
        let mut closure = None;
        self.body.with_mut(|body| {
            // SAFETY: the task was not published, or its message was taken back: `self` is ours alone.
            let body = unsafe { &mut *body };
            if let Body::Ready(ready) = std::mem::replace(body, Body::Running) {
                closure = Some(ready);
            }
        });
        closure
    }
}

impl<S> TaskPointer<S> {
    /// Turns the pointer into one that can be kept in an atomic.
    pub(crate) fn into_raw(self) -> *mut Header<S> {
        self.0.as_ptr()
    }

    /// Turns it back.
    ///
    /// # Safety
    /// `task` comes from `into_raw`, and this is called once for it.
    pub(crate) unsafe fn from_raw(task: *mut Header<S>) -> Self {
        // SAFETY: by contract; `into_raw` gives no null.
        Self(unsafe { NonNull::new_unchecked(task) })
    }

    /// Runs the task. Returns its caller if that sleeps and must be woken.
    ///
    /// The task must have been taken out of the mailbox or a slot, which deliver it once.
    pub(crate) fn run(self, state: &mut S) -> Option<Thread> {
        // SAFETY: the caller that published the task keeps it in place until it is DONE
        // (`StackTask::pointer`), which is only set in `complete` below. Mailbox and slots deliver it once,
        // and `run` consumes the pointer.
        unsafe {
            let execute = self.0.as_ref().execute;
            execute(self.0, state);
            Self::complete(self.0)
        }
    }

    /// Marks the task `DONE` and never touches it again. Returns its caller if that sleeps.
    ///
    /// # Safety
    /// The task is alive and was executed.
    unsafe fn complete(task: NonNull<Header<S>>) -> Option<Thread> {
        // SAFETY: by contract; the borrow ends before the store that lets the caller go, or with it.
        let header = unsafe { task.as_ref() };
        match header.state.compare_exchange(WAITING, DONE, Ordering::Release, Ordering::Acquire) {
            Ok(_) => None,
            Err(_parked) => {
                // The wake handle is cloned before DONE: after it, the task may be gone with its caller's
                // stack.
                let thread = header.thread.with_mut(|thread| {
                    // SAFETY: PARKED was read with Acquire: the caller has written this, and doesn't touch it
                    // before DONE.
                    unsafe { (*thread).clone() }
                });
                header.state.store(DONE, Ordering::Release);
                thread
            }
        }
    }
}

/// What an errand is made of: a closure and the answer to it.
pub(crate) trait Flight<S>: Send + Sync {
    /// Runs the closure and answers. Returns the waker to wake, and whether dropping the rest may run user
    /// code. Both are for when the delegate is no longer held.
    ///
    /// # Safety
    /// Either this or `land` is called, once, by the owner of the errand.
    unsafe fn perform(&self, state: &mut S) -> (Option<Waker>, bool);

    /// Answers that the closure was never run, and drops it.
    ///
    /// # Safety
    /// As for `perform`.
    unsafe fn land(&self);
}

/// A request that owns itself, shared with the future that waits for its answer.
pub(crate) struct Errand<S> {
    flight: Arc<dyn Flight<S>>,
    performed: bool,
}

impl<S> Errand<S> {
    /// Makes an errand of `flight`, which must be in no other errand.
    pub(crate) fn new(flight: Arc<dyn Flight<S>>) -> Self {
        Self { flight, performed: false }
    }

    /// Runs the request and answers it. Returns the waker to wake, and the errand if dropping it may run user
    /// code. Both are for when the delegate is no longer held.
    pub(crate) fn perform(mut self, state: &mut S) -> (Option<Waker>, Option<Self>) {
        self.performed = true;
        // SAFETY: this consumes the errand, the only one with this flight, and its `Drop` finds it performed.
        let (waker, rest) = unsafe { self.flight.perform(state) };
        (waker, rest.then_some(self))
    }
}

impl<S> Drop for Errand<S> {
    fn drop(&mut self) {
        if !self.performed {
            // SAFETY: it was not performed, and ends here.
            unsafe { self.flight.land() };
        }
    }
}

/// The panic of a caught closure.
pub(crate) type Panic = Box<dyn Any + Send>;

/// Drops a panic that no caller waits for. Its payload is the user's, and may panic again when dropped. Then
/// the new panic is leaked, since dropping it could go on for ever.
pub(crate) fn discard(panic: Panic) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
