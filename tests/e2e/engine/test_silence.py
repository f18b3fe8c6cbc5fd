"""Prices that stop although IB says that it kept them: asked for again, else an alert and marks that do not stand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portfolio import queries as books
from portfolio.models import Mark
from tests.e2e.engine.harness import Rig, until
from trading.engine.manager import StrategyManager
from trading.ib import silence
from trading.models import Alert

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

SPY = 756733
WATCHER = """
from ib_async import Stock
from strategies.base import BaseStrategy

class WatcherStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.seen = 0
        ticker = self.ib.reqMktData(await self.qualify(Stock("SPY", "SMART", "USD")))
        ticker.updateEvent += self.note
    def note(self, ticker):
        self.seen += 1
    async def run_strategy(self):
        await self.until_stopped()
"""
DEAD = "outage 0.2 data=dead"
PRICES = ("tickPrice", "tickSize", "tickString", "tickGeneric", "realtimeBar")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("QUIET_S", 1.0), ("LOOK_S", 0.1), ("RETRY_S", 1.5)):
        monkeypatch.setattr(silence, name, value)


def held(rig: Rig, source: str = "", *, is_open: bool = True) -> tuple[StrategyManager, Any]:
    """An engine with a strategy that holds SPY at a price; the market is open for a day, or closed."""
    rig.strategy("ALPHA", *([source] if source else []))
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 3)
    until(lambda: Mark.objects.filter(instrument_id=SPY).exists(), what="a price")
    now = datetime.now(UTC)
    begins = now - timedelta(hours=1) if is_open else now + timedelta(hours=1)
    engine.risk.hours.put(SPY, ((begins, begins + timedelta(days=1)),), now)
    until(lambda: engine.recorder is not None and SPY in engine.recorder.recorded)
    return engine, alpha


def newest() -> datetime:
    return Mark.objects.get(instrument_id=SPY).marked_at


def back(engine: StrategyManager) -> None:
    """Wait until the outage is over."""
    until(lambda: not engine.gate.is_open, what="the outage begins")
    assert engine.gate.wait_open(20)


def is_told(whose: str) -> bool:
    return Alert.objects.filter(key=f"data:silent:{whose}", cleared_at=None).exists()


def test_dead_prices_come_again_when_they_are_asked_for_again_and_nobody_is_bothered(rig: Rig) -> None:
    engine, alpha = held(rig, WATCHER)
    rig.gateway.fault(DEAD)
    back(engine)
    began, seen = datetime.now(UTC), alpha.seen
    until(lambda: newest() > began + timedelta(seconds=1), 20, "the recorder's prices move again")
    until(lambda: alpha.seen > seen + 3, 20, "and the strategy's, in the ticker that it holds")
    assert not Alert.objects.filter(key__startswith="data:silent").exists()
    assert not Mark.objects.exclude(silent_since=None).exists()


def test_prices_that_stay_dead_are_an_alert_and_stale_until_they_come(rig: Rig) -> None:
    engine, _ = held(rig, WATCHER)
    assert not books.positions(owner="ALPHA")[0].stale
    for message in PRICES:
        rig.gateway.fault(f"lose {message} count=all")
    rig.gateway.fault(DEAD)
    back(engine)
    until(lambda: is_told("MATS"), 20, "the recorder's line")
    until(lambda: is_told("ALPHA"), 20, "the strategy's own")
    alert = Alert.objects.get(key="data:silent:MATS")
    assert (alert.severity, "SPY" in alert.title, "1102" in alert.text) == ("critical", True, True)
    assert [alert.strategy, Alert.objects.get(key="data:silent:ALPHA").strategy] == ["", "ALPHA"]
    assert books.positions(owner="ALPHA")[0].stale
    assert Mark.objects.get(instrument_id=SPY).silent_since is not None
    rig.gateway.fault("clear")
    until(lambda: not is_told("MATS") and not is_told("ALPHA"), 20, "the alerts end with the first prices")
    until(lambda: Mark.objects.get(instrument_id=SPY).silent_since is None, 20, "and the mark stands again")
    assert not books.positions(owner="ALPHA")[0].stale
    assert Alert.objects.filter(key__startswith="data:silent").count() == 2


def test_a_closed_market_is_quiet(rig: Rig) -> None:
    engine, _ = held(rig, is_open=False)
    for message in PRICES:
        rig.gateway.fault(f"lose {message} count=all")
    rig.gateway.fault(DEAD)
    back(engine)
    recorder = engine.recorder
    assert recorder is not None
    lines = recorder.current()
    began = datetime.now(UTC)
    until(lambda: datetime.now(UTC) - began > timedelta(seconds=3), what="long enough")
    assert recorder.current() == lines  # none was asked for again
    assert not Alert.objects.filter(key__startswith="data:silent").exists()


def test_an_alert_from_before_ends_with_the_next_engine(rig: Rig) -> None:
    engine, _ = held(rig)
    for message in PRICES:
        rig.gateway.fault(f"lose {message} count=all")
    rig.gateway.fault(DEAD)
    back(engine)
    until(lambda: is_told("MATS"), 20)
    engine.message_queue.submit(lambda: None, "barrier").result(10)
    engine.data_watch._recorded.close()  # type: ignore[union-attr]  # as a process that dies without a word
    engine.cleanup(1.0)
    assert is_told("MATS")
    rig.gateway.fault("clear")
    rig.engine()
    until(lambda: not is_told("MATS"), what="cleared at the start")
    until(lambda: Mark.objects.get(instrument_id=SPY).silent_since is None, what="a price came")
