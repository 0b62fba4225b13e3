//! Loads that end without a value, and the waiting callers that take them over.

use std::cell::Cell;
use std::pin::pin;
use std::task::Poll;
use std::{future, iter, thread};

use super::awaiting_tests::{Wakes, never, nothing_is_under_way, poll, poll_with, told};
use super::*;
use crate::Cache;

#[test]
fn of_many_waiting_tasks_one_is_woken_for_each_load_that_fails() {
    let (cache, outcome) = (Cache::<String, u32>::new(10), Cell::new(None));
    let mut first = pin!(cache.get_or_try_insert_async("key", told(&outcome)));
    assert!(poll(first.as_mut()).is_pending());
    let mut others: Vec<_> = iter::repeat_with(|| {
        let other = Box::pin(cache.get_or_try_insert_async("key", future::ready(Err("no"))));
        (other, Arc::new(Wakes::default()))
    })
    .take(50)
    .collect();
    for (other, wakes) in &mut others {
        assert!(poll_with(other.as_mut(), wakes).is_pending());
    }
    outcome.set(Some(Err("no")));
    assert_eq!(poll(first), Poll::Ready(Err("no")));
    for number in 0..50 {
        let woken: Vec<_> = others.iter().map(|(_, wakes)| wakes.count()).collect();
        assert!(woken.iter().enumerate().all(|(other, &count)| count == usize::from(other <= number)), "{woken:?}");
        assert_eq!(poll(others[number].0.as_mut()), Poll::Ready(Err("no")));
    }
    assert_eq!(cache.stats().misses, 51);
    nothing_is_under_way(&cache);
}

#[test]
fn a_task_that_is_woken_to_take_a_load_over_and_gives_up_passes_it_on() {
    let cache = Cache::<String, u32>::new(10);
    let mut first = Box::pin(cache.get_or_insert_async("key", future::pending()));
    let mut second = Box::pin(cache.get_or_insert_async("key", never()));
    let mut third = pin!(cache.get_or_insert_async("key", future::ready(3)));
    let wakes = [Arc::new(Wakes::default()), Arc::new(Wakes::default())];
    assert!(poll(first.as_mut()).is_pending());
    assert!(poll_with(second.as_mut(), &wakes[0]).is_pending() && poll_with(third.as_mut(), &wakes[1]).is_pending());
    drop(first);
    assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [1, 0]);
    drop(second);
    assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [1, 1]);
    assert_eq!(poll(third), Poll::Ready(3));
    nothing_is_under_way(&cache);
}

#[test]
fn a_load_that_failed_and_that_all_waiting_tasks_gave_up_is_not_registered_any_more() {
    let cache = Cache::<String, u32>::new(10);
    let mut loading = Box::pin(cache.get_or_insert_async("key", future::pending()));
    let mut waiting = [(); 3].map(|()| Box::pin(cache.get_or_insert_async("key", never())));
    assert!(poll(loading.as_mut()).is_pending());
    assert!(waiting.iter_mut().all(|waiting| poll(waiting.as_mut()).is_pending()));
    drop(loading);
    drop(waiting);
    nothing_is_under_way(&cache);
}

#[test]
fn tasks_whose_load_was_outdated_and_fails_load_anew_together() {
    let cache = Cache::<String, u32>::new(10);
    let mut first = Box::pin(cache.get_or_insert_async("key", future::pending()));
    let outcome = Cell::new(None);
    let mut second = pin!(cache.get_or_insert_async("key", told(&outcome)));
    let mut third = pin!(cache.get_or_insert_async("key", never()));
    let wakes = [Arc::new(Wakes::default()), Arc::new(Wakes::default())];
    assert!(poll(first.as_mut()).is_pending());
    assert!(poll_with(second.as_mut(), &wakes[0]).is_pending() && poll_with(third.as_mut(), &wakes[1]).is_pending());
    cache.invalidate("key");
    drop(first);
    assert!(poll(second.as_mut()).is_pending(), "it has begun to load");
    assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [1, 1]);
    assert!(poll(third.as_mut()).is_pending());
    outcome.set(Some(2));
    assert_eq!((poll(second), poll(third), cache.get("key")), (Poll::Ready(2), Poll::Ready(2), Some(2)));
    nothing_is_under_way(&cache);
}

#[test]
fn a_load_of_a_thread_that_fails_is_taken_over_by_a_waiting_thread_before_a_task() {
    let cache = Cache::<String, u32>::new(10);
    let mut task = pin!(cache.get_or_insert_async("key", never()));
    let wakes = Arc::new(Wakes::default());
    let (begun, may_fail) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            cache.get_or_try_insert_with("key", || {
                begun.wait();
                may_fail.wait();
                Err(())
            })
        });
        begun.wait();
        assert!(poll_with(task.as_mut(), &wakes).is_pending());
        let other = scope.spawn(|| cache.get_or_insert_with("key", || 2));
        let load = Arc::clone(&lock(&cache.inner().loads.under_way).values().next().unwrap()[0]);
        while lock(&load.state).threads == 0 {
            thread::yield_now();
        }
        may_fail.wait();
        assert_eq!((first.join().unwrap(), other.join().unwrap()), (Err(()), 2));
    });
    assert_eq!((wakes.count(), poll(task)), (1, Poll::Ready(2)), "woken when there was a value");
    nothing_is_under_way(&cache);
}

#[test]
fn a_thread_waits_no_longer_when_a_task_takes_the_load_over() {
    let cache = Cache::<String, u32>::new(10);
    let load = Arc::new(Load::new("key".to_owned(), false));
    let loads = &cache.inner().loads;
    loads.register(7, &load);
    let waiting = || Waiting { loads, hash: 7, load: Arc::clone(&load), task: None };
    thread::scope(|scope| {
        let thread = scope.spawn(|| matches!(waiting().wait(), Waited::Nothing));
        while lock(&load.state).threads == 0 {
            thread::yield_now();
        }
        // As if the load had just failed, and a task were quicker than the thread that was called.
        let task = waiting();
        let mut state = lock(&load.state);
        state.outcome = Outcome::Vacant;
        let taken = task.end(&mut state, true);
        drop(state);
        assert!(matches!(taken, Waited::TakenOver(_)));
        assert!(thread.join().unwrap());
    });
}

/// An invalidation looks for loads, then removes. A load may be registered in between and find the value that
/// is about to be removed.
#[test]
fn callers_that_wait_for_a_load_of_what_was_there_look_for_it_themselves() {
    let cache = Cache::<String, u32>::new(10);
    let loads = &cache.inner().loads;
    let hash = cache.inner().hash("key");
    let begin = || {
        cache.insert("key".to_owned(), 1);
        loads.outdate(Some(hash));
        let Turn::Load(loading) = loads.take_turn(hash, "key", false) else { unreachable!("nothing is under way") };
        assert_eq!(cache.look_again("key"), Some(1));
        assert_eq!(cache.inner().delegates.run(0, crate::resident::Cell::clear).count(), 1);
        loading
    };

    let (loading, wakes) = (begin(), Arc::new(Wakes::default()));
    let mut task = pin!(cache.get_or_insert_async("key", future::ready(2)));
    assert!(poll_with(task.as_mut(), &wakes).is_pending());
    loading.end_as_found();
    assert_eq!((wakes.count(), poll(task)), (1, Poll::Ready(2)));

    cache.invalidate("key");
    let loading = begin();
    thread::scope(|scope| {
        let thread = scope.spawn(|| cache.get_or_insert_with("key", || 3));
        while lock(&loading.load.state).threads == 0 {
            thread::yield_now();
        }
        loading.end_as_found();
        assert_eq!(thread.join().unwrap(), 3);
    });
    nothing_is_under_way(&cache);
}
