"""Log texts of ib_async cost the same however many fills an order has."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import pytest
from ib_async import CommissionReport, Contract, Execution, Fill, Order
from ib_async.util import parseIBDatetime

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


@pytest.mark.parametrize(
    "text",
    [
        "20251104 15:13:24 MET",
        "20251104 15:13:24 US/Eastern",
        "20221125 10:00:00 Europe/Amsterdam",
        "20251104  15:13:24",
        "20251104-15:13:24",
        "20251104",
        "1762265604",
    ],
)
def test_times_are_read_as_ib_async_reads_them(text: str) -> None:
    assert patches._read_time(text) == parseIBDatetime(text)


def test_unknown_zone_is_an_error_not_a_guess() -> None:
    with pytest.raises(KeyError):
        patches._read_time("20251104 15:13:24 Nowhere/Land")


@pytest.mark.parametrize("cls", [Contract, Execution, Order])
@pytest.mark.parametrize("filled", [True, False])
def test_fields_are_read_as_ib_async_reads_them(cls: type[Any], filled: bool) -> None:
    def _raw() -> Any:
        texts = {int: "7", float: "7.25", bool: "1", str: "x"}
        made = cls()
        for field in dataclasses.fields(cls):
            if type(field.default) in texts:
                setattr(made, field.name, texts[type(field.default)] if filled else "")
        return made

    ours, theirs = _raw(), _raw()
    patches._parse(None, ours)
    for field in dataclasses.fields(cls):  # the rule of ib_async's decoder, spelled out
        value, kind = getattr(theirs, field.name), type(field.default)
        if kind in (int, float):
            setattr(theirs, field.name, kind(value) if value else field.default)
        elif kind is bool:
            setattr(theirs, field.name, bool(int(value)) if value else field.default)
    assert dataclasses.astuple(ours) == dataclasses.astuple(theirs)
