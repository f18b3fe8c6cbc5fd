"""What the engine does at times of the clock: once each, after a comparison, made up for when it was missed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from portfolio.cron import CHANGED
from portfolio.models import Account, Adjustment, HourlySnapshot
from portfolio.services import allocate_strategy, ensure_account, open_account, record_account_values
from strategies import audit
from strategies.exceptions import TransientError
from strategies.models import AuditEntry, Strategy
from trading.engine.gate import Gate
from trading.engine.schedule import ALERT, DONE, Schedule
from trading.models import Alert

pytestmark = pytest.mark.django_db

ACCOUNT = "DU1000001"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Queue:
    """Does each job at once, as the message thread would."""

    def submit(self, work: Callable[[], Any], name: str) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work())
        return future


class Session:
    """A master session whose broker may fail to answer; an answer confirms the account's figures."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.connected, self.asked, self.fails = True, 0, False
        self._clock = clock

    def reconcile(self, timeout_s: float = 60.0) -> dict[str, Any]:
        self.asked += 1
        if self.fails:
            raise TransientError("No answer.", code="timeout")
        record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], self._clock())
        return {}


class Engine:
    """An engine whose gate is open, at a clock that the test sets."""

    def __init__(self) -> None:
        self.account_id, self.gate, self.now = ACCOUNT, Gate(), START
        self.session = Session(lambda: self.now)
        self.gate.open()
        self.message_queue = Queue()
        self.restart()

    def restart(self) -> None:
        self.schedule = Schedule(cast(Any, self), clock=lambda: self.now)

    def at(self, **later: float) -> Schedule:
        self.now = START + timedelta(**later)
        return self.schedule


@pytest.fixture
def engine() -> Engine:
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], START)
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], START)
    Strategy.objects.create(
        symbol="LOW", filename="a.py", target_weight=Decimal("0.2"), min_weight=Decimal("0.15"), max_weight=Decimal(1)
    )
    allocate_strategy(ACCOUNT, "LOW", Decimal(10_000), "USD", START)
    return Engine()


def rebalanced() -> list[str]:
    return [row.key for row in Adjustment.objects.order_by("id")]


class TestHours:
    def test_each_hour_is_kept_once_after_a_comparison(self, engine: Engine) -> None:
        for minute in (0, 1, 59, 60, 61):
            engine.at(minutes=minute).keep_hour()
        hours = HourlySnapshot.objects.filter(owner="").order_by("hour").values_list("hour", flat=True)
        assert list(hours) == [START, START + timedelta(hours=1)]
        assert engine.session.asked == 2

    def test_engine_that_starts_again_within_the_hour_keeps_it_once(self, engine: Engine) -> None:
        engine.at(minutes=1).keep_hour()
        engine.restart()
        engine.at(minutes=2).keep_hour()
        assert HourlySnapshot.objects.filter(owner="").count() == 1
        assert engine.session.asked == 1

    def test_comparison_of_a_moment_ago_serves(self, engine: Engine) -> None:
        Account.objects.update(reconciled_at=START + timedelta(seconds=40))
        engine.at(minutes=1).keep_hour()
        assert (engine.session.asked, HourlySnapshot.objects.filter(owner="").count()) == (0, 1)

    def test_failure_is_tried_again_after_five_minutes_and_writes_nothing(self, engine: Engine) -> None:
        engine.session.fails = True
        with pytest.raises(TransientError):
            engine.at(minutes=0).keep_hour()
        engine.session.fails = False
        engine.at(minutes=4).keep_hour()
        assert not HourlySnapshot.objects.exists()
        engine.at(minutes=5).keep_hour()
        assert HourlySnapshot.objects.filter(owner="").count() == 1

    def test_nothing_is_kept_while_the_books_may_be_wrong(self, engine: Engine) -> None:
        engine.gate.shut("not_reconciled")
        engine.at(minutes=1).keep_hour()
        engine.gate.open()
        engine.session.connected = False
        engine.at(minutes=2).keep_hour()
        assert not HourlySnapshot.objects.exists()


class TestRebalancing:
    def test_each_time_of_the_schedule_is_done_once(self, engine: Engine) -> None:
        Account.objects.update(rebalance_cron="30 * * * *")
        engine.at(minutes=29).rebalance()
        assert rebalanced() == []
        for minute in (30, 31, 59):
            engine.at(minutes=minute).rebalance()
        (key,) = rebalanced()
        assert key.startswith("cron:2026-03-02T09:30:00")
        engine.restart()
        engine.at(minutes=61).rebalance()
        assert len(rebalanced()) == 1
        assert AuditEntry.objects.filter(action=DONE).count() == 1

    def test_time_at_which_nothing_had_to_move_is_done_as_well(self, engine: Engine) -> None:
        Strategy.objects.update(min_weight=Decimal("0.05"))
        Account.objects.update(rebalance_cron="30 * * * *")
        engine.at(minutes=31).rebalance()
        Strategy.objects.update(min_weight=Decimal("0.15"))
        engine.at(minutes=40).rebalance()
        assert rebalanced() == []
        engine.at(minutes=91).rebalance()
        assert len(rebalanced()) == 1

    def test_times_missed_while_the_engine_was_down_are_made_up_for_once(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        Account.objects.update(rebalance_cron="30 * * * *")
        engine.at(minutes=30).rebalance()
        engine.now = START + timedelta(hours=5)
        engine.restart()
        with caplog.at_level(logging.WARNING, "trading.engine.schedule"):
            engine.schedule.rebalance()
            engine.schedule.rebalance()
        assert "missed count=3" in caplog.text
        assert AuditEntry.objects.filter(action=DONE).count() == 2

    def test_time_of_more_than_a_day_ago_is_not_made_up_for(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        Account.objects.update(rebalance_cron="30 9 * * 1")
        engine.at(minutes=30).rebalance()
        engine.now = START + timedelta(days=8, hours=2)
        engine.restart()
        with caplog.at_level(logging.WARNING, "trading.engine.schedule"):
            engine.schedule.rebalance()
            engine.schedule.rebalance()
        assert caplog.text.count("not made up for") == 1
        assert AuditEntry.objects.filter(action=DONE).count() == 1

    def test_new_schedule_owes_nothing_from_before_it(self, engine: Engine) -> None:
        Account.objects.update(rebalance_cron="0 9 * * *")
        audit.record(CHANGED, ACCOUNT, actor="ann", source="admin", now=START + timedelta(hours=1))
        engine.at(hours=2).rebalance()
        engine.restart()
        engine.at(hours=3).rebalance()
        assert rebalanced() == []
        engine.at(hours=24).rebalance()
        assert len(rebalanced()) == 1

    def test_schedule_that_is_none_moves_nothing(self, engine: Engine) -> None:
        engine.at(hours=30).rebalance()
        assert (rebalanced(), engine.session.asked) == ([], 0)

    def test_what_could_not_be_moved_raises_an_alert_until_it_can(self, engine: Engine) -> None:
        Account.objects.update(rebalance_cron="30 * * * *")
        Strategy.objects.create(symbol="NEW", filename="a.py", target_weight=Decimal("0.1"))
        engine.at(minutes=30).rebalance()
        alert = Alert.objects.get(key=ALERT)
        assert "NEW" in alert.text
        Strategy.objects.filter(symbol="NEW").delete()
        engine.at(minutes=90).rebalance()
        assert Alert.objects.get(key=ALERT).cleared_at is not None
