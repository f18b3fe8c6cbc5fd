"""Ask IB for bars of any stretch of time, page by page, and bring every answer into one shape.

Owns: durations in IB's words, paging back from the end, IB's stamps as ours. Leaves: sending (the caller's
``download``), pacing (``trading.ib.pacing``), what is done with the bars (``data``, ``trading.market.ingest_ib``).
Shape: frames indexed by the bar's start (UTC), float columns open, high, low, close, volume. Pure but for the call.
Source: IB's pages on historical bars: daily and longer ones carry a bare date, intraday ones a moment.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from strategies.exceptions import ConfigError
from strategies.timeframes import DAY, Timeframe

if TYPE_CHECKING:
    import pandas as pd
    from ib_async import Contract

COLUMNS = ["open", "high", "low", "close", "volume"]
MOST_PAGES = 12  # for one question of a strategy: more takes minutes and belongs into the store
_YEAR = timedelta(days=365)

Download = Callable[["Contract", str, str, str, bool], Awaitable[Any]]
"""Takes contract, bar size, duration, end (UTC, IB's text) and whether only regular hours count; returns IB's bars."""


async def fetch_bars(
    download: Download,
    contract: Contract,
    frame: Timeframe,
    begin: datetime | None,
    end: datetime,
    use_rth: bool,
    most_pages: int = MOST_PAGES,
) -> pd.DataFrame:
    """Return IB's bars from the one that holds ``begin`` up to ``end``; without ``begin`` what one request brings.

    Raises: ConfigError (too_much) when more than ``most_pages`` requests would be needed; what ``download`` raises.
    """
    import pandas as pd

    pages: list[pd.DataFrame] = []
    cursor, first = end, begin if begin is not None else end - frame.longest
    while True:
        if len(pages) == most_pages:
            raise ConfigError(
                f"{frame.key} bars of {contract.symbol} since {first:%Y-%m-%d} are more than {most_pages} requests to "
                f"IB; store them first: manage.py ingest_bars {contract.symbol} --timeframe {frame.key} "
                f"--start {first:%Y-%m-%d}.",
                code="too_much",
            )
        span = cursor - first
        answer = await download(contract, frame.bar_size, duration_text(span, frame), ib_moment(cursor), use_rth)
        page = bars_of(answer, frame)
        page = page[page.index < cursor] if pages else page
        pages.insert(0, page)
        if page.empty or begin is None or span <= frame.longest or page.index[0] <= first:
            break
        cursor = page.index[0].to_pydatetime()
    found = pd.concat(pages) if len(pages) > 1 else pages[0]
    return found if begin is None else found[found.index > begin - frame.length]


def duration_text(span: timedelta, frame: Timeframe) -> str:
    """Return a duration in IB's words, not longer than one request should be.

    >>> from strategies.timeframes import parse_timeframe
    >>> duration_text(timedelta(minutes=10), parse_timeframe("1m")), duration_text(_YEAR * 3, parse_timeframe("1d"))
    ('600 S', '3 Y')
    """
    span = min(span, frame.longest)
    if frame.is_intraday and span <= DAY:
        return f"{max(30, math.ceil(span.total_seconds()))} S"
    return f"{math.floor(span / DAY) + 1} D" if span < _YEAR else f"{math.ceil(span / _YEAR)} Y"


def parse_duration(text: str) -> timedelta:
    """Return a duration in IB's words as a length; a month has 31 days, a year 366, so that none is too short.

    >>> parse_duration("600 S"), parse_duration("2 D")
    (datetime.timedelta(seconds=600), datetime.timedelta(days=2))

    Raises: ConfigError (bad_duration).
    """
    count, _, unit = text.strip().partition(" ")
    lengths = {"S": timedelta(seconds=1), "D": DAY, "W": 7 * DAY, "M": 31 * DAY, "Y": 366 * DAY}
    if not count.isdigit() or unit not in lengths:
        raise ConfigError(f"{text!r} is no duration; write 600 S, 2 D, 1 W, 3 M or 1 Y.", code="bad_duration")
    return int(count) * lengths[unit]


def ib_moment(moment: datetime) -> str:
    """Return a moment as IB reads it: UTC, with a dash."""
    return f"{moment.astimezone(UTC):%Y%m%d-%H:%M:%S}"


def bars_of(answer: Any, frame: Timeframe) -> pd.DataFrame:
    """Return IB's bars as a frame, sorted, each once; a week is stamped with its Monday, wherever IB stamps it."""
    if not answer:
        return empty_bars()
    import pandas as pd

    index = _utc(pd.DatetimeIndex([pd.Timestamp(bar.date) for bar in answer]))
    if frame.key == "1_week":
        index = index.normalize() - pd.to_timedelta(index.weekday, unit="D")
    rows = [[bar.open, bar.high, bar.low, bar.close, max(float(bar.volume), 0.0)] for bar in answer]
    found = pd.DataFrame(rows, index=index.as_unit("ns").rename("ts"), columns=COLUMNS, dtype="float64")
    return found[~found.index.duplicated(keep="last")].sort_index()


def shaped(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a stored frame in our shape, whatever case its columns have."""
    import pandas as pd

    frame = frame.rename(columns=str.lower)
    frame.index = _utc(pd.DatetimeIndex(frame.index)).rename("ts")
    return frame[COLUMNS].astype("float64")


def _utc(index: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return index.tz_localize(UTC) if index.tz is None else index.tz_convert(UTC)


def empty_bars() -> pd.DataFrame:
    """Return no bars."""
    import pandas as pd

    return pd.DataFrame(columns=COLUMNS, index=pd.DatetimeIndex([], tz=UTC, name="ts"), dtype="float64")
