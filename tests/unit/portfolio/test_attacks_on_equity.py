"""Attacks on what a strategy is said to be worth, on rebalancing keys, and on money that moves without a trace."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from portfolio.adjustments import book_adjustment, undo_adjustment
from portfolio.guards import books_obstacle
from portfolio.models import CashBalance
from portfolio.rebalance import apply
from portfolio.services import (
    allocate_strategy,
    ensure_account,
    fold_batch,
    open_account,
    record_account_values,
    record_marks,
    strategy_equity,
    take_equity_snapshot,
)
from strategies.models import AuditEntry, Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, fill, owner_of
from trading.engine.reconciler import allocate_missing

pytestmark = pytest.mark.django_db

AAPL = 265598
LATER = NOW + timedelta(hours=2)


@pytest.fixture(autouse=True)
def _books() -> None:
    for symbol in ("ALPHA", "BETA"):
        Strategy.objects.create(symbol=symbol, filename="a.py", target_weight=Decimal("0.2"), max_weight=Decimal("0.3"))
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], NOW)


def book(kind: str, now: Any = LATER, /, **details: Any) -> int:
    who: dict[str, Any] = {"actor": "ann", "source": "page", "reason": "because"}
    return book_adjustment(ACCOUNT, kind, details, now=now, **who).adjustment_id


def cash(owner: str) -> Decimal:
    return CashBalance.objects.get(owner=owner, currency="USD").amount


def test_money_that_left_after_the_last_snapshot_is_not_sized_with() -> None:
    """20,000 and 100 shares for 50 that stand at 55: 20,500; then prices stop, and 15,000 go."""
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(20_000), "USD", NOW)
    fold_batch(ACCOUNT, [fill(1, 100, 50)], owner_of, NOW)
    record_marks({AAPL: Decimal(55)}, NOW)
    take_equity_snapshot(ACCOUNT, NOW)
    assert strategy_equity(ACCOUNT, "ALPHA", LATER) == 20_500
    gone = book("transfer_cash", **{"from": "ALPHA", "to": "BETA"}, currency="USD", amount="15000")
    assert strategy_equity(ACCOUNT, "ALPHA", LATER) == 5_500
    undo_adjustment(gone, actor="ann", source="page", reason="no", now=LATER)
    assert strategy_equity(ACCOUNT, "ALPHA", LATER) == 20_500
    book("deposit", owner="ALPHA", currency="USD", amount="1000")
    assert strategy_equity(ACCOUNT, "ALPHA", LATER) == 21_500


def test_rebalancing_whose_key_begins_like_another_is_not_taken_for_it() -> None:
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(5_000), "USD", NOW)
    allocate_strategy(ACCOUNT, "BETA", Decimal(20_000), "USD", NOW)
    apply(ACCOUNT, "ALPHA", force=True, actor="ann", source="api", key="op:May:1", now=NOW)
    assert cash("ALPHA") == 20_000
    book("transfer_cash", NOW, **{"from": "ALPHA", "to": "Discretionary"}, currency="USD", amount="15000")
    apply(ACCOUNT, "ALPHA", force=True, actor="ann", source="api", key="op:May", now=NOW)
    assert cash("ALPHA") == 20_000
    book("transfer_cash", NOW, **{"from": "ALPHA", "to": "Discretionary"}, currency="USD", amount="15000")
    apply(ACCOUNT, "ALPHA", force=True, actor="ann", source="api", key="OP:MAY", now=NOW)
    assert cash("ALPHA") == 20_000


def test_strategy_without_a_rate_is_refused_alone() -> None:
    """EURO gave everything back and nobody knows what a euro is worth: ALPHA gets its money all the same."""
    Strategy.objects.create(symbol="EURO", filename="a.py", currency="EUR", target_weight=Decimal("0.1"))
    allocate_strategy(ACCOUNT, "EURO", Decimal(100), "EUR", NOW)
    book("transfer_cash", NOW, **{"from": "EURO", "to": "Discretionary"}, currency="EUR", amount="100")
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(5_000), "USD", NOW)
    lines, _ = apply(ACCOUNT, force=True, actor="ann", source="api", key="op:1", now=NOW)
    told = {line.strategy: (line.amount, line.refused) for line in lines}
    assert told["EURO"] == (Decimal(0), True)
    assert told["ALPHA"] == (Decimal(15_000), False)


def test_strategy_that_once_had_money_or_positions_keeps_its_name() -> None:
    fold_batch(ACCOUNT, [fill(1, 10, 50, owner="BETA")], owner_of, NOW)
    for giver, taker in (("BETA", "ALPHA"), ("ALPHA", "BETA")):
        book("transfer_position", **{"from": giver, "to": taker}, con_id=AAPL, quantity="10")
    assert "books" in str(books_obstacle("ALPHA"))


def test_first_money_of_a_strategy_is_in_the_audit_trail() -> None:
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], timezone.now())
    assert allocate_missing(ACCOUNT) == []
    assert allocate_missing(ACCOUNT) == []
    entries = AuditEntry.objects.filter(action="cash.allocated").order_by("id")
    assert [(row.subject, row.source, row.after) for row in entries] == [
        ("ALPHA", "engine", {"account": ACCOUNT, "amount": "20000", "currency": "USD"}),
        ("BETA", "engine", {"account": ACCOUNT, "amount": "20000", "currency": "USD"}),
    ]
