"""Log texts of ib_async cost the same however many fills an order has."""

from __future__ import annotations

import sys

from ib_async import CommissionReport, Execution, Fill

from tests.unit.ib import wire
from trading.ib import patches


def _calls_to_format(fills: int) -> int:
    """Count Python calls, not time: the machine's load must not decide."""
    trade = wire.known_order(wire.listening_ib())
    when = Execution().time
    trade.fills += [Fill(trade.contract, Execution(execId=str(n)), CommissionReport(), when) for n in range(fills)]
    calls = 0

    def _count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(_count)
    try:
        text = f"orderStatus: {trade}"
    finally:
        sys.setprofile(None)
    assert f"fills={fills}" in text
    return calls


def test_text_of_a_trade_does_not_grow_with_its_fills() -> None:
    assert _calls_to_format(2_000) == _calls_to_format(1) < 100


def test_applying_twice_changes_nothing() -> None:
    before = Execution.__repr__
    patches.apply()
    assert Execution.__repr__ is before
