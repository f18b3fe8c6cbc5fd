"""Bars and universes for strategies: ArcticDB first, IB for what is missing.

Owns: what is read where, the top-up of a stale tail, slicing by dates. Leaves: names (``timeframes``), shapes and
requests (``bar_requests``), writing: what IB answers is handed to ``keep``, and only what joins on to the stored bars.
Rule: a frame has no hole that nobody asked for and never mixes prices before and after a split: when the store cannot
be completed without one of them, IB answers alone, or the strategy is told.
Bars of one contract are never completed by those of another that has its ticker (``series_names``).
Shape: frames indexed by the bar's start (UTC), float columns open, high, low, close, volume.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from strategies.bar_requests import COLUMNS, Download, empty_bars, fetch_bars, shaped
from strategies.exceptions import ConfigError, MatsError, NotFoundError
from strategies.series_names import Listing, is_own_name, owner_of
from strategies.timeframes import SERIES_SUFFIX, TIMEFRAMES, Timeframe, parse_timeframe

if TYPE_CHECKING:
    import pandas as pd
    from ib_async import Contract

__all__ = ["COLUMNS", "TIMEFRAMES", "BarReader", "Timeframe", "names_library", "parse_timeframe", "resolve_universe"]

logger = logging.getLogger(__name__)

LIBRARY = "market_data"
EARLIER = timedelta(days=5)  # weekends and holidays before the first stored bar are nothing that is missing
SAME_PRICE = 0.02  # fraction; IB revises a close by less, the smallest usual split moves it by more
_TICKER = re.compile(r"[A-Z][A-Z0-9. ]{0,11}", re.ASCII)

Keep = Callable[[str, str, "pd.DataFrame", bool, datetime | None, Listing], None]
"""Takes series, timeframe key, closed bars, whether of regular hours only, the stored bar that they join on to, and
whose bars they are."""

Identify = Callable[["Contract"], Awaitable[int]]
"""Returns the id of the contract that is meant."""


def names_library(universe: str) -> bool:
    """Tell whether a universe may name an ArcticDB library: one name that is not spelled like a ticker."""
    names = [part.strip() for part in universe.split(",") if part.strip()]
    return len(names) == 1 and not _TICKER.fullmatch(names[0])


def resolve_universe(ac: Any, universe: str) -> list[str]:
    """Return the symbols of a universe: one, a comma list, an ArcticDB library, or library/symbol. Blocking.

    Raises: NotFoundError when a library/symbol is not there; ConfigError when it has no column of symbols.
    """
    names = [part.strip() for part in universe.split(",") if part.strip()]
    if not names_library(universe):
        return list(dict.fromkeys(names))
    library, _, symbol = names[0].partition("/")
    if ac is None or library not in ac.list_libraries():
        return names
    if not symbol:
        stored = {SERIES_SUFFIX.sub("", name) for name in ac[library].list_symbols()}
        return sorted(name for name in stored if not is_own_name(name))
    if not ac.has_symbol(library, symbol):
        raise NotFoundError(f"ArcticDB has no universe {library}/{symbol}.", code="unknown_universe")
    frame = ac.read(library, symbol).data
    if "Symbol" not in frame:
        raise ConfigError(f"{library}/{symbol} has no column Symbol.", code="no_universe")
    return [str(name) for name in dict.fromkeys(frame["Symbol"])]


@dataclass(slots=True)
class _Stored:
    """What the store has: bars of the wanted dates, its first start, and its last one; None when it has none."""

    bars: pd.DataFrame
    first: datetime | None = None
    last: datetime | None = None
    close: float = 0.0


class BarReader:
    """Reads bars of one timeframe at a time; the store is read in a worker thread, IB on the caller's loop."""

    def __init__(
        self,
        ac: Any,
        download: Download,
        now: Callable[[], datetime],
        keep: Keep | None = None,
        identify: Identify | None = None,
    ) -> None:
        """``download`` asks IB for bars, ``identify`` for a contract's id; ``keep`` stores what IB answered."""
        self._ac = ac
        self._download = download
        self._now = now
        self._keep = keep
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

        Raises: ConfigError for a bad timeframe or date, or more than IB can be asked for at once; NotFoundError when
        no source has a bar.
        """
        frame = parse_timeframe(timeframe)
        since = None if start == "max" else moment_meant(start, self._now(), is_end=False)
        until = moment_meant(end, self._now(), is_end=True)
        stored, series = _Stored(empty_bars()), ""
        if not force_download and self._ac is not None:
            series = await self._series(contract, frame)
            if series:
                stored = await asyncio.to_thread(self._stored, series, frame, since, until, use_rth)
        ask = _Ask(contract, frame, since, until, use_rth, series)
        bars = await self._with_head(ask, stored, await self._completed(ask, stored))
        if since is not None:
            bars = bars[bars.index >= since]
        bars = bars[bars.index <= until]
        if bars.empty:
            raise NotFoundError(
                f"Neither ArcticDB nor IB has {frame.key} bars of {contract.symbol} there.", code="no_bars"
            )
        return bars

    async def _series(self, contract: Contract, frame: Timeframe) -> str:
        """Return the name of the series that answers for a contract; empty where none does."""
        listing = _listing(contract)
        said = await asyncio.to_thread(self._metadata, f"{listing.wish}_{frame.key}")
        if said is None or owner_of(said) in (0, listing.con_id):
            return listing.wish
        return await self._name_of(contract, listing, said)

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

    def _stored(self, series: str, frame: Timeframe, since: datetime | None, until: datetime, use_rth: bool) -> _Stored:
        key = f"{series}_{frame.key}"
        if not self._ac.has_symbol(LIBRARY, key):
            return _Stored(empty_bars())
        hours = self._ac.metadata(LIBRARY, key).get("use_rth", use_rth)
        if hours != use_rth:  # other bars than those that were asked for
            return _Stored(empty_bars())
        head, tail = (shaped(end(LIBRARY, key, 1).data) for end in (self._ac.head, self._ac.tail))
        if tail.empty:
            return _Stored(empty_bars())
        found = self._ac.read(LIBRARY, key, date_range=(since, until)).data
        first, last = head.index[0].to_pydatetime(), tail.index[-1].to_pydatetime()
        return _Stored(shaped(found), first, last, float(tail["close"].iloc[-1]))

    async def _completed(self, ask: _Ask, stored: _Stored) -> pd.DataFrame:
        end, length = min(ask.until, self._now()), ask.frame.length
        fresh_to = None if stored.last is None else stored.last + length
        if fresh_to is not None and end - max(fresh_to, ask.since or fresh_to) < length:
            return stored.bars
        joins = stored.last is not None and (ask.since is None or ask.since <= stored.last + length)
        begin = stored.last if joins else ask.since
        try:
            fresh = await fetch_bars(self._download, ask.contract, ask.frame, begin, end, ask.use_rth)
        except ConfigError:
            raise
        except MatsError:
            if stored.bars.empty:
                raise
            logger.warning(
                "symbol=%s timeframe=%s tail not completed by IB", ask.contract.symbol, ask.frame.key, exc_info=True
            )
            return stored.bars
        if not joins:
            if stored.last is None:
                await self._hand_over(ask, fresh, None)
            return fresh
        return await self._joined(ask, stored, fresh, end)

    async def _with_head(self, ask: _Ask, stored: _Stored, bars: pd.DataFrame) -> pd.DataFrame:
        """Put what lies before the store's first bar in front, when a strategy asked for so early a start."""
        if stored.first is None or ask.since is None or stored.first - ask.since <= EARLIER:
            return bars
        if not len(bars) or bars.index[0] > stored.first:  # IB alone answered
            return bars
        try:
            end = min(stored.first, ask.until)
            head = await fetch_bars(self._download, ask.contract, ask.frame, ask.since, end, ask.use_rth)
        except ConfigError:
            raise
        except MatsError as error:  # younger than the start, most often
            logger.warning(
                "symbol=%s timeframe=%s nothing before %s reason=%s",
                ask.contract.symbol, ask.frame.key, stored.first, error.message,
            )  # fmt: skip
            return bars
        import pandas as pd

        return pd.concat([head[head.index < stored.first], bars])

    async def _joined(self, ask: _Ask, stored: _Stored, fresh: pd.DataFrame, end: datetime) -> pd.DataFrame:
        import pandas as pd  # costs a second: web processes and most commands never need it

        if stored.last is not None and stored.last in fresh.index:
            close = float(fresh["close"].loc[pd.Timestamp(stored.last)])
            if abs(close - stored.close) > SAME_PRICE * abs(stored.close):
                logger.warning(
                    "symbol=%s timeframe=%s the last stored close is %s, IB says %s: a split? Record it with "
                    "«manage.py ingest_bars»; until then IB alone answers.",
                    ask.contract.symbol, ask.frame.key, stored.close, close,
                )  # fmt: skip
                return await fetch_bars(self._download, ask.contract, ask.frame, ask.since, end, ask.use_rth)
            await self._hand_over(ask, fresh[fresh.index > stored.last], stored.last)
        return pd.concat([stored.bars, fresh[fresh.index > stored.last]])

    async def _hand_over(self, ask: _Ask, bars: pd.DataFrame, after: datetime | None) -> None:
        """Have closed bars stored; a store that cannot take them is no reason to keep a strategy from trading."""
        newest = self._now() - ask.frame.length
        closed: pd.DataFrame = bars[bars.index <= newest]
        if self._keep is None or not ask.series or closed.empty:
            return
        try:
            con_id = ask.contract.conId or (await self._identify(ask.contract) if self._identify is not None else 0)
            if not con_id:  # of a ticker alone nobody could tell later whose bars they are
                return
            listing = replace(_listing(ask.contract), con_id=con_id)
            await asyncio.to_thread(self._keep, ask.series, ask.frame.key, closed, ask.use_rth, after, listing)
        except MatsError as error:
            logger.warning("symbol=%s bars not kept reason=%s", ask.contract.symbol, error.message)


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a strategy asked for."""

    contract: Contract
    frame: Timeframe
    since: datetime | None
    until: datetime
    use_rth: bool
    series: str  # empty: what IB answers is not stored


def _listing(contract: Contract) -> Listing:
    return Listing(contract.conId, contract.symbol, contract.secType or "STK", contract.currency)


def moment_meant(value: str | date | datetime, now: datetime, *, is_end: bool) -> datetime:
    """Return the moment that a strategy's start or end of bars means, aware UTC.

    Raises: ConfigError (bad_date).
    """
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
