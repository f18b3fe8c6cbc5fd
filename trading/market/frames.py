"""Indexes of frames as plain nanoseconds, and back into rows of files. Pure.

Owns: the one spelling of it. Why: a DatetimeIndex has units of its own, and comparing those of two frames goes wrong
silently when one is in microseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from strategies.bar_series import Nanos

Flags = npt.NDArray[np.bool_]


def nanos_of_index(index: pd.Index[Any]) -> Nanos:
    """Return an index of times in epoch nanoseconds; one without zone is taken for UTC."""
    found: Nanos = pd.DatetimeIndex(index).to_numpy(dtype="datetime64[ns]").astype(np.int64)
    return found


def first_of(flags: Any, labels: pd.Index[Any]) -> Any | None:
    """Return the label of the first True, None when there is none."""
    places = np.flatnonzero(np.asarray(flags, dtype=bool))
    return labels[int(places[0])] if len(places) else None
