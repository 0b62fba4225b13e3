//! The requests of an authorization gateway: may this user call this tool?
//!
//! Users and tools are zipf-distributed. Arrivals are random, at a steady rate on the workload's own clock. A
//! decision may be kept for as long as the tool's sensitivity allows. A recorded trace can take the place of
//! all that.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::distr::Distribution;
use rand_distr::{Exp, Zipf};

use super::generator;
use crate::trace::{Operation, Trace};

/// The number of users.
const USERS: usize = 4000;
/// The number of tools behind the gateway.
const TOOLS: usize = 120;
/// Requests per second of the workload's clock.
const RATE: f64 = 1000.0;

/// The requests of the main job: twenty minutes' worth, in which the longest lifetime passes four times.
pub const REQUESTS: usize = 1_200_000;

/// The sensitivity of a tool, which decides how long a decision about it may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sensitivity {
    Critical,
    Confidential,
    Internal,
    Public,
}

impl Sensitivity {
    const ALL: [Self; 4] = [Self::Critical, Self::Confidential, Self::Internal, Self::Public];

    fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Confidential => "confidential",
            Self::Internal => "internal",
            Self::Public => "public",
        }
    }

    fn time_to_live(self) -> Duration {
        Duration::from_secs(match self {
            Self::Critical => 60,
            Self::Confidential => 120,
            Self::Internal => 180,
            Self::Public => 300,
        })
    }
}

/// One request of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Nanoseconds on the load's clock.
    pub at: u64,
    /// The index of the key, and of the value that a miss stores.
    pub key: u32,
    /// How long a miss stores the value; `None` if it does not.
    pub ttl: Option<Duration>,
    /// The operation; the gateway only looks keys up.
    pub operation: Operation,
}

/// Limits for the sizes of a trace's values, so that a test machine can hold many of them.
const SMALLEST: u32 = 8;
const LARGEST: u32 = 4096;

/// A load that is ready to run: every key and value has been made.
#[derive(Clone, Debug)]
pub struct Load {
    /// Its name in rows.
    pub name: String,
    /// The requests in order of time.
    pub requests: Vec<Asked>,
    /// The keys that requests point to.
    pub keys: Vec<String>,
    /// The value of each key.
    pub values: Vec<Arc<str>>,
    /// The number of keys whose value does not have the length that the trace recorded.
    pub resized: usize,
}

impl Load {
    /// Creates this many of the gateway's requests. The same seed gives the same load.
    pub fn gateway(seed: u64, requests: usize) -> Self {
        let mut random = generator(seed);
        let users = Zipf::new(USERS as f64, 1.1).expect("there are users");
        let tools = Zipf::new(TOOLS as f64, 1.2).expect("there are tools");
        let gaps = Exp::new(RATE).expect("the rate is positive");
        let levels: Vec<Sensitivity> = (0..TOOLS).map(|_| Sensitivity::ALL[random.random_range(0..4)]).collect();
        let mut index = vec![u32::MAX; USERS * TOOLS];
        let mut load =
            Self { name: "gateway".into(), requests: Vec::new(), keys: Vec::new(), values: Vec::new(), resized: 0 };
        let mut seconds = 0.0;
        load.requests.reserve(requests);
        for _ in 0..requests {
            seconds += gaps.sample(&mut random);
            let (user, tool) = (rank(users, &mut random), rank(tools, &mut random));
            let slot = &mut index[user * TOOLS + tool];
            if *slot == u32::MAX {
                *slot = load.keys.len() as u32;
                load.keys.push(policy_key(user, tool, levels[tool]));
                load.values.push(decision(user, tool, levels[tool]));
            }
            let at = (seconds * 1e9) as u64;
            load.requests.push(Asked {
                at,
                key: *slot,
                ttl: Some(levels[tool].time_to_live()),
                operation: Operation::Get,
            });
        }
        load
    }

    /// Creates a load from a trace. If it recorded no times-to-live, entries never expire. Each key keeps the
    /// size of its first request.
    pub fn recorded(trace: &Trace) -> Self {
        let expires = trace.has_ttls();
        let mut load =
            Self { name: trace.name.clone(), requests: Vec::new(), keys: Vec::new(), values: Vec::new(), resized: 0 };
        let mut indices = std::collections::HashMap::new();
        for request in &trace.requests {
            let key = *indices.entry(request.key).or_insert_with(|| {
                let name = trace.names.get(request.key as usize).cloned();
                load.keys.push(name.unwrap_or_else(|| request.key.to_string()));
                let size = request.size.clamp(SMALLEST, LARGEST);
                load.resized += usize::from(size != request.size);
                load.values.push("x".repeat(size as usize).into());
                load.keys.len() as u32 - 1
            });
            let ttl = if expires { request.lifetime() } else { Some(Duration::MAX) };
            load.requests.push(Asked { at: request.at, key, ttl, operation: request.operation });
        }
        load
    }
}

fn rank(zipf: Zipf<f64>, random: &mut impl rand::Rng) -> usize {
    zipf.sample(random) as usize - 1
}

fn policy_key(user: usize, tool: usize, level: Sensitivity) -> String {
    format!("policy:user-{user:05}:tool:invoke:mcp/tool-{tool:03}:{}", level.name())
}

fn decision(user: usize, tool: usize, level: Sensitivity) -> Arc<str> {
    let allow = !(user * 31 + tool * 7).is_multiple_of(10);
    let decision = serde_json::json!({
        "allow": allow,
        "reason": if allow { "role grants invoke on this tool" } else { "no role of the user grants invoke" },
        "policy": format!("tools/{}/invoke.rego@v{}", level.name(), tool % 9 + 1),
        "user_id": format!("user-{user:05}"),
        "obligations": ["audit", "redact_pii"],
        "sensitivity": level.name(),
    });
    decision.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Request, Trace};

    #[test]
    fn the_gateway_asks_the_same_every_time() {
        let (once, again) = (Load::gateway(1, 20_000), Load::gateway(1, 20_000));
        assert_eq!(once.requests, again.requests);
        assert_ne!(once.requests, Load::gateway(2, 20_000).requests);
    }

    #[test]
    fn decisions_are_json_of_some_200_bytes_and_keys_name_user_tool_and_level() {
        let load = Load::gateway(1, 20_000);
        let mean = load.values.iter().map(|value| value.len()).sum::<usize>() / load.values.len();
        assert!((170..=260).contains(&mean), "{mean}");
        let decision: serde_json::Value = serde_json::from_str(&load.values[0]).unwrap();
        assert!(decision["allow"].is_boolean());
        assert!(load.keys[0].starts_with("policy:user-"), "{}", load.keys[0]);
    }

    #[test]
    fn time_goes_forward_and_each_level_is_kept_for_its_time() {
        let load = Load::gateway(1, 20_000);
        assert!(load.requests.is_sorted_by_key(|asked| asked.at));
        for asked in &load.requests {
            let level = load.keys[asked.key as usize].rsplit(':').next().unwrap();
            let seconds = asked.ttl.unwrap().as_secs();
            let kept = [("critical", 60), ("confidential", 120), ("internal", 180), ("public", 300)];
            assert!(kept.contains(&(level, seconds)), "{level} {seconds}");
        }
    }

    #[test]
    fn a_trace_without_times_to_live_never_expires() {
        let request = Request { at: 0, key: 9, ttl: None, size: 300, operation: Operation::Get };
        let load = Load::recorded(&Trace { requests: vec![request], ..Trace::default() });
        assert_eq!(load.requests[0].ttl, Some(Duration::MAX));
        assert_eq!((load.keys[0].as_str(), load.values[0].len(), load.resized), ("9", 300, 0));
    }

    #[test]
    fn a_trace_keeps_its_sets_and_deletes_and_counts_the_values_that_are_not_as_recorded() {
        let request = |operation, size: u32| Request { at: 0, key: size.into(), ttl: None, size, operation };
        let requests =
            vec![request(Operation::Set, 1 << 20), request(Operation::Delete, 9), request(Operation::Get, 1)];
        let load = Load::recorded(&Trace { requests, ..Trace::default() });
        let asked: Vec<Operation> = load.requests.iter().map(|asked| asked.operation).collect();
        assert_eq!(asked, [Operation::Set, Operation::Delete, Operation::Get]);
        assert_eq!((load.values[0].len(), load.resized), (4096, 2));
    }
}
