"""Fill the gaps of stored series, and nothing else: from IB page by page, or from a file.

Owns: the way through the gaps, what is said of those that stay. Leaves: which there are and what fits in (``holes``),
one answer (``ingest_pages``), storing (``ingest_store``), the connection (``ingest_line``).
Rules: each page is stored before the next is asked for, so a run that was stopped or killed goes on where it was. A
stretch that IB answered about is not asked for again, unless that is wished: a minute without a trade has no bar. Bars
that are stored are never changed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from ib_async import Contract

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import LIBRARY, read_bars
from strategies.bar_series import Nanos, moment_of
from strategies.exceptions import ConfigError, ConflictError
from strategies.series_names import owner_of
from trading.market.catalog import starts_of
from trading.market.holes import AskedBefore, Lacking, Stretch, bars_for, cut_into_pages
from trading.market.importers import Imported
from trading.market.ingest_ib import IbDone, ShouldStop
from trading.market.ingest_line import IngestLine
from trading.market.ingest_pages import IbPages
from trading.market.ingest_progress import Meter
from trading.market.ingest_store import KEEP, Put, on_scale, store_bars
from trading.orders.db_threads import in_db_thread

SURE_AFTER = timedelta(days=2)
"""What IB lacks of days before is not coming any more; younger gaps are asked for in every run."""


@dataclass(slots=True)
class IbGaps:
    """Fills the gaps of one series from IB. Runs on the line's loop."""

    line: IngestLine
    lacking: Lacking
    meter: Meter
    should_stop: ShouldStop
    asked: AskedBefore
    client: ArcticClient
    ask_again: bool = False
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    done: IbDone = field(init=False)
    _pages: IbPages = field(init=False)
    _contract: Contract = field(init=False)
    _uncompared: int = 0

    def __post_init__(self) -> None:
        lacking = self.lacking
        self.done = IbDone(lacking.series, lacking.frame.key)
        hours = bool(lacking.known.get("use_rth", True))
        self._pages = IbPages(self.line, lacking.frame, _what(lacking.known), hours, self.client, self.now)

    async def run(self) -> IbDone:
        """Ask for what is missing; what was stored before a stop or an error stays.

        Raises: NotFoundError for an unknown contract, ConflictError (history_changed, other_contract), TransientError.
        """
        lacking = self.lacking
        gaps = [Stretch(gap.first_ns, gap.last_ns) for gap in lacking.gaps]
        left = gaps if self.ask_again else self.asked.left(lacking.name, lacking.gaps, lacking.frame)
        pages = cut_into_pages(left, lacking.frame)
        self.meter.begin(lacking.series, sum(_seconds(page) for page in pages))
        if pages:
            self._contract = await self.line.qualify(_contract_of(lacking))
            for page in pages:
                if self.should_stop():
                    break
                await self._fill(page)
        self.done.is_whole = not self.should_stop()
        self.done.notes += await in_db_thread(self._notes, len(left))
        self.meter.end_series()
        return self.done

    async def _fill(self, page: list[Stretch]) -> None:
        before, after = await in_db_thread(self._edges, page)
        length = self.lacking.frame.length
        begin, end = moment_of(page[0].first_ns), moment_of(page[-1].last_ns) + length
        room = self.lacking.frame.longest - (end - begin)
        if begin - before <= room:
            begin, room = before, room - (begin - before)
        if after + length - end <= room:
            end = after + length
        answer = await self._ask(begin, end)
        stored = await in_db_thread(self._stored, before, after)
        found, unknown = bars_for(self.lacking.name, page, answer, stored)
        if unknown and len(answer):  # the bar before is farther away than one page reaches
            answer = pd.concat([await self._ask(before, before + length), answer])
            found, unknown = bars_for(self.lacking.name, page, answer, stored)
        self._uncompared += unknown
        if len(found):
            self.done.take(await in_db_thread(self._put, found))
            first, last = found.index[0].to_pydatetime(), found.index[-1].to_pydatetime()
            self.done.first = min(first, self.done.first or first)
            self.done.last = max(last, self.done.last or last)
        if not unknown:
            self._remember(page)
        self.meter.add(_seconds(page), len(found))

    def _edges(self, page: list[Stretch]) -> tuple[datetime, datetime]:
        """Return the stored bars before and after a page; gaps lie between stored bars, so both are there."""
        starts = starts_of(self.client, LIBRARY, self.lacking.name)
        before, after = starts[starts < page[0].first_ns], starts[starts > page[-1].last_ns]
        return moment_of(int(before[-1])), moment_of(int(after[0]))

    def _stored(self, before: datetime, after: datetime) -> pd.DataFrame:
        return read_bars(self.client, self.lacking.series, self.lacking.frame.key, start=before, end=after)

    async def _ask(self, begin: datetime, end: datetime) -> pd.DataFrame:
        self.done.requests += 1
        bars = await self._pages.bars(self._contract, begin, end)
        return await in_db_thread(self._pages.on_scale, bars, self.lacking.series, self.lacking.known)

    def _put(self, bars: pd.DataFrame) -> Put:
        lacking = self.lacking
        return store_bars(
            lacking.series, lacking.frame.key, bars, _tags(lacking, "ib"), source="ib", on_conflict=KEEP,
            client=self.client, is_on_scale=True,
        )  # fmt: skip

    def _remember(self, page: list[Stretch]) -> None:
        for one in page:
            if moment_of(one.last_ns) < self.now() - SURE_AFTER:
                self.asked.add(self.lacking.name, one)

    def _notes(self, asked_for: int) -> list[str]:
        notes = [_outcome(self.lacking, starts_of(self.client, LIBRARY, self.lacking.name))]
        if not asked_for:
            notes.append("IB was asked for all of it before and has no bars there; --ask-again asks once more.")
        if self._uncompared:
            notes.append(f"{self._uncompared:,} gaps were left: IB has no bar beside them that could be compared.")
        return notes


def _seconds(page: Sequence[Stretch]) -> float:
    return sum((one.last_ns - one.first_ns) / 1e9 + 1 for one in page)


def _what(known: dict[str, Any]) -> str:
    return str(known.get("what") or ("MIDPOINT" if known.get("sec_type") == "CASH" else "TRADES"))


def _contract_of(lacking: Lacking) -> Contract:
    """Return the contract whose bars a series has: the one that it names, else the US stock of its ticker."""
    con_id, sec_type = owner_of(lacking.known), str(lacking.known.get("sec_type", "STK"))
    exchange = {"STK": "SMART", "CASH": "IDEALPRO"}.get(sec_type, "")
    if con_id:
        return Contract(conId=con_id, exchange=exchange)
    if sec_type == "STK":
        return Contract(secType="STK", symbol=lacking.series, exchange="SMART", currency="USD")
    raise ConfigError(
        f"{lacking.name} does not say which contract it is of; download it once, then its gaps can be filled.",
        code="unknown_contract",
    )


def _tags(lacking: Lacking, source: str) -> dict[str, Any]:
    """Return what the series says of itself, so that filling gaps changes nothing of it, and who filled them."""
    kept = ("con_id", "sec_type", "currency", "use_rth", "calendar", "what", "source")
    return {
        "source": source,
        **{name: lacking.known[name] for name in kept if name in lacking.known},
        "gaps_from": source,
    }


def _outcome(lacking: Lacking, starts: Nanos) -> str:
    """Say how many of the missing bars are still missing."""
    before = lacking.missing
    there = sum(int(((starts >= gap.first_ns) & (starts <= gap.last_ns)).sum()) for gap in lacking.gaps)
    return f"{before:,} bars were missing in {len(lacking.gaps):,} gaps, {max(0, before - there):,} still are."


def fill_from_file(one: Imported, lacking: Lacking, client: ArcticClient, file: str) -> tuple[Put, list[str]]:
    """Take from a file the bars that lie in the gaps of a series.

    Raises: ConflictError (history_changed) when the file says another price of a bar beside a gap.
    """
    bars = on_scale(client, lacking.series, lacking.frame.key, one.bars)
    first, last = moment_of(lacking.gaps[0].first_ns), moment_of(lacking.gaps[-1].last_ns)
    starts = starts_of(client, LIBRARY, lacking.name)
    before, after = starts[starts < lacking.gaps[0].first_ns], starts[starts > lacking.gaps[-1].last_ns]
    if not len(before) or not len(after):
        raise ConflictError(f"{lacking.name} changed from {first} to {last} meanwhile; run this again.", code="changed")
    stored = read_bars(
        client, lacking.series, lacking.frame.key, start=moment_of(int(before[-1])), end=moment_of(int(after[0]))
    )
    gaps = [Stretch(gap.first_ns, gap.last_ns) for gap in lacking.gaps]
    found, unknown = bars_for(lacking.name, gaps, bars, stored)
    put = Put()
    if len(found):
        put = store_bars(
            lacking.series, lacking.frame.key, found, _tags(lacking, file), source=file, on_conflict=KEEP,
            client=client, is_on_scale=True,
        )  # fmt: skip
    notes = [*one.notes, _outcome(lacking, starts_of(client, LIBRARY, lacking.name))]
    if unknown:
        notes.append(f"{unknown:,} gaps were left: the file has no bar beside them that could be compared.")
    return put, notes
