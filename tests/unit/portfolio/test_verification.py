"""verify_ledger: each invariant holds on honest books and names what breaks it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from portfolio.adjustments import book_adjustment, undo_adjustment
from portfolio.arctic.client import ArcticClient
from portfolio.arctic.projections import Projector
from portfolio.hourly import take_hourly_snapshot
from portfolio.models import (
    Account,
    Adjustment,
    Break,
    BrokerHolding,
    CashBalance,
    Execution,
    HourlySnapshot,
    Movement,
    Position,
)
from portfolio.services import allocate_strategy, ensure_account, fold_batch, record_account_values, record_marks
from portfolio.verification import Outcome, verify_all
from portfolio.verification.stores import verify_watermarks
from strategies.models import AuditEntry, Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, fee, fill, owner_of
from trading.models import EngineCommand, Order, OrderEvent
from trading.orders.state import OrderState

pytestmark = pytest.mark.django_db
IB_CASH = "-2852"  # −100 × 50.5 + 40 × 55 − 1 − 1: what came from the account stayed in it
BY: dict[str, Any] = {"actor": "tester", "source": "cli", "reason": "test"}


@pytest.fixture(autouse=True)
def _books(arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two owners, fills, a correction, events that were booked and undone, two hours, all in ArcticDB."""
    monkeypatch.setattr(settings, "MATS", replace(settings.MATS, arctic_uri=arctic.uri))
    ensure_account(ACCOUNT, "USD")
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], NOW)
    for symbol in ("ALPHA", "BETA"):
        Strategy.objects.create(symbol=symbol)
        allocate_strategy(ACCOUNT, symbol, Decimal(10_000), "USD", NOW)
    fold_batch(ACCOUNT, [fill(1, 100, 50), fee(1), fill(2, -40, 55, owner="BETA"), fee(2)], owner_of, NOW)
    fold_batch(ACCOUNT, [fill(1, 100, "50.5", revision=2)], owner_of, NOW)
    record_marks({265598: Decimal(52)}, NOW)
    take_hourly_snapshot(ACCOUNT, NOW, NOW + timedelta(minutes=1))
    details = {"from": "ALPHA", "to": "BETA", "currency": "USD", "amount": "12.5"}
    book_adjustment(ACCOUNT, "transfer_cash", details, now=NOW, **BY)
    undone = book_adjustment(
        ACCOUNT, "dividend", {"con_id": 265598, "currency": "USD", "amount": "7"}, now=NOW + timedelta(hours=1), **BY
    )
    undo_adjustment(undone.adjustment_id, now=NOW + timedelta(hours=1), **BY)
    record_marks({265598: Decimal(53)}, NOW)
    hour = NOW + timedelta(hours=1)
    take_hourly_snapshot(ACCOUNT, hour, hour + timedelta(minutes=1))
    projector = Projector()
    projector.flush_all()
    projector.close()


def project() -> None:
    projector = Projector()
    projector.flush_all()
    projector.close()


def outcome(name: str) -> tuple[Outcome, str]:
    check = next(check for check in verify_all().checks if check.name == name)
    return check.outcome, " ".join(check.findings)


def test_honest_books_hold_every_invariant() -> None:
    report = verify_all()
    assert [str(check) for check in report.checks if check.outcome is Outcome.FAILS] == []
    assert report.exit_code == 0
    names = {check.name for check in report.checks}
    assert names == {f"I{number}" for number in range(1, 18)} | {"I5a"}
    for name in ("I1", "I4", "I5", "I5a", "I7", "I8", "I15", "I16", "I17"):
        assert next(check for check in report.checks if check.name == name).checked, name


def two_live_revisions() -> None:
    Execution.objects.update(superseded=False)


def other_holding() -> None:
    account = Account.objects.get()
    Account.objects.update(positions_at=NOW + timedelta(days=1))
    BrokerHolding.objects.create(account=account, instrument_id=265598, quantity=99, average_cost=50)


def cash_break() -> None:
    Account.objects.update(reconciled_at=NOW)
    Break.objects.create(
        account_id=ACCOUNT, kind="cash", currency="USD", ib_quantity=5, ledger_quantity=4, opened_at=NOW
    )


def calm_since(figures: dict[str, str]) -> None:
    """IB's cash by currency, stored a day after anything moved and checked."""
    Account.objects.update(reconciled_at=NOW)
    fold_batch(ACCOUNT, [fee(1, revision=2)], owner_of, NOW)
    rows = [("CashBalance", value, currency) for currency, value in figures.items()]
    record_account_values(ACCOUNT, rows, NOW + timedelta(days=1))


def invented_deposit() -> None:
    """A deposit that agrees with itself in every column, and that the broker never saw."""
    calm_since({"USD": IB_CASH, "BASE": "1"})
    book_adjustment(ACCOUNT, "deposit", {"owner": "ALPHA", "currency": "USD", "amount": "5"}, now=NOW, **BY)


def wrong_fees_of_a_position() -> None:
    Position.objects.filter(owner="ALPHA").update(commissions=Decimal(9))


def wrong_commission() -> None:
    Execution.objects.filter(owner="BETA").update(commission=Decimal(2))


def lost_commission() -> None:
    Execution.objects.filter(owner="BETA").update(commission=None)


def wrong_balance_after() -> None:
    Movement.objects.filter(kind="fill", owner="BETA").update(cash_after=Decimal(1))


def wrong_quantity_after() -> None:
    Movement.objects.filter(kind="fill", owner="BETA").update(quantity_after=Decimal(1))


def wrong_profit_after() -> None:
    Movement.objects.filter(kind="fill", owner="BETA").update(realized_after=Decimal(1))


def lost_position() -> None:
    Position.objects.filter(owner="BETA").delete()


def lost_balance() -> None:
    CashBalance.objects.filter(owner="BETA").delete()


def lost_movement() -> None:
    Movement.objects.filter(kind="allocation", owner="BETA").delete()


def wrong_basis() -> None:
    Position.objects.filter(owner="ALPHA").update(cost_basis=Decimal(1))


def wrong_profit_apart() -> None:
    CashBalance.objects.filter(owner="ALPHA").update(realized_apart=Decimal(1))


def wrong_equity() -> None:
    HourlySnapshot.objects.filter(owner="ALPHA").update(equity=Decimal(1))


def invented_profit() -> None:
    Movement.objects.filter(kind="fill", owner="BETA").update(realized_pnl=Decimal(5))


def half_a_transfer() -> None:
    Movement.objects.filter(adjustment__kind="transfer_cash", owner="BETA").update(cash=Decimal(12))


def kept_dividend() -> None:
    undo = Adjustment.objects.exclude(undoes=None).get()
    Movement.objects.filter(adjustment=undo).update(cash=Decimal(0))


def lost_share() -> None:
    Movement.objects.filter(kind="fill", owner="BETA").update(quantity=Decimal(-39))


def stranger() -> None:
    Strategy.objects.filter(symbol="BETA").delete()


def edited_audit() -> None:
    AuditEntry.objects.update(reason="another")


def unexplained_equity() -> None:
    HourlySnapshot.objects.filter(owner="ALPHA", hour__gt=NOW).update(unrealized_pnl=Decimal(1))


def order_without_fills() -> None:
    Order.objects.create(
        order_ref="ALPHA/9",
        owner="ALPHA",
        state=OrderState.FILLED,
        con_id=1,
        symbol="X",
        sec_type="STK",
        side="BUY",
        quantity=5,
        order_type="MKT",
        filled=5,
        created_at=NOW,
        updated_at=NOW,
    )


def sent_twice() -> None:
    order_without_fills()
    for sent_id in (11, 11, 12):
        OrderEvent.objects.create(
            order=Order.objects.get(), at=NOW, state=OrderState.SENT, filled=0, remaining=5, sent_id=sent_id
        )


def sent_before_it_was_meant() -> None:
    order_without_fills()
    for state in (OrderState.SENT, OrderState.INTENT):
        OrderEvent.objects.create(order=Order.objects.get(), at=NOW, state=state, filled=0, remaining=5)


def future_epoch() -> None:
    EngineCommand.objects.create(kind="x", epoch=99, created_at=NOW)


@pytest.mark.parametrize(
    ("name", "breaks", "word"),
    [
        ("I1", two_live_revisions, "2 live revisions"),
        ("I2", other_holding, "no open break"),
        ("I3", cash_break, "USD: IB 5"),
        ("I3", invented_deposit, f"USD: IB {IB_CASH} at"),
        ("I4", wrong_equity, "equity 1"),
        ("I5", invented_profit, "BETA, contract 265598"),
        ("I5a", half_a_transfer, "transfer_cash"),
        ("I5a", kept_dividend, "and its undo"),
        ("I6", order_without_fills, "ALPHA/9: filled 5"),
        ("I7", lost_share, "shares -39"),
        ("I7", stranger, "BETA, which is no strategy"),
        ("I9", sent_twice, "under 2 order ids"),
        ("I9", sent_before_it_was_meant, "before it was written down"),
        ("I11", future_epoch, "epoch 99"),
        ("I15", edited_audit, "altered"),
        ("I16", unexplained_equity, "besides flows"),
        ("I17", lost_share, "quantity of BETA"),
        ("I17", wrong_fees_of_a_position, "fees of ALPHA"),
        ("I17", wrong_commission, "commission of execution 0000e0d5.00000002.01.01 in USD: kept 2, journal 1"),
        ("I17", lost_commission, "commission of execution 0000e0d5.00000002.01.01 in USD: kept 0, journal 1"),
        ("I17", wrong_balance_after, "cash of BETA after fill:0000e0d5.00000002.01.01"),
        ("I17", wrong_quantity_after, "quantity of BETA in 265598 after fill"),
        ("I17", wrong_profit_after, "realised P&L of BETA in 265598 after fill"),
        ("I17", lost_position, "quantity of BETA"),
        ("I17", lost_balance, "cash of BETA in USD: kept 0"),
        ("I17", lost_movement, "cash of BETA"),
        ("I17", wrong_basis, "cost basis of ALPHA"),
        ("I17", wrong_profit_apart, "realised apart from positions of ALPHA"),
    ],
)
def test_what_breaks_an_invariant_is_named(name: str, breaks: Callable[[], None], word: str) -> None:
    breaks()
    found, text = outcome(name)
    assert found is Outcome.FAILS
    assert word in text
    with pytest.raises(CommandError) as caught:
        call_command("verify_ledger", "--no-arctic", stdout=io.StringIO(), stderr=io.StringIO())
    assert caught.value.returncode == 1


def test_cash_is_held_against_the_figures_of_ib_only_when_nothing_moved_before_them() -> None:
    calm_since({"USD": IB_CASH, "BASE": "1"})
    assert outcome("I3") == (Outcome.HOLDS, "")
    calm_since({"USD": "7"})
    assert "no open break" in outcome("I3")[1]
    book_adjustment(
        ACCOUNT, "interest", {"currency": "USD", "amount": "1"}, now=NOW + timedelta(hours=23, minutes=58), **BY
    )
    assert outcome("I3") == (Outcome.HOLDS, "")


def test_row_that_was_changed_in_arctic_is_named(arctic: ArcticClient) -> None:
    item = arctic.read(ACCOUNT, "positions/BETA")
    item.data.loc[item.data.index[1], "quantity"] = 7.0
    arctic.library(ACCOUNT).write("positions/BETA", item.data, metadata=item.metadata)
    found, text = outcome("I8")
    assert found is Outcome.FAILS
    assert "positions/BETA: row 1 column quantity is 7.0" in text


def test_rows_too_many_and_symbols_of_nobody_are_found(arctic: ArcticClient) -> None:
    item = arctic.read(ACCOUNT, "fills/BETA")
    arctic.library(ACCOUNT).write("fills/NOBODY", item.data)
    late = item.data.tail(1)
    late.index = late.index + timedelta(seconds=1)
    arctic.library(ACCOUNT).append("fills/BETA", late, metadata=item.metadata)
    text = outcome("I8")[1]
    assert "fills/NOBODY: the ledger has no rows" in text
    assert "fills/BETA: holds 3 rows, the ledger makes 2" in text


def test_store_that_is_behind_differs_until_it_is_synced() -> None:
    fold_batch(ACCOUNT, [fill(5)], owner_of, NOW)
    assert "lacks 1 rows" in outcome("I8")[1]
    project()
    assert outcome("I8")[0] is Outcome.HOLDS


def test_quick_check_sees_a_lost_symbol(arctic: ArcticClient) -> None:
    assert verify_watermarks(arctic).findings == []
    arctic.library(ACCOUNT).delete("fills/BETA")
    assert "fills/BETA" in str(verify_watermarks(arctic).findings[0])
    assert verify_all(quick=True).exit_code == 1
    assert verify_all(quick=True, arctic=False).exit_code == 0


def test_json_says_the_same_and_the_exit_code_is_1() -> None:
    cash_break()
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("verify_ledger", "--json", stdout=out, stderr=io.StringIO())
    assert caught.value.returncode == 1
    found = json.loads(out.getvalue())
    assert found["exit_code"] == 1
    failing = [check["name"] for check in found["checks"] if check["outcome"] == "fails"]
    assert failing == ["I3"]
    assert {c["name"] for c in found["checks"] if c["note"] == "not checkable at rest"} == {"I10", "I12", "I14"}
