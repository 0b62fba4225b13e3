"""Keys of policy decisions: readable, and never the same for two different requests.

A key is ``policy:decision:{user}:{action}:{resource}:{digest}:{context}``. The readable parts are for people:
ids hold colons, and ``a/b``, ``a:b`` and ``a_b`` look alike there. The digest tells requests apart. It is
SHA-256 over a type-tagged, length-prefixed encoding of everything that may decide, so that no value can pose
as another.

This module is the definition. The native module builds the same keys, byte for byte, and a test compares the
two. It never falls back to ``str()`` or ``repr()``: a value that has no place in the encoding makes the
request uncacheable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from struct import pack
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from sark_cache.policy.generations import State

MAX_DEPTH = 64
"""Containers nested deeper than this make a request uncacheable; so does a container that holds itself."""

_VERSION = b"\x01"
"""Comes first in every digest. It changes with the encoding, so that old and new keys never meet."""

_LONGEST = 2**32 - 1
_NAN = b"d" + bytes.fromhex("7ff8000000000000")


class Uncacheable(TypeError):
    """A request holds a value that keys can't hold. The message says where it is, and what."""


class Request(NamedTuple):
    """What a decision is requested for. Unpacks into the arguments of ``get``, ``get_or_evaluate`` and ``delete``."""

    user_id: Any
    action: Any
    resource: Any
    context: Mapping[str, Any] | None = None


def encode(value: object, where: str = "value") -> bytes:
    """Returns the canonical encoding of a JSON value, or of bytes.

    The time is linear in the size, plus sorting the keys of dicts. Values of different types, and different
    values, have different encodings: True, 1, 1.0 and "1" all differ. Lists and tuples are the same, as they
    are in JSON. So are dicts in different order, and all NaNs.

    >>> encode({"b": 1, "a": [True, None]}) == encode({"a": (True, None), "b": 1})
    True
    >>> encode(1) == encode(True)
    False

    Raises:
        Uncacheable: for anything outside of JSON and bytes, for dicts with keys that aren't exactly str, for
            subclasses of dict, list and tuple (they may show other items than they hold), for text that isn't
            valid Unicode, and for nesting deeper than ``MAX_DEPTH``.
    """
    parts: list[bytes] = []
    _encode(value, parts, where, MAX_DEPTH)
    return b"".join(parts)


def _encode(value: object, parts: list[bytes], where: str, depth: int) -> None:
    # Subclasses of str, int and float count as the value they hold, as in JSON. Enums are among them.
    if isinstance(value, str):
        _text(b"s", value, parts, where)
    elif value is None:
        parts.append(b"n")
    elif value is True:
        parts.append(b"t")
    elif value is False:
        parts.append(b"f")
    elif isinstance(value, int):
        size = (int.bit_length(value) + 8) // 8
        parts += (b"i", pack(">I", size), int.to_bytes(value, size, "big", signed=True))
    elif isinstance(value, float):
        number = float.__float__(value)
        parts.append(b"d" + pack(">d", number) if number == number else _NAN)
    elif type(value) is bytes:
        parts += (b"b", _length(len(value), where), value)
    elif type(value) is dict:
        _dict(value, parts, where, depth)
    elif type(value) is list or type(value) is tuple:
        if depth == 0:
            raise Uncacheable(f"{where} is nested deeper than {MAX_DEPTH} levels")
        parts += (b"l", _length(len(value), where))
        for index, item in enumerate(value):
            _encode(item, parts, f"{where}[{index}]", depth - 1)
    else:
        raise Uncacheable(f"{where} is of type {type(value).__name__}, which is neither JSON nor bytes")


def _dict(value: dict[Any, Any], parts: list[bytes], where: str, depth: int) -> None:
    if depth == 0:
        raise Uncacheable(f"{where} is nested deeper than {MAX_DEPTH} levels")
    for key in value:
        if type(key) is not str:
            raise Uncacheable(f"{where} has a key of type {type(key).__name__}, only str is allowed")
    parts += (b"m", _length(len(value), where))
    # Sorted by code points, which is also the order of the UTF-8 bytes.
    for key, item in sorted(value.items(), key=_first):
        _text(b"", key, parts, where)
        _encode(item, parts, f"{where}[{key!r}]", depth - 1)


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


def _text(tag: bytes, text: str, parts: list[bytes], where: str) -> None:
    try:
        data = str.encode(text, "utf-8")
    except UnicodeEncodeError:
        raise Uncacheable(f"{where} is text with lone surrogates, which is not valid Unicode") from None
    parts += (tag, _length(len(data), where), data)


def _length(length: int, where: str) -> bytes:
    if length > _LONGEST:
        raise Uncacheable(f"{where} is longer than {_LONGEST} bytes or items")
    return pack(">I", length)


def encode_context(context: object, volatile: Collection[str] = frozenset()) -> bytes | None:
    """Returns the encoding of a context without its volatile fields, or None if nothing is left."""
    if context is None:
        return None
    if type(context) is dict:
        if volatile:
            context = {name: value for name, value in context.items() if type(name) is not str or name not in volatile}
        if not context:
            return None
    return encode(context, "context")


class KeyBuilder:
    """Builds the keys of one cache, from its prefix, its policy revision, and the fields that it leaves out.

    >>> builder = KeyBuilder("policy:decision")
    >>> builder.key((b"", {}), "alice", "read", "doc:1", None)  # doctest: +ELLIPSIS
    'policy:decision:alice:read:doc_1:...:none'

    Args:
        prefix: What every key begins with.
        revision: The policy revision; another one yields other keys.
        volatile: Top-level names that are left out of contexts: fields that change all the time and decide
            nothing.
    """

    __slots__ = ("prefix", "_revision", "_volatile")

    def __init__(self, prefix: str, revision: str | None = None, volatile: Collection[str] = frozenset()) -> None:
        self.prefix = prefix
        self._revision = encode(revision, "policy_revision")
        self._volatile = checked_fields(volatile)

    def key(self, state: State, user_id: object, action: object, resource: object, context: object) -> str:
        """Returns the key of a request under the generations in ``state``.

        Raises:
            Uncacheable: as ``encode`` does.
        """
        everything, users = state
        user = encode(user_id, "user_id")
        named = encode(action, "action") + encode(resource, "resource")
        encoded = encode_context(context, self._volatile)
        if encoded is None:
            part, shown = b"n", "none"
        else:
            part = b"c" + sha256(encoded).digest()
            shown = part[1:9].hex()
        generation = users.get(user, b"")
        generations = pack(">I", len(everything)) + everything + pack(">I", len(generation)) + generation
        digest = sha256(_VERSION + user + named + self._revision + part + generations).hexdigest()
        return f"{self.prefix}:{_shown(user_id)}:{_shown(action)}:{_clean(_shown(resource))}:{digest}:{shown}"


def _shown(part: object) -> str:
    """Returns the readable form of a part: ``_`` if it isn't text, which the digest covers anyway."""
    return str.__str__(part) if isinstance(part, str) else "_"


def _clean(resource: str) -> str:
    return resource.replace(":", "_").replace("/", "_")


def checked_fields(fields: Iterable[str]) -> frozenset[str]:
    """Returns ``volatile_fields`` as a set. A str is refused, because ``in`` would match every substring of it.

    Raises:
        TypeError: for anything but several str.
    """
    names = None if isinstance(fields, str) or not isinstance(fields, Iterable) else list(fields)
    if names is None or not all(type(name) is str for name in names):
        raise TypeError(f"volatile_fields must be a collection of str, such as ['timestamp'], not {fields!r}")
    return frozenset(names)


def key_from_input(full_policy_input: Mapping[str, Any], volatile_fields: Collection[str] = ()) -> Request:
    """Returns a request whose key covers everything that the policy sees.

    That includes roles, teams, attributes of the tool, and whatever else is in the input. The input is the
    one that goes to the policy engine, with at least ``user`` (an id, or a dict with ``id``) and ``action``.
    The resource is ``resource``, or the ``id`` or ``name`` of ``tool`` or ``server``. It only makes the key
    readable, since the whole input becomes the context.

    >>> request = key_from_input({"user": {"id": "alice", "roles": ["dev"]}, "action": "run", "tool": {"name": "ls"}})
    >>> request.user_id, request.action, request.resource
    ('alice', 'run', 'ls')

    Args:
        full_policy_input: What the policy decides on.
        volatile_fields: Names that are left out of the input's ``context``: timestamps, request ids.

    Raises:
        TypeError: if the input isn't a mapping, or ``volatile_fields`` isn't a collection of str.
        ValueError: if the input has no ``user`` or no ``action``.
    """
    volatile = checked_fields(volatile_fields)
    if not isinstance(full_policy_input, Mapping):
        raise TypeError(f"full_policy_input must be a dict, not {type(full_policy_input).__name__}")
    for name in ("user", "action"):
        if name not in full_policy_input:
            raise ValueError(f"full_policy_input: {name!r} is missing, it has {sorted(full_policy_input)}")
    user = full_policy_input["user"]
    if isinstance(user, dict):
        if "id" not in user:
            raise ValueError(f"full_policy_input: user has no 'id', it has {sorted(user)}")
        user = user["id"]
    covered = dict(full_policy_input)
    inner = covered.get("context")
    if volatile and isinstance(inner, dict):
        # As in `encode_context`: a name of another type stays, so that the request is uncacheable.
        covered["context"] = {
            name: value for name, value in inner.items() if type(name) is not str or name not in volatile
        }
    return Request(user, full_policy_input["action"], _resource_of(full_policy_input), covered)


def _resource_of(full_policy_input: Mapping[str, Any]) -> Any:
    for kind in ("resource", "tool", "server"):
        thing = full_policy_input.get(kind)
        if isinstance(thing, dict):
            thing = thing.get("id", thing.get("name"))
        if thing is not None:
            return thing
    return None
