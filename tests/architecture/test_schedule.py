"""The table of tests that stay on one worker names files that exist, and the scheduler goes by it."""

from __future__ import annotations

from pathlib import Path

from tests.support.schedule import TOGETHER, group_of

ROOT = Path(__file__).resolve().parents[2]


def test_every_path_of_the_schedule_exists() -> None:
    assert [path for paths in TOGETHER.values() for path in paths if not (ROOT / path).exists()] == []


def test_tests_of_a_group_stay_together_and_others_go_alone() -> None:
    assert group_of("tests/browser/test_books.py::test_one") == group_of("tests/browser/test_console.py::test_two[3]")
    assert group_of("tests/browser/test_risk.py::test_one") == "stories"
    assert group_of("tests/unit/ib/test_x.py::test_one") == "tests/unit/ib/test_x.py::test_one"
