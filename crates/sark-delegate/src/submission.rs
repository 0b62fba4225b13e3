//! The future of a submitted request.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::Resident;
use crate::error::TryError;
use crate::group::Group;
use crate::inside;
use crate::reply::{Answer, Reply};
use crate::sync::Arc;
use crate::task::{Errand, Message, Panic};

/// The result of a request given to [`Delegates::submit`](crate::Delegates::submit), to be awaited.
///
/// Dropping it doesn't take an accepted request back; one that found the mailbox full and was not accepted yet is
/// dropped with it. A panic of the request is passed on to whoever awaits.
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
    NotAccepted(Message<S>, Arc<Reply<R>>),
    Accepted(Arc<Reply<R>>),
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
                let reply = Reply::new();
                let job = Job { request: Some(request), answer: None, reply: Arc::clone(&reply) };
                match group.try_leave(index, Message::Errand(Box::new(job))) {
                    Ok(()) => Stage::Accepted(reply),
                    Err(message) => Stage::NotAccepted(message, reply),
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
    /// With the panic of the request, if it had one; when polled again after it was ready; when polled from inside a
    /// delegate, since whoever waits there waits for ever; in a forked child that the delegates can't be used in.
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
                    // Registered first, tried then: room made in between is either seen or told.
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

/// A closure on its way, and what became of it.
struct Job<F, R> {
    /// Taken when it is performed.
    request: Option<F>,
    /// Kept from `perform` to `finish`, so that nobody is woken while the delegate is held.
    answer: Answer<R>,
    reply: Arc<Reply<R>>,
}

impl<S, F, R> Errand<S> for Job<F, R>
where
    F: FnOnce(&mut S) -> R + Send,
    R: Send,
{
    fn perform(&mut self, state: &mut S) {
        if let Some(request) = self.request.take() {
            self.answer = Some(catch_unwind(AssertUnwindSafe(|| request(state))));
        }
    }

    fn finish(self: Box<Self>) {
        // `Drop` answers: with the result, or with nothing if the errand was destroyed unperformed.
    }
}

impl<F, R> Drop for Job<F, R> {
    fn drop(&mut self) {
        self.reply.answer(self.answer.take());
    }
}
