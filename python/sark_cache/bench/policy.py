"""``python -m sark_cache.bench policy``: compares decisions cached in this process with those in a loopback Redis.

Whole awaited calls are timed: key, look-up and decoding. Redis is asked through redis-py's asyncio client,
with ready-made keys, and its answers are decoded by ``json.loads``: the least that an application can do.
Everything is measured twice: quiet, and alongside a Python thread that never rests, as in real services.
Facts about this machine's Python come from the same run, so that figures of different machines can be
compared.

Medians come from laps over many calls, including the loop. Percentiles come from calls that are timed one by
one, less the time that the clock takes. Alongside a busy thread a lap takes twice as long, since the thread
gets half of the time, but single calls don't.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import cycle, islice
from typing import Any

from sark_cache.policy import RustPolicyCache

from . import machine
from .measure import Spread
from .neighbours import busy_thread, nobody
from .redis_server import HOST, RedisServer, ServerUnavailable

OURS, REDIS, FACT = "sark-cache", "redis", "python"
QUIET, BUSY = "quiet", "busy thread"
BATCH = 50

DECISION = {"allow": True, "reason": "role developer may invoke", "ttl": 60}
USERS = 1000
REQUESTS = [(f"user-{number:04}", "tool:invoke", "mcp/tool:search") for number in range(USERS)]
CONTEXT = {"ip": "10.0.0.1", "role": "developer", "mfa": True, "level": 3}


@dataclass(frozen=True)
class Contestant:
    """One way to do what a case is about."""

    case: str
    name: str
    call: Callable[..., Any]
    """What is timed: a coroutine function, or a plain one where ``awaited`` is False."""
    requests: list[tuple[Any, ...]]
    """Its arguments, in turn."""
    per_call: int = 1
    """How many decisions one call is about."""
    awaited: bool = True


@dataclass(frozen=True)
class Row:
    """The times of one contestant, in nanoseconds per decision."""

    case: str
    contestant: str
    beside: str
    lap: Spread
    """From laps over many calls."""
    p50: float
    p95: float
    p99: float
    ahead_p50: float | None
    """Its p50 over ours."""
    ahead_p95: float | None


@dataclass
class PolicyReport:
    """Everything that one run found out."""

    arguments: list[str]
    rounds: int
    machine: dict[str, object] = field(default_factory=machine.describe)
    versions: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """Returns the report as one JSON object."""
        return json.dumps(asdict(self))


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit status."""
    what = "Authorization decisions in this process beside the same ones in a loopback Redis."
    parser = argparse.ArgumentParser(prog="python -m sark_cache.bench policy", description=what)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: rougher figures")
    parser.add_argument("--plot", metavar="FILE", help="draw the percentiles into a picture, too")
    options = parser.parse_args(arguments)
    report = asyncio.run(_measure(arguments, quick=options.quick))
    if options.json:
        print(report.to_json())
    else:
        from .policy_view import show

        show(report)
    if options.plot:
        from .policy_view import draw

        draw(report, options.plot)
    return 0


async def _measure(arguments: list[str], *, quick: bool) -> PolicyReport:
    rounds, calls = (3, 2_000) if quick else (9, 20_000)
    report = PolicyReport(arguments, rounds)
    async with AsyncExitStack() as stack:
        contestants = [*_facts(), *await _ours()]
        try:
            contestants += await _redis(stack, report)
        except ServerUnavailable as why:
            report.absent.append(f"{REDIS}: {why}")
        for beside, neighbour in ((QUIET, nobody), (BUSY, busy_thread)):
            with neighbour():
                await _take(report, contestants, beside, rounds, calls)
    return report


async def _take(report: PolicyReport, contestants: list[Contestant], beside: str, rounds: int, calls: int) -> None:
    """Runs interleaved laps of all contestants, then calls timed one by one."""
    laps: list[list[float]] = [[] for _ in contestants]
    counts = [await _affordable(contestant, calls) for contestant in contestants]
    for _ in range(rounds):
        for contestant, count, results in zip(contestants, counts, laps, strict=True):
            results.append(await _lap(contestant, count))
    clock = statistics.median(_clock() for _ in range(1000))
    ours: dict[str, tuple[float, float]] = {}
    for contestant, count, results in zip(contestants, counts, laps, strict=True):
        times = sorted(
            max(time - clock, 0) / contestant.per_call for time in await _one_by_one(contestant, max(count, 200))
        )
        p50, p95, p99 = (times[min(int(len(times) * share), len(times) - 1)] for share in (0.5, 0.95, 0.99))
        if contestant.name == OURS:
            ours[contestant.case] = (p50, p95)
        theirs = contestant.name == REDIS
        ahead = (p50 / ours[contestant.case][0], p95 / ours[contestant.case][1]) if theirs else (None, None)
        report.rows.append(Row(contestant.case, contestant.name, beside, Spread.of(results), p50, p95, p99, *ahead))


async def _lap(contestant: Contestant, count: int) -> float:
    """Returns nanoseconds per decision, including the loop."""
    call, requests = contestant.call, list(islice(cycle(contestant.requests), count))
    start = time.perf_counter_ns()
    if contestant.awaited:
        for request in requests:
            await call(*request)
    else:
        for request in requests:
            call(*request)
    return (time.perf_counter_ns() - start) / count / contestant.per_call


async def _one_by_one(contestant: Contestant, count: int) -> list[int]:
    """Returns the nanoseconds of each call."""
    call, now, times = contestant.call, time.perf_counter_ns, []
    for request in islice(cycle(contestant.requests), count):
        start = now()
        if contestant.awaited:
            await call(*request)
        else:
            call(*request)
        times.append(now() - start)
    return times


def _clock() -> int:
    """Returns what reading the clock twice takes."""
    start = time.perf_counter_ns()
    return time.perf_counter_ns() - start


async def _affordable(contestant: Contestant, most: int) -> int:
    """Returns how many calls fit into a tenth of a second, at most ``most``. This also warms up."""
    return max(20, min(most, int(1e8 / (await _lap(contestant, 50) * contestant.per_call))))


def _facts() -> list[Contestant]:
    """Returns contestants that measure what this Python takes for common operations."""
    text = json.dumps(DECISION)

    async def nothing() -> None:
        pass

    return [
        Contestant("await of an empty coroutine", FACT, nothing, [()]),
        Contestant("json.loads", FACT, json.loads, [(text,)], awaited=False),
        Contestant("json.dumps", FACT, json.dumps, [(DECISION,)], awaited=False),
    ]


async def _ours() -> list[Contestant]:
    cache = RustPolicyCache(max_size=10 * USERS, ttl_seconds=3600)
    in_context = [(*request, CONTEXT) for request in REQUESTS]
    for request in REQUESTS:
        if not (await cache.set(*request, DECISION) and await cache.set(*request, DECISION, CONTEXT)):
            raise RuntimeError("a decision was not stored")

    async def never() -> None:
        raise RuntimeError("every decision is there")

    batch = [(*request, None) for request in REQUESTS[:BATCH]]
    return [
        Contestant("get, hit", OURS, cache.get, REQUESTS),
        Contestant("get, hit, four fields of context", OURS, cache.get, in_context),
        Contestant("get, miss", OURS, cache.get, [(user, action, "absent") for user, action, _resource in REQUESTS]),
        Contestant("get_or_evaluate, hit", OURS, partial(cache.get_or_evaluate, evaluate=never), REQUESTS),
        Contestant("set", OURS, cache.set, [(*request, DECISION) for request in REQUESTS]),
        Contestant(f"get_batch of {BATCH}, each", OURS, cache.get_batch, [(batch,)], BATCH),
    ]


async def _redis(stack: AsyncExitStack, report: PolicyReport) -> list[Contestant]:
    try:
        import redis.asyncio
    except ImportError:
        raise ServerUnavailable("the package redis is not installed") from None
    server = stack.enter_context(RedisServer())
    client: Any = redis.asyncio.Redis(host=HOST, port=server.port)
    stack.push_async_callback(client.aclose)
    report.versions["redis"] = machine.version_of("redis") or ""

    async def get(key: str) -> Any:
        return json.loads(await client.get(key))

    async def store(key: str) -> None:
        await client.set(key, json.dumps(DECISION), ex=3600)

    async def get_batch(keys: list[str]) -> list[Any]:
        return [json.loads(text) for text in await client.mget(keys)]

    keys = [(f"policy:decision:{user}:{action}:mcp_tool_search:none",) for user, action, _resource in REQUESTS]
    for (key,) in keys:
        await store(key)
    # Any ready-made key will do: what the context costs an application isn't counted against Redis.
    return [
        Contestant("get, hit", REDIS, get, keys),
        Contestant("get, hit, four fields of context", REDIS, get, keys),
        Contestant("get, miss", REDIS, client.get, [("absent",)]),
        Contestant("get_or_evaluate, hit", REDIS, get, keys),
        Contestant("set", REDIS, store, keys),
        Contestant(f"get_batch of {BATCH}, each", REDIS, get_batch, [([key for (key,) in keys[:BATCH]],)], BATCH),
    ]
