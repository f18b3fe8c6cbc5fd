"""Strategies start, fail, block and stop; each hurts itself alone and says so."""

from __future__ import annotations

from textwrap import dedent

import pytest

from strategies.exceptions import OrderDeniedError
from strategies.services import save_strategy
from tests.e2e.engine.harness import Rig, position, run_state, until
from trading.models import EngineEvent, Order, StrategyRun
from trading.services import enqueue

pytestmark = pytest.mark.e2e


def source(body: str) -> str:
    """Return a strategy file whose run_strategy is the given body."""
    lines = "\n".join(f"        {line}" for line in dedent(body).strip().splitlines())
    return (
        "import asyncio, sys, time\n"
        "from strategies.base import BaseStrategy\n\n"
        "class BodyStrategy(BaseStrategy):\n"
        "    async def initialize_strategy(self):\n        pass\n\n"
        "    async def run_strategy(self):\n" + lines + "\n"
    )


def failure(symbol: str) -> StrategyRun:
    """Wait until the strategy failed; return its row."""
    until(lambda: run_state(symbol) == "failed", what=f"{symbol} failed")
    return StrategyRun.objects.get(symbol=symbol)


@pytest.mark.parametrize(
    ("body", "message"),
    [("raise ValueError('broken rule')", "ValueError: broken rule"), ("sys.exit(7)", "sys.exit(7)")],
)
def test_a_strategy_that_breaks_is_failed_alone_with_its_traceback(rig: Rig, body: str, message: str) -> None:
    rig.strategy("GOOD")
    rig.strategy("BAD", source(body))
    engine = rig.engine()
    good = rig.start(engine, "GOOD")
    enqueue("start_strategy", {"symbol": "BAD"}, source="test")
    row = failure("BAD")
    assert message in row.message
    assert "run_strategy" in row.traceback
    assert row.client_id is None
    rig.trade(good, "SPY", 1)
    assert run_state("GOOD") == "running"
    assert engine.pool.in_use == {good.client_id}


def test_files_that_cannot_be_loaded_fail_alone_each_with_its_own_reason(rig: Rig) -> None:
    reasons = {
        "SYNTAX": ("class X(:", "syntax_error"),
        "BOOM": ("raise RuntimeError('boom at import')", "import_failed"),
        "QUITS": ("import sys; sys.exit(3)", "import_failed"),
        "EMPTY": ("x = 1", "no_class"),
        "GONE": (source("await self.until_stopped()"), "not_found"),
    }
    for symbol, (text, _) in reasons.items():
        rig.strategy(symbol, text)
    (rig.folder / "gone_file.py").unlink()
    rig.strategy("GOOD")
    engine = rig.engine()
    good = rig.start(engine, "GOOD")
    for symbol, (_, code) in reasons.items():
        refused = rig.do("start_strategy", symbol=symbol)
        assert (refused.state, refused.error_code) == ("failed", code)
        row = failure(symbol)
        assert row.client_id is None
        assert f"{symbol.lower()}_file.py" in row.message
    assert engine.pool.in_use == {good.client_id}


def test_a_strategy_that_returns_is_stopped_as_finished(rig: Rig) -> None:
    rig.strategy("SHORT", source("return None"))
    rig.engine()
    enqueue("start_strategy", {"symbol": "SHORT"}, source="test")
    until(lambda: StrategyRun.objects.filter(symbol="SHORT", state="stopped", message="finished").exists())


def test_a_blocked_loop_is_told_and_its_recovery_too(rig: Rig) -> None:
    rig.strategy("GOOD")
    rig.strategy("STUCK", source("time.sleep(7)\nawait self.until_stopped()"))
    engine = rig.engine()
    good = rig.start(engine, "GOOD")
    enqueue("start_strategy", {"symbol": "STUCK"}, source="test")
    until(lambda: StrategyRun.objects.filter(symbol="STUCK", message__contains="does not answer").exists())
    rig.trade(good, "SPY", 1)
    until(lambda: StrategyRun.objects.filter(symbol="STUCK", state="running", message="").exists())


def test_a_failed_strategy_is_restarted_within_its_budget(rig: Rig) -> None:
    rig.strategy("BAD", source("raise ValueError('again')"), restart_policy="on_failure", max_restarts_per_hour=1)
    rig.engine()
    enqueue("start_strategy", {"symbol": "BAD"}, source="test")
    until(lambda: StrategyRun.objects.filter(symbol="BAD", restarts=1, message__contains="stays down").exists())
    assert run_state("BAD") == "failed"


def test_a_stop_waits_for_working_orders_and_lists_what_remains(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    ticket = rig.place(alpha, "SPY", 1, limit=1.0)
    command = enqueue("stop_strategy", {"symbol": "ALPHA"}, source="test")
    until(lambda: run_state("ALPHA") == "stopping")
    second = rig.do("stop_strategy", symbol="ALPHA")
    assert (second.state, second.error_code) == ("failed", "not_running")
    again = rig.do("start_strategy", symbol="ALPHA")
    assert (again.state, again.error_code) == ("failed", "strategy_stopping")
    done = rig.finished(command.id)
    assert ticket.order_ref in rig.result(done)["message"]
    assert engine.pool.in_use == frozenset()
    assert Order.objects.get(order_ref=ticket.order_ref).state == "accepted"


def test_a_stop_while_fills_arrive_loses_none(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    ticket = rig.trade(rig.start(engine, "ALPHA"), "SPY", 1)
    command = enqueue("stop_strategy", {"symbol": "ALPHA"}, source="test")
    rig.inject("SPY", 400, order_ref=ticket.order_ref, client_id=1)
    assert rig.finished(command.id).state == "done"
    rig.inject("SPY", 100, order_ref=ticket.order_ref, client_id=1)
    until(lambda: position("ALPHA", "SPY") == 501)
    rig.assert_books_equal_broker()


def test_client_ids_are_the_lowest_free_ones_and_come_back(rig: Rig) -> None:
    for symbol in ("A", "B", "C"):
        rig.strategy(symbol)
    engine = rig.engine()
    ids = [rig.start(engine, symbol).client_id for symbol in ("A", "B", "C")]
    assert ids == [1, 2, 3]
    assert rig.do("stop_strategy", symbol="B").state == "done"
    assert engine.next_client_id == 2
    assert rig.start(engine, "B").client_id == 2


def test_active_strategies_start_when_the_gate_opens(rig: Rig) -> None:
    rig.strategy("ALPHA", active=True)
    rig.strategy("BETA")
    rig.engine()
    until(lambda: run_state("ALPHA") == "running")
    assert run_state("BETA") == "stopped"


def test_saved_parameters_reach_the_running_strategy_and_arctic_within_a_second(rig: Rig) -> None:
    row = rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    until(lambda: type(row).objects.get(symbol="ALPHA").is_synced)
    save_strategy({"symbol": "ALPHA", "params": {"stop_loss": 0.05}}, None)
    until(lambda: alpha.params["stop_loss"] == 0.05, 1.0)
    until(lambda: type(row).objects.get(symbol="ALPHA").is_synced, 1.0)
    table = engine.ac.read("general", "strategies").data
    assert '"stop_loss": 0.05' in table.loc[table["strategy_symbol"] == "ALPHA", "params"].iloc[0]


def test_orders_are_denied_while_the_engine_stops(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    engine.gate.shut("engine_stopping")
    with pytest.raises(OrderDeniedError) as caught:
        rig.place(alpha, "SPY", 1, limit=1.0)
    assert caught.value.code == "engine_stopping"
    assert not rig.gateway.call(lambda: rig.gateway.venue.received_order_refs)


def test_shutdown_stops_all_strategies_and_drains_the_queue(rig: Rig) -> None:
    for symbol in ("A", "B"):
        rig.strategy(symbol)
    engine = rig.engine()
    for symbol in ("A", "B"):
        rig.start(engine, symbol)
    assert engine.cleanup(1.0) == {"A": True, "B": True}
    assert len(engine.message_queue) == 0
    assert [run_state(symbol) for symbol in ("A", "B")] == ["stopped", "stopped"]
    assert EngineEvent.objects.filter(kind="engine").last().payload["state"] == "stopped"  # type: ignore[union-attr]
