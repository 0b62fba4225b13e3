"""How policy decisions are stored in Redis or Valkey: the names of keys, the form of an entry, and the client.

This module sends nothing.
"""

from __future__ import annotations

import json
from hashlib import sha256
from importlib import import_module
from typing import Any, NamedTuple

from sark_cache.policy.keys import encode


class Names(NamedTuple):
    """The keys under which the parts of a request are stored on the server."""

    entry: str
    everything: str
    user: str
    deletion: str
    """A generation of this entry alone, which exists after a deletion."""
    recent: str
    """Exists while ``set`` without a token is refused because everything was invalidated.

    The same goes for the next two.
    """
    recent_user: str
    recent_entry: str

    @classmethod
    def of(cls, prefix: str, entry: str, user_id: object) -> Names:
        """Returns the names that go with the key of an entry."""
        user, digest = sha256(encode(user_id, "user_id")).hexdigest(), entry.split(":")[-2]
        return cls(
            entry,
            f"{prefix}:generation",
            f"{prefix}:generation:user:{user}",
            f"{prefix}:generation:entry:{digest}",
            f"{prefix}:recent",
            f"{prefix}:recent:user:{user}",
            f"{prefix}:recent:entry:{digest}",
        )


class Entry(NamedTuple):
    """A stored decision that depends on nothing that was replaced."""

    text: str
    ttl: float
    """How many seconds it was stored for."""


def sealed(state: bytes, ttl: float, text: str) -> bytes:
    """Returns an entry as it is stored: one JSON line with what it depends on, then the decision's text."""
    return json.dumps({"state": state.hex(), "ttl": ttl}).encode() + b"\n" + text.encode()


def opened(data: bytes | None, state: bytes) -> Entry | None:
    """Returns the entry, if there is one that depends on this state."""
    if data is None:
        return None
    head, _newline, text = data.partition(b"\n")
    fields = json.loads(head)
    return Entry(text.decode(), fields["ttl"]) if fields["state"] == state.hex() else None


def asyncio_of(url: str) -> Any:
    """Returns the asyncio module of the client that understands a URL.

    Raises:
        ImportError: if no such client is installed.
    """
    for client in ("valkey",) if url.startswith("valkey") else ("redis", "valkey"):
        try:
            return import_module(f"{client}.asyncio")
        except ImportError:
            continue
    raise ImportError(
        "redis_url: neither the redis nor the valkey package could be imported; "
        "install sark-cache[redis] or sark-cache[valkey]"
    )


MAX_CONNECTIONS = 50
"""Connections per event loop. Further requests wait for one of them, for at most ``POOL_TIMEOUT_SECONDS``."""

TIMEOUT_SECONDS = 0.5
"""Seconds for connecting, and for each answer."""

POOL_TIMEOUT_SECONDS = 1.0


def client_of(asyncio_module: Any, url: str) -> Any:
    """Returns a client with a connection pool of its own.

    Options in the URL (``?socket_timeout=2``) take precedence over the defaults here.

    Raises:
        ValueError: for a URL that the client doesn't understand.
    """
    library = asyncio_module.__name__.partition(".")[0]
    retry, backoff, errors = (import_module(f"{library}.{name}") for name in ("asyncio.retry", "backoff", "exceptions"))
    try:
        pool = asyncio_module.BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=POOL_TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            # One retry, for connections that a restarted server closed. A timeout isn't retried.
            retry=retry.Retry(backoff.NoBackoff(), 1, supported_errors=(errors.ConnectionError,)),
        )
    except ValueError as error:
        raise ValueError(f"redis_url must be a URL such as 'redis://localhost:6379/0', not {url!r}: {error}") from None
    return getattr(asyncio_module, library.capitalize()).from_pool(pool)


def is_timeout(error: BaseException) -> bool:
    """Returns whether the server didn't answer in time.

    The timeout classes of the clients share this name with the builtin one, but no base class.
    """
    return any(kind.__name__ == "TimeoutError" for kind in type(error).__mro__)
