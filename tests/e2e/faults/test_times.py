"""A fill that nobody heard keeps its time: the ledger has when IB executed it, not when MATS learned of it.

The venue's clock is off by most of an hour, so that no time of the engine's own can pass for the venue's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portfolio.models import Execution
from tests.e2e.engine.harness import Rig, position, until
from tests.e2e.faults.truth import assert_books_hold, fault, open_again, started
from trading.engine.manager import StrategyManager
from trading.gateway.hours import NEW_YORK
from trading.gateway.model import ExecutionFilter
from trading.gateway.testing import RunningGateway, running_gateway

pytestmark = pytest.mark.e2e
OFF_BY = timedelta(minutes=47)
SOON = timedelta(minutes=5)


def shift() -> timedelta:
    """Back, but not into yesterday, whose executions IB would not report any more."""
    return OFF_BY if datetime.now(NEW_YORK).hour == 0 else -OFF_BY


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with running_gateway(market="synthetic", seed=7, commission_delay_s=0.02, shift=shift()) as running:
        yield running


def told_times(rig: Rig) -> dict[str, datetime]:
    """Return when the venue executed what; the wire has whole seconds."""
    found = rig.gateway.call(lambda: rig.gateway.venue.executions(ExecutionFilter()))
    return {execution.exec_id: execution.time.replace(microsecond=0) for execution, _ in found}


def assert_true_times(rig: Rig, count: int) -> None:
    """The ledger's times are the venue's, to the second, and are told apart from when they were written down."""
    until(lambda: Execution.objects.count() == count, 20, "all are booked")
    rows = list(Execution.objects.values_list("exec_id", "executed_at", "recorded_at"))
    assert {exec_id: executed_at for exec_id, executed_at, _ in rows} == told_times(rig)
    now, off = datetime.now(UTC), shift()
    for _, executed_at, recorded_at in rows:
        assert abs(now + off - executed_at) < SOON
        assert abs(now - recorded_at) < SOON


def away(rig: Rig, engine: StrategyManager, alpha: Any) -> StrategyManager:
    rig.stop_server()
    until(lambda: not engine.gate.is_open and not alpha.is_connected)
    fault(rig, "offfill SPY 4", "offfill SPY -1")
    rig.start_server()
    open_again(engine)
    return engine


def down(rig: Rig, engine: StrategyManager, alpha: Any) -> StrategyManager:
    engine.cleanup(1.0)
    fault(rig, "offfill SPY 4", "offfill SPY -1")
    return started(rig)


def untold(rig: Rig, engine: StrategyManager, alpha: Any) -> StrategyManager:
    fault(rig, "offfill SPY 4", "offfill SPY -1")
    return engine


def outage(rig: Rig, engine: StrategyManager, alpha: Any) -> StrategyManager:
    fault(rig, "outage 300ms fills=lost")
    until(lambda: not engine.gate.is_open)
    ref = next(iter(Execution.objects.values_list("order_ref", flat=True)))
    rig.inject("SPY", 1, ref, alpha.client_id)
    rig.inject("SPY", 2, ref, alpha.client_id)
    open_again(engine)
    return engine


@pytest.mark.parametrize(("way", "fills"), [(away, 2), (down, 2), (untold, 2), (outage, 3)])
def test_a_fill_that_nobody_heard_is_replayed_once_with_the_time_of_its_execution(
    rig: Rig, way: Callable[[Rig, StrategyManager, Any], StrategyManager], fills: int
) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 2)
    assert_true_times(rig, 1)
    engine = way(rig, engine, alpha)
    until(lambda: position("ALPHA", "SPY") == 5, 20, "they are ALPHA's")
    assert_true_times(rig, 1 + fills)
    assert_books_hold(rig, engine)
    fault(rig, "drop")  # and once more, with all of them in the replay
    until(lambda: not engine.gate.is_open)
    open_again(engine)
    assert_true_times(rig, 1 + fills)
    engine.projection.flush()
    frame = engine.ac.read(engine.account_id, "fills/ALPHA").data
    kept = {row.exec_id: row.exec_time.to_pydatetime().replace(tzinfo=UTC) for row in frame.itertuples()}
    assert kept == told_times(rig)
