"""Where projected rows come from: movements, hourly snapshots, rates, and order events that another app hands in.

Owns: the ledger's rows as flat mappings, in order. Rule: a row depends only on what never changes after it is booked,
so that a rebuild gives the same frames: a renamed contract keeps the ticker of its time, and of the exchange rates,
which thin with age, the first of each hour is taken, which stays.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from portfolio.arctic.hourly_rows import fx_rows, hourly_rows, split_fx, split_hourly
from portfolio.arctic.records import Batch, Record, Target
from portfolio.arctic.registry import Fetch, Row, registered_order_rows
from portfolio.bulk import select_values
from portfolio.ledger.positions import average_cost
from portfolio.models import FormerTicker, Movement

_COLUMNS = (
    "id",
    "kind",
    "account_id",
    "owner",
    "quantity",
    "price",
    "cash",
    "currency",
    "realized_pnl",
    "quantity_after",
    "basis_after",
    "realized_after",
    "cash_after",
    "booked_at",
    "adjustment__key",
    "execution__exec_id",
    "execution__order_ref",
    "execution__order_id",
    "execution__perm_id",
    "execution__side",
    "execution__exchange",
    "execution__executed_at",
    "instrument_id",
    "instrument__symbol",
    "instrument__sec_type",
    "instrument__currency",
    "instrument__multiplier",
)


@dataclass(frozen=True, slots=True)
class Source:
    """An ordered stream of rows that feeds one or more symbols; ``kinds`` names their schemas."""

    name: str
    kinds: tuple[str, ...]
    fetch: Fetch
    split: Callable[[Sequence[Row]], Batch]


def movement_rows(after: int, limit: int) -> Sequence[Row]:
    """Return movements above an id, in order, each with the ticker of its time."""
    rows = select_values(Movement.objects.filter(id__gt=after).order_by("id")[:limit], _COLUMNS)
    former = _former_tickers(after)
    if former:
        for row in rows:
            ends = former.get(row["instrument_id"], ())
            place = bisect_left(ends, (row["id"],))
            if place < len(ends):
                row["instrument__symbol"] = ends[place][1]
    return rows


def _former_tickers(after: int) -> dict[int, list[tuple[int, str]]]:
    """Return by contract, in order, until which movement it had which name; names that ended earlier are left out."""
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)
    rows = FormerTicker.objects.filter(last_movement__gt=after).order_by("last_movement")
    for con_id, last, symbol in rows.values_list("instrument_id", "last_movement", "symbol"):
        found[con_id].append((last, symbol))
    return found


def split_movements(rows: Sequence[Row]) -> Batch:
    """Sort movements into ``fills/<owner>`` (those on an execution) and ``positions/<owner>`` (all that move)."""
    found: Batch = defaultdict(list)
    for row in rows:
        account, owner, seq, at = row["account_id"], row["owner"], row["id"], row["booked_at"]
        if row["execution__exec_id"] is not None:
            found[Target(account, f"fills/{owner}", "fills")].append(Record(seq, at, _fill(row)))
        states = found[Target(account, f"positions/{owner}", "positions")]
        if row["instrument_id"] is not None:
            states.append(Record(seq, at, _position(row)))
        if row["cash"]:
            states.append(Record(seq, at, _cash(row)))
    return {target: records for target, records in found.items() if records}


def split_orders(rows: Sequence[Row]) -> Batch:
    """Sort order events into ``orders/<owner>``; rows hold the columns of ``schema.ORDERS`` and ``at``."""
    found: Batch = defaultdict(list)
    for row in rows:
        target = Target(row["account"], f"orders/{row['strategy']}", "orders")
        found[target].append(Record(row["seq"], row["at"], row))
    return dict(found)


def sources(order_rows_after: Fetch | None = None) -> list[Source]:
    """Return every source: the ledger's always, orders when someone hands them in."""
    found = [
        Source("movements", ("fills", "positions"), movement_rows, split_movements),
        Source("hours", ("strategy", "account_summary", "portfolio_history"), hourly_rows, split_hourly),
        Source("fx", ("fx_rates",), fx_rows, split_fx),
    ]
    orders = order_rows_after or registered_order_rows()
    if orders is not None:
        found.append(Source("orders", ("orders",), orders, split_orders))
    return found


def _fill(row: Row) -> Row:
    is_fee = not row["quantity"] and row["cash"]
    return {
        "seq": row["id"],
        "kind": row["kind"],
        "adjustment": row["adjustment__key"],
        "account": row["account_id"],
        "strategy": row["owner"],
        "exec_id": row["execution__exec_id"],
        "order_ref": row["execution__order_ref"],
        "order_id": row["execution__order_id"],
        "perm_id": row["execution__perm_id"],
        "con_id": row["instrument_id"],
        "symbol": row["instrument__symbol"],
        "asset_class": row["instrument__sec_type"],
        "exchange": row["execution__exchange"],
        "currency": row["currency"],
        "multiplier": row["instrument__multiplier"],
        "side": row["execution__side"],
        "quantity": row["quantity"],
        "price": row["price"],
        "commission": -row["cash"] if is_fee else None,
        "cash": row["cash"],
        "realized_pnl": row["realized_pnl"],
        "exec_time": row["execution__executed_at"],
    }


def _position(row: Row) -> Row:
    return {
        "seq": row["id"],
        "row_type": "POSITION",
        "kind": row["kind"],
        "adjustment": row["adjustment__key"],
        "account": row["account_id"],
        "strategy": row["owner"],
        "con_id": row["instrument_id"],
        "symbol": row["instrument__symbol"],
        "asset_class": row["instrument__sec_type"],
        "exchange": row["execution__exchange"],
        "currency": row["instrument__currency"],
        "multiplier": row["instrument__multiplier"],
        "change": row["quantity"],
        "quantity": row["quantity_after"],
        "avg_cost": average_cost(row["quantity_after"], row["basis_after"], row["instrument__multiplier"]),
        "realized_pnl": row["realized_after"],
    }


def _cash(row: Row) -> Row:
    return {
        "seq": row["id"],
        "row_type": "CASH",
        "kind": row["kind"],
        "adjustment": row["adjustment__key"],
        "account": row["account_id"],
        "strategy": row["owner"],
        "con_id": 0,
        "symbol": row["currency"],
        "asset_class": "CASH",
        "currency": row["currency"],
        "multiplier": 1,
        "change": row["cash"],
        "quantity": row["cash_after"],
        "avg_cost": 1,
    }
