"""The columns of every symbol that MATS writes, with their types.

Owns: names, types, and how rows become frames. Rule: every append carries every column in its own type, because
ArcticDB fills a missing column with 0 or False and refuses or converts a changed one. Text is never None, an unknown
number is NaN, a flag is a plain bool. The index of a history is ``ts``, UTC nanoseconds, strictly increasing: ArcticDB
refuses an earlier row, and equal stamps cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, Final

import numpy as np
import pandas as pd

Schema = Mapping[str, str]

FILLS: Final[Schema] = {
    "seq": "int64",  # id of the ledger's movement
    "kind": "str",  # fill, commission, reversal, assignment, fee
    "adjustment": "str",  # key of the assignment or adjustment behind it, empty for the fill itself
    "account": "str",
    "strategy": "str",
    "exec_id": "str",
    "order_ref": "str",
    "order_id": "int64",
    "perm_id": "int64",
    "con_id": "int64",
    "symbol": "str",
    "asset_class": "str",
    "exchange": "str",
    "currency": "str",
    "multiplier": "float64",
    "side": "str",  # of IB's report; an assignment away from an owner moves the other way
    "quantity": "float64",  # signed; 0 on a commission row
    "price": "float64",
    "commission": "float64",  # on commission rows and their reversals; NaN elsewhere
    "cash": "float64",
    "realized_pnl": "float64",
    "exec_time": "datetime64[ns]",  # UTC without zone: ArcticDB drops the zone of columns
}

POSITIONS: Final[Schema] = {
    "seq": "int64",
    "row_type": "str",  # POSITION or CASH
    "kind": "str",  # why it moved: fill, dividend, split, transfer, …
    "adjustment": "str",  # key of the event that is no fill, or empty
    "account": "str",
    "strategy": "str",
    "con_id": "int64",  # 0 for cash
    "symbol": "str",  # the currency for cash
    "asset_class": "str",
    "exchange": "str",
    "currency": "str",
    "multiplier": "float64",
    "change": "float64",  # what this movement added
    "quantity": "float64",  # after the movement
    "avg_cost": "float64",
    "realized_pnl": "float64",  # cumulative
}

ORDERS: Final[Schema] = {
    "seq": "int64",  # id of the order event
    "account": "str",
    "strategy": "str",
    "order_ref": "str",
    "order_id": "int64",
    "perm_id": "int64",
    "client_id": "int64",
    "con_id": "int64",
    "symbol": "str",
    "asset_class": "str",
    "currency": "str",
    "side": "str",
    "order_type": "str",
    "tif": "str",
    "total_quantity": "float64",
    "filled_quantity": "float64",
    "remaining_quantity": "float64",
    "avg_fill_price": "float64",
    "limit_price": "float64",
    "stop_price": "float64",
    "state": "str",
    "status": "str",  # IB's word
    "message": "str",
}

STRATEGY: Final[Schema] = {
    "seq": "int64",  # id of the hourly snapshot
    "timestamp": "datetime64[ns]",  # the full hour, UTC without zone; the index is pushed apart by nanoseconds
    "row_type": "str",  # POSITION, CASH or EQUITY
    "account": "str",
    "strategy": "str",
    "con_id": "int64",  # 0 but for positions
    "symbol": "str",  # the currency for cash, EQUITY for equity
    "asset_class": "str",
    "exchange": "str",
    "currency": "str",
    "multiplier": "float64",
    "quantity": "float64",  # of the EQUITY row the equity; NaN when it was not known
    "avg_cost": "float64",
    "realized_pnl": "float64",  # cumulative
    "unrealized_pnl": "float64",  # on the EQUITY row
    "market_price": "float64",
}

ACCOUNT_SUMMARY: Final[Schema] = {
    "seq": "int64",
    "timestamp": "datetime64[ns]",
    "account": "str",
    "currency": "str",
    "equity": "float64",
    "cash": "float64",
    "available_funds": "float64",
    "buying_power": "float64",
    "pnl": "float64",  # realised + unrealised, cumulative; NaN when either is unknown
    "realized_pnl": "float64",
    "unrealized_pnl": "float64",
}

PORTFOLIO_HISTORY: Final[Schema] = {
    "seq": "int64",
    "timestamp": "datetime64[ns]",
    "row_type": "str",  # POSITION or CASH
    "account": "str",
    "strategy": "str",
    "con_id": "int64",
    "symbol": "str",
    "asset_class": "str",
    "exchange": "str",
    "currency": "str",
    "multiplier": "float64",
    "position": "float64",
    "average_cost": "float64",
    "market_price": "float64",
    "market_value": "float64",
    "realized_pnl": "float64",
}

FX_RATES: Final[Schema] = {
    "seq": "int64",
    "currency": "str",
    "base": "str",
    "worth_in_base": "float64",  # base units for one unit of the currency: multiply
    "fx_rate": "float64",  # units of the currency for one base unit: divide
    "source": "str",
}

PORTFOLIO: Final[Schema] = {
    "timestamp": "datetime64[ns]",  # of the price; of a row without one NaT
    "row_type": "str",  # POSITION or CASH
    "strategy": "str",
    "con_id": "int64",
    "symbol": "str",
    "asset_class": "str",
    "exchange": "str",
    "contract": "str",  # the exchange's own symbol
    "currency": "str",
    "multiplier": "float64",
    "position": "float64",
    "average_cost": "float64",
    "market_price": "float64",
    "market_value": "float64",
    "fx_rate": "float64",  # units of the currency for one base unit: divide
    "market_value_base": "float64",
    "% of nav": "float64",
    "pnl %": "float64",  # of what the position cost
    "unexplained": "float64",  # on Discretionary: what IB holds beyond the books; an open break names it
}

STRATEGIES: Final[Schema] = {
    "strategy_symbol": "str",
    "name": "str",
    "description": "str",
    "color": "str",
    "filename": "str",
    "kind": "str",
    "target_weight": "float64",
    "min_weight": "float64",
    "max_weight": "float64",
    "currency": "str",
    "params": "str",  # JSON
    "active": "bool",
    "restart_policy": "str",
    "revision": "int64",
}

BARS: Final[Schema] = {
    "open": "float64",
    "high": "float64",
    "low": "float64",
    "close": "float64",
    "volume": "float64",
}

ACTIONS: Final[Schema] = {
    "ratio": "float64",  # of a split: new shares for one old; NaN without one
    "amount": "float64",  # of a cash dividend, a share, as it was paid; NaN without one
    "source": "str",  # where it was learnt
}

_MISSING: Final[Mapping[str, Any]] = {"str": "", "int64": 0, "float64": np.nan, "bool": False, "datetime64[ns]": "NaT"}


def column(values: Sequence[Any], kind: str) -> Any:
    """Return one column in its type; None becomes the type's word for unknown."""
    if kind == "str":
        return np.array([value if type(value) is str else _text(value) for value in values], dtype=object)
    if kind == "float64":
        return np.array([np.nan if value is None else float(value) for value in values], dtype="float64")
    if kind == "datetime64[ns]":
        naive = [None if value is None else value.astimezone(UTC).replace(tzinfo=None) for value in values]
        return np.array(naive, dtype="datetime64[us]").astype("datetime64[ns]")
    return np.array([_MISSING[kind] if value is None else value for value in values], dtype=kind)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def frame(rows: Sequence[Mapping[str, Any]], schema: Schema, stamps: Sequence[int] | None = None) -> pd.DataFrame:
    """Build a frame with exactly the schema's columns.

    Shape: index ``ts`` from ``stamps`` (UTC nanoseconds) for histories, a plain range for whole tables.
    """
    data = {name: column([row.get(name) for row in rows], kind) for name, kind in schema.items()}
    if stamps is None:
        return pd.DataFrame(data, columns=list(schema))
    index = pd.DatetimeIndex(np.array(stamps, dtype="datetime64[ns]"), name="ts").tz_localize("UTC")
    return pd.DataFrame(data, columns=list(schema), index=index)


def increasing(stamps: Sequence[int], last: int) -> list[int]:
    """Push stamps apart by a nanosecond where they stand still or go back.

    The result depends on the sequence alone, not on how it was cut into batches: a rebuild gives the same stamps.

    >>> increasing([5, 5, 4, 9], 5)
    [6, 7, 8, 9]
    """
    found = []
    for stamp in stamps:
        last = max(stamp, last + 1)
        found.append(last)
    return found
