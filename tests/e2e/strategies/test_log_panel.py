"""What a strategy's log panel shows: its own lines, its life, its refused orders, and nothing of others."""

from __future__ import annotations

import pytest
from ib_async import Stock

from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import Rig, run_state, until
from trading.models import EngineEvent, StrategyRun
from trading.queries import recent_events
from trading.services import enqueue

pytestmark = pytest.mark.e2e

TALKER = """
import asyncio, logging
from strategies.base import BaseStrategy

log = logging.getLogger("my.own.logger")

class TalkingStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.log("by log")
        log.info("by logging")
        await asyncio.to_thread(logging.getLogger().warning, "from a worker thread")
    async def run_strategy(self):
        await self.until_stopped()
"""
FAILING = TALKER.replace("await self.until_stopped()", 'raise ValueError("broken rule")')
FINISHING = TALKER.replace("await self.until_stopped()", "return")


def panel(symbol: str) -> list[tuple[str, str]]:
    """Return level and text of the lines on a strategy's panel, oldest first."""
    rows = recent_events("log", 100, symbol)
    return [(row["payload"]["level"], row["payload"]["text"]) for row in reversed(rows)]


def test_lines_and_life_of_a_strategy_are_on_its_own_panel(rig: Rig) -> None:
    rig.strategy("TALKER", TALKER)
    rig.strategy("OTHER")
    engine = rig.engine()
    rig.start(engine, "TALKER")
    rig.start(engine, "OTHER")
    command = rig.do("stop_strategy", symbol="TALKER")
    assert rig.result(command)["message"] == "Stopped by the operator."
    until(lambda: ("info", "Stopped by the operator.") in panel("TALKER"))
    told = panel("TALKER")
    expected = [
        ("info", "Starting."),
        ("info", "by log"),
        ("info", "by logging"),
        ("warning", "from a worker thread"),
        ("info", "Running."),
        ("info", "Stopping: waiting for working orders"),
        ("info", "Stopped by the operator."),
    ]
    assert [line for line in told if line in expected] == expected
    assert not [text for _, text in panel("OTHER") if "TALKER" in text or text.startswith(("by ", "from "))]
    assert StrategyRun.objects.get(symbol="TALKER").message == "Stopped by the operator."
    engine.cleanup(2.0)
    assert ("info", "Stopped with the engine.") in panel("OTHER")


def test_a_failure_is_on_the_panel_once_with_its_reason(rig: Rig) -> None:
    rig.strategy("BAD", FAILING)
    rig.engine()
    enqueue("start_strategy", {"symbol": "BAD"}, source="test")
    until(lambda: ("error", "Failed: ValueError: broken rule") in panel("BAD"))
    assert [text for level, text in panel("BAD") if level == "error"] == ["Failed: ValueError: broken rule"]


def test_only_a_strategy_that_returned_by_itself_finished(rig: Rig) -> None:
    rig.strategy("SHORT", FINISHING)
    rig.engine()
    enqueue("start_strategy", {"symbol": "SHORT"}, source="test")
    until(lambda: run_state("SHORT") == "stopped" and ("info", "Stopped: finished") in panel("SHORT"))
    assert StrategyRun.objects.get(symbol="SHORT").message == "finished"


def test_denied_and_rejected_orders_are_on_the_panel_with_their_reason(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    engine.gate.shut("not_reconciled")
    with pytest.raises(OrderDeniedError):
        rig.place(alpha, "SPY", 1, limit=1.0)
    engine.gate.open()
    with pytest.raises(OrderDeniedError):
        rig.on_loop(alpha, alpha.place_order(Stock("NOSUCHTHING", "SMART", "USD"), 1))
    until(lambda: len([text for _, text in panel("ALPHA") if text.startswith("Order denied: ")]) == 2)
    denied = [(level, text) for level, text in panel("ALPHA") if text.startswith("Order denied: ")]
    assert denied[0][1].startswith("Order denied: BUY 1 SPY: ")
    assert {level for level, _ in denied} == {"warning"}
    ticket = rig.place(alpha, "SPY", 1, limit=1.005)  # off the tick
    rejected = EngineEvent.objects.filter(kind="log", payload__text__startswith="Order rejected")
    until(lambda: rejected.all().exists())
    [event] = rejected.all()
    assert event.strategy == "ALPHA"
    assert event.payload["text"].startswith("Order rejected: BUY 1 SPY: ")
    assert ticket.order_ref in event.payload["text"]
    assert "price variation" in ticket.reason
