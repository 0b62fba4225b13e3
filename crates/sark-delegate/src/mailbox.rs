//! The mailbox of a delegate: a bounded `crossbeam_channel`, made when the first message comes.
//!
//! It carries messages in order and says when it is full. Whether there is anything to serve is never decided
//! by its looking empty, but by the counters of the delegate. Its length only says how much goes before a
//! request in a slot. Called by `delegate`. Under the model checker the channel is replaced by a queue that
//! lends no ordering, except from the sender of a message to its receiver.

use std::time::Duration;

use crate::sync::{AtomicPtr, Ordering};

/// A bounded queue of messages, allocated on first use.
pub(crate) struct Mailbox<T> {
    /// Null until the first message; then a leaked `Channel` that `Drop` takes back.
    channel: AtomicPtr<Channel<T>>,
    /// How many messages it holds, at least 1.
    capacity: usize,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { channel: AtomicPtr::new(std::ptr::null_mut()), capacity: capacity.max(1) }
    }

    fn channel(&self) -> &Channel<T> {
        let channel = self.channel.load(Ordering::Acquire);
        let channel = if channel.is_null() { self.make() } else { channel };
        // SAFETY: not null, made by `Box::into_raw` in `make`, published with Release, freed only by
        // `drop(&mut self)` (and, in a forked child, given up without being freed).
        unsafe { &*channel }
    }

    #[cold]
    fn make(&self) -> *mut Channel<T> {
        let fresh = Box::into_raw(Box::new(Channel::new(self.capacity)));
        match self.channel.compare_exchange(std::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => fresh,
            Err(first) => {
                // SAFETY: `fresh` comes from `Box::into_raw` above and was not published.
                drop(unsafe { Box::from_raw(fresh) });
                first
            }
        }
    }

    /// Puts a message in, or gives it back if there is no room.
    pub(crate) fn try_send(&self, message: T) -> Result<(), T> {
        self.channel().try_send(message)
    }

    /// Puts a message in, waiting for room for a while; gives it back if none came.
    pub(crate) fn send_within(&self, message: T, patience: Duration) -> Result<(), T> {
        self.channel().send_within(message, patience)
    }

    /// Takes the next message. Waits only for a sender that was preempted between reserving its place and
    /// filling it.
    pub(crate) fn try_receive(&self) -> Option<T> {
        let channel = self.channel.load(Ordering::Acquire);
        // SAFETY: as in `channel`.
        if channel.is_null() { None } else { unsafe { &*channel }.try_receive() }
    }

    /// How many messages are in it, including those whose senders are about to fill their place. A message
    /// that was put in before something that this thread has seen is among them.
    pub(crate) fn len(&self) -> usize {
        let channel = self.channel.load(Ordering::Acquire);
        // SAFETY: as in `channel`.
        if channel.is_null() { 0 } else { unsafe { &*channel }.len() }
    }

    /// Forgets the channel and what is in it, without touching either: in a forked child it may be in the
    /// middle of a change.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn abandon(&self) {
        self.channel.store(std::ptr::null_mut(), Ordering::Release);
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        let channel = self.channel.load(Ordering::Acquire);
        if !channel.is_null() {
            // SAFETY: made by `Box::into_raw` in `make`; `&mut self` says that no thread uses it any more.
            drop(unsafe { Box::from_raw(channel) });
        }
    }
}

#[cfg(not(loom))]
struct Channel<T> {
    sender: crossbeam_channel::Sender<T>,
    receiver: crossbeam_channel::Receiver<T>,
}

#[cfg(not(loom))]
impl<T> Channel<T> {
    fn new(capacity: usize) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        Self { sender, receiver }
    }

    fn try_send(&self, message: T) -> Result<(), T> {
        // Both ends live in `self`, so it is never disconnected.
        self.sender.try_send(message).map_err(crossbeam_channel::TrySendError::into_inner)
    }

    fn send_within(&self, message: T, patience: Duration) -> Result<(), T> {
        self.sender.send_timeout(message, patience).map_err(crossbeam_channel::SendTimeoutError::into_inner)
    }

    fn len(&self) -> usize {
        self.receiver.len()
    }

    fn try_receive(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// The stand-in under loom: a queue in a standard mutex that loom doesn't see (only one loom thread runs at a
/// time, so it is never contended). It lends what every channel must: what was done before a send is seen by
/// the receiver of *that* message. It lends nothing else: no fence, and no order between different messages
/// or with our counters.
#[cfg(loom)]
struct Channel<T> {
    state: std::sync::Mutex<ModelQueue<T>>,
    capacity: usize,
    /// One per message that a model may send. The only thing here that loom sees.
    stamps: Vec<crate::sync::AtomicU32>,
}

#[cfg(loom)]
struct ModelQueue<T> {
    messages: std::collections::VecDeque<(T, usize)>,
    /// Places reserved by senders that haven't filled them yet.
    reserved: usize,
    /// Messages ever sent: the number of the next one's stamp.
    tickets: usize,
}

#[cfg(loom)]
impl<T> Channel<T> {
    fn new(capacity: usize) -> Self {
        Self {
            state: std::sync::Mutex::new(ModelQueue {
                messages: std::collections::VecDeque::new(),
                reserved: 0,
                tickets: 0,
            }),
            capacity,
            stamps: (0..12).map(|_| crate::sync::AtomicU32::new(0)).collect(),
        }
    }

    // No loom operation while the mutex is held: loom would switch to a thread that then waits for it for
    // ever.
    fn state(&self) -> std::sync::MutexGuard<'_, ModelQueue<T>> {
        self.state.lock().expect("no panic while held")
    }

    fn try_send(&self, message: T) -> Result<(), T> {
        let ticket = {
            let mut state = self.state();
            if state.messages.len() + state.reserved == self.capacity {
                return Err(message);
            }
            state.reserved += 1;
            state.tickets += 1;
            state.tickets - 1
        };
        self.stamps[ticket].store(1, Ordering::Release);
        let mut state = self.state();
        state.reserved -= 1;
        state.messages.push_back((message, ticket));
        Ok(())
    }

    fn send_within(&self, message: T, _patience: Duration) -> Result<(), T> {
        crate::sync::yield_now();
        self.try_send(message)
    }

    fn len(&self) -> usize {
        let state = self.state();
        state.messages.len() + state.reserved
    }

    fn try_receive(&self) -> Option<T> {
        let (message, ticket) = self.state().messages.pop_front()?;
        // Like every read-modify-write, this reads the newest value: the sender's.
        self.stamps[ticket].fetch_add(1, Ordering::Acquire);
        Some(message)
    }
}
