"""Bars and universes for strategies: ArcticDB first, IB for what is missing.

Owns: timeframe names, which series answers for a contract, the top-up of a stale tail, slicing by dates.
Leaves: writing: what IB answers here is not stored, since only the ingest commands and the recorder own those symbols;
the names of series (``series_names``).
Rule: bars of one contract are never completed by those of another that has its ticker.
Shape: frames indexed by the bar's start (UTC), float columns open, high, low, close, volume.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from strategies.exceptions import ConfigError, MatsError, NotFoundError
from strategies.series_names import Listing, is_own_name, owner_of

if TYPE_CHECKING:
    import pandas as pd
    from ib_async import Contract

logger = logging.getLogger(__name__)

LIBRARY = "market_data"
_TICKER = re.compile(r"[A-Z][A-Z0-9. ]{0,11}", re.ASCII)
COLUMNS = ["open", "high", "low", "close", "volume"]


@dataclass(frozen=True, slots=True)
class Timeframe:
    """One bar length: our key, IB's words, and the most that one IB request should ask for."""

    key: str
    bar_size: str
    length: timedelta
    longest: timedelta


TIMEFRAMES = {
    frame.key: frame
    for frame in (
        Timeframe("5_secs", "5 secs", timedelta(seconds=5), timedelta(hours=1)),
        Timeframe("30_secs", "30 secs", timedelta(seconds=30), timedelta(hours=8)),
        Timeframe("1_min", "1 min", timedelta(minutes=1), timedelta(days=7)),
        Timeframe("5_min", "5 mins", timedelta(minutes=5), timedelta(days=30)),
        Timeframe("15_min", "15 mins", timedelta(minutes=15), timedelta(days=60)),
        Timeframe("30_min", "30 mins", timedelta(minutes=30), timedelta(days=60)),
        Timeframe("1_hour", "1 hour", timedelta(hours=1), timedelta(days=365)),
        Timeframe("1_day", "1 day", timedelta(days=1), timedelta(days=3650)),
    )
}
_UNITS = {"s": "secs", "sec": "secs", "secs": "secs", "m": "min", "min": "min", "mins": "min"} | {
    "h": "hour", "hour": "hour", "hours": "hour", "d": "day", "day": "day", "days": "day"
}  # fmt: skip

Download = Callable[["Contract", str, str, str, bool], Awaitable[Any]]
Identify = Callable[["Contract"], Awaitable[int]]


def parse_timeframe(text: str) -> Timeframe:
    """Return the timeframe for ``1_min``, ``1 min``, ``1m``, …

    Raises: ConfigError (unknown_timeframe) instead of guessing one.
    """
    match = re.fullmatch(r"(\d+)[ _]?([a-z]+)", text.strip().lower())
    key = f"{match[1]}_{_UNITS.get(match[2], '?')}" if match else "?"
    if key not in TIMEFRAMES:
        raise ConfigError(
            f"Timeframe {text!r} is unknown; use one of {', '.join(TIMEFRAMES)}.", code="unknown_timeframe"
        )
    return TIMEFRAMES[key]


def names_library(universe: str) -> bool:
    """Tell whether a universe may name an ArcticDB library: one name that is not spelled like a ticker."""
    names = [part.strip() for part in universe.split(",") if part.strip()]
    return len(names) == 1 and not _TICKER.fullmatch(names[0])


def resolve_universe(ac: Any, universe: str) -> list[str]:
    """Return the symbols of a universe: one, a comma list, an ArcticDB library, or library/symbol. Blocking."""
    names = [part.strip() for part in universe.split(",") if part.strip()]
    if not names_library(universe):
        return list(dict.fromkeys(names))
    library, _, symbol = names[0].partition("/")
    if ac is None or not ac.has_library(library):
        return names
    if symbol:
        frame = ac.read(library, symbol).data
        return [str(name) for name in dict.fromkeys(frame["Symbol"])]
    suffix = re.compile(r"_\d+_(secs|min|hour|day)$")
    stored = {suffix.sub("", name) for name in ac[library].list_symbols()}
    return sorted(name for name in stored if not is_own_name(name))


class BarReader:
    """Reads bars of one timeframe at a time; the store is read in a worker thread, IB on the caller's loop."""

    def __init__(
        self, ac: Any, download: Download, now: Callable[[], datetime], identify: Identify | None = None
    ) -> None:
        """Take the store, how to ask IB for bars and for a contract's id, and the clock."""
        self._ac = ac
        self._download = download
        self._now = now
        self._identify = identify

    async def read(
        self,
        contract: Contract,
        timeframe: str,
        start: str | date | datetime,
        end: str | date | datetime,
        *,
        use_rth: bool,
        force_download: bool,
    ) -> pd.DataFrame:
        """Return the bars of one contract within [start, end].

        Raises: ConfigError for a bad timeframe or date; NotFoundError when no source has a bar.
        """
        frame = parse_timeframe(timeframe)
        since = None if start == "max" else _moment(start, self._now(), is_end=False)
        until = _moment(end, self._now(), is_end=True)
        stored = _empty() if force_download else await self._stored(contract, frame)
        bars = await self._completed(contract, frame, stored, since, until, use_rth)
        if since is not None:
            bars = bars[bars.index >= since]
        bars = bars[bars.index <= until]
        if bars.empty:
            raise NotFoundError(
                f"Neither ArcticDB nor IB has {frame.key} bars of {contract.symbol} there.", code="no_bars"
            )
        return bars

    async def _stored(self, contract: Contract, frame: Timeframe) -> pd.DataFrame:
        if self._ac is None:
            return _empty()
        listing = Listing(contract.conId, contract.symbol, contract.secType or "STK", contract.currency)
        said = await asyncio.to_thread(self._metadata, f"{listing.wish}_{frame.key}")
        name = listing.wish
        if said is not None and owner_of(said) not in (0, listing.con_id):
            name = await self._name_of(contract, listing, said)
        return await asyncio.to_thread(self._read, f"{name}_{frame.key}") if name else _empty()

    async def _name_of(self, contract: Contract, listing: Listing, said: Mapping[str, Any]) -> str:
        """Return the series of a contract whose ticker names a series that may be another's; empty without one.

        IB tells which contract is meant. Where it cannot be asked the currency decides: in one currency a ticker is
        hardly ever two stocks.
        """
        con_id = listing.con_id
        if not con_id and self._identify is not None:
            try:
                con_id = await self._identify(contract)
            except MatsError as error:
                logger.info("symbol=%s not identified reason=%s", listing.symbol, error.message)
        if con_id:
            return listing.wish if con_id == owner_of(said) else replace(listing, con_id=con_id).own
        return listing.wish if said.get("currency") == listing.currency else ""

    def _metadata(self, name: str) -> Mapping[str, Any] | None:
        """Return what a series says of itself, None when there is none."""
        found: Mapping[str, Any] | None = None
        if self._ac.has_symbol(LIBRARY, name):
            found = self._ac.metadata(LIBRARY, name)
        return found

    def _read(self, name: str) -> pd.DataFrame:
        return _shaped(self._ac.read(LIBRARY, name).data) if self._ac.has_symbol(LIBRARY, name) else _empty()

    async def _completed(
        self,
        contract: Contract,
        frame: Timeframe,
        stored: pd.DataFrame,
        since: datetime | None,
        until: datetime,
        use_rth: bool,
    ) -> pd.DataFrame:
        end = min(until, self._now())
        last = stored.index[-1].to_pydatetime() + frame.length if len(stored) else None
        wanted = max((moment for moment in (last, since) if moment is not None), default=end - frame.longest)
        if end - wanted < frame.length:
            return stored
        try:
            answer = await self._download(
                contract, frame.bar_size, _duration(end - wanted, frame), f"{end:%Y%m%d-%H:%M:%S}", use_rth
            )
        except MatsError:
            if stored.empty:
                raise
            logger.warning("symbol=%s timeframe=%s tail not completed by IB", contract.symbol, frame.key, exc_info=True)
            return stored
        import pandas as pd  # costs a second: web processes and most commands never need it

        fresh = _from_ib(answer)
        if last is not None:
            fresh = fresh[fresh.index >= last]
        return pd.concat([stored, fresh]) if len(stored) else fresh


def _duration(span: timedelta, frame: Timeframe) -> str:
    span = min(span, frame.longest)
    if span <= timedelta(days=1):
        return f"{max(30, math.ceil(span.total_seconds()))} S"
    return f"{span.days + 1} D" if span.days < 365 else f"{math.ceil(span.days / 365)} Y"


def _moment(value: str | date | datetime, now: datetime, *, is_end: bool) -> datetime:
    if value == "today":
        return now
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if len(value) > len("2020-01-01") else date.fromisoformat(value)
        except ValueError as error:
            raise ConfigError(f"{value!r} is not a date; write 2020-01-31, max or today.", code="bad_date") from error
    if not isinstance(value, datetime):
        return datetime.combine(value, time.max if is_end else time.min, UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _from_ib(bars: Any) -> pd.DataFrame:
    if not bars:
        return _empty()
    import pandas as pd

    index = pd.DatetimeIndex([pd.Timestamp(bar.date) for bar in bars])
    index = index.tz_localize(UTC) if index.tz is None else index.tz_convert(UTC)
    rows = [[bar.open, bar.high, bar.low, bar.close, float(bar.volume)] for bar in bars]
    return pd.DataFrame(rows, index=index.rename("ts"), columns=COLUMNS, dtype="float64")


def _shaped(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    frame = frame.rename(columns=str.lower)
    index = pd.DatetimeIndex(frame.index)
    frame.index = (index.tz_localize(UTC) if index.tz is None else index.tz_convert(UTC)).rename("ts")
    return frame[COLUMNS].astype("float64")


def _empty() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns=COLUMNS, index=pd.DatetimeIndex([], tz=UTC, name="ts"), dtype="float64")
