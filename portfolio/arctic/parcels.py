"""Frames on their way into ArcticDB from a process that may not write there: parcels, each written exactly once.

Owns: the life of a parcel: handed over (``submit``), written by who holds the store (``drain``), waited for
(``wait_written``, ``deliver``). Leaves: files (``parcel_files``), the engine's turn (``trading.engine.projection``).
Rules: two writing processes lose rows silently, so while an engine runs it alone writes, and all others hand over.
Parcels are taken in order of their key, one after another; the version that a parcel made carries the parcel's own mark
in its metadata, which every later writer of the symbol keeps, so that a writer that died between the write and the row
is found out. One that cannot be written is marked with the reason and passed over, and its file kept for a month; a
store that is away stops the queue.
Books are not handed over: the ledger's libraries are refused.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from django.db import transaction
from ulid import ULID

from portfolio.arctic import parcel_files
from portfolio.arctic.client import ArcticUnavailableError
from portfolio.arctic.lock import ArcticBusyError, refuse_beside_engine
from portfolio.arctic.market_data import LIBRARY as BARS_LIBRARY
from portfolio.arctic.market_data import merged_metadata
from portfolio.arctic.writer import ArcticWriter
from portfolio.models import Account, ArcticParcel
from portfolio.models.stores import ParcelState
from strategies.crashpoints import reach
from strategies.exceptions import ConfigError, ConflictError, TransientError

logger = logging.getLogger(__name__)

WRITE, APPEND, UPDATE, DELETE = "write", "append", "update", "delete"
MODES = (WRITE, APPEND, UPDATE, DELETE)
MARK, JOIN = "parcel", "join"
KEEP_ROWS = timedelta(days=30)
STRAY_S = 3_600.0
_POLL_FIRST_S, _POLL_MAX_S = 0.02, 0.5
_LIBRARY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/^=+&:-]{0,199}", re.ASCII)
_draining = threading.Lock()

Failed = Callable[[ArcticParcel], None]


@dataclass(slots=True)
class Drained:
    """What one turn did."""

    written: int = 0
    rows: int = 0
    failed: list[ArcticParcel] = field(default_factory=list)


def is_protected(library: str) -> bool:
    """Tell whether a library is the ledger's: written by the projection alone, and never deleted by hand."""
    return library == "general" or Account.objects.filter(account_id=library).exists()


def check_address(library: str, symbol: str) -> None:
    """Refuse names that are none, and the ledger's libraries.

    Raises: ConfigError (bad_name); ConflictError (protected_library).
    """
    if not _LIBRARY.fullmatch(library):
        raise ConfigError(f"«{library}» cannot name an ArcticDB library.", code="bad_name")
    if symbol and (not _SYMBOL.fullmatch(symbol) or ".." in symbol):
        raise ConfigError(f"«{symbol}» cannot name an ArcticDB symbol.", code="bad_name")
    if is_protected(library):
        raise ConflictError(
            f"{library} mirrors the ledger: only the engine writes there.", code="protected_library", library=library
        )


def submit(
    library: str,
    symbol: str,
    frame: pd.DataFrame | None,
    *,
    mode: str,
    metadata: Mapping[str, Any] | None = None,
    source: str,
) -> ArcticParcel:
    """Hand a frame over; when this returns it is on the disk and its row is committed.

    ``mode``: ``write`` replaces the table (and its metadata), ``append`` adds later rows, ``update`` replaces the rows
    between the frame's first and last, ``delete`` (without a frame) removes the symbol, without a symbol the library.
    ``metadata``: JSON-able; of append and update it is laid over what is there. With ``join`` (UTC nanoseconds) an
    append leaves out what is there already, and is refused when the symbol ends before that moment, for there would be
    a hole.
    Raises: ConfigError for names, frames and modes that cannot be; ConflictError for the ledger's libraries;
    TransientError (disk_full).
    """
    check_address(library, symbol)
    if mode not in MODES or (frame is None) != (mode == DELETE) or not (symbol or mode == DELETE):
        raise ConfigError(f"A parcel cannot be {mode!r} like that.", code="bad_parcel")
    row = ArcticParcel(
        library=library,
        symbol=symbol,
        mode=mode,
        metadata={**dict(metadata or {}), MARK: str(ULID())},
        rows=0 if frame is None else len(frame),
        source=source[:80],
        created_at=datetime.now(UTC),
    )
    if frame is None:
        row.save(force_insert=True)
        return row
    parcel_files.check_frame(frame)
    _check_index(frame, mode)
    aside = parcel_files.write_aside(frame)
    reach("parcel_file")
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            parcel_files.take_name(aside, row.pk)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    reach("parcel_row")
    return row


def _check_index(frame: pd.DataFrame, mode: str) -> None:
    index = frame.index
    if mode == WRITE and not isinstance(index, pd.DatetimeIndex):
        return
    is_sorted = isinstance(index, pd.DatetimeIndex) and index.is_monotonic_increasing and index.is_unique
    if not is_sorted or str(getattr(index, "tz", None)) != "UTC":
        raise ConfigError(f"To {mode} rows they need a UTC time index, sorted, each once.", code="bad_frame")
    if mode != WRITE and not len(frame):
        raise ConfigError(f"There is no row to {mode}.", code="bad_frame")


def drain(writer: ArcticWriter, on_failed: Failed | None = None, most: int | None = None) -> Drained:
    """Write what waits, in order, until nothing does or ``most`` are done; only under the store's lock.

    Raises: ArcticUnavailableError, ArcticBusyError or StaleEpochError: the parcel in hand waits on.
    """
    done = Drained()
    with _draining:
        while most is None or done.written + len(done.failed) < most:
            row = ArcticParcel.objects.filter(state=ParcelState.WAITING).order_by("pk").first()
            if row is None:
                break
            writer.open()
            _take(writer, row, done)
            if row.state == ParcelState.FAILED and on_failed is not None:
                on_failed(row)
    return done


def _take(writer: ArcticWriter, row: ArcticParcel, done: Drained) -> None:
    try:
        row.version = _put(writer, row)
    except ArcticBusyError:
        raise
    except ArcticUnavailableError as error:
        if not error.fields.get("is_refusal"):
            raise
        _end(row, ParcelState.FAILED, error.message)
    except (ConfigError, ConflictError) as error:
        _end(row, ParcelState.FAILED, error.message)
    except (TypeError, ValueError, KeyError) as error:  # what ArcticDB's normalisation raises of itself
        _end(row, ParcelState.FAILED, f"{type(error).__name__}: {error}")
    else:
        reach("parcel_written")
        _end(row, ParcelState.WRITTEN)
    if row.state == ParcelState.WRITTEN:
        done.written += 1
        done.rows += row.rows
    else:
        done.failed.append(row)


def _end(row: ArcticParcel, state: str, error: str = "") -> None:
    row.state, row.error, row.ended_at = state, error[:400], datetime.now(UTC)
    row.save(update_fields=["state", "error", "version", "ended_at"])
    reach("parcel_marked")
    if state == ParcelState.WRITTEN:
        parcel_files.remove(row.pk)
    log = logger.error if error else logger.info
    log(
        "parcel %s pk=%s to=%s/%s mode=%s rows=%s source=%s reason=%s",
        state, row.pk, row.library, row.symbol, row.mode, row.rows, row.source, error,
    )  # fmt: skip


def _put(writer: ArcticWriter, row: ArcticParcel) -> int | None:
    """Write one parcel unless the store shows that it was; return the version that holds it."""
    check_address(row.library, row.symbol)  # an account may have come since it was handed over
    if row.mode == DELETE:
        writer.delete(row.library, row.symbol)
        return None
    with writer.symbol_lock(row.library, row.symbol):
        known = writer.client.metadata(row.library, row.symbol)
        if known.get(MARK) == row.metadata[MARK]:
            logger.info("parcel was written before its writer ended pk=%s", row.pk)
            return writer.client.version_of(row.library, row.symbol)
        frame = parcel_files.read(row.pk)
        asked = {name: value for name, value in row.metadata.items() if name != JOIN}
        if row.mode == WRITE:
            return writer.write(row.library, row.symbol, frame, _with_last(row.library, asked, {}, frame))
        merged = merged_metadata(known, asked) if row.library == BARS_LIBRARY else {**known, **asked}
        metadata = _with_last(row.library, merged, known, frame)
        if row.mode == UPDATE:
            return writer.update(row.library, row.symbol, frame, metadata)
        return _append(writer, row, frame, metadata)


def _append(writer: ArcticWriter, row: ArcticParcel, frame: pd.DataFrame, metadata: dict[str, Any]) -> int | None:
    last = _last_of(writer, row.library, row.symbol)
    if last is not None and frame.index[0] <= last:
        if JOIN not in row.metadata:
            raise ConflictError(
                f"{row.library}/{row.symbol} reaches to {last:%Y-%m-%d %H:%M:%S}Z, the rows begin at "
                f"{frame.index[0]:%Y-%m-%d %H:%M:%S}Z: nothing is written twice."
            )
        frame = frame[frame.index > last]
    if last is not None and int(row.metadata.get(JOIN, 0)) > last.value:
        raise ConflictError(
            f"{row.library}/{row.symbol} ends at {last:%Y-%m-%d %H:%M:%S}Z, before the rows join on: there would be a "
            "hole."
        )
    if frame.empty:
        return writer.client.version_of(row.library, row.symbol)
    return writer.append(row.library, row.symbol, frame, metadata)


def _last_of(writer: ArcticWriter, library: str, symbol: str) -> pd.Timestamp | None:
    if not writer.client.has_symbol(library, symbol):
        return None
    index = writer.client.tail(library, symbol, 1).data.index
    return index[-1] if len(index) and isinstance(index, pd.DatetimeIndex) else None


def _with_last(library: str, metadata: dict[str, Any], known: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    """Keep the start of the last bar true, which readers of bars take from the metadata."""
    if library == BARS_LIBRARY and len(frame) and isinstance(frame.index, pd.DatetimeIndex):
        return {**metadata, "last": max(int(known.get("last", 0)), int(frame.index[-1].value))}
    return metadata


# -- waiting


def wait_written(parcel: ArcticParcel, timeout_s: float) -> int | None:
    """Wait until a parcel was written; return its version.

    Raises: ConflictError (parcel_failed) with the reason; TransientError (not_written_yet) after ``timeout_s``.
    """
    deadline, pause_s = time.monotonic() + timeout_s, _POLL_FIRST_S
    while True:
        parcel.refresh_from_db()
        if parcel.state == ParcelState.WRITTEN:
            return parcel.version
        if parcel.state == ParcelState.FAILED:
            raise ConflictError(parcel.error, code="parcel_failed", parcel=parcel.pk)
        if time.monotonic() >= deadline:
            raise TransientError(
                f"{parcel.library}/{parcel.symbol} was handed over and not written within {timeout_s:g} s; the engine "
                "writes it when ArcticDB takes it.",
                code="not_written_yet",
                parcel=parcel.pk,
            )
        time.sleep(pause_s)
        pause_s = min(_POLL_MAX_S, pause_s * 2)


def deliver(parcel: ArcticParcel, timeout_s: float, on_failed: Failed | None = None) -> int | None:
    """Write what waits up to this parcel when nobody else holds the store, else wait until its holder did.

    Raises: as ``wait_written``; ArcticUnavailableError when the store is away.
    """
    deadline, pause_s = time.monotonic() + timeout_s, _POLL_FIRST_S
    while True:
        with contextlib.suppress(ArcticBusyError):  # then who is busy writes it
            drain_if_free(on_failed)
        try:
            return wait_written(parcel, min(pause_s, max(0.0, deadline - time.monotonic())))
        except TransientError:
            if time.monotonic() >= deadline:
                raise
        pause_s = min(_POLL_MAX_S, pause_s * 2)


def drain_if_free(on_failed: Failed | None = None) -> Drained:
    """Write what waits under this process's own lock, and give it back at once.

    Raises: ArcticBusyError while an engine or another process writes.
    """
    refuse_beside_engine()
    writer = ArcticWriter(refuse_beside_engine)
    try:
        return drain(writer, on_failed)
    finally:
        writer.close()


def prune(now: datetime) -> int:
    """Delete rows that ended long ago and files that nobody owns; return how many rows went."""
    deleted, _ = ArcticParcel.objects.filter(ended_at__lt=now - KEEP_ROWS).delete()
    owned = set(ArcticParcel.objects.exclude(state=ParcelState.WRITTEN).values_list("pk", flat=True))
    parcel_files.remove_stray(owned, STRAY_S, now.timestamp())
    return int(deleted)
