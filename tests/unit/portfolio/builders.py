"""Snapshots for tests of the books."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from strategies.events import CommissionSnapshot, ContractSnapshot, FillSnapshot

ACCOUNT = "DU1000001"
NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)


def contract(con_id: int = 265598, symbol: str = "AAPL", **changes: object) -> ContractSnapshot:
    """A US stock unless told otherwise."""
    values: dict[str, object] = {
        "con_id": con_id,
        "symbol": symbol,
        "sec_type": "STK",
        "exchange": "SMART",
        "currency": "USD",
        "price_magnifier": 1,
    }
    return ContractSnapshot(**{**values, **changes})  # type: ignore[arg-type]  # test values


def fill(
    number: int = 1,
    quantity: str | int = 100,
    price: str | int = 50,
    *,
    revision: int = 1,
    owner: str = "ALPHA",
    of: ContractSnapshot | None = None,
    commission: str | None = None,
    commission_currency: str = "",
    at: datetime = NOW,
) -> FillSnapshot:
    """One execution; a negative quantity sells. Its order_ref names the owner."""
    signed = Decimal(quantity)
    return FillSnapshot(
        exec_id=f"0000e0d5.{number:08x}.01.{revision:02d}",
        account=ACCOUNT,
        contract=of or contract(),
        side="BOT" if signed > 0 else "SLD",
        quantity=abs(signed),
        price=Decimal(price),
        executed_at=at + timedelta(seconds=number),
        perm_id=7000 + number,
        client_id=3,
        order_id=number,
        order_ref=f"{owner}/{number}",
        cum_quantity=abs(signed),
        average_price=Decimal(price),
        exchange="ISLAND",
        commission=None if commission is None else Decimal(commission),
        commission_currency=commission_currency,
    )


def fee(number: int = 1, amount: str = "1", currency: str = "USD", *, revision: int = 1) -> CommissionSnapshot:
    """The commission report of ``fill(number)``."""
    return CommissionSnapshot(f"0000e0d5.{number:08x}.01.{revision:02d}", Decimal(amount), currency)


def owner_of(snapshot: FillSnapshot) -> str:
    """The part of the order reference before the slash."""
    return snapshot.order_ref.partition("/")[0] or "Discretionary"
