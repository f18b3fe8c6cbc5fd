"""BaseStrategy on its own thread and loop, against a small fake engine."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from ib_async import CommissionReport, Contract, Execution, Fill, Order, Stock, Trade

from strategies import life
from strategies.base import BaseStrategy
from strategies.exceptions import (
    ConflictError,
    LedgerError,
    OrderDeniedError,
    StrategyError,
    TransientError,
)
from tests.unit.strategies.fakes import CON_IDS, FakeEngine, wait_until

SPY = Contract(conId=CON_IDS["SPY"], symbol="SPY", secType="STK", exchange="SMART", currency="USD")
Start = Callable[..., BaseStrategy]


class Idle(BaseStrategy):
    """Does what the test tells it."""

    async def initialize_strategy(self) -> None: ...

    async def run_strategy(self) -> None:
        await self.until_stopped()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def start(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(life, "DRAIN_POLL_S", 0.01)
    monkeypatch.setattr(life, "UNWIND_S", 0.3)
    started: list[BaseStrategy] = []

    def begin(cls: type[BaseStrategy] = Idle, wait_for: str = "running", **params: Any) -> BaseStrategy:
        strategy = cls(7, engine, params, strategy_symbol="ONE")
        started.append(strategy)
        strategy.start_strategy()
        if wait_for:
            wait_until(lambda: engine.state() == wait_for, f"state {wait_for}, got {engine.states}")
        return strategy

    yield begin
    engine.may_connect.set()
    for strategy in started:
        strategy.stop_strategy(0.1)


def on_loop(strategy: BaseStrategy, work: Any) -> Any:
    """Run a coroutine on the strategy's own loop and return its outcome."""
    assert strategy._loop is not None
    return asyncio.run_coroutine_threadsafe(work, strategy._loop).result(5)


# -- life


def test_life_in_order_and_one_disconnect(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    assert strategy.is_connected
    assert strategy.stop_strategy(5)
    assert [state for state, _ in engine.states] == ["running", "stopping", "stopped"]
    assert engine.ib.disconnects == 1
    assert not strategy.is_running


def test_second_stop_changes_nothing(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    assert strategy.stop_strategy(5)
    assert strategy.stop_strategy(5)
    assert [state for state, _ in engine.states].count("stopped") == 1


def test_an_instance_starts_once(start: Start) -> None:
    with pytest.raises(ConflictError):
        start().start_strategy()


def test_returning_is_a_stop_that_says_finished(engine: FakeEngine, start: Start) -> None:
    class Brief(Idle):
        async def run_strategy(self) -> None:
            return

    start(Brief, wait_for="stopped")
    assert engine.states[-2:] == [("stopping", "finished"), ("stopped", "finished")]


@pytest.mark.parametrize("where", ["initialize_strategy", "run_strategy"])
def test_raising_fails_with_message_and_traceback(engine: FakeEngine, start: Start, where: str) -> None:
    async def broken(self: BaseStrategy) -> None:
        raise ValueError("no such luck")

    start(type("Broken", (Idle,), {where: broken}), wait_for="failed")
    assert engine.states[-1] == ("failed", "ValueError: no such luck")
    assert "in broken" in engine.traceback
    assert engine.ib.disconnects == 1


@pytest.mark.parametrize("where", ["initialize_strategy", "run_strategy"])
def test_sys_exit_hurts_only_its_own_strategy(engine: FakeEngine, start: Start, where: str) -> None:
    async def leaving(self: BaseStrategy) -> None:
        sys.exit(3)

    strategy = start(type("Leaving", (Idle,), {where: leaving}), wait_for="failed")
    assert engine.states[-1] == ("failed", "ONE called sys.exit(3).")
    wait_until(lambda: not strategy.is_alive)


def test_sys_exit_in_a_raw_callback_fails_and_still_cleans_up(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    assert strategy._loop is not None
    strategy._loop.call_soon_threadsafe(sys.exit, 4)
    wait_until(lambda: engine.state() == "failed")
    assert engine.ib.disconnects == 1


def test_blocked_loop_stops_beating_and_does_not_block_the_stopper(engine: FakeEngine, start: Start) -> None:
    release = threading.Event()

    class Blocking(Idle):
        async def run_strategy(self) -> None:
            release.wait(10)

    strategy = start(Blocking)
    began = time.monotonic()
    assert not strategy.stop_strategy(0.1)
    assert time.monotonic() - began < 3
    assert engine.beats <= 2
    release.set()
    wait_until(lambda: engine.state() == "stopped")


def test_run_strategy_that_ignores_the_stop_is_cancelled(engine: FakeEngine, start: Start) -> None:
    class Deaf(Idle):
        async def run_strategy(self) -> None:
            await asyncio.sleep(3600)

    assert start(Deaf).stop_strategy(0.1)
    assert engine.state() == "stopped"


def test_stop_while_connecting_ends_without_failure(engine: FakeEngine, start: Start) -> None:
    engine.may_connect.clear()
    strategy = start(wait_for="")
    assert strategy.stop_strategy(0.1)
    assert engine.states[-1][0] == "stopped"


def test_connect_broken_off_by_the_stop_is_no_failure(
    engine: FakeEngine, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken_off(strategy: BaseStrategy) -> Any:
        await strategy._stop_event.wait()
        raise StrategyError("stopped while it connected", code="stopped")

    monkeypatch.setattr(engine, "connect_strategy", broken_off)
    assert start(wait_for="").stop_strategy(0.1)
    assert engine.states[-1][0] == "stopped"


def test_strategy_may_stop_itself(engine: FakeEngine, start: Start) -> None:
    class Quitter(Idle):
        async def run_strategy(self) -> None:
            self.stop_strategy(1)
            await self.until_stopped()

    start(Quitter, wait_for="stopped")
    assert engine.states[0][0] == "running"


def test_stop_waits_for_working_orders(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    assert engine.broker is not None
    engine.broker.fills_at_once = False
    ticket = on_loop(strategy, strategy.place_order(SPY, 1))
    strategy.request_stop(5)
    wait_until(lambda: engine.state() == "stopping")
    assert strategy.is_connected
    assert strategy._loop is not None
    strategy._loop.call_soon_threadsafe(ticket.done.set)
    wait_until(lambda: engine.state() == "stopped")
    assert engine.states[-1] == ("stopped", "")


def test_stop_lists_the_orders_that_did_not_end_in_time(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    assert engine.broker is not None
    engine.broker.fills_at_once = False
    on_loop(strategy, strategy.place_order(SPY, 1))
    assert strategy.stop_strategy(0.05)
    assert engine.states[-1] == ("stopped", "stopped with 1 working order(s): ONE/1")
    assert any(level == "warning" and "ONE/1" in text for level, text in engine.lines)


def test_engine_that_cannot_take_a_report_does_not_keep_the_strategy_from_ending(
    engine: FakeEngine, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = start()

    def deaf(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(engine, "strategy_changed", deaf)
    assert strategy.stop_strategy(1)
    assert engine.ib.disconnects == 1


# -- connection


def test_lost_connection_is_made_again_and_the_strategy_told(engine: FakeEngine, start: Start) -> None:
    told = threading.Event()

    class Caring(Idle):
        async def on_reconnected(self) -> None:
            told.set()

    strategy = start(Caring)
    engine.may_connect.clear()
    engine.ib.connected = False
    assert strategy._loop is not None
    strategy._loop.call_soon_threadsafe(engine.ib.disconnectedEvent.emit)
    wait_until(lambda: any("lost" in text for _, text in engine.lines))
    with pytest.raises(OrderDeniedError) as denied:
        on_loop(strategy, strategy.place_order(SPY, 1))
    assert denied.value.code == "not_connected"
    engine.may_connect.set()
    assert told.wait(5)
    assert engine.connects == 2
    assert on_loop(strategy, strategy.place_order(SPY, 1)).is_done


def test_connection_that_cannot_be_made_again_fails_the_strategy(
    engine: FakeEngine, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = start()

    async def refused(_: Any) -> Any:
        raise StrategyError("wrong account", code="wrong_account")

    monkeypatch.setattr(engine, "connect_strategy", refused)
    engine.ib.connected = False
    assert strategy._loop is not None
    strategy._loop.call_soon_threadsafe(engine.ib.disconnectedEvent.emit)
    wait_until(lambda: engine.states[-1] == ("failed", "wrong account"))


# -- hooks


def test_hooks_run_one_at_a_time_in_order(engine: FakeEngine, start: Start) -> None:
    seen: list[str] = []

    class Slow(Idle):
        async def initialize_strategy(self) -> None:
            self.subscribe_bars(SPY)

        async def on_bar(self, contract: Contract, bar: Any) -> None:
            seen.append(f"in {bar.close}")
            await asyncio.sleep(0.01)
            seen.append("out")

    strategy = start(Slow)
    assert strategy._loop is not None
    for close in (1.0, 2.0):
        strategy._loop.call_soon_threadsafe(engine.ib.send_bar, "SPY", close)
    wait_until(lambda: len(seen) == 4)
    assert seen == ["in 1.0", "out", "in 2.0", "out"]  # each bar once, although both came before the first was done


def test_hook_that_raises_fails_the_strategy(engine: FakeEngine, start: Start) -> None:
    class Broken(Idle):
        def on_fill(self, trade: Trade, fill: Fill) -> None:
            raise KeyError("price")

    strategy = start(Broken)
    assert strategy._loop is not None
    fill = Fill(SPY, Execution(orderRef=f"{strategy.symbol}/1"), CommissionReport(), datetime.now(UTC))
    strategy._loop.call_soon_threadsafe(engine.ib.execDetailsEvent.emit, Trade(), fill)
    wait_until(lambda: engine.state() == "failed")
    assert "KeyError" in engine.states[-1][1]


def test_refused_order_in_a_hook_is_said_and_borne(engine: FakeEngine, start: Start) -> None:
    class Greedy(Idle):
        async def on_status_change(self, trade: Trade, status: Any) -> None:
            await self.place_order(SPY, 0)

    strategy = start(Greedy)
    assert strategy._loop is not None
    trade = Trade(order=Order(orderRef=f"{strategy.symbol}/1"))
    strategy._loop.call_soon_threadsafe(engine.ib.orderStatusEvent.emit, trade)
    wait_until(lambda: any("nothing to trade" in text for _, text in engine.lines))
    assert engine.state() == "running"


def test_new_parameters_reach_the_strategy_on_its_own_loop(engine: FakeEngine, start: Start) -> None:
    threads: list[str] = []

    class Listening(Idle):
        def on_params_changed(self) -> None:
            threads.append(threading.current_thread().name)

    strategy = start(Listening, target_weight=0.1)
    strategy.update_params({"target_weight": 0.25})
    wait_until(lambda: threads)
    assert threads == ["Strategy-ONE"]
    assert strategy.target_weight == Decimal("0.25")


# -- orders


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"quantity": 0}, "zero_quantity"),
        ({"quantity": Decimal("NaN")}, "zero_quantity"),
        ({"quantity": 1, "order_type": "LMT"}, "limit_missing"),
        ({"quantity": 1, "order_type": "STP"}, "stop_missing"),
        ({"quantity": 1, "order_type": "PEG"}, "unknown_order_type"),
        ({"quantity": 1, "urgency": "now"}, "bad_urgency"),
        ({"quantity": 1, "parentId": 99}, "unknown_parent"),
        ({"quantity": 1, "orderRef": "OTHER"}, "foreign_owner"),
    ],
)
def test_orders_that_make_no_sense_are_denied(
    engine: FakeEngine, start: Start, arguments: dict[str, Any], code: str
) -> None:
    strategy = start()
    with pytest.raises(OrderDeniedError) as denied:
        on_loop(strategy, strategy.place_order(SPY, **arguments))
    assert denied.value.code == code
    assert engine.orders() == []


def test_negative_quantity_sells(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    on_loop(strategy, strategy.place_order(SPY, -3))
    [ticket] = engine.orders()
    assert (ticket.order.action, ticket.order.totalQuantity) == ("SELL", 3)


@pytest.mark.parametrize(("order_type", "adaptive"), [("MKT", True), ("LMT", True), ("STP", False), ("MOC", False)])
def test_adaptive_only_where_ib_offers_it(engine: FakeEngine, start: Start, order_type: str, adaptive: bool) -> None:
    strategy = start()
    on_loop(strategy, strategy.place_order(SPY, 1, order_type, limit=99.5, stop=101, urgency="Normal"))
    order = engine.orders()[0].order
    assert order.orderType == order_type
    assert (order.algoStrategy == "Adaptive") is adaptive
    if adaptive:
        assert order.algoParams[0].value == "Normal"


def test_child_order_carries_its_parent(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    assert engine.broker is not None
    engine.broker.fills_at_once = False
    parent = on_loop(strategy, strategy.place_order(SPY, 1, "LMT", limit=99, transmit=False))
    child = on_loop(strategy, strategy.place_order(SPY, -1, "STP", stop=95, parentId=parent.order.orderId))
    assert child.order.parentId == parent.order.orderId
    assert not parent.order.transmit


def test_unknown_contract_is_denied(start: Start) -> None:
    strategy = start()
    with pytest.raises(OrderDeniedError) as denied:
        on_loop(strategy, strategy.place_order(Stock("NOPE", "SMART", "USD"), 1))
    assert denied.value.code == "unknown_contract"


def test_stopping_strategy_sends_no_new_orders(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    strategy.stop_strategy(1)
    with pytest.raises(OrderDeniedError) as denied:
        asyncio.run(strategy.place_order(SPY, 1))
    assert denied.value.code == "strategy_stopping"


def test_size_is_capped_and_rounded_down(engine: FakeEngine, start: Start) -> None:
    strategy = start(max_position_size=0.5)
    engine.ib.price = 300.0
    ticket = on_loop(strategy, strategy.place_order_by_size(SPY, 1.0, "SELL"))
    assert (ticket.order.action, ticket.order.totalQuantity) == ("SELL", 16)  # 10 000 × 0.5 / 300


@pytest.mark.parametrize(
    ("equity", "price", "code"),
    [(Decimal(100), 300.0, "zero_quantity"), (Decimal(0), 300.0, "no_equity"), (Decimal(-5), 300.0, "no_equity")],
)
def test_size_that_buys_nothing_is_denied(
    engine: FakeEngine, start: Start, equity: Decimal, price: float, code: str
) -> None:
    strategy = start()
    engine.portfolio_manager.equity, engine.ib.price = equity, price
    with pytest.raises(OrderDeniedError) as denied:
        on_loop(strategy, strategy.calculate_quantity(SPY, 1))
    assert denied.value.code == code


def test_option_without_its_multiplier_is_not_sized_as_if_it_had_none(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    option = Contract(conId=CON_IDS["SPY"], symbol="SPY", secType="OPT", exchange="SMART", currency="USD")
    assert on_loop(strategy, strategy.qualify(option)) is not option  # IB was asked; it knows the multiplier
    option.multiplier = "100"
    assert on_loop(strategy, strategy.qualify(option)) is option


def test_size_across_currencies_is_denied_rather_than_guessed(start: Start) -> None:
    strategy = start(currency="EUR")
    with pytest.raises(OrderDeniedError) as denied:
        on_loop(strategy, strategy.calculate_quantity(SPY, 1))
    assert denied.value.code == "fx_unknown"


def test_size_across_currencies_takes_the_price_in_the_strategys_own_money(engine: FakeEngine, start: Start) -> None:
    strategy = start(currency="EUR")
    engine.ib.price = 300.0
    engine.portfolio_manager.fx_cache.dollars["EUR"] = Decimal("1.25")
    quantity = on_loop(strategy, strategy.calculate_quantity(SPY, 0.5))
    assert quantity == 20  # 10 000 EUR x 0.5 / (300 USD = 240 EUR), not 16 nor 13


def test_size_of_a_line_in_pence_is_of_what_it_costs_in_pounds(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    assert engine.broker is not None
    engine.ib.price, engine.broker.quoted_in_pence = 30_000.0, True
    assert on_loop(strategy, strategy.calculate_quantity(SPY, 0.5)) == 16  # 10 000 x 0.5 / 300


def test_old_rate_sizes_with_a_warning(engine: FakeEngine, start: Start) -> None:
    strategy = start(currency="EUR")
    fx = engine.portfolio_manager.fx_cache
    fx.dollars["EUR"], fx.stale = Decimal("1.25"), True
    assert on_loop(strategy, strategy.calculate_quantity(SPY, 0.5)) > 0
    assert any("old or delayed" in text for level, text in engine.lines if level == "warning")


def test_missing_price_is_an_error_not_a_zero(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    engine.ib.price = float("nan")
    with pytest.raises(TransientError):
        on_loop(strategy, strategy.get_market_price(SPY))


def test_unknown_equity_refuses_the_size(engine: FakeEngine, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(strategy: str) -> Decimal:
        raise LedgerError("No mark of SPY yet.", code="equity_unknown")

    strategy = start()
    monkeypatch.setattr(engine.broker, "get_equity", lambda: asyncio.to_thread(unknown, "ONE"))
    with pytest.raises(OrderDeniedError) as denied:
        on_loop(strategy, strategy.calculate_quantity(SPY, 1))
    assert denied.value.code == "equity_unknown"


def test_flatten_cancels_then_closes_own_positions(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    assert engine.broker is not None
    on_loop(strategy, strategy.place_order(SPY, 5))
    engine.broker.fills_at_once = False
    working = on_loop(strategy, strategy.place_order(SPY, 1, "LMT", limit=50))
    engine.broker.fills_at_once = True
    [closing] = on_loop(strategy, strategy.flatten())
    assert working.is_done
    assert (closing.order.action, closing.order.totalQuantity) == ("SELL", 5)
    assert on_loop(strategy, strategy.get_position(SPY)) == 0


# -- books


def test_equity_and_positions_are_the_strategys_own(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    on_loop(strategy, strategy.place_order(SPY, 2))
    assert on_loop(strategy, strategy.get_equity()) == Decimal(10_000)
    assert [p.quantity for p in on_loop(strategy, strategy.get_positions())] == [Decimal(2)]
    assert on_loop(strategy, strategy.get_total_equity()) == Decimal(1_000_000)


def test_unknown_account_value_is_an_error(engine: FakeEngine, start: Start) -> None:
    strategy = start()
    engine.portfolio_manager.net_liquidation = None
    with pytest.raises(LedgerError):
        on_loop(strategy, strategy.get_total_equity())


def test_status_shows_what_pages_need(start: Start) -> None:
    status = start(target_weight=0.1).get_status()
    assert (status["symbol"], status["client_id"], status["is_running"], status["open_orders"]) == ("ONE", 7, True, 0)
    assert status["params"]["target_weight"] == 0.1
