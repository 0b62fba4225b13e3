"""What type checkers must report about `RustCache`. Checked by mypy --strict and pyright, and run as a test.

A line with `type: ignore` must be an error: if it weren't, mypy would report the comment as unused.
"""

from typing_extensions import assert_type

from sark_cache import RustCache, Stats

cache = RustCache(1000, ttl_secs=300)
assert_type(cache.set("key", "value"), None)
cache.set("key", "value", 60)
cache.set("key", "value", ttl=0.5)
assert_type(cache.get("key"), "str | None")
assert_type(cache.get_with_ttl("key"), "tuple[str, float, float] | None")
assert_type(cache.get_many(["key"]), "list[str | None]")
cache.set_many({"key": "value"}, ttl=60)
assert_type(cache.delete_many(("key",)), int)
assert_type(cache.delete("key"), bool)
assert_type(cache.size(), int)
assert_type(cache.cleanup_expired(), int)
assert_type(cache.stats(), Stats)
assert_type(cache.stats().hits, int)
assert_type(cache.stats().hit_ratio, float)
assert_type("key" in cache, bool)
assert_type(len(cache), int)


def refused() -> None:
    """Never called: only type checkers read it."""
    cache.get(1)  # type: ignore[arg-type]
    cache.set("key", 1)  # type: ignore[arg-type]
    cache.set("key", "value", "60")  # type: ignore[arg-type]
    RustCache("1000", 300)  # type: ignore[arg-type]
    cache.get("key").upper()  # type: ignore[union-attr]
