"""One page of bars from IB: asked for, cut to what is over, brought to the scale of the series that it is for.

Owns: what is asked and what of the answer counts. Leaves: the way through time (``ingest_ib``, ``ingest_gaps``),
waiting and asking again (``ingest_line``).
Source: IB's pages on historical bars; TRADES have splits applied up to the day of the request, dividends not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from ib_async import Contract

from portfolio.arctic.client import ArcticClient
from strategies.bar_requests import bars_of, duration_text, ib_moment
from strategies.timeframes import DAY, Timeframe
from trading.market.adjustments import read_actions, rebase
from trading.market.ingest_line import EMPTY, IngestLine


@dataclass(frozen=True, slots=True)
class IbPages:
    """Asks for pages of one kind of bars. Runs on the line's loop."""

    line: IngestLine
    frame: Timeframe
    what: str
    use_rth: bool
    client: ArcticClient
    now: Callable[[], datetime]

    async def bars(self, contract: Contract, begin: datetime, end: datetime) -> pd.DataFrame:
        """Ask for the bars that start in [begin, end); only those that are over.

        Raises: TransientError after some tries.
        """
        # A day's bar ends with its day: asked for up to this moment, the one under way comes along and is dropped.
        until = end if self.frame.is_intraday else min(end + DAY, self.now())
        duration = duration_text(until - begin, self.frame)
        answer = await self.line.bars(
            contract, ib_moment(until), duration, self.frame.bar_size, self.what, self.use_rth
        )
        if answer is EMPTY:
            return bars_of([], self.frame)
        bars = bars_of(answer, self.frame)
        newest = pd.Timestamp(self.now() - self.frame.length)
        return bars[(bars.index <= newest) & (bars.index >= begin) & (bars.index < end)]

    def on_scale(self, bars: pd.DataFrame, series: str, known: Mapping[str, Any]) -> pd.DataFrame:
        """Take splits back out that IB applied and the series has not; ``known`` is its metadata, empty for a new one.

        Reads the store.
        """
        basis = known.get("split_basis", f"{self.now():%Y-%m-%d}" if not known else None)
        has = pd.Timestamp(basis).date() if basis else None
        actions = read_actions(self.client, series)
        return rebase(bars, actions, self.frame.key, self.now().date(), has)
