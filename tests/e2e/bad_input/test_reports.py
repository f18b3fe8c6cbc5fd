"""Reports of the broker that make no sense, through a running engine: parked with a reason; the rest goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from portfolio.models import Execution, ParkedReport
from portfolio.reconcile import ledger_quantities
from tests.e2e.engine.harness import DISCRETIONARY, Rig, position, until
from tests.unit.portfolio.builders import contract, fill
from trading.models import Alert

pytestmark = pytest.mark.e2e

NOTHING = contract(0, "NONE")
BAD: dict[str, dict[str, Any]] = {
    "nan_price": {"price": Decimal("NaN")},
    "zero_price": {"price": Decimal(0)},
    "negative_price": {"price": Decimal(-3)},
    "no_quantity": {"quantity": Decimal(0)},
    "unknown_currency": {"contract": contract(900_000_001, "BADCUR", currency="?")},
    "unknown_contract": {"contract": NOTHING},
}


def test_bad_reports_are_parked_by_name_and_their_neighbours_booked(rig: Rig) -> None:
    engine = rig.engine()
    rig.inject("SPY", 1)
    until(lambda: position(DISCRETIONARY, "SPY") == 1)
    for number, changes in enumerate(BAD.values(), start=500):
        told = replace(fill(number, 5, 100, owner=""), account=engine.account_id, executed_at=datetime.now(UTC))
        engine.message_queue.put({"type": "fill", "strategy": "", "trade": None, "fill": replace(told, **changes)})
    rig.inject("SPY", 20)
    until(lambda: position(DISCRETIONARY, "SPY") == 21, what="the neighbours are booked")
    until(lambda: ParkedReport.objects.filter(state="waiting").count() == len(BAD), what="each is parked")
    rows = {row.key: row for row in ParkedReport.objects.all()}
    for number, name in enumerate(BAD, start=500):
        row = rows[f"fill:{fill(number).exec_id}"]
        assert row.reason, name
        assert Alert.objects.filter(key=f"parked:{row.key}", cleared_at=None).count() == 1, name
    assert Execution.objects.count() == 21
    rig.assert_books_equal_broker()


def test_execution_that_comes_again_with_other_content_changes_nothing_and_alerts(rig: Rig) -> None:
    engine = rig.engine()
    told = replace(
        fill(700, 5, 100, owner="", of=contract(900_000_002, "ELSE")),
        account=engine.account_id,
        executed_at=datetime.now(UTC),
    )
    for price in (100, 101):
        again = replace(told, price=Decimal(price))
        engine.message_queue.put({"type": "fill", "strategy": "", "trade": None, "fill": again})
    alert = until(lambda: Alert.objects.filter(key=f"contradiction:{told.exec_id}").first(), what="the alert opens")
    assert alert.severity == "critical"
    assert Execution.objects.get(exec_id=told.exec_id).price == 100
    assert ledger_quantities(engine.account_id)[900_000_002] == 5
