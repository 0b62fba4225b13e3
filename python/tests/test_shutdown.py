"""The end of the interpreter with live caches: no crash, no hang, and no output on standard error."""

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
    # They are stopped wherever they are, even while they wait for the interpreter inside a call.
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


# Each ends in `poll`, which never returns, called by the cache.
IN_USER_CODE = {
    "a cached function": "cached(10)(poll)(1)",
    "a cached function called by name": "cached(10)(poll).__call__(1)",
    "the function that makes its key": "cached(10, key=poll)(print)(1)",
    "a factory": "Cache(10).get_or_set('key', poll)",
    "the comparison of keys": "cache[Key(eq=None)] = 1; cache.get(Key())",
    "the hash of a key": "cache.get(Key(hash=poll))",
    "the end of a value": "cache['key'] = Value(); cache['key'] = 1",
    "the end of many values": "cache['key'] = Value(); cache.clear()",
    "a listener": "heard = Cache(1, on_evict=poll); heard[1] = heard[2] = 1",
    "what hears of a listener's error": "sys.unraisablehook = poll; deaf = Cache(1, on_evict=object); deaf[1] = deaf[2] = 1",
    "a measure of sizes": "Cache(1, getsizeof=poll)[1] = 1",
    "a timer": "Cache(1, ttl=1, timer=poll).get(1)",
    "the number that a timer returns": "Cache(1, ttl=1, timer=Number).get(1)",
    "a size that is refused": "Cache(Refused(0))",
    "keys for get_many": "cache.get_many(poll() for _ in range(1))",
    "keys for delete_many": "cache.delete_many(poll() for _ in range(1))",
    "pairs for set_many": "cache.set_many(poll() for _ in range(1))",
    "a mapping for set_many": "cache.set_many(Mapping())",
    "what looks for a mapping's methods": "cache.set_many(Proxy())",
    "the slots of a copy": "copy.copy(Slotted(10))",
    "the slots that a copy gets": "Slotted.__new__(Slotted).__setstate__((*cache.__getstate__(), {'slot': 1}))",
    "keys for get_many of strings": "RustCache(10, 10).get_many(poll() for _ in range(1))",
    "the comparison of values": "cache['key'] = Key(); cache == {'key': Key()}",
}


@pytest.mark.parametrize("call", IN_USER_CODE.values(), ids=IN_USER_CODE.keys())
def test_a_daemon_thread_in_code_that_the_cache_called(run_python: Run, call: str) -> None:
    # CPython before 3.14 unwinds the thread's stack, which has frames of the cache on it.
    for _ in range(5):
        run_python(f"""
import copy, sys, threading, time
from sark_cache import Cache, RustCache, cached

begun = threading.Event()

def poll(*arguments):
    while True:
        begun.set()
        time.sleep(0.0005)

class Key:
    def __init__(self, hash=lambda: 1, eq=poll):
        self.hash, self.eq = hash, eq

    def __hash__(self):
        return self.hash()

    def __eq__(self, other):
        return (self.eq or other.eq)(other)

class Value:
    def __del__(self):
        poll()

class Mapping:
    def keys(self):
        return ["key"]

    __getitem__ = poll

class Number:
    __float__ = poll

class Refused(int):
    __repr__ = poll

class Proxy:
    __getattr__ = poll

class Slotted(Cache):
    __slots__ = ("slot",)
    __setattr__ = poll

    def __getattr__(self, name):
        if name == "slot":
            poll()
        raise AttributeError(name)

cache = Cache(10)

def work():
    {call}

threading.Thread(target=work, daemon=True).start()
assert begun.wait(30)
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
