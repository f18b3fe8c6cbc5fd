"""Futures at notional: the same equity as variation margin gives, and the cash that the broker then should have."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from decimal import Decimal

import pytest

from portfolio.ledger.pnl import market_value
from portfolio.models import CashBalance, Position
from portfolio.services import ensure_account, fold_batch, open_account
from portfolio.verification.journal import verify_ledger
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db

MULTIPLIER = Decimal(50)
FUTURE = contract(495512563, "ES", sec_type="FUT", multiplier=MULTIPLIER)


@pytest.mark.parametrize("settlements", [[4010], [4010, 3990, 4005]])
def test_equity_is_what_daily_settlement_makes_and_ib_cash_follows_from_the_mark(settlements: list[int]) -> None:
    open_account(ACCOUNT, {"USD": Decimal(1_000_000)}, [], [], NOW)
    fold_batch(ACCOUNT, [fill(1, 2, 4000, of=FUTURE), fee(1, "4.5")], owner_of, NOW)
    broker, last = Decimal(1_000_000) - Decimal("4.5"), Decimal(4000)
    for price in settlements:
        broker, last = broker + 2 * (price - last) * MULTIPLIER, Decimal(price)
    owned = sum((row.amount for row in CashBalance.objects.filter(currency="USD")), Decimal(0))
    held = Position.objects.get()
    assert owned + market_value(held.quantity, last, MULTIPLIER) == broker


def test_closed_future_leaves_its_difference_in_cash() -> None:
    ensure_account(ACCOUNT, "USD")
    fold_batch(ACCOUNT, [fill(1, -3, 4000, of=FUTURE), fill(2, 3, 3990, of=FUTURE), fee(2, "6")], owner_of, NOW)
    assert CashBalance.objects.get().amount == 3 * 10 * 50 - 6
    assert Position.objects.get().realized_pnl == 1494
    assert verify_ledger().findings == []
