"""A Flex statement heals what the wire could not deliver, through the running engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from portfolio.flex import store
from portfolio.models import Account, Break, Execution
from portfolio.parking import park
from portfolio.verification import verify_all
from strategies.exceptions import LedgerError
from strategies.models import AuditEntry
from tests.e2e.engine.harness import DISCRETIONARY, Rig, position, until
from tests.e2e.engine.test_reconciliation_crash import killed_engine
from tests.unit.portfolio.builders import contract, fill
from tests.unit.portfolio.flex.builders import Sheet, flex, ny
from trading.engine import flex_commands
from trading.engine.cash_check import CheckTimes
from trading.engine.manager import StrategyManager
from trading.models import EngineEvent, Order
from trading.orders.refs import new_ref
from trading.orders.state import OrderState
from trading.services import enqueue

pytestmark = pytest.mark.e2e

QUICK = CheckTimes(compare_every_s=0.2, replay_every_s=60.0, look_pause_s=0.02, quiet_s=0.3, commission_alarm_s=60.0)


def started(rig: Rig) -> StrategyManager:
    """An engine that compares often, on books that were opened the day before yesterday."""
    engine = StrategyManager()
    engine.autostart = False
    engine.session.times = QUICK
    rig.engines.append(engine)
    engine.start()
    assert engine.gate.wait_open(20.0), engine.state_message
    Account.objects.update(opened_at=datetime.now(UTC) - timedelta(days=2))
    return engine


def moved_without_a_report(rig: Rig, symbol: str, quantity: int) -> int:
    """Have the broker hold more, as after an execution whose day is over; return the contract's id."""

    def _move() -> int:
        venue = rig.gateway.venue
        con_id: int = next(iter(venue.search(symbol))).contract.con_id
        events: Any = venue.move_position(con_id, Decimal(quantity))
        if events:
            rig.gateway.server.publish(events)
        return con_id

    return rig.gateway.call(_move)


def test_an_execution_of_a_day_that_is_over_clears_its_break_when_the_statement_is_imported(rig: Rig) -> None:
    engine = started(rig)
    con_id = moved_without_a_report(rig, "SPY", 5)
    cripple = replace(fill(1), exec_id="0000aaaa.11111111.01.01", price=Decimal("NaN"))
    parked = park(cripple, LedgerError("It has no price.", code="bad_execution"), datetime.now(UTC))
    broken = until(lambda: Break.objects.filter(kind="position", state="open").first(), what="the break opens")
    assert engine.gate.locked_instruments
    yesterday = datetime.now(UTC) - timedelta(days=1)
    day = yesterday.astimezone(ZoneInfo("America/New_York")).strftime("%Y%m%d")
    sheet = Sheet(day, day, account=Account.objects.get().account_id)
    sheet.add(
        "Trades",
        assetCategory="STK",
        symbol="SPY",
        conid=str(con_id),
        multiplier="1",
        tradeID="1",
        transactionID="1",
        ibExecID="0000aaaa.11111111.01.01",
        transactionType="ExchTrade",
        dateTime=ny(yesterday),
        buySell="BUY",
        quantity="5",
        tradePrice="400",
        ibCommission="-1",
        ibCommissionCurrency="USD",
        levelOfDetail="EXECUTION",
    )
    sheet.cash(2, "Other Fees", "-10", dateTime=ny(yesterday), reportDate=day)
    digest = store.keep(flex(sheet))

    result = rig.result(rig.do("import_flex", sha256=digest))
    assert result["counts"]["booked"] == 2
    assert result["open"] == []
    row = Execution.objects.get(exec_id="0000aaaa.11111111.01.01")
    assert (row.owner, row.commission) == (DISCRETIONARY, Decimal(1))
    assert position(DISCRETIONARY, "SPY") == 5
    parked.refresh_from_db()
    assert parked.state == "booked"
    assert EngineEvent.objects.filter(kind="adjustment", payload__kind="fee").exists()
    assert EngineEvent.objects.filter(kind="cash", strategy=DISCRETIONARY).exists()
    until(lambda: Break.objects.get(pk=broken.pk).state == "cleared", what="the break clears")
    until(lambda: not engine.gate.locked_instruments, what="the instrument is free")
    assert AuditEntry.objects.filter(action="flex.imported").count() == 1
    assert AuditEntry.objects.filter(action="adjustment.booked", subject="flex:2").count() == 1

    again = rig.result(rig.do("import_flex", sha256=digest))
    assert again["repeated"] is True
    assert position(DISCRETIONARY, "SPY") == 5


def test_a_statement_of_another_account_fails_and_the_engine_goes_on(rig: Rig) -> None:
    started(rig)
    command = rig.do("import_flex", sha256=store.keep(flex(Sheet(account="U999"))))
    assert (command.state, command.error_code) == ("failed", "flex_other_account")
    rig.inject("SPY", 1)
    until(lambda: position(DISCRETIONARY, "SPY") == 1)


def test_an_order_whose_executions_come_with_a_statement_is_filled_and_slices_tell_how_far_they_are(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flex_commands, "SLICE", 2)
    started(rig)
    account, yesterday = Account.objects.get().account_id, datetime.now(UTC) - timedelta(days=1)
    day = yesterday.astimezone(ZoneInfo("America/New_York")).strftime("%Y%m%d")
    ref = new_ref("GONE")
    moment = {"created_at": yesterday, "sent_at": yesterday, "updated_at": yesterday}
    row = Order.objects.create(
        order_ref=ref,
        owner=DISCRETIONARY,
        state=OrderState.UNKNOWN,
        account_id=account,
        con_id=756733,
        symbol="SPY",
        sec_type="STK",
        currency="USD",
        side="BUY",
        quantity=Decimal(50),
        order_type="MKT",
        perm_id=4711,
        **moment,
    )
    sheet = Sheet(day, day, account=account)
    spy = contract(756733, "SPY")
    for number in range(1, 6):
        sheet.trade(replace(fill(number, 10, 400, of=spy, at=yesterday, commission="1"), order_ref=ref))
    result = rig.result(rig.do("import_flex", sha256=store.keep(flex(sheet))))
    assert (result["counts"]["booked"], result["counts"]["matched"]) == (5, 0)
    row.refresh_from_db()
    assert (row.state, row.filled, row.average_price) == (OrderState.FILLED.value, Decimal(50), Decimal(400))
    assert EngineEvent.objects.filter(kind="order", payload__order_ref=ref, payload__state="filled").exists()
    told = EngineEvent.objects.filter(kind="log", payload__text__startswith="Flex statement:").order_by("id")
    assert [one.payload["text"] for one in told] == [
        f"Flex statement: slice {number} of 3, {done} of 5 executions and fees booked."
        for number, done in ((1, 2), (2, 4), (3, 5))
    ]
    heard = EngineEvent.objects.filter(kind="command", payload__kind="import_flex").order_by("id")
    steps = [one.payload["progress"] for one in heard if one.payload["state"] == "accepted"]
    assert [
        (step["slice"], step["slices"], step["done"], step["of"]) for step in steps if step and "slice" in step
    ] == [
        (1, 3, 2, 5),
        (2, 3, 4, 5),
        (3, 3, 5, 5),
        (3, 3, 5, 5),  # what is no execution comes last, and the slices stay told
    ]
    until(lambda: heard.filter(payload__state="done", payload__progress=None).exists(), what="the end is told")
    assert AuditEntry.objects.filter(action="flex.slice").count() == 3


@pytest.mark.timeout(180)
def test_an_engine_that_is_killed_between_slices_leaves_whole_slices_and_the_file_can_be_imported_again(
    rig: Rig,
) -> None:
    first = started(rig)
    first.cleanup(1.0)
    account, yesterday = Account.objects.get().account_id, datetime.now(UTC) - timedelta(days=1)
    day = yesterday.astimezone(ZoneInfo("America/New_York")).strftime("%Y%m%d")
    sheet, spy = Sheet(day, day, account=account), contract(756733, "SPY")
    for number in range(1, 1_101):
        size = 1 if number % 2 else -1
        at = yesterday + timedelta(milliseconds=number)
        sheet.trade(fill(number, size, 400, of=spy, at=at, commission="1"))
    digest = store.keep(flex(sheet))  # the gateway's cash knows nothing of it: I3 says so
    command = enqueue("import_flex", {"sha256": digest}, source="test")
    killed_engine(rig, "audit:2")  # inside the second slice: the trail has one entry for each
    assert Execution.objects.count() == 500
    assert AuditEntry.objects.filter(action="flex.slice").count() == 1
    assert [
        (one.name, one.findings[:3]) for one in verify_all(arctic=False).checks if one.found and one.name != "I3"
    ] == []
    command.refresh_from_db()
    assert command.result is not None
    assert command.result == {"slice": 1, "slices": 3, "done": 500, "of": 1100, "text": command.result["text"]}
    assert "slice 1 of 3, 500 of 1,100" in command.result["text"]

    started(rig)
    command = rig.finished(command.id)
    again = rig.result(rig.do("import_flex", timeout_s=60.0, sha256=digest))
    counts = again["counts"]
    assert Execution.objects.count() == 1_100
    assert (again["repeated"], counts["matched"] + counts.get("booked", 0)) == (command.state == "done", 1_100)
    assert not Execution.objects.filter(commission=None).exists()
    assert position(DISCRETIONARY, "SPY") == 0
    assert [
        (one.name, one.findings[:3]) for one in verify_all(arctic=False).checks if one.found and one.name != "I3"
    ] == []
