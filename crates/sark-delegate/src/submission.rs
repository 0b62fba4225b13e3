//! The future of a submitted request.
//!
//! Made by `handle`. The request runs in place or travels as an errand (`task`), and the answer comes back by
//! `reply`. Polling never waits for an answer or for room.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::Resident;
use crate::error::TryError;
use crate::group::Group;
use crate::inside;
use crate::reply::{Answer, Reply};
use crate::sync::{Arc, UnsafeCell};
use crate::task::{Errand, Flight, Message, Panic};

/// The result of a request given to [`Delegates::submit`](crate::Delegates::submit), to be awaited.
///
/// Dropping it doesn't take an accepted request back; one that found the mailbox full and was not accepted
/// yet is dropped with it. A panic of the request is passed on to the task that awaits it.
#[must_use = "a submission that found the mailbox full is accepted only when it is polled"]
pub struct Submission<'g, S: Resident, R> {
    group: &'g Group<S>,
    index: usize,
    stage: Stage<S, R>,
}

enum Stage<S: Resident, R> {
    /// It ran in place.
    Ready(Result<R, Panic>),
    /// The mailbox was full: the message is still here.
    NotAccepted(Message<S>, Arc<dyn Awaited<R>>),
    Accepted(Arc<dyn Awaited<R>>),
    Over,
}

// Nothing in it is ever pinned: results and messages are moved out whole.
impl<S: Resident, R> Unpin for Submission<'_, S, R> {}

impl<'g, S: Resident, R: Send + 'static> Submission<'g, S, R> {
    pub(crate) fn new<F>(group: &'g Group<S>, index: usize, request: F) -> Self
    where
        F: FnOnce(&mut S) -> R + Send + 'static,
    {
        let stage = match catch_unwind(AssertUnwindSafe(|| group.run_if_idle(index, request))) {
            Ok(Ok(result)) => Stage::Ready(Ok(result)),
            Err(panic) => Stage::Ready(Err(panic)),
            Ok(Err(request)) => {
                let job = Arc::new(Job { request: UnsafeCell::new(Some(request)), reply: Reply::new() });
                let errand = Errand::new(Arc::clone(&job) as Arc<dyn Flight<S>>);
                match group.try_leave(index, Message::Errand(errand)) {
                    Ok(()) => Stage::Accepted(job),
                    Err(message) => Stage::NotAccepted(message, job),
                }
            }
        };
        Self { group, index, stage }
    }

    /// Whether the request will run even if this future is dropped.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        !matches!(self.stage, Stage::NotAccepted(..))
    }
}

impl<S: Resident, R: Send + 'static> Future for Submission<'_, S, R> {
    type Output = R;

    /// # Panics
    /// With the panic of the request, if it had one; when polled again after it was ready; when polled from
    /// inside a delegate, where waiting would never end; in a forked child that can't use the delegates.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
        let this = self.get_mut();
        assert!(!inside::is_inside(), "{}", TryError::Reentrant);
        loop {
            let sealed = this.group.check_fork();
            match std::mem::replace(&mut this.stage, Stage::Over) {
                Stage::Ready(Ok(result)) => return Poll::Ready(result),
                Stage::Ready(Err(panic)) => resume_unwind(panic),
                Stage::NotAccepted(message, reply) => {
                    if let Err(reason) = sealed {
                        panic!("{reason}");
                    }
                    // Registered first, tried then: room that is made in between is either seen by the try or
                    // reported to the waker.
                    this.group.delegates[this.index].wake_when_room(context.waker());
                    match this.group.try_leave(this.index, message) {
                        Ok(()) => this.stage = Stage::Accepted(reply),
                        Err(message) => {
                            this.stage = Stage::NotAccepted(message, reply);
                            return Poll::Pending;
                        }
                    }
                }
                Stage::Accepted(reply) => match reply.poll(context) {
                    Poll::Ready(Some(Ok(result))) => return Poll::Ready(result),
                    Poll::Ready(Some(Err(panic))) => resume_unwind(panic),
                    Poll::Ready(None) => {
                        panic!("the request was destroyed before it was served: {}", TryError::Forked)
                    }
                    Poll::Pending => {
                        if let Err(reason) = sealed {
                            panic!("{reason}");
                        }
                        this.stage = Stage::Accepted(reply);
                        return Poll::Pending;
                    }
                },
                Stage::Over => panic!("a submission was polled after it was ready"),
            }
        }
    }
}

/// A closure on its way, and its answer: one allocation, which is usually freed where it was made, with the
/// future.
struct Job<F, R> {
    /// Taken by the owner of the errand.
    request: UnsafeCell<Option<F>>,
    reply: Reply<R>,
}

// SAFETY: only the owner of the errand touches the request (`Flight`'s contract), so it is handed from one
// thread to another, hence `F: Send`; `Reply` is `Sync` for `R: Send`.
unsafe impl<F: Send, R: Send> Sync for Job<F, R> {}

impl<F, R> Job<F, R> {
    /// Takes the closure out.
    ///
    /// # Safety
    /// The caller is the owner of the errand, once.
    unsafe fn take(&self) -> Option<F> {
        self.request.with_mut(|request| {
            // SAFETY: by contract no other thread touches the cell.
            unsafe { (*request).take() }
        })
    }
}

/// Where a future finds its answer, whatever closure it comes from.
trait Awaited<R>: Send + Sync {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Answer<R>>;
}

impl<F: Send, R: Send> Awaited<R> for Job<F, R> {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Answer<R>> {
        self.reply.poll(context)
    }
}

impl<S, F, R> Flight<S> for Job<F, R>
where
    F: FnOnce(&mut S) -> R + Send,
    R: Send,
{
    unsafe fn perform(&self, state: &mut S) -> (Option<Waker>, bool) {
        // SAFETY: by contract.
        let request = unsafe { self.take() };
        let answer = request.map(|request| catch_unwind(AssertUnwindSafe(|| request(state))));
        // The future may be gone; then the answer is dropped with the errand.
        let rest = std::mem::needs_drop::<R>() || !matches!(answer, Some(Ok(_)));
        (self.reply.answer(answer), rest)
    }

    unsafe fn land(&self) {
        // SAFETY: by contract.
        let request = unsafe { self.take() };
        if let Some(waker) = self.reply.answer(None) {
            waker.wake();
        }
        drop(request);
    }
}
