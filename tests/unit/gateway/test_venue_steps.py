"""A market that stands between its bars: what trades when the next one passes, and what is seen meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import BarSeries
from strategies.exceptions import ConfigError
from tests.support.stepped import session_minutes, walk, write_bars
from tests.unit.gateway.venue_desk import SPY_ID, only, order, status_of, venue
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.model import CommissionReported, Executed, Execution, RequestError, VenueEvent

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
CLOSE = datetime(2020, 1, 2, 21, 0, tzinfo=UTC)
NEXT_OPEN = datetime(2020, 1, 3, 14, 30, tzinfo=UTC)
ROWS = [  # the first three are the past; the night lies between the seventh and the eighth
    (100.0, 100.0, 100.0, 100.0),
    (100.0, 100.0, 100.0, 100.0),
    (100.0, 100.5, 99.5, 100.2),
    (101.0, 102.0, 100.5, 101.5),
    (101.5, 103.0, 99.0, 102.0),
    (102.0, 102.5, 101.5, 102.2),
    (102.2, 102.4, 101.0, 101.2),
    (110.0, 111.0, 109.0, 110.5),
    (110.5, 112.0, 110.0, 111.0),
    (111.0, 111.5, 110.0, 110.2),
    (110.2, 110.4, 110.0, 110.4),
    (110.4, 110.6, 110.2, 110.4),
]


@pytest.fixture
def options(tmp_path: Path) -> VenueOptions:
    """Seven minutes before a close, five after the next open."""
    starts = np.concatenate([session_minutes(date(2020, 1, 2), 383, 7), session_minutes(date(2020, 1, 3), 0, 5)])
    columns = [np.array(column) for column in (*zip(*ROWS, strict=True), [10_000.0] * len(ROWS))]
    path = write_bars(tmp_path / "bars.parquet", [BarSeries.from_columns("SPY", "1m", starts, columns)])
    return VenueOptions(market=f"replay:{path}", clock="step", hours="exchange", partial_fills=False)


@pytest.fixture
def exchange(options: VenueOptions) -> Iterator[Exchange]:
    made = build_venue(options)
    made.advance(made.market_now(NOW))
    yield made
    made.close()


def now_of(exchange: Exchange) -> datetime:
    return exchange.market_now(NOW)


def last(exchange: Exchange) -> Decimal:
    price = exchange.quote(SPY_ID, now_of(exchange)).last
    assert price is not None
    return price


def place(exchange: Exchange, number: int, action: str = "BUY", **fields: Any) -> list[VenueEvent]:
    return exchange.place(order(number, action, 10, **fields), now_of(exchange))


def step(exchange: Exchange) -> list[Execution]:
    _, events = exchange.pass_bar()
    exchange.end_bar()
    return [event.execution for event in only(Executed, events)]


def test_it_stands_whatever_the_wall_says_and_shows_what_the_last_bar_left(exchange: Exchange) -> None:
    assert now_of(exchange) == exchange.market_now(NOW + timedelta(days=1)) == CLOSE - timedelta(minutes=4)
    assert last(exchange) == Decimal("100.2"), "the close before, not the opening that nobody has seen"
    step(exchange)
    assert now_of(exchange) == CLOSE - timedelta(minutes=3)
    assert last(exchange) == Decimal("101.5")


def test_nothing_trades_while_it_stands_and_an_order_can_be_taken_back(exchange: Exchange) -> None:
    assert not only(Executed, place(exchange, 1))
    assert not only(Executed, place(exchange, 2, tif="IOC"))
    for _ in range(3):
        assert not exchange.advance(now_of(exchange))
    exchange.cancel(1, 1, now_of(exchange))
    [fill] = step(exchange)
    assert fill.order_id == 2


def test_a_market_order_fills_at_the_next_opening_and_its_commission_is_told_at_once(exchange: Exchange) -> None:
    place(exchange, 1)
    begin, events = exchange.pass_bar()
    [fill] = [event.execution for event in only(Executed, events)]
    assert (fill.price, fill.time) == (Decimal("101.01"), begin)
    assert begin == CLOSE - timedelta(minutes=4)
    assert len(only(CommissionReported, events)) == 1


def test_a_fill_on_the_way_carries_the_last_second_of_its_bar(exchange: Exchange) -> None:
    place(exchange, 1, order_type="LMT", limit_price="99.50")
    assert not step(exchange)
    [fill] = step(exchange)
    assert fill.price == Decimal("99.50")
    assert fill.time.replace(second=0, microsecond=0) == CLOSE - timedelta(minutes=3)
    assert fill.time.second == 59


def test_an_order_of_the_evening_waits_for_the_morning(exchange: Exchange) -> None:
    for _ in range(4):
        step(exchange)
    assert now_of(exchange) == CLOSE
    assert last(exchange) == Decimal("101.2")
    place(exchange, 1)
    place(exchange, 2, order_type="LMT", limit_price="50")
    [fill] = step(exchange)
    assert (fill.price, fill.time) == (Decimal("110.01"), NEXT_OPEN)
    assert status_of(exchange, 2) == "Submitted"


def test_the_session_ends_with_its_last_bar_and_day_orders_with_it(exchange: Exchange) -> None:
    place(exchange, 1, order_type="LMT", limit_price="50")
    for _ in range(3):
        step(exchange)
        assert status_of(exchange, 1) == "Submitted"
    step(exchange)
    assert status_of(exchange, 1) == "Cancelled"


def test_a_trailing_stop_moves_at_the_end_of_a_bar_only(exchange: Exchange) -> None:
    place(exchange, 1, "SELL", order_type="TRAIL", aux_price="2.5", tif="GTC")
    assert not step(exchange)  # 102 − 2.5 = 99.5
    [fill] = step(exchange)
    assert fill.price == Decimal("99.49"), "99.5 less half the quotes' distance; the high of 103 counts from then on"


def test_an_order_waits_for_a_bar_of_its_own_instrument(tmp_path: Path) -> None:
    minutes = session_minutes(date(2020, 1, 2), 60, 8)
    spy, qqq = walk("SPY", np.delete(minutes, 3), 1), walk("QQQ", minutes, 2)  # SPY does not trade in the fourth
    path = write_bars(tmp_path / "gap.parquet", [spy, qqq])
    made = build_venue(
        VenueOptions(market=f"replay:{path}", clock="step", hours="exchange", partial_fills=False)
    )  # fmt: skip
    made.advance(made.market_now(NOW))
    step(made)
    place(made, 1)
    assert not step(made)
    [fill] = step(made)
    assert fill.price == Decimal(repr(float(spy.whole()[1][0][3]))) + Decimal("0.01")
    made.close()


def test_where_it_stands_outlives_a_restart(options: VenueOptions, tmp_path: Path) -> None:
    kept = replace(options, state_file=tmp_path / "state.json")
    first = build_venue(kept)
    first.advance(now_of(first))
    step(first)
    step(first)
    stood = now_of(first)
    first.close()
    second = build_venue(kept)
    assert now_of(second) == stood
    second.advance(stood)
    step(second)
    assert now_of(second) == stood + timedelta(minutes=1)
    second.close()


def test_behind_the_last_bar_a_step_is_refused(exchange: Exchange) -> None:
    for _ in range(9):
        step(exchange)
    before = now_of(exchange)
    with pytest.raises(RequestError, match="bars are over"):
        exchange.pass_bar()
    assert now_of(exchange) == before


def test_a_market_that_runs_by_itself_takes_no_steps() -> None:
    running = venue()
    with pytest.raises(RequestError, match="runs by itself"):
        running.pass_bar()
    with pytest.raises(ConfigError, match="stepped"):
        build_venue(VenueOptions(market="synthetic", clock="step"))
