"""Words that stories about the books are told in: book, undo, state, cash, sound."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from portfolio.adjustments import book_adjustment, undo_adjustment
from portfolio.facts import Booking
from portfolio.fold import Item
from portfolio.models import CashBalance, Position
from portfolio.services import ensure_account, fold_batch
from portfolio.verification import verify_ledger
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, owner_of

AAPL = 265598
LATER = NOW + timedelta(hours=1)
WHO: dict[str, Any] = {"actor": "ann", "source": "page", "reason": "as agreed", "now": LATER}
CALL = contract(900, "AAPL", sec_type="OPT", multiplier=Decimal(100), strike=Decimal(150), right="C")


def open_books(*symbols: str) -> None:
    """An account in dollars and its strategies."""
    ensure_account(ACCOUNT, "USD")
    for symbol in symbols:
        Strategy.objects.create(symbol=symbol, filename="alpha.py")


def fold(*items: Item) -> None:
    """Book what IB reported."""
    fold_batch(ACCOUNT, items, owner_of, NOW)


def book(kind: str, /, **details: Any) -> Booking:
    """Book an event that is no fill."""
    return book_adjustment(ACCOUNT, kind, details, **WHO)


def undo(booking: Booking) -> Booking:
    """Take it back."""
    return undo_adjustment(booking.adjustment_id, **WHO)


def state(owner: str, con_id: int = AAPL) -> tuple[Decimal, Decimal, Decimal]:
    """Quantity, cost basis and realised P&L of a position."""
    row = Position.objects.get(owner=owner, instrument_id=con_id)
    return row.quantity, row.cost_basis, row.realized_pnl


def cash(owner: str, currency: str = "USD") -> Decimal:
    """An owner's cash in one currency."""
    return sum((row.amount for row in CashBalance.objects.filter(owner=owner, currency=currency)), Decimal(0))


def sound() -> bool:
    """Whether the journal makes what is kept."""
    return verify_ledger().findings == []
