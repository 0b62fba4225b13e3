"""What is done with the caches: cases, and the work of one contestant in one case.

Every loop that is timed is in this module. Each is compared with the same loop with an empty body, over the
same keys.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any

from . import keys
from .contestants import Absent, AsyncFunction, Contestant, Function, Store
from .measure import Effort, Lap, Work
from .neighbours import busy_thread

HOT = 1_000
"""Entries that fit the processor's cache: what counts is the work of the cache itself."""
LARGE = 100_000
"""Entries that don't: what counts is how much memory a look-up touches."""
SPARE = 2
"""Capacity per entry where nothing may be evicted, even by caches that are full before they reach their capacity."""
BATCH = 100
TTL = 3600.0
"""Seconds, for cases with a time-to-live. None ends during a measurement."""
VALUE = "v" * 100

OPERATIONS = (
    "get-hit",
    "get-miss",
    "get-busy",
    "set",
    "set-method",
    "set-evict",
    "get-many",
    "decorator",
    "async-decorator",
    "import",
)


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    operation: str
    entries: int
    fresh: bool
    ttl: bool

    def words(self) -> dict[str, str]:
        """Returns the case as names and values."""
        if self.operation == "import":
            return {"op": self.operation}
        size = "capacity" if self.operation == "set-evict" else "keys"
        words = {"op": self.operation, size: str(self.entries)}
        if self.operation == "get-many":
            words["batch"] = str(BATCH)
        return words | {"key": "fresh" if self.fresh else "repeated", "ttl": "on" if self.ttl else "off"}

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.words().items())

    def prepare(self, contestant: Contestant) -> Work:
        """Returns the contestant's work. Raises `Absent` if the contestant can't take part."""
        return _PREPARE[self.operation](contestant, self)

    def effort(self, effort: Effort) -> Effort:
        """Returns the effort that this case takes. For an import, one interpreter in each round is enough."""
        return replace(effort, operations=1) if self.operation == "import" else effort

    @property
    def seconds(self) -> float | None:
        """The time-to-live of its entries, in seconds."""
        return TTL if self.ttl else None


def cases() -> Iterator[Case]:
    """Yields all cases, in the order of the report."""
    both = (False, True)
    for operation in OPERATIONS:
        if operation == "import":
            yield Case(operation, 0, fresh=False, ttl=False)
            continue
        for entries in (HOT, LARGE) if operation == "get-hit" else (HOT,):
            for ttl in both:
                for fresh in both if operation != "get-busy" else (False,):
                    yield Case(operation, entries, fresh, ttl)


def _empty(chunk: list[Any]) -> float:
    """Returns what the empty loop takes for one key."""
    begun = perf_counter_ns()
    for _ in chunk:
        pass
    return (perf_counter_ns() - begun) / len(chunk)


def _calls(call: Callable[[Any], object], chunk: list[Any]) -> int:
    begun = perf_counter_ns()
    for argument in chunk:
        call(argument)
    return perf_counter_ns() - begun


def _stores_by_method(put: Callable[[str, str], object], chunk: list[str]) -> int:
    value = VALUE
    begun = perf_counter_ns()
    for key in chunk:
        put(key, value)
    return perf_counter_ns() - begun


def _stores_by_item(mapping: Any, chunk: list[str]) -> int:
    value = VALUE
    begun = perf_counter_ns()
    for key in chunk:
        mapping[key] = value
    return perf_counter_ns() - begun


async def _awaits(call: AsyncFunction, chunks: Iterator[list[str]]) -> tuple[int, float]:
    elapsed, loops = 0, []
    for chunk in chunks:
        begun = perf_counter_ns()
        for argument in chunk:
            await call(argument)
        elapsed += perf_counter_ns() - begun
        loops.append(_empty(chunk))
    return elapsed, min(loops)


def _lap(operations: int, elapsed: int, loop: float) -> Lap:
    """Returns a lap whose loop time comes from the quickest chunk.

    The loop always takes the same time, unless something else interrupts it.
    """
    return Lap(operations, elapsed, round(loop * operations))


@dataclass
class _Loop:
    """Work that is a loop over keys."""

    timed: Callable[[list[str]], int]
    supply: keys.Supply
    store: Store | None = None
    looked_up: list[str] | None = None

    def run(self, operations: int) -> Lap:
        elapsed, loops = 0, []
        for chunk in self.supply.chunks(operations):
            elapsed += self.timed(chunk)
            loops.append(_empty(chunk))
        return _lap(operations, elapsed, min(loops))

    def hit_ratio(self) -> float | None:
        if self.store is None or self.looked_up is None:
            return None
        found = sum(self.store.found(self.store.get(key)) for key in self.looked_up)
        return found / len(self.looked_up)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


class _BatchLoop(_Loop):
    """The same over batches of keys. An operation is one key."""

    def run(self, operations: int) -> Lap:
        elapsed, loops, done = 0, [], 0
        for chunk in self.supply.chunks(max(operations, BATCH)):
            batches = [chunk[at : at + BATCH] for at in range(0, len(chunk), BATCH)]
            elapsed += self.timed(batches)  # type: ignore[arg-type]
            loops.append(_empty(batches) / BATCH)
            done += len(chunk)
        return _lap(done, elapsed, min(loops))


class _BusyLoop(_Loop):
    """Times single keys, alongside a thread that wants the interpreter all the time."""

    def run(self, operations: int) -> Lap:
        times, clocks = [], []
        with busy_thread():
            for chunk in self.supply.chunks(operations):
                times += [self.timed([key]) for key in chunk]
                clocks.append(statistics.median(_empty([key]) for key in chunk))
        times.sort()
        # As with loops, the quickest reading counts as what the clock takes.
        clock = min(clocks)
        p95 = max(times[len(times) * 95 // 100] - clock, 0)
        return Lap(operations, round(statistics.median(times) * operations), round(clock * operations), p95)


class _Import:
    """An import in a fresh interpreter, with files compiled by an earlier one. An operation is one interpreter."""

    def __init__(self, module: str) -> None:
        self.program = f"""
from time import perf_counter_ns
begun = perf_counter_ns()
import {module}
print(perf_counter_ns() - begun)
"""

    def run(self, operations: int) -> Lap:
        command = [sys.executable, "-c", self.program]
        times = [int(subprocess.check_output(command)) for _ in range(operations)]
        return _lap(operations, sum(times), 0.0)

    def hit_ratio(self) -> float | None:
        return None

    def close(self) -> None:
        pass


class _AsyncLoop:
    """Work that awaits in a loop, inside an event loop that started before the clock."""

    def __init__(self, call: AsyncFunction, supply: keys.Supply) -> None:
        self.call = call
        self.supply = supply

    def run(self, operations: int) -> Lap:
        elapsed, loop = asyncio.run(_awaits(self.call, self.supply.chunks(operations)))
        return _lap(operations, elapsed, loop)

    def hit_ratio(self) -> float | None:
        return None

    def close(self) -> None:
        pass


def _filled(contestant: Contestant, case: Case) -> tuple[Store, list[str]]:
    store = contestant.store(SPARE * case.entries, case.seconds)
    stored = keys.texts(case.entries, "kept")
    store.fill(stored, VALUE)
    return store, stored


def _get_hit(contestant: Contestant, case: Case) -> Work:
    store, stored = _filled(contestant, case)
    return _Loop(lambda chunk: _calls(store.get, chunk), keys.Supply(stored, fresh=case.fresh), store, stored)


def _get_miss(contestant: Contestant, case: Case) -> Work:
    store, _ = _filled(contestant, case)
    unknown = keys.texts(case.entries, "unknown")
    return _Loop(lambda chunk: _calls(store.get, chunk), keys.Supply(unknown, fresh=case.fresh), store, unknown)


def _get_busy(contestant: Contestant, case: Case) -> Work:
    store, stored = _filled(contestant, case)
    return _BusyLoop(lambda chunk: _calls(store.get, chunk), keys.Supply(stored, fresh=case.fresh), store, stored)


def _set(contestant: Contestant, case: Case) -> Work:
    """Replaces a value each time: by ``cache[key] = value`` if the cache has that, else by its method."""
    store, stored = _filled(contestant, case)
    return _Loop(_storing(store), keys.Supply(stored, fresh=case.fresh), store)


def _set_method(contestant: Contestant, case: Case) -> Work:
    store, stored = _filled(contestant, case)
    put = store.put
    if put is None:
        store.close()
        raise Absent("it has no method for that")
    return _Loop(lambda chunk: _stores_by_method(put, chunk), keys.Supply(stored, fresh=case.fresh), store)


def _set_evict(contestant: Contestant, case: Case) -> Work:
    """Stores a missing key each time, which evicts another: twice as many keys as fit, round and round."""
    store = contestant.evicting_store(case.entries, case.seconds)
    more = keys.texts(2 * case.entries, "more")
    store.fill(more[: case.entries], VALUE)
    return _Loop(_storing(store), keys.Supply(more, fresh=case.fresh, start=case.entries), store)


def _storing(store: Store) -> Callable[[list[str]], int]:
    mapping, put = store.mapping, store.put
    if mapping is not None:
        return lambda chunk: _stores_by_item(mapping, chunk)
    if put is None:
        raise Absent("it has no method for that")
    return lambda chunk: _stores_by_method(put, chunk)


def _get_many(contestant: Contestant, case: Case) -> Work:
    """Uses a method for batches, or a loop if there is none."""
    store, stored = _filled(contestant, case)
    get = store.get
    get_many = store.get_many or (lambda batch: [get(key) for key in batch])
    return _BatchLoop(lambda batches: _calls(get_many, batches), keys.Supply(stored, fresh=case.fresh), store, stored)


def _decorator(contestant: Contestant, case: Case) -> Work:
    decorated: Function = contestant.decorate(_computed, SPARE * case.entries, case.seconds)
    called = keys.texts(case.entries, "called")
    for key in called:
        decorated(key)
    return _Loop(lambda chunk: _calls(decorated, chunk), keys.Supply(called, fresh=case.fresh))


def _async_decorator(contestant: Contestant, case: Case) -> Work:
    decorated = contestant.decorate_async(_computed_later, SPARE * case.entries, case.seconds)
    called = keys.texts(case.entries, "called")

    async def fill() -> None:
        for key in called:
            await decorated(key)

    asyncio.run(fill())
    return _AsyncLoop(decorated, keys.Supply(called, fresh=case.fresh))


def _import(contestant: Contestant, case: Case) -> Work:
    if contestant.module is None:
        raise Absent("nothing is imported for it alone")
    return _Import(contestant.module)


def _computed(key: str) -> str:
    return VALUE


async def _computed_later(key: str) -> str:
    return VALUE


_PREPARE: dict[str, Callable[[Contestant, Case], Work]] = {
    "get-hit": _get_hit,
    "get-miss": _get_miss,
    "get-busy": _get_busy,
    "set": _set,
    "set-method": _set_method,
    "set-evict": _set_evict,
    "get-many": _get_many,
    "decorator": _decorator,
    "async-decorator": _async_decorator,
    "import": _import,
}
