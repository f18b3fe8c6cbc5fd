"""A restart at any step of a day with every kind of order is as if the venue had never stopped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gateway.test_venue_combos import combo
from tests.unit.gateway.test_venue_state import crashed, everything
from tests.unit.gateway.venue_desk import SECOND, START, order, venue
from trading.gateway.exchange import Exchange
from trading.gateway.model import ExecutionFilter

Step = Callable[[Exchange, datetime], Any]


def at(price: float) -> dict[str, Any]:
    """A limit order that will not fill: 0.01 to buy, much to sell."""
    return {"order_type": "LMT", "limit_price": str(price)}


def dearer(exchange: Exchange, now: datetime) -> None:
    """Correct the price of the day's first execution."""
    exchange.advance(now)
    first = exchange.executions(ExecutionFilter())[0][0]
    exchange.correct(first.exec_id, price=first.price + 1)


def placed(*arguments: Any, **fields: Any) -> Step:
    """Place an order."""
    return lambda exchange, now: exchange.place(order(*arguments, **fields), now)


STEPS: list[Step] = [
    placed(1, "SELL", order_type="TRAIL", aux_price="0.30", tif="GTC"),
    placed(2, "BUY", order_type="TRAIL LIMIT", trailingPercent="0.5", lmtPriceOffset="0.10", tif="GTC"),
    placed(3, "BUY", 50, order_type="MOC"),
    placed(4, "SELL", order_type="STP LMT", aux_price="5.00", limit_price="4.00", tif="GTD", goodTillDate="20261119"),
    placed(5, quantity=700, transmit=False),
    placed(6, "SELL", 700, parent_id=5, transmit=False, **at(900)),
    placed(7, "SELL", 700, parent_id=5, order_type="STP", aux_price="1.00"),
    placed(8, quantity=1000, oca_group="pair", ocaType=3, **at(0.01)),
    placed(9, quantity=3000, oca_group="pair", ocaType=3),
    lambda exchange, now: exchange.place(combo(10, quantity=300), now),
    lambda exchange, now: exchange.place_manual(order(0, quantity=5, tif="GTC", **at(1)), now),
    lambda exchange, now: exchange.bind_manual(now),
    lambda exchange, now: exchange.place_manual(order(0, quantity=6), now),
    placed(11, goodAfterTime="20261118-15:40:00"),
    lambda exchange, now: exchange.save(),
    lambda exchange, now: dearer(exchange, now),
]


@pytest.fixture(scope="module")
def steady() -> list[dict[str, object]]:
    """What a venue that never stops says after a minute and after the close."""
    exchange = venue()
    return play(exchange, lambda number, same: same)


def play(exchange: Exchange, before: Callable[[int, Exchange], Exchange]) -> list[dict[str, object]]:
    """All steps five seconds apart, then a minute, then the close."""
    now = START
    for number, step in enumerate(STEPS):
        exchange = before(number, exchange)
        step(exchange, now)
        now += 5 * SECOND
        exchange.advance(now)
    seen: list[dict[str, object]] = []
    for later in (now + 60 * SECOND, START + timedelta(hours=6)):
        exchange = before(len(STEPS) + len(seen), exchange)
        exchange.advance(later)
        exchange.advance(later + SECOND)
        seen.append(everything(exchange, later + SECOND))
    return seen


@pytest.mark.parametrize("stop", range(0, len(STEPS) + 2, 3))
def test_every_kind_of_order_outlives_a_crash(tmp_path: Path, stop: int, steady: list[dict[str, object]]) -> None:
    path = tmp_path / "state.json"

    def before(number: int, exchange: Exchange) -> Exchange:
        return crashed(path) if number == stop else exchange

    assert play(venue(state_file=path), before) == steady


def test_the_day_had_something_of_everything(steady: list[dict[str, Any]]) -> None:
    types = {o.request.order_type for o in (*steady[0]["open"], *steady[0]["completed"])}
    assert types >= {"TRAIL", "TRAIL LIMIT", "MOC", "STP LMT", "STP", "LMT", "MKT"}
    assert {e.contract.sec_type for e, _ in steady[0]["executions"]} == {"STK", "BAG"}
    assert {o.status for o in steady[1]["completed"]} == {"Filled", "Cancelled"}
