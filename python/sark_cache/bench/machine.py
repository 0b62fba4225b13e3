"""The machine and the Python that figures belong to, and the threads of this process. Measures nothing."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path


def describe() -> dict[str, object]:
    """Returns the processor, usable CPUs, system and Python: the head of every report."""
    return {"cpu": _processor(), "cores": _cores(), "os": platform.system(), "python": _python()}


def version_of(distribution: str) -> str | None:
    """Returns the installed version of a distribution, or None if it isn't installed as one."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def thread_count() -> int | None:
    """Returns the number of threads in this process, or None where the system doesn't tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _python() -> str:
    free_threaded = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else " without GIL"
    return f"{platform.python_implementation()} {platform.python_version()}{free_threaded}"
