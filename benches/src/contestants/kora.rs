//! `kora-embedded`, the other shard-per-core store on the registry. It is listed only to say why it is
//! absent.

use super::{Absent, Contestant, Expiring, Found, Key, Plan, Value};

/// A cache that is never built, so that nothing is ever asked of it.
pub enum Kora {}

/// Returns the reason why it is absent from every case.
pub(super) fn why() -> Absent {
    Absent(
        "its embedded database limits neither entries nor memory (its core has a limit, but nothing sets it), and \
         takes keys as text and values as bytes, to which every operation here would have to be converted"
            .into(),
    )
}

impl<K: Key, V: Value> Contestant<K, V> for Kora {
    fn build(_: &Plan) -> Result<Self, Absent> {
        Err(why())
    }

    fn get(&self, _: &K) -> Option<V> {
        match *self {}
    }

    fn insert(&self, _: K, _: V) {
        match *self {}
    }

    fn remove(&self, _: &K) -> bool {
        match *self {}
    }

    fn entries(&self) -> u64 {
        match *self {}
    }

    fn expiry(&self) -> &'static str {
        match *self {}
    }
}

impl<K: Key, V: Value> Expiring<K, V> for Kora {
    fn insert_with_ttl(&self, _: K, _: V, _: std::time::Duration) {
        match *self {}
    }

    fn look_up(&self, _: &K) -> Found<V> {
        match *self {}
    }

    fn set_time(&self, _: std::time::Duration) {
        match *self {}
    }
}
