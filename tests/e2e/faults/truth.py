"""What must hold after every trouble: the books are the gateway's, and they prove themselves."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from portfolio.verification import Outcome, verify_all
from tests.e2e.engine.harness import Rig, until
from trading.engine.cash_check import CheckTimes
from trading.engine.manager import StrategyManager
from trading.models import Order

OFTEN = CheckTimes(compare_every_s=0.3, replay_every_s=60.0, look_pause_s=0.02, quiet_s=0.3, commission_alarm_s=0.5)


def started(rig: Rig) -> StrategyManager:
    """An engine that compares its books several times a second."""
    engine = StrategyManager()
    engine.autostart = False
    engine.stop_grace_s = 5.0
    engine.session.times = OFTEN
    rig.engines.append(engine)
    engine.start()
    assert engine.gate.wait_open(20.0), engine.state_message
    return engine


def assert_books_hold(rig: Rig, engine: StrategyManager) -> None:
    """Executions, positions and cash are the gateway's; every invariant that can be read at rest holds.

    What the ledger knows of IB's positions is as old as the last comparison, so that it may take one more.
    """
    rig.assert_books_equal_broker()
    until(lambda: not len(engine.message_queue), what="all that was heard is booked")
    deadline = time.monotonic() + 15.0
    while failed := [check for check in verify_all(arctic=False).checks if check.outcome is Outcome.FAILS]:
        assert time.monotonic() < deadline, failed
        time.sleep(0.1)


def assert_sent_once(rig: Rig, injected: Collection[str] = ("",)) -> None:
    """Every reference reached the gateway at most once (I9), apart from those that the test injected itself."""
    refs: dict[str, int] = rig.gateway.call(lambda: dict(rig.gateway.venue.received_order_refs))
    assert {times for ref, times in refs.items() if ref and ref not in injected} <= {1}, refs


def state_of(order_ref: str) -> str:
    """The order's state in the ledger."""
    return str(Order.objects.get(order_ref=order_ref).state)


def open_again(engine: StrategyManager, timeout_s: float = 20.0) -> None:
    """Wait until orders may flow."""
    assert engine.gate.wait_open(timeout_s), engine.state_message


def fault(rig: Rig, *lines: str) -> list[str]:
    """Cause faults in turn."""
    return [rig.gateway.fault(line) for line in lines]


def figure(rig: Rig, read: Any) -> Any:
    """Read something of the gateway on its own loop."""
    return rig.gateway.call(lambda: read(rig.gateway))
