"""How long an execution may wait for its contract without an alert."""

from __future__ import annotations

from datetime import timedelta

import pytest

from portfolio.models import ParkedReport
from portfolio.parking import park
from strategies.exceptions import LedgerError
from tests.unit.portfolio.builders import NOW, fill
from trading.engine.undescribed import PATIENCE, Undescribed, is_under_way
from trading.models import Alert

pytestmark = pytest.mark.django_db
WAITS = LedgerError("It may be quoted in cents.", code="unknown_magnifier")


def parked(number: int, error: LedgerError = WAITS) -> ParkedReport:
    return park(fill(number, 1, 5000), error, NOW)


def test_only_a_contract_that_is_not_described_is_under_way() -> None:
    assert is_under_way(WAITS)
    assert not is_under_way(LedgerError("It has no price.", code="bad_execution"))
    assert not is_under_way(ValueError("no"))


def test_what_waits_is_overdue_once() -> None:
    now = [100.0]
    waiting = Undescribed(lambda: now[0])
    now[0] += PATIENCE.total_seconds()
    assert [waiting.take_overdue(), waiting.take_overdue()] == [True, False]  # an earlier engine may have left some
    waiting.note()
    now[0] += PATIENCE.total_seconds() - 1
    waiting.note()  # a second one does not put the first one off
    assert not waiting.take_overdue()
    now[0] += 1
    assert waiting.take_overdue()


def test_overdue_reports_alert_once_each_and_younger_ones_are_looked_at_again() -> None:
    now = [0.0]
    waiting = Undescribed(lambda: now[0])
    assert not waiting.take_overdue()
    old = parked(1)
    parked(2, LedgerError("It has no price.", code="bad_execution"))  # alerted when it was parked, by who parked it
    young = parked(3)
    ParkedReport.objects.filter(pk=young.pk).update(parked_at=NOW + timedelta(seconds=10))
    now[0] = 40.0
    assert waiting.take_overdue()
    for _ in range(2):
        waiting.report(NOW + PATIENCE)
    assert [(row.key, row.times) for row in Alert.objects.all()] == [(f"parked:{old.key}", 1)]
    now[0] = 80.0
    assert waiting.take_overdue()
    waiting.report(NOW + PATIENCE + timedelta(seconds=10))
    assert Alert.objects.filter(key=f"parked:{young.key}").exists()
    now[0] = 200.0
    assert not waiting.take_overdue()
