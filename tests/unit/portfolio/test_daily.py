"""What counts as realised today, and that reading only what is new says the same as reading everything."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from portfolio.daily import DailyPnl
from portfolio.facts import Booking
from portfolio.services import book_adjustment, ensure_account, fold_batch, undo_adjustment
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
OPTION = contract(77, "AAPL", sec_type="OPT", multiplier=Decimal(100))


def book(kind: str, details: dict[str, Any], at: datetime = NOW) -> Booking:
    return book_adjustment(ACCOUNT, kind, details, actor="ann", source="page", effective_at=at, now=NOW + DAY)


def today(daily: DailyPnl, at: datetime = NOW) -> Decimal:
    return daily.realized(ACCOUNT, "ALPHA", at + timedelta(hours=1))


@pytest.fixture(autouse=True)
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    Strategy.objects.create(symbol="ALPHA", filename="a.py")


def test_option_that_expires_worthless_is_a_loss_of_its_day() -> None:
    fold_batch(ACCOUNT, [fill(1, 2, 3, of=OPTION, at=NOW - DAY)], owner_of, NOW - DAY)
    daily = DailyPnl()
    assert today(daily) == 0
    expiry = book("expiry", {"con_id": 77})
    assert today(daily) == today(DailyPnl()) == -600
    assert today(DailyPnl(), NOW - DAY) == 0
    undo_adjustment(expiry.adjustment_id, actor="ann", source="page", reason="Too early.", now=NOW + DAY)
    assert today(daily) == today(DailyPnl()) == 0


def test_fee_dividend_and_interest_count_beside_fills_on_the_day_of_their_effect() -> None:
    fold_batch(ACCOUNT, [fill(1, 100, 50), fee(1), fill(2, -50, 52)], owner_of, NOW)
    daily = DailyPnl()
    assert today(daily) == 99
    book("dividend", {"con_id": 265598, "currency": "USD", "amount": "10"}, NOW + timedelta(minutes=1))
    book("fee", {"currency": "USD", "amount": "4", "owner": "ALPHA"})
    book("interest", {"currency": "USD", "amount": "-1", "owner": "ALPHA"}, NOW - DAY)
    assert today(daily) == today(DailyPnl()) == 105


def test_money_that_comes_or_goes_realises_nothing() -> None:
    book("deposit", {"owner": "ALPHA", "currency": "USD", "amount": "1000"})
    book("withdrawal", {"owner": "ALPHA", "currency": "USD", "amount": "400"})
    assert today(DailyPnl()) == 0
