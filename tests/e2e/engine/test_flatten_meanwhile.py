"""Level 5 while fills go on arriving: sized anew for each of them, never turned around, flat in the end by IB's truth.

The venue works orders slowly here, so that a closing order can be overtaken; what it holds is looked at after every
single thing that happens there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from tests.e2e.engine.harness import DISCRETIONARY, Rig, position, until
from tests.e2e.engine.test_halt import mats_settings
from tests.e2e.faults.truth import OFTEN, assert_books_hold
from trading.engine import flattening
from trading.engine.manager import StrategyManager
from trading.gateway import exchange_matching
from trading.gateway.market import Market
from trading.gateway.testing import RunningGateway, running_gateway
from trading.models import Order
from trading.services import enqueue

__all__ = ["mats_settings"]

pytestmark = pytest.mark.e2e
A_TICK = Decimal(1)  # what an order gets of the market within 20 ms


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Callable[[Decimal], None]:
    """How much an order gets in each look of the venue at the market; nothing limits it at first."""
    monkeypatch.setattr(exchange_matching, "PARTICIPATION", Decimal(0))

    def _set(quantity: Decimal) -> None:
        monkeypatch.setattr(Market, "displayed", lambda *_, **__: quantity)

    _set(Decimal(100_000))
    return _set


@pytest.fixture
def gateway(pace: Callable[[Decimal], None]) -> Iterator[RunningGateway]:
    with running_gateway(market="synthetic", seed=7, commission_delay_s=0.02, partial_fills=True) as running:
        yield running


def held_at_venue(rig: Rig) -> dict[str, Decimal]:
    """Return what IB holds by ticker; on the gateway's loop."""
    venue, now = rig.gateway.venue, rig.gateway.server.hub.context.now()
    return {row.contract.symbol: row.quantity for row in venue.positions(now)}


@pytest.fixture
def history(rig: Rig) -> list[dict[str, Decimal]]:
    """Everything that IB held, in order: noted whenever the venue says anything to anybody."""
    noted: list[dict[str, Decimal]] = []
    flush = rig.gateway.server.flush

    def _noted() -> None:
        held = held_at_venue(rig)
        if not noted or noted[-1] != held:
            noted.append(held)
        flush()

    rig.gateway.call(lambda: setattr(rig.gateway.server, "flush", _noted))
    return noted


def started(rig: Rig) -> StrategyManager:
    engine = StrategyManager()
    engine.autostart = False
    engine.stop_grace_s = 5.0
    engine.session.times = OFTEN
    rig.engines.append(engine)
    engine.start()
    assert engine.gate.wait_open(20.0), engine.state_message
    return engine


def flatten(rig: Rig, **whose: str) -> Any:
    """Ask for level 5; return the command, under way."""
    return enqueue("kill", {"level": 5, "reason": "out", **whose}, source="test")


@contextmanager
def arriving(rig: Rig, *lines: str, every_s: float, times: int) -> Iterator[threading.Event]:
    """Have faults happen in turn at the gateway, over and over; the event tells when they are over."""
    over = threading.Event()

    def _go() -> None:
        for turn in range(times):
            rig.gateway.fault(lines[turn % len(lines)])
            threading.Event().wait(every_s)
        over.set()

    thread = threading.Thread(target=_go, daemon=True)
    thread.start()
    yield over
    thread.join(30)
    assert over.is_set()


def test_a_closing_order_that_a_late_fill_overtakes_is_withdrawn_and_the_rest_is_closed(
    rig: Rig, history: list[dict[str, Decimal]], pace: Callable[[Decimal], None]
) -> None:
    rig.strategy("A")
    engine = started(rig)
    strategy = rig.start(engine, "A")
    rig.trade(strategy, "SPY", 100)
    exit_order = rig.place(strategy, "SPY", -60, 9000.0)
    until(lambda: position("A", "SPY") == 100)
    pace(A_TICK)
    command = flatten(rig, owner="A")
    until(lambda: Decimal(80) < history[-1]["SPY"] < Decimal(98), 20, "it is being closed")
    rig.gateway.fault(f"fill 60 ref={exit_order.order_ref}")  # it came to the exchange before its cancel did
    result = rig.result(rig.finished(command.id, 60.0))
    assert result["left"] == {}, result
    assert history[-1].get("SPY", Decimal(0)) == 0
    assert min(held.get("SPY", Decimal(0)) for held in history) >= 0, "it was never turned around"
    closings = Order.objects.filter(client_id=0).order_by("id")
    assert [str(row.state) for row in closings] == ["cancelled", "filled"]
    assert sum(row.filled for row in closings) == 40
    assert_books_hold(rig, engine)


def test_level_5_goes_on_while_fills_go_on_and_ends_flat(rig: Rig, history: list[dict[str, Decimal]]) -> None:
    rig.strategy("A")
    engine = started(rig)
    strategy = rig.start(engine, "A")
    rig.trade(strategy, "SPY", 10)
    rig.trade(strategy, "TLT", -10)
    spy, tlt = rig.place(strategy, "SPY", 500, 1.0), rig.place(strategy, "TLT", -500, 9000.0)
    lines = (f"fill 3 ref={spy.order_ref}", f"fill 2 ref={tlt.order_ref}")
    with arriving(rig, *lines, every_s=0.5, times=8) as over:  # between two of them all is flat
        command = flatten(rig, owner="A")
        until(over.is_set, 30)
    result = rig.result(rig.finished(command.id, 90.0))
    assert result["left"] == {}, result
    assert {symbol for symbol, held in history[-1].items() if held} == set()
    assert [position("A", symbol) for symbol in ("SPY", "TLT")] == [0, 0]
    assert min(held.get("SPY", Decimal(0)) for held in history) >= 0
    assert max(held.get("TLT", Decimal(0)) for held in history) <= 0
    assert len(result["closed"]) >= 4
    assert_books_hold(rig, engine)


def test_level_5_of_the_account_ends_flat_while_people_trade_by_hand(
    rig: Rig, history: list[dict[str, Decimal]]
) -> None:
    for symbol in ("A", "B"):
        rig.strategy(symbol)
    engine = started(rig)
    first, second = rig.start(engine, "A"), rig.start(engine, "B")
    rig.trade(first, "SPY", 10)
    rig.trade(second, "SPY", -4)
    with arriving(rig, "hand SPY 2", "hand TLT 3", every_s=0.15, times=12) as over:
        command = flatten(rig)
        until(over.is_set, 30)
    result = rig.result(rig.finished(command.id, 90.0))
    assert result["left"] == {}, result
    assert {symbol for symbol, held in history[-1].items() if held} == set()
    owners = [(owner, symbol) for owner in ("A", "B", DISCRETIONARY) for symbol in ("SPY", "TLT")]
    assert [position(*one) for one in owners] == [0] * 6
    assert_books_hold(rig, engine)


def test_a_fill_that_is_never_told_is_found_before_level_5_says_flat(
    rig: Rig, history: list[dict[str, Decimal]], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_was_flat, look_on = threading.Event(), flattening._stirred

    def _noted(*args: Any) -> Any:
        all_was_flat.set()
        return look_on(*args)

    monkeypatch.setattr(flattening, "_stirred", _noted)
    rig.strategy("A")
    engine = StrategyManager()  # compares seldom: nobody but level 5 finds it
    engine.autostart = False
    engine.stop_grace_s = 5.0
    rig.engines.append(engine)
    engine.start()
    assert engine.gate.wait_open(20.0), engine.state_message
    strategy = rig.start(engine, "A")
    ticket = rig.trade(strategy, "SPY", 10)
    command = flatten(rig, owner="A")
    assert all_was_flat.wait(30)
    rig.gateway.fault(f"offfill SPY 7 ref={ticket.order_ref}")
    result = rig.result(rig.finished(command.id, 60.0))
    assert result["left"] == {}, result
    assert history[-1].get("SPY", Decimal(0)) == 0
    assert len(result["closed"]) == 2
    assert_books_hold(rig, engine)
