"""The examples for type checkers also run. scripts/python-types.sh checks what the checkers report about them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent / "typing").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_what_type_checkers_are_told_is_true(example: Path) -> None:
    runpy.run_path(str(example))
