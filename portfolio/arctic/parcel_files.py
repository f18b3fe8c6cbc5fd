"""The frames of parcels as Parquet files under ``MATS_HOME/parcels``, whole or not there.

Owns: names, writing durably, reading, removing, what a frame may hold. Leaves: rows and order (``parcels``).
Rule: a file gets its name only when its bytes are on the disk, and its row is committed after that, so a row that
waits always has its whole file.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from django.conf import settings
from ulid import ULID

from portfolio.arctic.space import LEAST_FREE
from strategies.exceptions import ConfigError, TransientError

MOST_BYTES: Final = 512_000_000  # of the frame in memory; the engine must read it beside its own work
_KINDS = frozenset("fiubM")
_TEMPORARY = ".part"


class ParcelLostError(ConfigError):
    """A parcel's file is missing or damaged."""

    code = "parcel_lost"


def folder() -> Path:
    """Return where the files lie; made at first use."""
    found: Path = settings.MATS.mats_home / "parcels"
    found.mkdir(parents=True, exist_ok=True)
    return found


def path_of(pk: int) -> Path:
    """Return a parcel's file."""
    return folder() / f"{int(pk)}.parquet"


def check_frame(frame: pd.DataFrame) -> None:
    """Refuse what ArcticDB would refuse or change, before it is handed over.

    Raises: ConfigError (bad_frame, frame_too_large).
    """
    size = int(frame.memory_usage(deep=False).sum())
    if size > MOST_BYTES:
        raise ConfigError(
            f"The frame has {size / 1e6:,.0f} MB; hand it over in parts of {MOST_BYTES / 1e6:,.0f} MB at most.",
            code="frame_too_large",
        )
    if not frame.columns.is_unique or not all(isinstance(name, str) for name in frame.columns):
        raise ConfigError("The frame's columns must have names, each once.", code="bad_frame")
    for name, column in frame.items():
        if column.dtype.kind in _KINDS and isinstance(column.dtype, np.dtype):
            continue
        if column.dtype == object and all(isinstance(value, str) for value in column):
            continue
        raise ConfigError(
            f"Column {name} is {column.dtype}; ArcticDB takes numbers, bool, text without gaps and times without zone.",
            code="bad_frame",
        )


def write_aside(frame: pd.DataFrame) -> Path:
    """Write a frame durably under a name that no parcel has; ``take_name`` gives it its own.

    Raises: TransientError (disk_full) when the disk has no room for it; nothing is left behind then.
    """
    target = folder() / f"{ULID()}{_TEMPORARY}"
    size = int(frame.memory_usage(deep=True).sum())
    free = shutil.disk_usage(target.parent).free
    if free < LEAST_FREE + size:
        raise _full(target.parent, free)
    try:
        frame.to_parquet(target, compression="zstd")
        with target.open("rb") as handle:
            os.fsync(handle.fileno())
    except OSError as error:
        target.unlink(missing_ok=True)
        raise _full(target.parent, shutil.disk_usage(target.parent).free) from error
    return target


def _full(where: Path, free: int) -> TransientError:
    return TransientError(
        f"The disk of {where} has {free / 1e6:,.0f} MB free, which is too little to hand data over; make room.",
        code="disk_full",
    )


def take_name(aside: Path, pk: int) -> None:
    """Give a written file its parcel's name, durably."""
    aside.replace(path_of(pk))
    handle = os.open(folder(), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(pk: int) -> pd.DataFrame:
    """Return a parcel's frame.

    Raises: ParcelLostError.
    """
    try:
        return pd.read_parquet(path_of(pk))
    except FileNotFoundError as error:
        raise ParcelLostError(f"The file of parcel {pk} is gone; hand its data over again.") from error
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise ParcelLostError(f"The file of parcel {pk} cannot be read ({error}); hand its data over again.") from error


def remove(pk: int) -> None:
    """Remove a parcel's file; one that is gone already is fine."""
    path_of(pk).unlink(missing_ok=True)


def remove_stray(known: set[int], older_than_s: float, now_s: float) -> int:
    """Remove files that no waiting parcel has and that are old: who wrote them died; return how many."""
    removed = 0
    for path in folder().iterdir():
        is_known = path.stem.isdecimal() and int(path.stem) in known
        if not is_known and path.suffix in (_TEMPORARY, ".parquet") and now_s - path.stat().st_mtime > older_than_s:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
