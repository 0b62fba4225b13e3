"""How long a decision is kept: by sensitivity, by verdict, or as the caller says. Zero means not at all.

This module decides on numbers. It stores nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

OPTIMIZED_TTL: dict[str, float] = {"critical": 60, "confidential": 120, "internal": 180, "public": 300, "default": 120}
"""Seconds by level of sensitivity, unless configured."""

ALIASES: dict[str, float] = {"low": 300, "medium": 180, "high": 60}
"""Other names of levels that applications use, unless configured."""


def checked_seconds(name: str, value: Any, *, zero: bool) -> float:
    """Returns ``value`` if it is a number of seconds.

    Raises:
        TypeError: if it is neither an int nor a float.
        ValueError: if it is negative or NaN, or 0 where ``zero`` isn't allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be an int or a float (seconds), not {type(value).__name__}")
    if isnan(value) or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise ValueError(f"{name} must be a number of seconds, {least}, not {value!r}")
    return value


def effective_levels(defaults: Mapping[str, float], configured: Mapping[str, float] | None) -> dict[str, float]:
    """Returns the seconds by level: the configured ones, else the defaults, else the aliases.

    Raises:
        TypeError: if ``configured`` isn't a mapping.
        TypeError, ValueError: if a configured time isn't a number of seconds. 0 is one: such levels are never
            stored.
    """
    if configured is not None and not isinstance(configured, Mapping):
        raise TypeError(f"optimized_ttl must be a dict of seconds by level, or None, not {configured!r}")
    for level, seconds in (configured or {}).items():
        checked_seconds(f"optimized_ttl[{level!r}]", seconds, zero=True)
    return {**ALIASES, **defaults, **(configured or {})}


def is_allow(decision: Mapping[str, Any]) -> bool:
    """Returns whether a decision allows: its ``allow`` is True. Anything else counts as a denial."""
    return decision.get("allow") is True


def shortest(level: float, verdict: float | None) -> float:
    """Returns the shorter time. A verdict's own time can only shorten that of the level."""
    return level if verdict is None else min(level, verdict)
