"""Prove that ArcticDB holds what the ledger says: every history row made again from the ledger and compared.

Owns: the comparison of both stores. Rule: it reads both in blocks and writes nothing; the first row that differs in a
symbol is named with its column and both values. What the ledger has beyond a symbol's watermark is not yet projected:
that is said apart, because a running engine is behind by up to a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from portfolio.arctic.client import ArcticClient, get_ac
from portfolio.arctic.projections import nanoseconds_of, seq_of
from portfolio.arctic.records import Record, Target, target_of
from portfolio.arctic.registry import Fetch
from portfolio.arctic.schema import frame, increasing
from portfolio.arctic.sources import Source, sources
from portfolio.models import Account, ProjectionCursor

BLOCK = 5_000
Progress = Callable[[str, int], object]


@dataclass(frozen=True, slots=True)
class StoreFinding:
    """One difference between ArcticDB and the ledger."""

    symbol: str
    text: str

    def __str__(self) -> str:
        return f"ArcticDB {self.symbol}: {self.text}"


@dataclass(slots=True)
class SymbolCheck:
    """One symbol as far as it was compared. ``digest`` is the SHA-256 of the ledger's rows up to the watermark."""

    target: Target
    watermark: int
    held_rows: int
    rows: int = 0
    behind: int = 0
    stamp: int = 0
    finding: str = ""
    hash: Any = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """The hash of the rows."""
        return str(self.hash.hexdigest())


@dataclass(frozen=True, slots=True)
class StoresReport:
    """What was compared, what differs, and what is not projected yet."""

    symbols: list[SymbolCheck]
    findings: list[StoreFinding]

    @property
    def behind(self) -> list[StoreFinding]:
        """Symbols that lack rows which the ledger has; ``sync_arctic`` or the engine appends them."""
        return [
            StoreFinding(one.target.key, f"lacks {one.behind:,} rows that the ledger has; run sync_arctic")
            for one in self.symbols
            if one.behind
        ]

    @property
    def rows(self) -> int:
        """Rows compared."""
        return sum(one.rows for one in self.symbols)


def verify_stores(
    client: ArcticClient | None = None,
    progress: Progress | None = None,
    *,
    order_rows_after: Fetch | None = None,
) -> StoresReport:
    """Compare every history in ArcticDB with the rows that the ledger makes.

    Raises: ArcticUnavailableError when ArcticDB cannot be read.
    """
    store = client or get_ac()
    checks: dict[str, SymbolCheck] = {}
    for source in sources(order_rows_after):
        _compare_source(store, source, checks, progress)
    findings = [StoreFinding(key, found) for key, one in sorted(checks.items()) if (found := _verdict(one))]
    return StoresReport([checks[key] for key in sorted(checks)], findings + _strangers(store, checks))


def verify_watermarks(client: ArcticClient | None = None) -> StoresReport:
    """Compare only watermarks with cursors: a symbol that was lost or cut back shows, a changed row does not.

    Raises: ArcticUnavailableError when ArcticDB cannot be read.
    """
    store = client or get_ac()
    checks = []
    for cursor in ProjectionCursor.objects.filter(symbol__contains=":").order_by("symbol"):
        target = target_of(cursor.symbol)
        if target is not None:
            found = _open(store, target)
            if found.watermark < cursor.last_seq:
                found.finding = f"ends at ledger row {found.watermark}, was written up to {cursor.last_seq}"
            checks.append(found)
    return StoresReport(checks, [StoreFinding(one.target.key, one.finding) for one in checks if one.finding])


def _compare_source(
    store: ArcticClient, source: Source, checks: dict[str, SymbolCheck], progress: Progress | None
) -> None:
    last = 0
    while rows := source.fetch(last, BLOCK):
        last = seq_of(rows[-1])
        for target, records in source.split(rows).items():
            check = checks.get(target.key)
            if check is None:
                check = checks[target.key] = _open(store, target)
            _compare_block(store, check, records)
        if progress is not None:
            progress(f"ArcticDB against {source.name}", last)


def _open(store: ArcticClient, target: Target) -> SymbolCheck:
    if not store.has_symbol(target.library, target.symbol):
        return SymbolCheck(target, 0, 0)
    metadata = store.metadata(target.library, target.symbol)
    return SymbolCheck(target, int(metadata.get("last_seq", 0)), store.row_count(target.library, target.symbol))


def _compare_block(store: ArcticClient, check: SymbolCheck, records: Sequence[Record]) -> None:
    known = [record for record in records if record.seq <= check.watermark]
    check.behind += len(records) - len(known)
    if not known:
        return
    stamps = increasing([nanoseconds_of(record.at) for record in known], check.stamp)
    wanted = frame([record.values for record in known], check.target.schema, stamps)
    _hash(check.hash, wanted)
    if not check.finding:
        span = (check.rows, check.rows + len(known))
        held = store.read(check.target.library, check.target.symbol, row_range=span).data
        check.finding = difference(wanted, held, check.rows)
    check.rows += len(known)
    check.stamp = stamps[-1]


def difference(wanted: pd.DataFrame, held: pd.DataFrame, offset: int = 0) -> str:
    """Return in words the first difference between two frames, empty when they are equal byte for byte."""
    if list(wanted.columns) != list(held.columns):
        odd = sorted({*wanted.columns} ^ {*held.columns}) or ["their order"]
        return f"columns differ: {', '.join(odd)}; run rebuild_arctic"
    count = min(len(wanted), len(held))
    for name in ("ts", *wanted.columns):
        ours = (wanted.index if name == "ts" else wanted[name])[:count]
        theirs = (held.index if name == "ts" else held[name])[:count]
        if ours.dtype != theirs.dtype:
            return f"column {name} is {theirs.dtype}, the ledger makes {ours.dtype}"
        unequal = np.flatnonzero(~_equal(ours.to_numpy(), theirs.to_numpy()))
        if len(unequal):
            row = int(unequal[0])
            return f"row {offset + row} column {name} is {theirs[row : row + 1].to_numpy()[0]}, the ledger says " + str(
                ours[row : row + 1].to_numpy()[0]
            )
    return "" if len(held) >= len(wanted) else f"ends after {offset + len(held):,} rows, the ledger has more"


def _equal(ours: Any, theirs: Any) -> Any:
    same = ours == theirs
    return same if ours.dtype == object else same | ((ours != ours) & (theirs != theirs))


def _hash(found: Any, table: pd.DataFrame) -> None:
    found.update(pd.util.hash_pandas_object(table, index=True).to_numpy().tobytes())


def _verdict(check: SymbolCheck) -> str:
    if not check.finding and check.held_rows > check.rows:
        return f"holds {check.held_rows:,} rows, the ledger makes {check.rows:,} up to the same watermark"
    return check.finding


def _strangers(store: ArcticClient, checks: dict[str, SymbolCheck]) -> list[StoreFinding]:
    """Return histories under MATS' names that nothing in the ledger feeds."""
    found = []
    libraries = {
        *Account.objects.values_list("account_id", flat=True),
        *(one.target.library for one in checks.values()),
    }
    for library in sorted(libraries):
        for symbol in store.list_symbols(library):
            key = f"{library}:{symbol}"
            if key not in checks and target_of(key) is not None:
                found.append(StoreFinding(key, "the ledger has no rows for it"))
    return found
