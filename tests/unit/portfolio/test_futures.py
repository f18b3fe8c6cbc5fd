"""Futures at notional: the same equity as variation margin gives, and the cash that the broker then should have."""

# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from decimal import Decimal

import pytest

from portfolio.facts import BrokerPosition
from portfolio.ledger.pnl import market_value
from portfolio.models import CashBalance, Position
from portfolio.reconcile import ledger_cash
from portfolio.services import compare_cash, ensure_account, fold_batch, open_account
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


def _expected(marks: dict[int, Decimal]) -> Decimal:
    return ledger_cash(ACCOUNT, marks).amounts["USD"]


def test_opening_with_a_future_in_profit_agrees_with_ibs_cash_at_once() -> None:
    """Long 2 at 4,000, now 4,100: IB's cash has the 10,000 already, the average does not."""
    held = BrokerPosition(FUTURE, Decimal(2), Decimal(200_000))
    marks = {FUTURE.con_id: Decimal(4100)}
    open_account(ACCOUNT, {"USD": Decimal(60_000)}, [held], [], NOW, marks=marks)
    assert CashBalance.objects.get().amount == 60_000 - 410_000
    assert _expected(marks) == 60_000
    assert compare_cash(ACCOUNT, {"USD": Decimal(60_000)}, NOW, marks=marks) == []
    assert Position.objects.get().cost_basis == 400_000
    assert verify_ledger().findings == []


def test_opening_with_a_short_future_and_a_sale_of_the_day_agrees_with_ibs_cash() -> None:
    """Short 1 from before at 4,000, another sold today at 4,050, fee 2; now 4,020: IB's cash moved by gains and fee."""
    held = BrokerPosition(FUTURE, Decimal(-2), Decimal(201_250))
    marks = {FUTURE.con_id: Decimal(4020)}
    sale = fill(1, -1, 4050, of=FUTURE)
    open_account(ACCOUNT, {"USD": Decimal(70_000)}, [held], [sale], NOW, commissions=[fee(1, "2")], marks=marks)
    assert _expected(marks) == 70_000
    assert sum(row.quantity for row in Position.objects.all()) == -2


def test_opening_after_a_future_was_closed_today_agrees_with_ibs_cash() -> None:
    """The books pay nothing for what is no longer held."""
    open_account(ACCOUNT, {"USD": Decimal(70_000)}, [], [fill(1, -1, 4050, of=FUTURE)], NOW, marks={})
    assert _expected({}) == 70_000
    assert CashBalance.objects.get().amount == 70_000


def test_opening_after_a_future_was_bought_today_agrees_with_ibs_cash() -> None:
    held = BrokerPosition(FUTURE, Decimal(1), Decimal(202_500))
    marks = {FUTURE.con_id: Decimal(4060)}
    open_account(ACCOUNT, {"USD": Decimal(70_500)}, [held], [fill(1, 1, 4050, of=FUTURE)], NOW, marks=marks)
    assert _expected(marks) == 70_500


def test_opening_without_a_mark_takes_the_average() -> None:
    held = BrokerPosition(FUTURE, Decimal(2), Decimal(200_000))
    open_account(ACCOUNT, {"USD": Decimal(60_000)}, [held], [], NOW)
    assert CashBalance.objects.get().amount == 60_000 - 400_000
