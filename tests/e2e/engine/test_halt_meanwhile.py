"""Halts and kill levels, by every way in, while something else is under way.

A rebalancing holds the ledger; strategies share a connection; one of them hangs it, and its line may be dead as well.
Every statement about orders is made by what reached the gateway.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connections
from django.test import Client

from portfolio import rebalance
from portfolio.models import Adjustment
from portfolio.verification import Outcome, verify_all
from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import Rig, position, until
from tests.e2e.engine.test_halt import BUSY, HALT_S, mats_settings
from trading import risk_control
from trading.engine import kill
from trading.models import EngineCommand, Order
from trading.risk_models import TradingControl
from trading.services import enqueue

__all__ = ["mats_settings"]

pytestmark = pytest.mark.e2e

WORKS = """
from ib_async import Stock
from strategies.base import BaseStrategy

class WorksStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.hang = self.let_go = False
    async def run_strategy(self):
        import asyncio, time
        await self.place_order(Stock("SPY", "SMART", "USD"), 5, "LMT", algo=False, limit=1.0)
        entry = await self.place_order(Stock("TLT", "SMART", "USD"), 3, algo=False)
        await entry.wait_done(15.0)
        while not self.hang and self.is_running:
            await asyncio.sleep(0.01)
        while self.hang and not self.let_go:
            time.sleep(0.02)
        await self.until_stopped()
"""


def client_of(name: str) -> Client:
    """Return a browser in which an operator is logged in."""
    user = User.objects.create_user(name, password="correct horse 7")
    user.groups.add(Group.objects.get(name="operator"))
    client = Client()
    client.force_login(user)
    return client


def api(client: Client, path: str, **payload: Any) -> None:
    answer = client.post(f"/api/risk/{path}", {"reason": "stop", **payload}, content_type="application/json")
    assert answer.status_code in (200, 202), answer.content


def form(client: Client, path: str, **posted: Any) -> None:
    assert client.post(path, {"reason": "stop", **posted}).status_code in (200, 302)


def ways_in(client: Client) -> dict[str, Callable[[], Any]]:
    """Return every way to halt the account."""
    return {
        "file": lambda: risk_control.halt_file().path.touch(),
        "command line, halt": partial(call_command, "halt"),
        "command line, level 3": partial(call_command, "kill", "--level", "3"),
        "command line, level 4": partial(call_command, "kill", "--level", "4", "--yes"),
        "command line, level 5": partial(call_command, "kill", "--level", "5", "--yes"),
        "page, state": partial(form, client, "/risk/do/state/", state="halted"),
        "page, level 4": partial(form, client, "/actions/kill/", level=4, confirm="yes"),
        "api, state": partial(api, client, "state", state="halted"),
        "api, level 3": partial(api, client, "kill", level=3),
        "api, level 5": partial(api, client, "kill", level=5, confirm=True),
        "dead-man switch": partial(call_command, "watch_engine", "--drill"),
    }


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[None]:
    """Do something on another thread; it must have ended well in the end."""
    errors: list[BaseException] = []

    def _run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised in the test
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=_run, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()
    assert not errors, errors


@contextmanager
def rebalancing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the message thread stand in the middle of a rebalancing, its transaction open; it is whole in the end."""
    planned, go_on = threading.Event(), threading.Event()
    plan = rebalance.plan_rebalance

    def _slowly(*args: Any, **named: Any) -> Any:
        lines = plan(*args, **named)
        planned.set()
        assert go_on.wait(20)
        return lines

    with monkeypatch.context() as patched:
        patched.setattr(rebalance, "plan_rebalance", _slowly)
        command = enqueue("rebalance", {"force": True, "reason": "test"}, source="test")
        assert planned.wait(20)
        try:
            yield
        finally:
            go_on.set()
        result = rig.result(rig.finished(command.id, 30.0))
    moved = [line for line in result["lines"] if Decimal(line["amount"])]
    assert len(result["adjustments"]) == len(moved)
    assert Adjustment.objects.filter(pk__in=result["adjustments"]).count() == len(moved)


@pytest.fixture
def sent(rig: Rig) -> list[tuple[float, int]]:
    """When orders reached the gateway's venue, and from which client; 0 is the master, 901 the dead-man switch."""
    moments: list[tuple[float, int]] = []
    venue = rig.gateway.venue
    place = venue.place

    def _noted(request: Any, *args: Any, **kwargs: Any) -> Any:
        moments.append((time.monotonic(), request.client_id))
        return place(request, *args, **kwargs)

    rig.gateway.call(lambda: setattr(venue, "place", _noted))
    return moments


def of_strategies(sent: list[tuple[float, int]]) -> list[float]:
    return [moment for moment, client_id in list(sent) if 0 < client_id < 99]


def released(engine: Any) -> None:
    risk_control.release("", reason="over", actor="anna", source="cli")
    until(lambda: not engine.gate.halted, 10, "released")


def test_every_way_in_halts_at_once_while_a_rebalancing_holds_the_ledger(
    rig: Rig, sent: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own and shared connections alike; orders that waited for the ledger meanwhile are refused when it is free."""
    for symbol in ("OWN", "S1", "S2"):
        rig.strategy(symbol, BUSY, weight="0.2", connection="own" if symbol == "OWN" else "shared")
    engine = rig.engine()
    busy = [rig.start(engine, symbol) for symbol in ("OWN", "S1", "S2")]
    for name, way in ways_in(client_of("otto")).items():
        released(engine)
        before, denied = len(sent), [one.denied for one in busy]
        until(lambda: len(sent) >= before + 6, 30, "orders flow")  # noqa: B023 - now
        with ExitStack() as both:
            with rebalancing(rig, monkeypatch):
                both.enter_context(meanwhile(way))
                until(lambda: engine.gate.halted, 5, name)
                halted = time.monotonic()
        until(
            lambda: all(one.denied > was for one, was in zip(busy, denied, strict=True)),  # noqa: B023 - now
            20,
            f"each of them is refused: {name}",
        )
        late = [moment for moment in of_strategies(sent) if moment > halted + HALT_S]
        assert not late, name
        until(lambda: {one.last for one in busy} == {"halted"}, 10, f"for the halt: {name}")
        until(lambda: TradingControl.objects.filter(owner="", state="halted").exists(), 10, f"on record: {name}")
        # A kill that the engine has not done yet halts once more, also after a release.
        until(lambda: not EngineCommand.objects.filter(finished_at=None).exists(), 20, f"done: {name}")
    until(lambda: all(check.outcome is not Outcome.FAILS for check in verify_all(arctic=False).checks), 20)
    rig.assert_books_equal_broker()


def test_levels_of_one_strategy_while_a_rebalancing_holds_the_ledger_reach_it_alone(
    rig: Rig, sent: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are rows, and wait for the ledger; the engine's own call does not, and asks IB at once."""
    for symbol in ("ONE", "TWO"):
        rig.strategy(symbol, WORKS, weight="0.2", connection="shared")
    engine = rig.engine()
    one, two = (rig.start(engine, symbol) for symbol in ("ONE", "TWO"))
    assert one.client_id == two.client_id
    until(lambda: [position(symbol, "TLT") for symbol in ("ONE", "TWO")] == [3, 3], 20)
    with ExitStack() as both:
        with rebalancing(rig, monkeypatch):
            began = time.monotonic()
            both.enter_context(meanwhile(lambda: kill.kill(engine, kill.FLATTEN, "ONE", "stop", "tester", "cli")))
            until(lambda: working(rig) == {"TWO"}, 5, "ONE's order is cancelled at the gateway")
            assert time.monotonic() - began < 2.0
            assert "ONE" in engine.gate.halted
    assert position("ONE", "TLT") == 0
    assert position("TWO", "TLT") == 3
    assert working(rig) == {"TWO"}
    rig.trade(two, "QQQ", 1)
    with ExitStack() as both:
        with rebalancing(rig, monkeypatch):
            both.enter_context(meanwhile(partial(call_command, "halt", "--strategy", "TWO")))
    until(lambda: "TWO" in engine.gate.halted, 10, "in force once it could be written")
    with pytest.raises(OrderDeniedError, match="TWO is halted"):
        rig.trade(two, "QQQ", 1)
    assert working(rig) == {"TWO"}
    call_command("kill", "--level", "2", "--strategy", "TWO")
    assert working(rig) == set()
    assert position("TWO", "TLT") == 3
    rig.assert_books_equal_broker()


def working(rig: Rig) -> set[str]:
    """Return the owners of the orders that the gateway works."""
    found = rig.gateway.call(lambda: [order.request.order_ref for order in rig.gateway.venue.open_orders()])
    return {ref.partition("/")[0] for ref in found}


def hung_pair(rig: Rig, engine: Any) -> tuple[Any, Any]:
    """Two on one connection, each with a working order and a position; then the second hangs the loop of both."""
    rig.strategy("QUIET", WORKS, connection="shared")
    rig.strategy("HANGS", WORKS, connection="shared")
    quiet, hangs = rig.start(engine, "QUIET"), rig.start(engine, "HANGS")
    assert quiet.client_id == hangs.client_id
    until(lambda: [position(symbol, "TLT") for symbol in ("QUIET", "HANGS")] == [3, 3], 20)
    until(lambda: working(rig) == {"QUIET", "HANGS"}, 20)
    hangs.hang = True
    ticks: list[int] = []
    quiet._loop.call_soon_threadsafe(lambda: quiet._loop.call_later(0.05, ticks.append, 1))
    threading.Event().wait(0.3)
    assert not ticks, "the loop of both hangs"
    return quiet, hangs


def test_levels_reach_each_of_those_that_share_a_connection_which_one_of_them_hangs(rig: Rig) -> None:
    engine = rig.engine()
    _, hangs = hung_pair(rig, engine)
    try:
        began = time.monotonic()
        result = rig.result(rig.do("kill", level=2, owner="HANGS", reason="stop"))
        assert (len(result["asked"]), result["working"], result["errors"]) == (1, [], {})
        assert working(rig) == {"QUIET"}
        assert time.monotonic() - began < 5.0

        result = rig.result(rig.do("kill", level=5, owner="HANGS", reason="stop", timeout_s=60.0))
        assert (result["left"], result["working"]) == ({}, []), result
        assert [position(symbol, "TLT") for symbol in ("QUIET", "HANGS")] == [3, 0]
        assert working(rig) == {"QUIET"}

        result = rig.result(rig.do("kill", level=4, reason="stop", timeout_s=60.0))
        assert working(rig) == set(), result
        result = rig.result(rig.do("kill", level=5, reason="stop", timeout_s=60.0))
        assert (result["left"], result["working"]) == ({}, []), result
        assert [position(symbol, "TLT") for symbol in ("QUIET", "HANGS")] == [0, 0]
        rig.assert_books_equal_broker()
    finally:
        hangs.let_go = True


def test_order_of_a_hung_strategy_whose_line_is_dead_as_well_is_told_by_level_2_and_cancelled_by_level_4(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel of its own client goes into the hole; the master's reaches it."""
    monkeypatch.setattr(kill, "CANCEL_WAIT_S", 2.0)
    engine = rig.engine()
    quiet, hangs = hung_pair(rig, engine)
    rig.gateway.fault(f"hole client={quiet.client_id}")
    try:
        result = rig.result(rig.do("kill", level=2, owner="HANGS", reason="stop", timeout_s=30.0))
        assert working(rig) == {"QUIET", "HANGS"}
        assert len(result["working"]) == 1
        assert "1 still work" in result["text"]
        result = rig.result(rig.do("kill", level=4, reason="stop", timeout_s=60.0))
        assert working(rig) == set(), result
        result = rig.result(rig.do("kill", level=5, reason="stop", timeout_s=60.0))
        assert result["left"] == {}, result
        rig.assert_books_equal_broker()
    finally:
        hangs.let_go = True


def test_level_4_cancels_an_order_that_was_still_on_its_way(rig: Rig) -> None:
    """IB's list of orders is empty when it is asked to cancel all; then the order comes."""
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")
    rig.gateway.fault(f"lag 1200ms placeOrder client={strategy.client_id}")
    ticket = rig.place(strategy, "SPY", 2, 1.0)
    result = rig.result(rig.do("kill", level=4, reason="stop", timeout_s=60.0))
    until(lambda: rig.gateway.fired(f"lag 1200ms placeOrder client={strategy.client_id}") == 1, 10)
    until(lambda: Order.objects.get(order_ref=ticket.order_ref).state == "cancelled", 15, "it is cancelled")
    assert working(rig) == set(), result
    assert result["working"] == []
