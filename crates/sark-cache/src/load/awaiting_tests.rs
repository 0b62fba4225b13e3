//! Loads of tasks. Most are polled by hand, so that the test chooses the interleaving; some run on a real
//! runtime.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake};
use std::{future, iter, thread};

use super::*;
use crate::{Cache, Dispatch};

/// A waker that counts.
#[derive(Default)]
pub(super) struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

pub(super) fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn poll_with<F: Future>(future: Pin<&mut F>, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Arc::clone(wakes).into()))
}

/// A load that ends when it is told its outcome.
pub(super) fn told<T: Copy>(outcome: &Cell<Option<T>>) -> impl Future<Output = T> {
    future::poll_fn(|_| outcome.get().map_or(Poll::Pending, Poll::Ready))
}

pub(super) async fn never<T>() -> T {
    unreachable!("another caller loads this, or it is there")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap()
}

pub(super) fn nothing_is_under_way<K: Eq + Hash + Send, V: Clone + Send>(cache: &Cache<K, V>) {
    assert!(lock(&cache.inner().loads.under_way).is_empty());
    assert_eq!(cache.inner().loads.count.load(Ordering::SeqCst), 0);
}

#[test]
fn a_task_that_misses_loads_and_a_hit_never_polls_its_load() {
    let cache = Cache::new(10);
    assert_eq!(poll(pin!(cache.get_or_insert_async("key", future::ready(1)))), Poll::Ready(1));
    assert_eq!(cache.get("key"), Some(1));
    assert_eq!(poll(pin!(cache.get_or_insert_async("key", never()))), Poll::Ready(1));
    nothing_is_under_way(&cache);
}

#[test]
fn tasks_that_miss_meanwhile_wait_are_woken_and_get_the_same_value() {
    let (cache, outcome) = (Cache::new(10), Cell::new(None));
    let mut first = pin!(cache.get_or_insert_async("key", told(&outcome)));
    let mut others: Vec<_> = (0..3).map(|_| Box::pin(cache.get_or_insert_async("key", never()))).collect();
    let wakes = Arc::new(Wakes::default());
    assert!(poll(first.as_mut()).is_pending());
    for other in &mut others {
        assert!(poll_with(other.as_mut(), &wakes).is_pending());
    }
    assert_eq!(wakes.count(), 0);
    outcome.set(Some(42));
    assert_eq!(poll(first.as_mut()), Poll::Ready(42));
    assert_eq!(wakes.count(), 3);
    assert!(others.iter_mut().all(|other| poll(other.as_mut()) == Poll::Ready(42)));
    nothing_is_under_way(&cache);
}

#[test]
fn a_waiting_task_is_woken_by_the_waker_that_it_was_polled_with_last() {
    let (cache, outcome) = (Cache::new(10), Cell::new(None));
    let mut first = pin!(cache.get_or_insert_async("key", told(&outcome)));
    let mut other = pin!(cache.get_or_insert_async("key", never()));
    let wakes = [Arc::new(Wakes::default()), Arc::new(Wakes::default())];
    assert!(poll(first.as_mut()).is_pending());
    for wakes in &wakes {
        assert!(poll_with(other.as_mut(), wakes).is_pending());
    }
    outcome.set(Some(1));
    assert!(poll(first.as_mut()).is_ready());
    assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [0, 1]);
}

#[test]
fn a_waiting_task_gets_a_value_that_the_cache_does_not_keep() {
    let cache: Cache<String, u32> = Cache::builder().max_capacity(10).weigher(|_, _| 11).build().unwrap();
    let outcome = Cell::new(None);
    let mut first = pin!(cache.get_or_insert_async("key", told(&outcome)));
    let mut other = pin!(cache.get_or_insert_async("key", never()));
    assert!(poll(first.as_mut()).is_pending() && poll(other.as_mut()).is_pending());
    outcome.set(Some(1));
    assert_eq!((poll(first), poll(other), cache.get("key")), (Poll::Ready(1), Poll::Ready(1), None));
}

#[test]
fn a_load_that_is_dropped_half_way_is_taken_up_by_a_waiting_task() {
    let cache = Cache::new(10);
    let wakes = Arc::new(Wakes::default());
    let load = async {
        let _guard = OnDrop(|| assert_eq!(wakes.count(), 0, "the other one is woken when this is gone"));
        future::pending().await
    };
    let mut first = Box::pin(cache.get_or_insert_async("key", load));
    let mut other = pin!(cache.get_or_insert_async("key", future::ready(2)));
    assert!(poll(first.as_mut()).is_pending() && poll_with(other.as_mut(), &wakes).is_pending());
    drop(first);
    assert_eq!(wakes.count(), 1);
    assert_eq!((poll(other), cache.get("key")), (Poll::Ready(2), Some(2)));
    nothing_is_under_way(&cache);
}

#[test]
fn an_error_reaches_the_task_whose_load_it_is_and_a_waiting_one_loads() {
    let (cache, outcome) = (Cache::new(10), Cell::new(None));
    let mut first = pin!(cache.get_or_try_insert_async("key", told(&outcome)));
    let mut other = pin!(cache.get_or_try_insert_async("key", future::ready(Ok::<_, &str>(2))));
    assert!(poll(first.as_mut()).is_pending() && poll(other.as_mut()).is_pending());
    outcome.set(Some(Err("no")));
    assert_eq!((poll(first), poll(other)), (Poll::Ready(Err("no")), Poll::Ready(Ok(2))));
    assert_eq!(cache.get("key"), Some(2));
    nothing_is_under_way(&cache);
}

#[test]
fn a_panic_reaches_the_task_whose_load_it_is_and_a_waiting_one_loads() {
    let (cache, outcome) = (Cache::new(10), Cell::new(None));
    let load = async {
        told(&outcome).await;
        panic!("on purpose")
    };
    let mut first = pin!(cache.get_or_insert_async("key", load));
    let mut other = pin!(cache.get_or_insert_async("key", future::ready(2)));
    assert!(poll(first.as_mut()).is_pending() && poll(other.as_mut()).is_pending());
    outcome.set(Some(()));
    assert!(catch_unwind(AssertUnwindSafe(|| poll(first))).is_err());
    assert_eq!((poll(other), cache.get("key")), (Poll::Ready(2), Some(2)));
    nothing_is_under_way(&cache);
    assert!(RUNNING.with(|running| running.borrow().is_empty()));
}

#[test]
fn a_load_that_asks_for_its_own_key_loads_it_inside_whether_it_awaits_or_blocks() {
    let cache = Cache::new(10);
    let outer = async {
        let awaited = cache.get_or_insert_async("key", future::ready(1)).await;
        cache.invalidate("key");
        awaited + cache.get_or_insert_with("key", || 10) + 100
    };
    assert_eq!(poll(pin!(cache.get_or_insert_async("key", outer))), Poll::Ready(111));
    assert_eq!(cache.get("key"), Some(10), "the outer one was invalidated while it was loaded");
    cache.invalidate("key");
    let inside_a_thread = || match poll(pin!(cache.get_or_insert_async("key", future::ready(1)))) {
        Poll::Ready(value) => value + 1,
        Poll::Pending => unreachable!("nobody else loads it"),
    };
    assert_eq!((cache.get_or_insert_with("key", inside_a_thread), cache.get("key")), (2, Some(2)));
}

#[test]
fn a_thread_does_not_wait_for_the_load_of_a_task_that_may_need_it() {
    let (cache, outcome) = (Cache::new(10), Cell::new(None));
    let mut task = pin!(cache.get_or_insert_async("key", told(&outcome)));
    assert!(poll(task.as_mut()).is_pending());
    assert_eq!(cache.get_or_insert_with("key", || 1), 1);
    outcome.set(Some(2));
    assert_eq!((poll(task), cache.get("key")), (Poll::Ready(2), Some(2)));
    nothing_is_under_way(&cache);
}

#[test]
fn threads_wait_for_each_other_alongside_the_load_of_a_task() {
    let cache = Cache::<_, u32>::new(10);
    let mut task = pin!(cache.get_or_insert_async("key", future::pending()));
    assert!(poll(task.as_mut()).is_pending());
    let shares = || lock(&cache.inner().loads.under_way).values().flatten().map(Arc::strong_count).sum::<usize>();
    let of_the_task = shares();
    thread::scope(|scope| {
        let mut other = None;
        let load = || {
            other = Some(scope.spawn(|| cache.get_or_insert_with("key", || unreachable!("it is being loaded"))));
            // One share is the registry's, one is this thread's, one is the waiting thread's.
            while shares() < of_the_task + 3 {
                thread::yield_now();
            }
            // So that the other thread can get the value only from this load.
            cache.invalidate_all();
            1
        };
        assert_eq!(cache.get_or_insert_with("key", load), 1);
        assert_eq!(other.unwrap().join().unwrap(), 1);
    });
}

#[test]
fn a_task_waits_for_the_load_of_a_thread() {
    let cache = Cache::new(10);
    let mut task = pin!(cache.get_or_insert_async("key", never()));
    let wakes = Arc::new(Wakes::default());
    let (begun, wait) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            cache.get_or_insert_with("key", || {
                begun.wait();
                wait.wait();
                1
            })
        });
        begun.wait();
        assert!(poll_with(task.as_mut(), &wakes).is_pending());
        wait.wait();
    });
    assert_eq!((wakes.count(), poll(task)), (1, Poll::Ready(1)));
}

#[test]
fn what_a_task_loads_when_its_key_is_invalidated_is_not_kept_and_later_tasks_load_anew() {
    let ways: [fn(&Cache<String, u32>); 3] =
        [|cache| cache.invalidate("key"), |cache| assert_eq!(cache.remove("key"), None), Cache::invalidate_all];
    for (dispatch, invalidate) in ways.into_iter().flat_map(|way| [(Dispatch::Adaptive, way), (Dispatch::PerCore, way)])
    {
        let (refuse, refused) = std::sync::mpsc::channel();
        let listener = move |key, value, cause| refuse.send((key, value, cause)).unwrap();
        let builder = Cache::builder().max_capacity(10).dispatch(dispatch).pin(false);
        let cache: Cache<String, u32> = builder.eviction_listener(listener).build().unwrap();
        let outcome = Cell::new(None);
        let mut old = pin!(cache.get_or_insert_async("key", told(&outcome)));
        let mut beside = pin!(cache.get_or_insert_async("key", never()));
        assert!(poll(old.as_mut()).is_pending() && poll(beside.as_mut()).is_pending());
        invalidate(&cache);
        assert_eq!(poll(pin!(cache.get_or_insert_async("key", future::ready(2)))), Poll::Ready(2));
        outcome.set(Some(1));
        assert_eq!((poll(old), poll(beside)), (Poll::Ready(1), Poll::Ready(1)), "they asked before");
        assert_eq!(cache.get("key"), Some(2));
        let told: Vec<_> = refused.try_iter().collect();
        assert_eq!(told, [("key".to_owned(), 1, sark_shard::RemovalCause::Rejected)]);
        nothing_is_under_way(&cache);
    }
}

#[test]
fn a_waiting_task_that_gives_up_leaves_no_waker_behind() {
    let cache = Cache::<_, u32>::new(10);
    let mut first = pin!(cache.get_or_insert_async("key", future::pending()));
    let mut other = Box::pin(cache.get_or_insert_async("key", never()));
    let wakes = Arc::new(Wakes::default());
    assert!(poll(first.as_mut()).is_pending() && poll_with(other.as_mut(), &wakes).is_pending());
    assert_eq!(Arc::strong_count(&wakes), 2);
    drop(other);
    assert_eq!(Arc::strong_count(&wakes), 1);
}

#[test]
fn a_value_is_kept_for_as_long_as_its_load_says() {
    let (clock, hands) = crate::Clock::manual();
    let cache = Cache::builder().max_capacity(10).clock(clock).build().unwrap();
    let second = std::time::Duration::from_secs(1);
    let load = future::ready(Ok::<_, ()>((1, second)));
    assert_eq!(poll(pin!(cache.get_or_try_insert_async_with_ttl("key", load))), Poll::Ready(Ok(1)));
    assert_eq!(cache.get("key"), Some(1));
    hands.advance(second);
    assert_eq!(cache.get("key"), None);
}

/// Fails if `work` takes longer than a minute.
fn ends(work: impl FnOnce() + Send + 'static) {
    let (end, ended) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        end.send(()).unwrap();
    });
    match ended.recv_timeout(std::time::Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => worker.join().unwrap(),
    }
}

type Itself = Arc<std::sync::OnceLock<Cache<u8, u8>>>;

#[test]
fn what_a_load_displaces_is_told_of_when_no_task_waits_for_it_any_more() {
    let itself = Itself::default();
    let there = Arc::downgrade(&itself);
    let listener = move |key, _, _| {
        if key == 0 {
            let itself = there.upgrade().unwrap();
            let cache = itself.get().unwrap();
            assert_eq!(cache.inner().loads.count.load(Ordering::Relaxed), 0);
            // The loaded entry leaves, so this has to load.
            cache.insert(2, 2);
            assert_eq!(cache.get_or_insert_async(&1, future::ready(11)).await_here(), 11);
        }
    };
    let cache = itself.get_or_init(|| Cache::builder().max_capacity(1).eviction_listener(listener).build().unwrap());
    let cache = cache.clone();
    ends(move || {
        cache.insert(0, 0);
        assert_eq!(poll(pin!(cache.get_or_insert_async(&1, future::ready(1)))), Poll::Ready(1));
        cache.invalidate_all();
    });
}

#[test]
fn a_weigher_that_blocks_on_the_key_that_it_weighs_loads_it_inside() {
    let itself = Itself::default();
    let there = Arc::downgrade(&itself);
    let weigher = move |&key: &u8, &value: &u8| {
        if (key, value) == (1, 1) {
            let itself = there.upgrade().unwrap();
            let cache = itself.get().unwrap();
            assert_eq!(cache.get_or_insert_async(&1, future::ready(2)).await_here(), 2);
        }
        1
    };
    let cache = itself.get_or_init(|| Cache::builder().max_capacity(10).weigher(weigher).build().unwrap()).clone();
    ends(move || assert_eq!(poll(pin!(cache.get_or_insert_async(&1, future::ready(1)))), Poll::Ready(1)));
}

#[test]
fn a_load_that_blocks_on_its_own_key_as_it_is_dropped_loads_it_inside() {
    ends(|| {
        let cache = Cache::<u8, u8>::new(10);
        let load = async {
            let _guard = OnDrop(|| assert_eq!(cache.get_or_insert_async(&1, future::ready(2)).await_here(), 2));
            future::pending().await
        };
        let mut first = Box::pin(cache.get_or_insert_async(&1, load));
        assert!(poll(first.as_mut()).is_pending());
        drop(first);
        assert_eq!(cache.get(&1), Some(2));
    });
}

/// A waker that panics.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

#[test]
fn a_waker_that_panics_concerns_neither_the_loading_task_nor_those_woken_after_it() {
    let (cache, outcome) = (Cache::new(10), Cell::new(None));
    let mut first = pin!(cache.get_or_insert_async("key", told(&outcome)));
    let mut others = [(); 2].map(|()| Box::pin(cache.get_or_insert_async("key", never())));
    let wakes = Arc::new(Wakes::default());
    assert!(poll(first.as_mut()).is_pending());
    assert!(others[0].as_mut().poll(&mut Context::from_waker(&Arc::new(Panics).into())).is_pending());
    assert!(poll_with(others[1].as_mut(), &wakes).is_pending());
    outcome.set(Some(1));
    assert_eq!((poll(first), wakes.count()), (Poll::Ready(1), 1));
}

/// A waker that owns a future.
struct Owner {
    _future: Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_that_owns_a_task_that_waits_for_the_same_load_may_be_replaced() {
    ends(|| {
        let cache = Cache::<String, u32>::new(10);
        let (mut first, mut moving) = (
            pin!(cache.get_or_insert_async("key", future::pending())),
            pin!(cache.get_or_insert_async("key", never())),
        );
        assert!(poll(first.as_mut()).is_pending());
        let there = cache.clone();
        let mut owned = Box::pin(async move {
            there.get_or_insert_async("key", never()).await;
        });
        assert!(poll(owned.as_mut()).is_pending());
        let owner = Arc::new(Owner { _future: Mutex::new(owned) });
        assert!(moving.as_mut().poll(&mut Context::from_waker(&owner.into())).is_pending());
        // Polled by another task now, so the older waker is dropped, and what it owns with it.
        assert!(poll(moving.as_mut()).is_pending());
    });
}

#[test]
fn waiting_tasks_that_give_up_leave_nothing_with_the_load() {
    let cache = Cache::<String, u32>::new(10);
    let mut first = pin!(cache.get_or_insert_async("key", future::pending()));
    assert!(poll(first.as_mut()).is_pending());
    for _ in 0..100 {
        assert!(poll(pin!(cache.get_or_insert_async("key", never()))).is_pending());
    }
    let load = Arc::clone(&lock(&cache.inner().loads.under_way).values().next().unwrap()[0]);
    assert!(lock(&load.state).tasks.is_empty());
}

trait AwaitHere: Future + Sized {
    fn await_here(self) -> Self::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(self)
    }
}

impl<F: Future> AwaitHere for F {}

#[test]
fn many_tasks_of_a_runtime_load_each_key_once() {
    let runtime = runtime();
    for dispatch in [Dispatch::Adaptive, Dispatch::PerCore] {
        let cache = Cache::builder().max_capacity(100).dispatch(dispatch).pin(false).build().unwrap();
        let loads = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = iter::repeat_with(|| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            runtime.spawn(async move {
                for key in 0..50_u64 {
                    let load = async {
                        loads.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        key + 1
                    };
                    assert_eq!(cache.get_or_insert_async(&key, load).await, key + 1);
                }
            })
        })
        .take(32)
        .collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(loads.load(Ordering::Relaxed), 50);
        nothing_is_under_way(&cache);
    }
}

#[test]
fn tasks_that_are_aborted_anywhere_leave_nothing_behind() {
    let runtime = runtime();
    let cache = Cache::<u64, u64>::new(100);
    for round in 0..200 {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let cache = cache.clone();
                runtime.spawn(async move {
                    let load = async {
                        tokio::task::yield_now().await;
                        round
                    };
                    assert_eq!(cache.get_or_insert_async(&round, load).await, round);
                })
            })
            .collect();
        tasks.iter().step_by(2).for_each(tokio::task::JoinHandle::abort);
        runtime.block_on(async {
            for (number, task) in tasks.into_iter().enumerate() {
                let ended = task.await;
                assert!(ended.is_ok() || number % 2 == 0, "{ended:?}");
            }
        });
    }
    nothing_is_under_way(&cache);
}

#[test]
fn a_future_may_be_sent_although_keys_and_values_are_not_sync() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let cache = Cache::<u8, Cell<u8>>::new(10);
    let value = poll(pin!(is_send(cache.get_or_insert_async(&0, future::ready(Cell::new(1))))));
    assert_eq!(value.map(Cell::into_inner), Poll::Ready(1));
}

#[test]
fn a_future_is_not_many_times_as_large_as_its_load() {
    let cache = Cache::<u8, u8>::new(10);
    let load = async {
        let kilobyte = [0_u8; 1024];
        tokio::task::yield_now().await;
        kilobyte[0]
    };
    let size = size_of_val(&load);
    let ours = size_of_val(&cache.get_or_insert_async(&0, load));
    assert!(ours < 3 * size, "{ours} bytes for {size}");
}
