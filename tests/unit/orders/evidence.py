"""Builders of what IB says about orders, as the ledger gets it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

from portfolio.facts import ExecutionFact
from strategies.events import ContractSnapshot, FillSnapshot, StatusSnapshot, TradeSnapshot
from trading.orders.drafts import OrderDraft

NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
AAPL = ContractSnapshot(265598, "AAPL", "STK", "SMART", "USD", "NASDAQ", "AAPL", "NMS")
_numbers = count(1)


def draft(quantity: int | str = 100, *, owner: str = "T", side: str = "BUY", **changes: object) -> OrderDraft:
    """Return a market order's draft."""
    values: dict[str, object] = {"order_type": "MKT", **changes}
    return OrderDraft(owner=owner, contract=AAPL, side=side, quantity=Decimal(quantity), **values)  # type: ignore[arg-type]  # keyword bag of a builder


def trade(
    order_ref: str,
    word: str = "Submitted",
    *,
    quantity: int = 100,
    filled: int = 0,
    perm_id: int = 900,
    client_id: int = 7,
    order_id: int = 3,
    limit: str | None = None,
) -> TradeSnapshot:
    """Return an order as IB describes it."""
    return TradeSnapshot(
        order_ref=order_ref,
        client_id=client_id,
        order_id=order_id,
        perm_id=perm_id,
        account="DU1",
        contract=AAPL,
        action="BUY",
        quantity=Decimal(quantity),
        order_type="MKT" if limit is None else "LMT",
        limit_price=None if limit is None else Decimal(limit),
        stop_price=None,
        tif="DAY",
        status=word,
        filled=Decimal(filled),
        remaining=Decimal(quantity - filled),
        average_price=None,
    )


def status(word: str = "", filled: int = 0, *, code: int = 0, text: str = "") -> StatusSnapshot:
    """Return a status, or an error when it has a code."""
    return StatusSnapshot(word, Decimal(filled), Decimal(100 - filled), None, NOW, code, text)


def fact(
    order_ref: str,
    quantity: int,
    price: str = "10",
    *,
    exec_id: str = "",
    change: int | None = None,
    corrects: str = "",
    perm_id: int = 900,
    strategy: str = "T",
) -> ExecutionFact:
    """Return an execution that the ledger just booked."""
    return ExecutionFact(
        exec_id=exec_id or f"0001.{next(_numbers):08d}.01.01",
        strategy=strategy,
        order_ref=order_ref,
        perm_id=perm_id,
        client_id=7,
        order_id=3,
        con_id=AAPL.con_id,
        symbol="AAPL",
        sec_type="STK",
        side="BOT",
        quantity=Decimal(quantity),
        quantity_change=Decimal(quantity if change is None else change),
        price=Decimal(price),
        currency="USD",
        executed_at=NOW,
        commission=None,
        cum_quantity=Decimal(quantity),
        average_price=Decimal(price),
        position=Decimal(quantity),
        average_cost=Decimal(price),
        realized_pnl=Decimal(0),
        corrects=corrects,
    )


def fill(order_ref: str, quantity: int, price: str = "10", *, exec_id: str = "", perm_id: int = 900) -> FillSnapshot:
    """Return an execution as captured."""
    return FillSnapshot(
        exec_id=exec_id or f"0001.{next(_numbers):08d}.01.01",
        account="DU1",
        contract=AAPL,
        side="BOT",
        quantity=Decimal(quantity),
        price=Decimal(price),
        executed_at=NOW,
        perm_id=perm_id,
        client_id=7,
        order_id=3,
        order_ref=order_ref,
        cum_quantity=Decimal(quantity),
        average_price=Decimal(price),
        exchange="NASDAQ",
    )
