//! What the themes share: a resident that is told what to do, and ways to wait for things. It contains no
//! tests.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use sark_delegate::{Config, Delegates, Dispatch, Resident, Transport};

/// How long anything may take before it counts as hung. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub type Rooms = Arc<Delegates<Room>>;

/// Runs a closure when it is dropped.
pub struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl OnDrop {
    pub fn new(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(work)))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

/// A state that remembers what it was told.
#[derive(Default)]
pub struct Room {
    pub said: Vec<u32>,
    #[allow(clippy::type_complexity)]
    pub tending: Option<Box<dyn FnMut() -> Option<Duration> + Send>>,
    /// Reports that the state is dropped.
    #[allow(dead_code)]
    pub at_the_end: Option<OnDrop>,
}

pub enum Post {
    Say(u32),
    /// Is run in the room.
    Do(Box<dyn FnOnce() + Send>),
    /// Is left over.
    Leave(OnDrop),
}

impl Resident for Room {
    type Post = Post;
    type Leftovers = Vec<OnDrop>;

    fn accept(&mut self, post: Post, leftovers: &mut Vec<OnDrop>) {
        match post {
            Post::Say(what) => self.said.push(what),
            Post::Do(work) => work(),
            Post::Leave(what) => leftovers.push(what),
        }
    }

    fn tend(&mut self, _: &mut Vec<OnDrop>) -> Option<Duration> {
        self.tending.as_mut().and_then(|tending| tending())
    }
}

pub fn adaptive() -> Config {
    Config { name: "adaptive".to_owned(), ..Config::default() }
}

pub fn alone() -> Config {
    Config { workers: Some(0), ..adaptive() }
}

pub fn per_core() -> Config {
    Config { dispatch: Dispatch::PerCore, name: "per-core".to_owned(), ..Config::default() }
}

pub fn slots() -> Config {
    Config { transport: Transport::Slots, name: "slots".to_owned(), ..per_core() }
}

pub fn rooms(config: Config, count: usize) -> Rooms {
    Arc::new(Delegates::new(config, (0..count).map(|_| Room::default())).unwrap())
}

/// Writes each test once and runs it under both dispatches, and under both ways to a worker.
macro_rules! under_both_dispatches {
    ($($(#[$meta:meta])* fn $name:ident($config:ident) $body:block)+) => {
        mod adaptive {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$meta])* #[test] fn $name() { let $config = crate::common::adaptive(); $body })+
        }
        mod per_core {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$meta])* #[test] fn $name() { let $config = crate::common::per_core(); $body })+
        }
        mod slots {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$meta])* #[test] fn $name() { let $config = crate::common::slots(); $body })+
        }
    };
}

/// A delegate that some thread is running until told otherwise.
pub struct Held {
    go: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Held {
    pub fn let_go(self) {
        self.signal().send(()).unwrap();
        self.thread.join().unwrap();
    }

    pub fn signal(&self) -> mpsc::Sender<()> {
        self.go.clone()
    }

    pub fn join(self) {
        self.thread.join().unwrap();
    }
}

/// Returns once a thread is inside delegate `index` and stays there.
pub fn hold(rooms: &Rooms, index: usize) -> Held {
    let (go, wait) = mpsc::channel();
    let (entered, inside) = mpsc::channel();
    let rooms = Arc::clone(rooms);
    let thread = thread::spawn(move || {
        rooms.run(index, move |_| {
            entered.send(()).unwrap();
            wait.recv_timeout(DEADLINE).expect("nobody let go of the delegate");
        });
    });
    inside.recv_timeout(DEADLINE).expect("nobody ran the request that holds the delegate");
    Held { go, thread }
}

/// Waits for something that is not signalled.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "waited in vain until {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

pub fn receive<T>(from: &mpsc::Receiver<T>) -> T {
    from.recv_timeout(DEADLINE).expect("what was waited for never happened")
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future, polling it when it is woken, and only then.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let began = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park_timeout(DEADLINE);
        assert!(began.elapsed() < DEADLINE, "the future was never woken");
    }
}

/// Returns the kernel's number of this thread.
#[cfg(all(target_os = "linux", not(miri)))]
pub fn thread_number() -> i32 {
    // SAFETY: takes nothing and returns a number.
    unsafe { libc::gettid() }
}

/// Starts a thread, and returns once it sleeps over `work`. Nothing else makes it sleep.
#[cfg(all(target_os = "linux", not(miri)))]
pub fn asleep_over<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    let (number, its_number) = mpsc::channel();
    let thread = thread::spawn(move || {
        number.send(thread_number()).unwrap();
        work()
    });
    until_asleep(receive(&its_number));
    thread
}

/// Waits until a thread of ours sleeps.
#[cfg(all(target_os = "linux", not(miri)))]
pub fn until_asleep(number: i32) {
    until("the thread sleeps", || is_asleep(number));
}

/// Whether a thread of ours sleeps.
#[cfg(all(target_os = "linux", not(miri)))]
pub fn is_asleep(number: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{number}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
}

pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}
