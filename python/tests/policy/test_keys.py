"""Keys: two requests have the same key exactly if they are the same, whatever their ids and contexts hold."""

from __future__ import annotations

import enum
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sark_cache._core import PolicyFront
from sark_cache.policy import RustPolicyCache, Uncacheable, key_from_input
from sark_cache.policy.keys import KeyBuilder, encode

PREFIX = "policy:decision"
STATE = (bytes(range(16)), {encode("alice"): b"generation of al"})
BUILDER = KeyBuilder(PREFIX, "r1", {"now"})
FRONT = PolicyFront(PREFIX, "r1", ["now"])

# The alphabet is small, so that confusable values come up often.
tricky = st.one_of(
    st.text(alphabet=":/_*%\0\\a1é☃𝄞 ", max_size=6),
    st.sampled_from(
        ["", "none", "None", "1", "1.0", "true", "null", "NaN", "[]", "{}"]
        + ["a:b", "a/b", "a_b", "ä", "a\u0308", "alice"]
    ),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.integers(-(2**70), 2**70),
    st.floats(),
    tricky,
    st.binary(max_size=4),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tricky, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=8,
)
contexts = st.none() | st.dictionaries(tricky, values, max_size=4)
requests = st.tuples(tricky, tricky, tricky, contexts)


def canonical(value: Any) -> Any:
    """Returns something that is equal for two values exactly if they are the same value of the same type."""
    if isinstance(value, dict):
        return ("dict", tuple(sorted((name, canonical(item)) for name, item in value.items())))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(canonical(item) for item in value))
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else value.hex())
    return (type(value).__name__, repr(value))


def same(one: Any, other: Any) -> bool:
    return canonical(one) == canonical(other)


def key(*request: Any) -> str:
    return BUILDER.key(STATE, *request)


@given(requests, requests)
@settings(max_examples=300, deadline=None)
def test_two_requests_have_one_key_exactly_if_they_are_the_same(one: Any, other: Any) -> None:
    equal = all(same(a, b) for a, b in zip(one[:3], other[:3], strict=True)) and same(
        covered(one[3]), covered(other[3])
    )
    assert (key(*one) == key(*other)) == equal


def covered(context: Any) -> Any:
    context = {name: value for name, value in (context or {}).items() if name != "now"}
    return context or None


@given(values, values)
@settings(max_examples=300, deadline=None)
def test_two_values_have_one_encoding_exactly_if_they_are_the_same(one: Any, other: Any) -> None:
    assert (encode(one) == encode(other)) == same(one, other)


@given(st.tuples(scalars, scalars, scalars, st.none() | values))
@settings(max_examples=300, deadline=None)
def test_the_native_module_builds_the_same_keys_to_the_byte(request: Any) -> None:
    assert FRONT.key(STATE, *request) == key(*request)


@given(st.permutations(["a", "b", "now", "é", "𝄞", ""]), values)
@settings(deadline=None)
def test_the_order_of_fields_makes_no_difference(names: list[str], value: Any) -> None:
    context = {name: [name, value] for name in names}
    ordered = {name: [name, value] for name in sorted(names)}
    assert key("u", "a", "r", context) == key("u", "a", "r", ordered)
    assert FRONT.key(STATE, "u", "a", "r", context) == key("u", "a", "r", ordered)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (True, 1),
        (1, 1.0),
        (1, "1"),
        (0.0, False),
        (None, "none"),
        (None, "null"),
        (b"a", "a"),
        ([], {}),
        ([1, [2]], [[1], 2]),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        ("\u00e9", "e\u0301"),
        (math.nan, "NaN"),
        (2**64, float(2**64)),
    ],
)
def test_values_that_look_alike_are_told_apart(one: Any, other: Any) -> None:
    assert key("u", "a", "r", {"x": one}) != key("u", "a", "r", {"x": other})
    assert FRONT.key(STATE, "u", "a", "r", {"x": one}) != FRONT.key(STATE, "u", "a", "r", {"x": other})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a:b", "c", "d"), ("a", "b:c", "d")),
        (("u", "a", "a/b"), ("u", "a", "a:b")),
        (("u", "a", "a_b"), ("u", "a", "a:b")),
        (("u:", "a", "r"), ("u", ":a", "r")),
        (("", "u", "r"), ("u", "", "r")),
        ((1, "a", "r"), ("1", "a", "r")),
    ],
)
def test_parts_can_not_pose_as_each_other(one: Any, other: Any) -> None:
    assert key(*one, None) != key(*other, None)


def test_a_key_is_readable() -> None:
    shape = r"policy:decision:alice:tool:invoke:mcp_tool_search:[0-9a-f]{64}:"
    assert re.fullmatch(shape + "none", key("alice", "tool:invoke", "mcp/tool:search", None))
    assert re.fullmatch(shape + "[0-9a-f]{16}", key("alice", "tool:invoke", "mcp/tool:search", {"a": 1}))


def test_an_empty_context_is_none() -> None:
    assert key("u", "a", "r", {}) == key("u", "a", "r", None)
    assert key("u", "a", "r", {"now": 17}) == key("u", "a", "r", None)


def test_fields_that_are_volatile_are_left_out_and_no_others() -> None:
    assert key("u", "a", "r", {"now": 1, "ip": "x"}) == key("u", "a", "r", {"now": 2, "ip": "x"})
    assert key("u", "a", "r", {"deep": {"now": 1}}) != key("u", "a", "r", {"deep": {"now": 2}})


def test_the_revision_of_the_policies_is_part_of_the_key() -> None:
    keys = {KeyBuilder(PREFIX, revision).key(STATE, "u", "a", "r", None) for revision in (None, "", "r1", "r2")}
    assert len(keys) == 4


def test_generations_are_part_of_the_key() -> None:
    everything, users = STATE
    states = [STATE, (everything, {}), (bytes(16), users), (everything, {encode("alice"): bytes(16)})]
    assert len({BUILDER.key(state, "alice", "a", "r", None) for state in states}) == 4
    assert len({FRONT.key(state, "alice", "a", "r", None) for state in states}) == 4


class Role(str, enum.Enum):
    """An enum that hashes by its name and is the text of its value."""

    ADMIN = "alice"


class Level(enum.IntEnum):
    HIGH = 3


def test_an_enum_counts_as_what_it_holds_and_is_invalidated_as_such() -> None:
    for build in (BUILDER.key, FRONT.key):
        assert build(STATE, Role.ADMIN, "a", "r", {"x": Level.HIGH}) == build(STATE, "alice", "a", "r", {"x": 3})


class Fields(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return [("shown", 1)]


def itself() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        1j,
        Fields(a=1),
        {1: 2},
        {None: 1},
        {Role.ADMIN: 1},
        bytearray(b"a"),
        "\ud800",
        {"\ud800": 1},
        itself(),
    ],
    ids=repr,
)
def test_what_is_neither_json_nor_bytes_is_refused_by_name(value: Any) -> None:
    with pytest.raises(Uncacheable, match=r"context\['x'\]"):
        key("u", "a", "r", {"x": value})
    assert FRONT.key(STATE, "u", "a", "r", {"x": value}) is None
    for request in ((value, "a", "r", None), ("u", value, "r", None), ("u", "a", value, None)):
        with pytest.raises(Uncacheable):
            key(*request)
        assert FRONT.key(STATE, *request) is None


def test_nesting_is_allowed_to_the_same_depth_in_both() -> None:
    for depth in (60, 63, 64, 65, 66, 5000):
        context: Any = {"x": 1}
        for _ in range(depth):
            context = {"x": context}
        try:
            expected = key("u", "a", "r", context)
        except Uncacheable:
            expected = None
        assert FRONT.key(STATE, "u", "a", "r", context) == expected
        assert (expected is None) == (depth >= 64)


def test_a_cache_and_its_native_part_agree_on_keys() -> None:
    cache = RustPolicyCache(policy_revision="r7", volatile_fields=["now"])
    request = ("alice", "read", "doc:1", {"now": 1, "b": [1.5, None]})
    assert cache._generate_cache_key(*request) == super(RustPolicyCache, cache)._key(*request)


def test_a_full_policy_input_covers_roles_teams_and_tools() -> None:
    policy_input = {
        "user": {"id": "alice", "roles": ["dev"], "teams": ["t1"]},
        "action": "tool:invoke",
        "tool": {"name": "search", "sensitivity_level": "high"},
        "context": {"timestamp": 1, "ip": "10.0.0.1"},
    }
    request = key_from_input(policy_input, volatile_fields=["timestamp"])
    assert request[:3] == ("alice", "tool:invoke", "search")

    def changed(path: list[str], value: Any) -> dict[str, Any]:
        copy = json.loads(json.dumps(policy_input))
        place = copy
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        return copy  # type: ignore[no-any-return]

    def key_of(policy_input: dict[str, Any]) -> str:
        return key(*key_from_input(policy_input, volatile_fields=["timestamp"]))

    assert key_of(changed(["context", "timestamp"], 2)) == key_of(policy_input)
    others = [
        changed(["user", "roles"], []),
        changed(["user", "teams"], ["t2"]),
        changed(["tool", "sensitivity_level"], "low"),
        changed(["context", "ip"], "10.0.0.2"),
    ]
    assert len({key_of(policy_input), *map(key_of, others)}) == 5


@pytest.mark.parametrize("missing", ["user", "action"])
def test_an_input_without_user_or_action_is_refused(missing: str) -> None:
    policy_input = {"user": "alice", "action": "read"}
    del policy_input[missing]
    with pytest.raises(ValueError, match=missing):
        key_from_input(policy_input)


def test_a_str_is_no_collection_of_fields_for_it_would_take_out_every_name_that_is_part_of_it() -> None:
    def asked(user_id: int) -> dict[str, Any]:
        return {"user": "alice", "action": "read", "context": {"id": user_id, "request_id": "r1"}}

    one, other = (key_from_input(asked(user_id), volatile_fields=["request_id"]) for user_id in (1, 2))
    assert key(*one) != key(*other)
    for refused in ("request_id", b"request_id", 5, [5], None):
        with pytest.raises(TypeError, match="volatile_fields must be a collection of str"):
            key_from_input(asked(1), volatile_fields=refused)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="volatile_fields must be a collection of str"):
            RustPolicyCache(volatile_fields=refused)


def test_fields_that_come_one_by_one_are_left_out_all_the_same() -> None:
    policy_input = {"user": "alice", "action": "read", "context": {"now": 1, "ip": "10.0.0.1"}}
    request = key_from_input(policy_input, volatile_fields=(name for name in ["now"]))  # type: ignore[arg-type]
    assert request.context is not None and request.context["context"] == {"ip": "10.0.0.1"}
    one_by_one = RustPolicyCache(volatile_fields=(name for name in ["now"]))
    assert one_by_one._generate_cache_key("u", "a", "r", {"now": 1}).endswith(":none")


def test_an_input_that_is_no_mapping_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="full_policy_input must be a dict, not int"):
        key_from_input(5)  # type: ignore[arg-type]
