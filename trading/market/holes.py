"""What stored series lack, as stretches of time to ask a source for, and what a source was asked for in vain.

Owns: which series have gaps, cutting gaps into pages, whether an answer fits what is around a gap, remembering what a
source has no bars of. Leaves: measuring (``coverage``, ``catalog``), asking and storing (``ingest_gaps``).
Rule: only bars of a gap are taken, and only from an answer that has a bar beside it as well, with the price that is
stored: else a split or another adjustment may lie between. Moments are int64 epoch nanoseconds UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import LIBRARY, split_name, symbol_name
from strategies.bar_series import Nanos, nanos_of
from strategies.data import SAME_PRICE
from strategies.exceptions import ConflictError, NotFoundError
from strategies.timeframes import TIMEFRAMES, Timeframe
from trading.market import catalog
from trading.market.coverage import Gap
from trading.market.frames import nanos_of_index


class Stretch(NamedTuple):
    """Starts of the first and the last bar that are missing one after another."""

    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Lacking:
    """A stored series that has gaps; ``known`` is its metadata."""

    series: str
    frame: Timeframe
    gaps: Sequence[Gap]
    known: dict[str, Any]

    @property
    def name(self) -> str:
        """Return the name in the store."""
        return symbol_name(self.series, self.frame.key)

    @property
    def missing(self) -> int:
        """Return how many bars are missing."""
        return sum(gap.bars for gap in self.gaps)


def find_lacking(
    client: ArcticClient,
    series: Sequence[str] = (),
    frame: Timeframe | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[Lacking]:
    """Return the series with gaps that touch [start, end], by name: those named, or all; of one timeframe, or of all.

    Raises: NotFoundError when one that is named is not stored, or has no calendar that says what is missing.
    """
    found = []
    for name in _names(client, series, frame):
        one = catalog.measured(client, LIBRARY, name)
        if one.coverage is None:
            if series:
                raise NotFoundError(
                    f"What {name} lacks is not known: {one.no_calendar or 'it is empty'}.", code="no_gaps"
                )
            continue
        gaps = [gap for gap in one.coverage.gaps if _touches(gap, start, end)]
        if gaps:
            found.append(Lacking(one.series, catalog.frame_of(one), gaps, client.metadata(LIBRARY, name)))
    return found


def _names(client: ArcticClient, series: Sequence[str], frame: Timeframe | None) -> list[str]:
    stored = {
        name: split
        for name in client.list_symbols(LIBRARY)
        if (split := split_name(name)) is not None and split[1] in TIMEFRAMES
    }
    fits = {name: one for name, one in stored.items() if frame is None or one[1] == frame.key}
    absent = [one for one in series if one not in {split[0] for split in fits.values()}]
    if absent:
        what = f"{frame.key} bars" if frame is not None else "bars"
        raise NotFoundError(
            f"No {what} of {absent[0]} are stored; download or import them first.", code="unknown_symbol"
        )
    return sorted(name for name, split in fits.items() if not series or split[0] in series)


def _touches(gap: Gap, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or gap.last_ns >= nanos_of(start)) and (end is None or gap.first_ns <= nanos_of(end))


def cut_into_pages(stretches: Iterable[Stretch], frame: Timeframe) -> list[list[Stretch]]:
    """Return stretches by page: short ones that lie near each other share one, long ones are cut.

    A page is half of what one request may ask for, which leaves room for the bars on both sides.
    """
    most = max(1, pd.Timedelta(frame.longest).value // 2)
    length = pd.Timedelta(frame.length).value
    pages: list[list[Stretch]] = []
    for whole in stretches:
        for first in range(whole.first_ns, whole.last_ns + 1, max(most // length, 1) * length):
            part = Stretch(first, min(whole.last_ns, first + max(most // length - 1, 0) * length))
            if pages and part.last_ns - pages[-1][0].first_ns < most:
                pages[-1].append(part)
            else:
                pages.append([part])
    return pages


def bars_for(
    name: str, gaps: Sequence[Stretch], answer: pd.DataFrame, stored: pd.DataFrame
) -> tuple[pd.DataFrame, int]:
    """Return the bars of an answer that lie in gaps, and of how many gaps they could not be compared and are left out.

    Shape: ``stored`` reaches from the last bar before the first gap to the first after the last, and may reach farther.
    Raises: ConflictError (history_changed) when the answer says another price of a bar beside a gap.
    """
    at, there = nanos_of_index(answer.index), nanos_of_index(stored.index)
    closes = dict(zip(at.tolist(), answer["close"].tolist(), strict=True))
    keep = np.zeros(len(at), dtype=bool)
    unknown = 0
    for gap in gaps:
        inside = (at >= gap.first_ns) & (at <= gap.last_ns)
        if not inside.any():
            continue
        beside = _beside(gap, there, closes)
        for place in beside:
            _require_same(name, stored.index[place], float(stored["close"].iloc[place]), closes[int(there[place])])
        keep |= inside & bool(beside)
        unknown += not beside
    return answer[keep], unknown


def _beside(gap: Stretch, there: Nanos, closes: dict[int, float]) -> list[int]:
    """Return the places of the stored bars next to a gap that the answer has as well."""
    before, after = (
        int(np.searchsorted(there, gap.first_ns)) - 1,
        int(np.searchsorted(there, gap.last_ns, side="right")),
    )
    return [place for place in (before, after) if 0 <= place < len(there) and int(there[place]) in closes]


def _require_same(name: str, moment: pd.Timestamp, ours: float, theirs: float) -> None:
    if abs(theirs - ours) > SAME_PRICE * abs(ours):
        raise ConflictError(
            f"{name}: the bar of {moment:%Y-%m-%d %H:%M}Z, beside a gap, is stored with close {ours:.10g}, here it is "
            f"{theirs:.10g}. If a split lies between, record it (manage.py ingest_bars … --split); the gap stays as it "
            "is.",
            code="history_changed",
        )


class AskedBefore:
    """Stretches that a source answered about, in a file: a line for each, added when its answer is stored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Stretch]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                name, first, last = json.loads(line)
                self._known.setdefault(str(name), []).append(Stretch(int(first), int(last)))
            except (ValueError, TypeError):
                continue  # a line that a kill cut short: its stretch is asked for again

    def add(self, name: str, stretch: Stretch) -> None:
        """Keep that a stretch was answered about."""
        self._known.setdefault(name, []).append(stretch)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write("\n" + json.dumps([name, *stretch]))

    def left(self, name: str, gaps: Iterable[Gap], frame: Timeframe) -> list[Stretch]:
        """Return what of the gaps was not asked for yet."""
        length = pd.Timedelta(frame.length).value
        left = [Stretch(gap.first_ns, gap.last_ns) for gap in gaps]
        for asked in sorted(self._known.get(name, [])):
            left = [part for one in left for part in _without(one, asked, length)]
        return left


def _without(one: Stretch, asked: Stretch, length: int) -> list[Stretch]:
    if asked.last_ns < one.first_ns or asked.first_ns > one.last_ns:
        return [one]
    ahead = Stretch(one.first_ns, min(one.last_ns, asked.first_ns - length))
    behind = Stretch(max(one.first_ns, asked.last_ns + length), one.last_ns)
    return [part for part in (ahead, behind) if part.first_ns <= part.last_ns]
