"""Bring ArcticDB up to the ledger: append what it lacks, in order, exactly once.

Owns: cursors, flushing, rebuilding. Leaves: rows (``sources``), columns (``schema``), writing (``writer``).
Rule: each version of a symbol carries ``last_seq``, the last ledger row in it, and commits with its rows. After a crash
that metadata decides what is missing; the cursors in the database only save looking. A row already in ArcticDB is never
appended again, a failed append is retried by the next flush.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import transaction
from django.utils import timezone

from portfolio.arctic import strategies_table
from portfolio.arctic.client import ArcticClient
from portfolio.arctic.current import CurrentTables
from portfolio.arctic.records import Record, Target, target_of
from portfolio.arctic.registry import Fetch
from portfolio.arctic.schema import frame, increasing
from portfolio.arctic.sources import Source, sources
from portfolio.arctic.writer import ArcticWriter, LeaseCheck, always
from portfolio.bulk import upsert_rows
from portfolio.models import ProjectionCursor
from strategies.crashpoints import reach
from strategies.exceptions import MatsError

logger = logging.getLogger(__name__)

FLUSH_ROWS = 5_000
REBUILD_ROWS = 50_000
Progress = Callable[[str, int], object]


@dataclass(slots=True)
class ProjectionResult:
    """What a flush or rebuild wrote: rows by ``library:symbol``; ``more`` when the ledger has rows left."""

    rows: dict[str, int] = field(default_factory=dict)
    more: bool = False
    strategies: int = 0

    @property
    def total(self) -> int:
        """All rows written."""
        return sum(self.rows.values())


@dataclass(slots=True)
class _Tip:
    """Where a symbol ends."""

    seq: int = 0
    stamp: int = 0
    shape: str = ""


class Projector:
    """Appends the ledger to ArcticDB. One per engine; any thread may call, one at a time works."""

    def __init__(
        self,
        lease_check: LeaseCheck = always,
        *,
        client: ArcticClient | None = None,
        order_rows_after: Fetch | None = None,
        batch_rows: int = FLUSH_ROWS,
    ) -> None:
        self.writer = ArcticWriter(lease_check, client=client)
        self._orders = order_rows_after
        self._batch_rows = batch_rows
        self._current = CurrentTables()
        self._guard = threading.RLock()
        self._tips: dict[str, _Tip] = {}
        self._scanned: dict[str, int] = {}

    def flush(self) -> ProjectionResult:
        """Append one batch of each source; call again while ``more``.

        Raises: ArcticUnavailableError or ArcticBusyError; nothing is lost, the next flush goes on.
        """
        with self._guard:
            self.writer.open()
            result = ProjectionResult()
            for source in sources(self._orders):
                self._flush_source(source, result)
            return result

    def flush_all(self, progress: Progress | None = None) -> ProjectionResult:
        """Flush until ArcticDB has everything that the ledger had when it was last looked at."""
        total = ProjectionResult()
        while True:
            done = self.flush()
            for key, rows in done.rows.items():
                total.rows[key] = total.rows.get(key, 0) + rows
            if progress is not None:
                progress("rows", total.total)
            if not done.more:
                return total

    def sync_strategies(self, rows: Sequence[Mapping[str, Any]] | None = None) -> int:
        """Write ``general/strategies`` when it differs from the rows; return how many rows it holds."""
        with self._guard:
            self.writer.open()
            return strategies_table.sync_strategies(self.writer, rows)

    def write_current(self) -> int:
        """Write ``portfolio`` and ``general/settings`` where they changed; return how many tables were written."""
        with self._guard:
            self.writer.open()
            return self._current.write(self.writer)

    def rebuild(
        self, symbols: Collection[str] | str | None = None, progress: Progress | None = None
    ) -> ProjectionResult:
        """Write symbols again from the ledger, all of them without names; the result equals what flushing made.

        Shape: names are ``library:symbol``, for example ``DU1000001:fills/ALPHA``.
        """
        wanted = {symbols} if isinstance(symbols, str) else None if symbols is None else set(symbols)
        with self._guard:
            self.writer.open()
            result = ProjectionResult()
            for source in sources(self._orders):
                self._rebuild_source(source, wanted, result, progress)
            if wanted is None:
                self._current = CurrentTables()
                self._current.write(self.writer)
            return result

    def close(self) -> None:
        """Compact what grew and give the writer lock back; a store that cannot be compacted is only slower to read."""
        with self._guard:
            try:
                self.writer.compact()
            except MatsError as error:
                logger.warning("arctic not compacted at the end reason=%s", error.message)
            self.writer.close()
            self._tips.clear()
            self._scanned.clear()

    def _flush_source(self, source: Source, result: ProjectionResult) -> None:
        after = self._scan_start(source)
        rows = source.fetch(after, self._batch_rows)
        if not rows:
            return
        batch = source.split(rows)
        for target, records in batch.items():
            if not self._append(target, records, result):
                # The store lost the symbol under our hands: the append began it anew, without its past.
                logger.error("arctic symbol was lost and is written anew symbol=%s", target.key)
                self._rebuild_source(source, {target.key}, result, None)
            reach("arctic_append")
        reach("arctic")
        last = seq_of(rows[-1])
        self._remember(source, last, batch)
        self._scanned[source.name] = last
        result.more = result.more or len(rows) == self._batch_rows

    def _append(self, target: Target, records: Sequence[Record], result: ProjectionResult) -> bool:
        """Append what is missing; False when that began the symbol although it had rows before."""
        tip = self._tip(target)
        missing = [record for record in records if record.seq > tip.seq]
        if not missing:
            return True
        try:
            version, self._tips[target.key] = self._put(target, missing, tip, self.writer.append)
        except Exception:
            # The version may have been committed before the failure: only the store knows, ask it next time.
            self._tips.pop(target.key, None)
            raise
        result.rows[target.key] = result.rows.get(target.key, 0) + len(missing)
        return bool(version or not tip.seq)

    def _put(self, target: Target, records: Sequence[Record], tip: _Tip, put: Callable[..., int]) -> tuple[int, _Tip]:
        stamps = increasing([nanoseconds_of(record.at) for record in records], tip.stamp)
        after = _Tip(records[-1].seq, stamps[-1], target.shape)
        data = frame([record.values for record in records], target.schema, stamps)
        return put(target.library, target.symbol, data, _mark(target, after)), after

    def _tip(self, target: Target) -> _Tip:
        found = self._tips.get(target.key)
        if found is None:
            metadata = self.writer.client.metadata(target.library, target.symbol)
            last_seq, last_ts = int(metadata.get("last_seq", 0)), int(metadata.get("last_ts", 0))
            found = _Tip(last_seq, last_ts, str(metadata.get("shape", "")))
            self._tips[target.key] = found
        return found

    def _scan_start(self, source: Source) -> int:
        """Return the row to go on after: the saved one, or an earlier one when a symbol lost what it once had."""
        if source.name in self._scanned:
            return self._scanned[source.name]
        saved = ProjectionCursor.objects.filter(symbol=source.name).values_list("last_seq", flat=True).first() or 0
        start, old = saved, set()
        for cursor in ProjectionCursor.objects.filter(symbol__contains=":"):
            target = target_of(cursor.symbol)
            if target is None or target.schema_name not in source.kinds:
                continue
            tip = self._tip(target)
            if tip.seq and tip.shape != target.shape:
                old.add(target.key)
            elif tip.seq < cursor.last_seq:
                logger.warning("arctic lags its cursor symbol=%s has=%d had=%d", target.key, tip.seq, cursor.last_seq)
                start = min(start, tip.seq)
        if old:
            # Appending other columns would leave zeros in the old rows; the ledger has them all.
            logger.info("arctic symbols of another shape are written anew symbols=%s", ",".join(sorted(old)))
            self._rebuild_source(source, old, ProjectionResult(), None)
        self._scanned[source.name] = start
        return start

    def _remember(self, source: Source, last: int, targets: Collection[Target]) -> None:
        now = timezone.now()
        rows = [(target.key, self._tips[target.key].seq, now) for target in targets if target.key in self._tips]
        with transaction.atomic():
            upsert_rows(
                ProjectionCursor,
                ("symbol", "last_seq", "updated_at"),
                ("symbol",),
                [*rows, (source.name, last, now)],
            )

    def _rebuild_source(
        self, source: Source, wanted: set[str] | None, result: ProjectionResult, progress: Progress | None
    ) -> None:
        tips: dict[str, _Tip] = {}
        last = 0
        while rows := source.fetch(last, REBUILD_ROWS):
            last = seq_of(rows[-1])
            batch = source.split(rows)
            for target, records in batch.items():
                if wanted is not None and target.key not in wanted:
                    continue
                known = tips.get(target.key)
                put = self.writer.write if known is None else self.writer.append
                _, tips[target.key] = self._put(target, records, known or _Tip(), put)
                self._tips[target.key] = tips[target.key]
                result.rows[target.key] = result.rows.get(target.key, 0) + len(records)
            if progress is not None:
                progress(source.name, last)
        self._scanned.pop(source.name, None)


def _mark(target: Target, tip: _Tip) -> dict[str, Any]:
    return {"last_seq": tip.seq, "last_ts": tip.stamp, "shape": target.shape}


def seq_of(row: Mapping[str, Any]) -> int:
    """Return the place of a source's row in the ledger."""
    return int(row["seq"] if "seq" in row else row["id"])


@lru_cache(maxsize=64)
def nanoseconds_of(moment: datetime) -> int:
    """Return UTC nanoseconds, exactly: a float's timestamp() loses microseconds. Rows of a batch share their moment."""
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + moment.microsecond * 1_000
