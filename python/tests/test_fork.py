"""Forking with loaded caches: the child finds everything, hangs nowhere, and is independent of its parent.

Each test forks in a fresh interpreter, and every child is under an alarm, so that a hang is a failure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PRELUDE = """
import os, signal, sys, threading, traceback, warnings

# Forking beside threads is what is tested; from 3.12 on Python warns of it.
warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)

from sark_cache import Cache, RustCache

def in_child(work):
    "Forks, runs work() in the child, and fails unless it comes to its end."
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid

def joined(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status

def loaded():
    cache, strings = Cache(1000, ttl=3600), RustCache(1000, 3600)
    for number in range(1000):
        cache[number] = [number]
        strings.set(str(number), str(number))
    return cache, strings
"""


@pytest.fixture
def run(run_python: Callable[..., str]) -> Callable[[str], str]:
    return lambda program: run_python(PRELUDE + program, timeout=120)


def test_a_child_finds_every_entry_and_what_it_changes_stays_with_it(run: Callable[[str], str]) -> None:
    run("""
cache, strings = loaded()

def work():
    assert len(cache) == 1000 and strings.size() == 1000
    assert all(cache[number] == [number] for number in range(1000))
    assert strings.get_many(map(str, range(1000))) == list(map(str, range(1000)))
    cache["child"] = 1
    strings.set("child", "1")
    assert len(cache) == 1000
    cache.clear()
    strings.clear()
    cache[0] = "again"
    assert cache[0] == "again"

for pid in [in_child(work) for _ in range(5)]:
    joined(pid)
assert len(cache) == 1000 and strings.size() == 1000
assert "child" not in cache and "child" not in strings
""")


def test_children_of_a_process_whose_threads_use_the_caches_never_hang(run: Callable[[str], str]) -> None:
    run("""
cache, strings = loaded()
going = True
sys.setswitchinterval(1e-5)

def hammer(seed):
    number = seed
    while going:
        number = (number * 1103515245 + 12345) % 2**31
        cache[number % 2000] = [number]
        cache.get((number // 7) % 2000)
        cache.get_many(range(number % 50))
        strings.set(str(number % 2000), "x")
        strings.get(str((number // 7) % 2000))

def work():
    for number in range(3000):
        cache[number] = [number]
        assert cache[number] == [number]
        strings.set(str(number), "y")
        assert strings.get(str(number)) == "y"
    assert len(cache) <= 1000 and strings.size() <= 1000
    # A grandchild, too.
    joined(in_child(lambda: cache.clear()))

threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
try:
    for _ in range(25):
        joined(in_child(work))
finally:
    going = False
    for thread in threads:
        thread.join()
assert len(cache) <= 1000
""")


def test_prefork_workers_serve_from_what_the_parent_loaded(run: Callable[[str], str]) -> None:
    run("""
cache, strings = loaded()
workers = []
for worker in range(4):
    requests, to_worker = os.pipe()
    from_worker, answers = os.pipe()

    def serve(worker=worker, requests=requests, answers=answers):
        while True:
            number = int.from_bytes(os.read(requests, 4), "big")
            if number == 0xFFFFFFFF:
                break
            # Each worker counts for itself, on top of what the parent had loaded.
            served = cache.incr(("served", worker))
            value = cache.setdefault(number, [number])
            assert strings.get(str(number)) in (str(number), None)
            os.write(answers, (value[0] + served).to_bytes(4, "big"))

    pid = in_child(serve)
    workers.append((pid, to_worker, from_worker))

for turn in range(1, 101):
    for pid, to_worker, from_worker in workers:
        os.write(to_worker, (turn * 13).to_bytes(4, "big"))
    for pid, to_worker, from_worker in workers:
        assert int.from_bytes(os.read(from_worker, 4), "big") == turn * 13 + turn
for pid, to_worker, from_worker in workers:
    os.write(to_worker, b"\\xff" * 4)
    joined(pid)
assert ("served", 0) not in cache
""")


def test_a_forked_child_that_ends_normally_tears_its_caches_down(run: Callable[[str], str]) -> None:
    run("""
cache, strings = loaded()
told = []
listening = Cache(10, on_evict=lambda *entry: told.append(entry))
listening.update((number, object()) for number in range(10))
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    # Through the whole of the interpreter's finalisation, with everything still alive.
    sys.exit(0)
joined(pid)
""")


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_using_the_caches_starts_no_thread_that_a_fork_would_lose(run: Callable[[str], str]) -> None:
    run("""
cache, strings = loaded()
cache.expire()
strings.cleanup_expired()
assert len(os.listdir("/proc/self/task")) == 1
""")


def test_a_child_computes_what_its_parent_was_computing_when_it_forked(run: Callable[[str], str]) -> None:
    run("""
from sark_cache import cached

cache = Cache(100)
begun, end = threading.Event(), threading.Event()

def slow():
    begun.set()
    end.wait(60)
    return "the parent's"

@cached(100)
def decorated(key):
    return cache.get_or_set(key, slow) if begun is not None else "the child's"

leader = threading.Thread(target=decorated, args=("key",))
leader.start()
begun.wait()

def work():
    # The thread that was computing isn't here: whoever waited for it would wait for ever.
    global begun
    begun = None
    assert cache.get_or_set("key", lambda: "the child's") == "the child's"
    assert decorated("key") == "the child's"

joined(in_child(work))
end.set()
leader.join()
assert cache["key"] == decorated("key") == "the parent's"
""")
