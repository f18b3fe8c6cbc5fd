"""Every row of the link's fault model is proved by tests that exist."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.e2e.faults.rows import PLACES, ROWS

ROOT = Path(__file__).resolve().parents[2]


@cache
def scenarios_in(path: str) -> frozenset[str]:
    """The test functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(name for name in found if name.startswith("test_"))


def test_every_row_is_there_once_and_has_a_test() -> None:
    assert list(ROWS) == list(range(1, 29))
    assert all(row.tests for row in ROWS.values())


def test_every_test_that_a_row_names_exists() -> None:
    named = {tuple(test.split("::")) for row in ROWS.values() for test in row.tests}
    missing = [f"{path}::{name}" for path, name in sorted(named) if name not in scenarios_in(path)]
    assert not missing


def test_every_scenario_of_the_fault_tests_stands_in_a_row() -> None:
    named = {test for row in ROWS.values() for test in row.tests}
    for path in PLACES:
        place = f"tests/e2e/faults/test_{path}.py"
        assert {f"{place}::{name}" for name in scenarios_in(place)} <= named
