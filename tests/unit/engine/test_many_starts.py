"""Many strategies that start at once ask for their cash once: each look reads every owner."""

from __future__ import annotations

from typing import Any

import pytest

from trading.engine import strategy_side
from trading.engine.manager import StrategyManager


def test_starts_at_once_share_one_look_and_a_later_one_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = StrategyManager()
    jobs: list[tuple[Any, str]] = []
    looks: list[str] = []
    monkeypatch.setattr(strategy_side, "allocate_missing", looks.append)

    def _submit(work: Any, name: str) -> None:
        jobs.append((work, name))

    monkeypatch.setattr(engine.message_queue, "submit", _submit)
    for _ in range(98):
        engine._allocate_soon()
    [(work, name)] = jobs
    work()
    assert (name, looks) == ("allocate", [engine.account_id])
    engine._allocate_soon()
    assert len(jobs) == 2
