"""The examples that type checkers read also run. What checkers say of them is checked by scripts/python-types.sh."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent / "typing").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_what_type_checkers_are_told_is_true(example: Path) -> None:
    runpy.run_path(str(example))
