"""Rows of what is kept by the hour: the books of each owner, the account, the whole portfolio, exchange rates.

Owns: HourlySnapshot and FxRate as rows of ``strategy_<S>``, ``account_summary``, ``portfolio_history``, ``fx_rates``.
Rule: snapshots are immutable; of the rates of one hour and currency the one that was booked first is taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from portfolio.arctic.records import STRATEGY_PREFIX, Batch, Record, Target
from portfolio.arctic.registry import Row
from portfolio.ledger.money import ONE
from portfolio.models import Account, FxRate, HourlySnapshot

_HOUR = timedelta(hours=1)
_SNAPSHOT = (
    "id",
    "account_id",
    "owner",
    "hour",
    "currency",
    "equity",
    "cash",
    "realized_pnl",
    "unrealized_pnl",
    "positions",
    "figures",
)
_RATE = ("id", "base", "currency", "worth", "source", "at")


def hourly_rows(after: int, limit: int) -> Sequence[Row]:
    """Return hourly snapshots above an id, in order."""
    return list(HourlySnapshot.objects.filter(id__gt=after).order_by("id").values(*_SNAPSHOT)[:limit])


def split_hourly(rows: Sequence[Row]) -> Batch:
    """Sort snapshots: the account's into ``account_summary``, an owner's into ``strategy_<owner>`` and the history."""
    found: Batch = defaultdict(list)
    for row in rows:
        account, seq, at = row["account_id"], row["id"], row["hour"]
        if not row["owner"]:
            found[Target(account, "account_summary", "account_summary")].append(Record(seq, at, _summary(row)))
            continue
        own = found[Target(account, STRATEGY_PREFIX + row["owner"], "strategy")]
        history = found[Target(account, "portfolio_history", "portfolio_history")]
        for line in row["positions"]:
            values = _line(row, line)
            own.append(Record(seq, at, values))
            if values["quantity"]:
                history.append(Record(seq, at, _history(values)))
        own.append(Record(seq, at, _equity(row)))
    return {target: records for target, records in found.items() if records}


def fx_rows(after: int, limit: int) -> Sequence[Row]:
    """Return exchange rates above an id, in order; ``first`` marks the first one of its hour and currency."""
    found = FxRate.objects.filter(id__gt=after).order_by("id").values(*_RATE)[:limit]
    rows: list[dict[str, Any]] = [dict(row) for row in found]
    if not rows:
        return rows
    hours = [_hour(row["at"]) for row in rows]
    known = _hours_before(after, min(hours), max(hours) + _HOUR)
    accounts: dict[str, list[str]] = defaultdict(list)
    for account_id, base in Account.objects.order_by("account_id").values_list("account_id", "base_currency"):
        accounts[base].append(account_id)
    for row, hour in zip(rows, hours, strict=True):
        key = (row["base"], row["currency"], hour)
        row["first"], row["accounts"] = key not in known, accounts[row["base"]]
        known.add(key)
    return rows


def split_fx(rows: Sequence[Row]) -> Batch:
    """Sort exchange rates into ``fx_rates`` of every account with their base currency."""
    found: Batch = defaultdict(list)
    for row in rows:
        if row["first"] and row["worth"]:
            for account in row["accounts"]:
                found[Target(account, "fx_rates", "fx_rates")].append(Record(row["id"], row["at"], _rate(row)))
    return dict(found)


def _hours_before(last: int, since: datetime, until: datetime) -> set[tuple[str, str, datetime]]:
    earlier = FxRate.objects.filter(id__lte=last, at__gte=since, at__lt=until)
    return {(base, currency, _hour(at)) for base, currency, at in earlier.values_list("base", "currency", "at")}


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _number(line: Row, name: str) -> Decimal | None:
    value = line.get(name)
    return None if value in (None, "") else Decimal(str(value))


def _line(row: Row, line: Row) -> Row:
    is_cash = line["row_type"] == "CASH"
    return {
        "seq": row["id"],
        "timestamp": row["hour"],
        "row_type": line["row_type"],
        "account": row["account_id"],
        "strategy": row["owner"],
        "con_id": int(line.get("con_id") or 0),
        "symbol": line.get("symbol") or line.get("currency"),
        "asset_class": line.get("asset_class") or ("CASH" if is_cash else ""),
        "exchange": line.get("exchange"),
        "currency": line.get("currency"),
        "multiplier": _number(line, "multiplier") or ONE,
        "quantity": _number(line, "quantity"),
        "avg_cost": ONE if is_cash else _number(line, "avg_cost"),
        "realized_pnl": _number(line, "realized_pnl"),
        "market_price": ONE if is_cash else _number(line, "mark"),
    }


def _history(values: Row) -> Row:
    price, quantity = values["market_price"], values["quantity"]
    return {
        **values,
        "position": quantity,
        "average_cost": values["avg_cost"],
        "market_value": None if price is None else quantity * price * values["multiplier"],
    }


def _equity(row: Row) -> Row:
    return {
        "seq": row["id"],
        "timestamp": row["hour"],
        "row_type": "EQUITY",
        "account": row["account_id"],
        "strategy": row["owner"],
        "symbol": "EQUITY",
        "asset_class": "EQUITY",
        "currency": row["currency"],
        "multiplier": ONE,
        "quantity": row["equity"],
        "avg_cost": ONE,
        "realized_pnl": row["realized_pnl"],
        "unrealized_pnl": row["unrealized_pnl"],
    }


def _summary(row: Row) -> Row:
    parts: Iterable[Decimal | None] = (row["realized_pnl"], row["unrealized_pnl"])
    known = [part for part in parts if part is not None]
    return {
        "seq": row["id"],
        "timestamp": row["hour"],
        "account": row["account_id"],
        "currency": row["currency"],
        "equity": row["equity"],
        "cash": row["cash"],
        "available_funds": _number(row["figures"], "available_funds"),
        "buying_power": _number(row["figures"], "buying_power"),
        "pnl": sum(known) if len(known) == 2 else None,
        "realized_pnl": row["realized_pnl"],
        "unrealized_pnl": row["unrealized_pnl"],
    }


def _rate(row: Row) -> Row:
    return {
        "seq": row["id"],
        "currency": row["currency"],
        "base": row["base"],
        "worth_in_base": row["worth"],
        "fx_rate": ONE / row["worth"],
        "source": row["source"],
    }
