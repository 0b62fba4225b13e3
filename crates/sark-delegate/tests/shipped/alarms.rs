//! Alarms: a worker tends a delegate when the delegate asked for that.

use std::sync::mpsc;
use std::time::Duration;

use crate::common::{Rooms, alone, receive, rooms};

/// From now on tending reports here, and asks for what `next` says.
fn tended(rooms: &Rooms, mut next: impl FnMut() -> Option<Duration> + Send + 'static) -> mpsc::Receiver<()> {
    let (report, reports) = mpsc::channel();
    rooms.run(0, move |room| {
        room.tending = Some(Box::new(move || {
            let _ = report.send(());
            next()
        }));
    });
    reports
}

under_both_dispatches! {
    fn a_delegate_is_tended_when_it_asked_for_it(config) {
        let rooms = rooms(config, 2);
        let reports = tended(&rooms, || None);
        rooms.wake_in(0, Duration::from_millis(1));
        receive(&reports);
        rooms.wake_in(0, Duration::from_millis(1));
        receive(&reports);
        assert_eq!(reports.try_iter().count(), 0, "it was not asked for again");
    }

    fn the_earliest_of_several_wishes_counts(config) {
        let rooms = rooms(config, 2);
        let reports = tended(&rooms, || None);
        rooms.wake_in(0, Duration::MAX);
        rooms.wake_in(0, Duration::from_secs(3600));
        rooms.wake_in(0, Duration::from_millis(1));
        rooms.wake_in(0, Duration::from_secs(1800));
        receive(&reports);
    }

    fn maintenance_says_when_it_is_wanted_next(config) {
        let rooms = rooms(config, 2);
        let mut rounds = 0;
        let reports = tended(&rooms, move || {
            rounds += 1;
            (rounds < 4).then(|| if rounds == 1 { Duration::ZERO } else { Duration::from_millis(1) })
        });
        rooms.wake_in(0, Duration::ZERO);
        (0..4).for_each(|_| receive(&reports));
        rooms.shutdown();
        assert_eq!(reports.try_iter().count(), 0);
    }

    fn maintenance_that_panics_is_counted_and_may_be_asked_for_again(config) {
        let rooms = rooms(config, 2);
        let reports = tended(&rooms, || panic!("while tending"));
        for round in 1..4 {
            rooms.wake_in(0, Duration::ZERO);
            receive(&reports);
            crate::common::until("it is counted", || rooms.counts().panicked == round);
        }
        assert_eq!(rooms.run(0, |_| 1), 1);
    }

    fn an_alarm_in_the_far_future_does_not_hold_up_the_end(config) {
        let rooms = rooms(config, 2);
        rooms.wake_in(1, Duration::from_secs(3600));
        assert_eq!(rooms.threads(), 1);
        drop(rooms);
    }
}

#[test]
fn without_workers_nothing_is_tended() {
    let rooms = rooms(alone(), 1);
    let reports = tended(&rooms, || None);
    rooms.wake_in(0, Duration::ZERO);
    assert_eq!((rooms.threads(), reports.try_iter().count()), (0, 0));
}
