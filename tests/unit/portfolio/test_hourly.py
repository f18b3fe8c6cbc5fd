"""Hourly snapshots: once an hour, of the running hour, with what was realised carried on."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import logging
from datetime import timedelta
from decimal import Decimal

import pytest

from portfolio.fold import Item
from portfolio.hourly import hour_of, is_due, take_hourly_snapshot
from portfolio.models import HourlySnapshot, Movement
from portfolio.services import (
    allocate_strategy,
    ensure_account,
    fold_batch,
    open_account,
    record_account_values,
    record_marks,
)
from strategies.exceptions import LedgerError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
LATE = NOW + timedelta(minutes=7)


@pytest.fixture(autouse=True)
def _books() -> None:
    Strategy.objects.create(symbol="ALPHA", filename="a.py", target_weight=Decimal("0.2"))
    Strategy.objects.create(symbol="IDLE", filename="i.py", active=True)
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(20_000), "USD", NOW)
    items: list[Item] = [fill(1, 100, 50), fee(1, "1"), fill(2, -40, 55)]
    fold_batch(ACCOUNT, items, owner_of, NOW)
    record_marks({265598: Decimal(52)}, NOW)
    rows = [("NetLiquidation", "100319", "USD"), ("AvailableFunds", "90000", "USD"), ("BuyingPower", "360000", "USD")]
    record_account_values(ACCOUNT, rows, NOW)


def taken(hour_at: timedelta = timedelta(0)) -> dict[str, HourlySnapshot]:
    return {row.owner: row for row in take_hourly_snapshot(ACCOUNT, NOW + hour_at, LATE + hour_at)}


def test_every_owner_and_active_strategy_has_a_row_of_one_moment() -> None:
    rows = taken()
    assert set(rows) == {"", "ALPHA", "Discretionary", "IDLE"}
    assert {(row.hour, row.taken_at) for row in rows.values()} == {(NOW, LATE)}
    assert {row.last_movement for row in rows.values()} == {Movement.objects.order_by("-id")[0].pk}
    alpha = rows["ALPHA"]
    assert (alpha.equity, alpha.realized_pnl, alpha.unrealized_pnl) == (20_319, 199, 120)
    assert rows["IDLE"].equity == 0


def test_account_row_summarises_the_account() -> None:
    figures = taken()[""].figures
    assert (figures["equity"], figures["available_funds"], figures["buying_power"]) == ("100319", "90000", "360000")
    assert (figures["currency"], figures["pnl"], figures["books_equity"]) == ("USD", "319", "100319")
    assert figures["cash"] is None, "IB has not said it"


def test_an_hour_is_written_once() -> None:
    assert is_due(ACCOUNT, LATE)
    assert len(taken()) == 4
    assert taken() == {}
    assert not is_due(ACCOUNT, LATE)
    assert HourlySnapshot.objects.count() == 4


def test_flat_position_carries_what_it_realised_into_later_hours() -> None:
    fold_batch(ACCOUNT, [fill(3, -60, 60)], owner_of, NOW)
    first, second = taken()["ALPHA"], taken(HOUR)["ALPHA"]
    for row in (first, second):
        (held,) = [one for one in row.positions if one["row_type"] == "POSITION"]
        assert (held["con_id"], held["quantity"], held["realized_pnl"]) == (265598, "0", "799")
        assert row.realized_pnl == 799


def test_cash_stands_beside_positions_by_currency() -> None:
    fold_batch(ACCOUNT, [fill(4, 1, 10, of=contract(7, "SIE", currency="EUR")), fee(4, "2", "USD")], owner_of, NOW)
    cash = {one["symbol"]: one["quantity"] for one in taken()["ALPHA"].positions if one["row_type"] == "CASH"}
    assert cash == {"EUR": "-10", "USD": "17197"}


def test_what_is_unknown_stays_null_and_says_why() -> None:
    fold_batch(ACCOUNT, [fill(4, 1, 10, of=contract(7, "SIE"))], owner_of, NOW)
    alpha = taken()["ALPHA"]
    assert (alpha.equity, alpha.unrealized_pnl, alpha.realized_pnl) == (None, None, 199)
    assert "SIE has no price" in alpha.figures["reason"]


@pytest.mark.parametrize(("hours", "code"), [(-1, "snapshot_in_past"), (1, "snapshot_in_future")])
def test_only_the_running_hour_can_be_taken(hours: int, code: str) -> None:
    with pytest.raises(LedgerError) as caught:
        take_hourly_snapshot(ACCOUNT, NOW + hours * HOUR, LATE)
    assert caught.value.code == code
    assert HourlySnapshot.objects.count() == 0


def test_clock_that_was_set_back_writes_nothing_before_the_last_hour() -> None:
    taken(HOUR)
    with pytest.raises(LedgerError) as caught:
        taken()
    assert caught.value.code == "snapshot_in_past"


def test_part_of_an_hour_is_no_hour() -> None:
    with pytest.raises(LedgerError):
        take_hourly_snapshot(ACCOUNT, LATE, LATE)
    assert hour_of(LATE) == NOW


def test_missed_hours_are_logged_and_stay_empty(caplog: pytest.LogCaptureFixture) -> None:
    taken()
    with caplog.at_level(logging.WARNING, "portfolio.hourly"):
        taken(4 * HOUR)
    assert "missed count=3" in caplog.text
    assert HourlySnapshot.objects.values("hour").distinct().count() == 2
