"""Floats, sentinels and texts of IB become Decimals, None and aware UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ib_async import Contract, LimitOrder, MarketOrder, Order, StopOrder

from tests.unit.ib import wire
from trading.ib import mapping


@given(st.decimals(min_value=-1_000_000, max_value=1_000_000, places=6))
def test_decimal_survives_the_way_through_ibs_floats(number: Decimal) -> None:
    assert mapping.to_decimal(float(str(number))) == number


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.7976931348623157e308])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not a number"):
        mapping.to_decimal(value)
    assert mapping.to_optional_decimal(value) is None


def test_binary_noise_beyond_ten_places_is_rounded() -> None:
    assert mapping.to_decimal(0.1 + 0.2) == Decimal("0.3")


def test_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        mapping.to_utc(datetime(2026, 1, 2, 3, 4))  # noqa: DTZ001 - the case under test
    assert mapping.to_utc(datetime(2026, 1, 2, tzinfo=UTC)).tzinfo is UTC


def test_contract_without_id_is_refused() -> None:
    with pytest.raises(ValueError, match="conId"):
        mapping.contract_snapshot(Contract(symbol="AAPL"))


def test_option_keeps_multiplier_strike_and_right() -> None:
    option = Contract(conId=1, symbol="SPY", secType="OPT", multiplier="100", strike=470.5, right="C")
    snapshot = mapping.contract_snapshot(option)
    assert (snapshot.multiplier, snapshot.strike, snapshot.right) == (Decimal(100), Decimal("470.5"), "C")


def test_stock_has_multiplier_one_and_no_strike() -> None:
    snapshot = mapping.contract_snapshot(wire.stock())
    assert (snapshot.multiplier, snapshot.strike, snapshot.right) == (Decimal(1), None, "")


@pytest.mark.parametrize(
    ("order", "limit", "stop"),
    [
        (LimitOrder("BUY", 1, 10.25), Decimal("10.25"), None),
        (StopOrder("SELL", 1, 9.5), None, Decimal("9.5")),
        (MarketOrder("BUY", 1, lmtPrice=0.0, auxPrice=0.0), None, None),
    ],
)
def test_prices_are_those_of_the_order_type(order: Order, limit: Decimal | None, stop: Decimal | None) -> None:
    assert (mapping.limit_of(order), mapping.stop_of(order)) == (limit, stop)


def test_completed_order_tells_its_filled_quantity() -> None:
    trade = wire.known_order(wire.listening_ib(), status="Cancelled")
    trade.order.filledQuantity = 40
    assert mapping.trade_snapshot(trade).filled == Decimal(40)
