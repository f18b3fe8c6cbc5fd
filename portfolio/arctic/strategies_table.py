"""``general/strategies``: the strategies' rows where notebooks and strategies look for them.

Owns: writing the whole table, reading it back in its own and in older shapes. Rule: the Django rows are the truth; the
table is written when it differs, and a row counts as synced only at the revision that was written.
Source: older tables call the parameters ``parameters`` and store flags as text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.schema import STRATEGIES, frame
from portfolio.arctic.writer import ArcticWriter
from strategies.exceptions import ConfigError, NotFoundError
from strategies.models import Strategy

LIBRARY = "general"
SYMBOL = "strategies"
_OLD_NAMES = {"parameters": "params", "symbol": "strategy_symbol", "strategy": "strategy_symbol"}
_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off", "", "none", "nan"}


def strategy_rows() -> list[dict[str, Any]]:
    """Return every strategy as a row of the table."""
    return [
        {
            "strategy_symbol": row.symbol,
            "name": row.name,
            "description": row.description,
            "color": row.color,
            "filename": row.filename,
            "kind": row.kind,
            "target_weight": row.target_weight,
            "min_weight": row.min_weight,
            "max_weight": row.max_weight,
            "currency": row.currency,
            "params": json.dumps(row.params, sort_keys=True, default=str),
            "active": row.active,
            "restart_policy": row.restart_policy,
            "revision": row.revision,
        }
        for row in Strategy.objects.order_by("symbol")
    ]


def sync_strategies(writer: ArcticWriter, rows: Sequence[Mapping[str, Any]] | None = None) -> int:
    """Write the table when its content differs; mark the written revisions as synced; return the rows it holds."""
    table = list(rows if rows is not None else strategy_rows())
    digest = _digest(table)
    held = writer.client.metadata(LIBRARY, SYMBOL)
    if held.get("digest") != digest and (table or held):
        writer.write(LIBRARY, SYMBOL, frame(table, STRATEGIES), {"digest": digest, "rows": len(table)})
    for row in table:
        # Not through save: the history and the revision must not notice the sync.
        Strategy.objects.filter(symbol=row["strategy_symbol"], revision=row["revision"]).exclude(
            synced_revision=row["revision"]
        ).update(synced_revision=row["revision"])
    return len(table)


def read_strategies(client: ArcticClient, library: str = LIBRARY, symbol: str = SYMBOL) -> list[dict[str, Any]]:
    """Return the table's rows in today's shape, whatever shape it has.

    Raises: NotFoundError when there is no such table; ConfigError naming the row that cannot be read.
    """
    if not client.has_symbol(library, symbol):
        raise NotFoundError(f"ArcticDB has no table {library}/{symbol}.", library=library, symbol=symbol)
    data = client.read(library, symbol).data
    if data.index.name in {"strategy_symbol", "symbol", "strategy"}:
        data = data.reset_index()
    data = data.rename(columns={old: new for old, new in _OLD_NAMES.items() if new not in data.columns})
    if "strategy_symbol" not in data.columns:
        raise ConfigError(
            f"{library}/{symbol} has no column strategy_symbol; found {', '.join(map(str, data.columns))}."
        )
    return [_row(record) for record in data.to_dict("records")]


def _row(record: Mapping[Any, Any]) -> dict[str, Any]:
    known = {name: record[name] for name in STRATEGIES if name in record and not _is_missing(record[name])}
    symbol = str(known.get("strategy_symbol", ""))
    if not symbol:
        raise ConfigError("A row of the strategies table has no strategy_symbol.")
    if "active" in known:
        known["active"] = _flag(symbol, known["active"])
    known["params"] = _params(symbol, known.get("params"))
    return known


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and bool(pd.isna(value)))


def _flag(symbol: str, value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ConfigError(f"{symbol}: active is «{value}», expected True or False.", strategy=symbol)


def _params(symbol: str, value: Any) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ConfigError(f"{symbol}: params is not JSON ({error}).", strategy=symbol) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{symbol}: params must be a JSON object.", strategy=symbol)
    return found


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    text = json.dumps([{name: str(row.get(name)) for name in STRATEGIES} for row in rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
