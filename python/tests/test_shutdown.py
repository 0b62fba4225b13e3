"""The end of the interpreter with live caches: no crash, no hang, not a word on standard error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., str]


@pytest.mark.parametrize(
    "keep",
    [
        "keep = cache, strings",
        "sys.keep = cache, strings",
        "cache['itself'] = cache; keep = [cache]; keep.append(keep); strings.keeper = keep",
        "import builtins; builtins.keep = cache, strings",
        "import atexit; atexit.register(lambda: (cache['late'], strings.get('1')))",
    ],
    ids=["global", "module", "cycle", "builtins", "atexit"],
)
def test_a_live_cache_wherever_it_is_kept(run_python: Run, keep: str) -> None:
    run_python(f"""
import sys
from sark_cache import Cache, RustCache

class Strings(RustCache):
    pass

cache, strings = Cache(100, ttl=3600), Strings(100, 3600)
cache["late"] = object()
for number in range(200):
    cache[number % 99] = [number]
    strings.set(str(number), "x")
cache["late"] = object()
{keep}
""")


def test_finalizers_that_use_the_cache_while_modules_are_torn_down(run_python: Run) -> None:
    run_python("""
from sark_cache import Cache

class Value:
    def __init__(self, cache):
        self.cache = cache

    def __del__(self):
        self.cache.get("key")
        self.cache["key"] = 1

cache = Cache(100)
for number in range(100):
    cache[number] = Value(cache)
""")


def test_listeners_with_everything_gone_around_them(run_python: Run) -> None:
    run_python("""
from sark_cache import Cache

def listener(key, value, cause):
    pass

cache = Cache(10, on_evict=listener, ttl=1, timer=lambda: 0.0, getsizeof=lambda value: 1)
for number in range(100):
    cache[number] = number
""")


def test_daemon_threads_in_the_middle_of_it(run_python: Run) -> None:
    # They are stopped wherever they are: also while they wait for the interpreter inside a call.
    run_python("""
import sys, threading, time
from sark_cache import Cache, RustCache

sys.setswitchinterval(1e-5)
cache, strings = Cache(100), RustCache(100, 60)
begun = threading.Barrier(5)

def work(thread):
    begun.wait()
    number = 0
    while True:
        number += 1
        cache[number % 200] = [number]
        cache.get_many(range(50))
        strings.set(str(number % 200), "x")

for thread in range(4):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
begun.wait()
while len(cache) < 100:
    time.sleep(0.001)
""")


def test_an_event_loop_left_in_the_middle(run_python: Run) -> None:
    run_python("""
import asyncio
from sark_cache import cached

@cached(10)
async def slow(key):
    await asyncio.sleep(3600)

async def main():
    tasks = [asyncio.ensure_future(slow("key")) for _ in range(3)]
    await asyncio.sleep(0.01)

asyncio.run(main())
""")


def test_a_subinterpreter_says_that_it_is_not_supported_or_works(run_python: Run) -> None:
    run_python("""
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
program = '''
try:
    from sark_cache import Cache
except ImportError as error:
    assert "interpreter" in str(error)
else:
    cache = Cache(10)
    cache["key"] = 1
    assert cache["key"] == 1
'''
interpreter = interpreters.create()
result = interpreters.run_string(interpreter, program)
assert result is None, result
interpreters.destroy(interpreter)
""")
