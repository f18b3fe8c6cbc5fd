"""Brackets, groups, combinations and rolls as a strategy asks for them; the example of the docs, run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from ib_async import Future, Stock

from strategies import life
from strategies.base import BaseStrategy
from strategies.exceptions import OrderDeniedError
from tests.unit.strategies import fakes
from tests.unit.strategies.fakes import FakeEngine, wait_until
from tests.unit.strategies.test_base import SPY, Idle, on_loop

Start = Callable[..., BaseStrategy]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def start(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(life, "DRAIN_POLL_S", 0.01)
    monkeypatch.setattr(life, "UNWIND_S", 0.3)
    started: list[BaseStrategy] = []

    def begin(cls: type[BaseStrategy] = Idle, wait_for: str = "running", *, fills: bool = False) -> BaseStrategy:
        strategy = cls(7, engine, {}, strategy_symbol="ONE")
        started.append(strategy)
        make = engine.make_broker

        def _make(of: BaseStrategy) -> Any:
            broker = make(of)
            broker.fills_at_once = fills
            return broker

        monkeypatch.setattr(engine, "make_broker", _make)
        strategy.start_strategy()
        wait_until(lambda: engine.state() == wait_for, f"state {wait_for}, got {engine.states}")
        return strategy

    yield begin
    for strategy in started:
        strategy.stop_strategy(0.1)


def sent(engine: FakeEngine) -> list[tuple[str, float, str, bool]]:
    orders = [ticket.order for ticket in engine.orders()]
    return [(order.action, float(order.totalQuantity), order.orderType, order.transmit) for order in orders]


def test_bracket_is_a_family_whose_last_order_releases_it(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    entry, profit, stop = on_loop(
        strategy, strategy.place_bracket(SPY, -10, "LMT", limit=100, take_profit=90, stop_loss=105)
    )
    assert sent(engine) == [("SELL", 10.0, "LMT", False), ("BUY", 10.0, "LMT", False), ("BUY", 10.0, "STP", True)]
    assert {profit.order.parentId, stop.order.parentId} == {entry.order.orderId}
    assert engine.broker is not None
    assert engine.broker.families == [True]
    assert (profit.order.tif, entry.order.tif) == ("GTC", "DAY")


@pytest.mark.parametrize(
    "exits", [{}, {"stop_loss": 1, "trail": 1}, {"trail": 1, "trail_percent": 1}, {"take_profit": 0}, {"stop_loss": -1}]
)
def test_bracket_without_whole_exits_sends_nothing(engine: FakeEngine, start: Start, exits: dict[str, Any]) -> None:
    strategy = start()
    with pytest.raises(OrderDeniedError):
        on_loop(strategy, strategy.place_bracket(SPY, 10, **exits))
    assert engine.orders() == []


def test_group_is_no_bracket_and_needs_two(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    one = {"contract": SPY, "quantity": 1, "order_type": "LMT", "limit": 99}
    on_loop(strategy, strategy.place_oco([one, {**one, "order_type": "STP", "limit": None, "stop": 101}]))
    assert engine.broker is not None
    assert engine.broker.families == [False]
    assert [entry[3] for entry in sent(engine)] == [True, True]
    with pytest.raises(OrderDeniedError):
        on_loop(strategy, strategy.place_oco([one]))


def test_roll_moves_what_the_strategy_holds(engine: FakeEngine, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fakes.CON_IDS, "OLD", 11)
    monkeypatch.setitem(fakes.CON_IDS, "NEW", 12)
    old = Future("VXM", "20260318", "CFE", conId=11, multiplier="100", currency="USD")
    new = Future("VXM", "20260415", "CFE", conId=12, multiplier="100", currency="USD")
    engine.portfolio_manager.trade(old, Decimal(-3))
    strategy = start()

    async def _known(self: Any, contract: Any) -> Any:
        return contract

    monkeypatch.setattr(type(strategy), "qualify", _known)
    ticket = on_loop(strategy, strategy.roll_future(old, new, 2, limit=Decimal("0.5")))
    assert sent(engine) == [("SELL", 2.0, "LMT", True)]
    assert [(leg.conId, leg.action) for leg in ticket.contract.comboLegs] == [(12, "BUY"), (11, "SELL")]
    with pytest.raises(OrderDeniedError):
        on_loop(strategy, strategy.roll_future(old, new, 4))


def test_example_of_the_docs_runs(engine: FakeEngine, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(settings.BASE_DIR) / "docs" / "strategies.md").read_text(encoding="utf-8")
    [code] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "place_bracket" in block]
    changed: list[dict[str, Any]] = []

    async def _modify(self: Any, order_ref: str, **changes: Any) -> None:
        changed.append(changes)

    async def _wait(self: Any, timeout: float | None = None) -> bool:
        return True

    monkeypatch.setattr(fakes.FakeBroker, "modify_order", _modify)
    monkeypatch.setattr(fakes.FakeTicket, "wait_done", _wait)
    from datetime import timedelta

    names: dict[str, Any] = {"Stock": Stock, "Decimal": Decimal, "timedelta": timedelta}
    exec(code, names)  # noqa: S102 - our own page
    start(type("Example", (Idle,), {"run_strategy": names["run_strategy"]}))
    wait_until(lambda: len(engine.orders()) == 6, f"{engine.states} {engine.traceback}")
    assert [entry[2] for entry in sent(engine)] == ["MKT", "LMT", "TRAIL", "LMT", "LMT", "STP"]
    assert changed == [{"limit": Decimal("98.5")}]
