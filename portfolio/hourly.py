"""The books at the top of each hour, kept for ever: positions, cash and equity of every owner, and the account.

Owns: when a snapshot may be taken and what stands in it. Leaves: the check of the books before it and the clock
(``trading.engine``), ArcticDB (``portfolio.arctic``).
Rule: one moment for all rows, drawn by the caller after the books were compared; one row an hour and owner, written
once. A snapshot says what is known now, so it is taken for the running hour alone: an hour that was missed stays empty.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Max

from portfolio.accounts import net_liquidation, rates_of
from portfolio.fx_rates import to_decimal
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO, exact, plain
from portfolio.models import AccountValue, CashBalance, HourlySnapshot, Mark, Movement, Position
from portfolio.valuation import Figures, currency_of, figures_of, owners_of
from strategies.crashpoints import reach
from strategies.exceptions import LedgerError
from strategies.models import Strategy

logger = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
POSITION, CASH = "POSITION", "CASH"
_FIGURES = {
    "equity": "NetLiquidation",
    "cash": "TotalCashValue",
    "available_funds": "AvailableFunds",
    "buying_power": "BuyingPower",
    "ib_realized_pnl": "RealizedPnL",
    "ib_unrealized_pnl": "UnrealizedPnL",
}


def hour_of(moment: datetime) -> datetime:
    """Return the full hour that a moment lies in, UTC.

    >>> hour_of(datetime(2026, 3, 2, 15, 59, 59, tzinfo=UTC)).isoformat()
    '2026-03-02T15:00:00+00:00'
    """
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def take_hourly_snapshot(account_id: str, hour: datetime, now: datetime) -> list[HourlySnapshot]:
    """Write the books for the running hour and return the rows; an hour that is written gives [] and stays.

    Units: each row in its owner's currency; the account's in base.
    Raises: LedgerError snapshot_in_past or snapshot_in_future for any hour but the running one, and for one before the
    newest that is written; base_currency_unknown before IB said it.
    """
    last = HourlySnapshot.objects.filter(account_id=account_id).aggregate(last=Max("hour"))["last"]
    _check(hour, now, last)
    rates = rates_of(account_id)
    with transaction.atomic():
        if last == hour:
            return []
        _log_missed(last, hour)
        newest = Movement.objects.filter(account_id=account_id).aggregate(newest=Max("id"))["newest"] or 0
        rows = [_owner(account_id, owner, rates, now) for owner in _owners(account_id)]
        rows.append(_account(account_id, rows, rates))
        for row in rows:
            row.account_id, row.hour, row.taken_at, row.last_movement = account_id, hour, now, newest
        reach("snapshot")
        HourlySnapshot.objects.bulk_create(rows)
    logger.info("hourly snapshot account=%s hour=%s owners=%d", account_id, hour.isoformat(), len(rows) - 1)
    return rows


def is_due(account_id: str, now: datetime) -> bool:
    """Tell whether the running hour has no snapshot yet."""
    return not HourlySnapshot.objects.filter(account_id=account_id, hour=hour_of(now)).exists()


def positions_of(account_id: str, owner: str) -> list[dict[str, Any]]:
    """Describe what an owner holds or ever held, and its cash, as a snapshot keeps it.

    Shape: ``row_type`` POSITION (flat ones too: what they realised goes on) or CASH (con_id 0, average 1), ``con_id``,
    ``symbol``, ``asset_class``, ``exchange``, ``currency``, ``multiplier``, ``quantity``, ``avg_cost``,
    ``realized_pnl``, ``mark``, ``marked_at``; decimals as text, unknown marks null.
    """
    held = Position.objects.filter(account_id=account_id, owner=owner).select_related("instrument")
    rows = list(held.order_by("instrument_id"))
    marks = Mark.objects.in_bulk([row.instrument_id for row in rows])
    balances = CashBalance.objects.filter(account_id=account_id, owner=owner).order_by("currency")
    return [
        *(_position_row(row, marks.get(row.instrument_id)) for row in rows),
        *(_cash_row(row) for row in balances),
    ]


def _check(hour: datetime, now: datetime, last: datetime | None) -> None:
    if hour != hour_of(hour):
        raise LedgerError(f"{hour.isoformat()} is no full hour.", code="snapshot_bad_hour")
    if hour > now:
        raise LedgerError(
            f"A snapshot of {hour.isoformat()} cannot be taken at {now.isoformat()}: that hour lies in the future.",
            code="snapshot_in_future",
        )
    if now >= hour + HOUR or (last is not None and hour < last):
        raise LedgerError(
            f"A snapshot of {hour.isoformat()} cannot be taken any more at {now.isoformat()}: the books of that hour "
            "are past. Only the running hour can be written.",
            code="snapshot_in_past",
        )


def _log_missed(last: datetime | None, hour: datetime) -> None:
    missed = 0 if last is None else int((hour - last) / HOUR) - 1
    if missed > 0 and last is not None:
        logger.warning("hourly snapshots missed count=%d first=%s", missed, (last + HOUR).isoformat())


def _owners(account_id: str) -> list[str]:
    active = Strategy.objects.filter(active=True).values_list("symbol", flat=True)
    return sorted({*owners_of(account_id), *active})


def _owner(account_id: str, owner: str, rates: Rates, now: datetime) -> HourlySnapshot:
    found: Figures = figures_of(account_id, owner, currency_of(owner, rates.base), rates, now)
    figures = {"gross": _text(found.gross), "fresh": found.fresh}
    if found.error is not None:
        logger.warning("owner not valued owner=%s reason=%s", owner, found.error.message)
        figures["reason"] = found.error.message
    return HourlySnapshot(
        owner=owner,
        currency=found.currency,
        equity=_exact(found.equity),
        cash=_exact(found.cash),
        realized_pnl=_exact(found.realized_pnl),
        unrealized_pnl=_exact(found.unrealized_pnl),
        positions=positions_of(account_id, owner),
        figures=figures,
    )


def _account(account_id: str, owners: list[HourlySnapshot], rates: Rates) -> HourlySnapshot:
    reported = AccountValue.objects.filter(account_id=account_id, currency=rates.base)
    said = {tag: to_decimal(value) for tag, value in reported.values_list("tag", "value")}
    figures: dict[str, Any] = {name: _text(said.get(tag)) for name, tag in _FIGURES.items()}
    realized, unrealized = (_total(owners, name, rates) for name in ("realized_pnl", "unrealized_pnl"))
    pnl = None if realized is None or unrealized is None else realized + unrealized
    figures |= {"currency": rates.base, "pnl": _text(pnl), "books_equity": _text(_total(owners, "equity", rates))}
    try:
        equity: Decimal | None = exact(net_liquidation(account_id, rates.base))
    except LedgerError:
        equity = None
    return HourlySnapshot(
        owner="",
        currency=rates.base,
        equity=equity,
        cash=_exact(said.get("TotalCashValue")),
        realized_pnl=_exact(realized),
        unrealized_pnl=_exact(unrealized),
        figures=figures,
    )


def _total(owners: list[HourlySnapshot], name: str, rates: Rates) -> Decimal | None:
    """Sum one figure of all owners in base; None when a part of it is unknown."""
    total = ZERO
    for row in owners:
        amount: Decimal | None = getattr(row, name)
        if amount is None:
            return None
        try:
            total += rates.convert(amount, row.currency, rates.base) if amount else ZERO
        except LedgerError:
            return None
    return total


def _position_row(row: Position, mark: Mark | None) -> dict[str, Any]:
    instrument = row.instrument
    return {
        "row_type": POSITION,
        "con_id": instrument.con_id,
        "symbol": instrument.symbol,
        "asset_class": instrument.sec_type,
        "exchange": instrument.primary_exchange or instrument.exchange,
        "currency": instrument.currency,
        "multiplier": plain(instrument.multiplier),
        "quantity": plain(row.quantity),
        "avg_cost": plain(row.average_cost),
        "realized_pnl": plain(row.realized_pnl),
        "mark": None if mark is None else plain(mark.price),
        "marked_at": None if mark is None else mark.marked_at.isoformat(),
    }


def _cash_row(row: CashBalance) -> dict[str, Any]:
    return {
        "row_type": CASH,
        "con_id": 0,
        "symbol": row.currency,
        "asset_class": CASH,
        "exchange": "",
        "currency": row.currency,
        "multiplier": "1",
        "quantity": plain(row.amount),
        "avg_cost": "1",
        "realized_pnl": plain(row.realized_apart),
        "mark": None,
        "marked_at": None,
    }


def _exact(value: Decimal | None) -> Decimal | None:
    return None if value is None else exact(value)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
