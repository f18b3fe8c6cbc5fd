"""Stored bars of a stock by its contract, for the replay of a day.

Owns: which series is whose, versions of what was read. Leaves: what is made of it (``shadow_bars``).
Rule: a series that names another contract is never read; one that names none was imported by hand, and stands in.
"""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from portfolio.arctic.client import get_ac
from portfolio.arctic.market_data import series_of, symbol_name
from portfolio.models import Instrument
from strategies.bar_series import FIELDS, Bar
from strategies.series_names import Listing, owner_of
from strategies.timeframes import TIMEFRAMES
from trading.market.adjustments import read_adjusted

LIBRARY = "market_data"


class StoredBars:
    """Reads series; ``versions`` and ``notes`` say afterwards what was read and what a reader must know of it."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.notes: list[str] = []
        self._names: dict[str, str] = {}

    def read(self, symbol: str, timeframe: str, first: datetime, until: datetime) -> list[Bar]:
        """Return the bars that begin in a span, splits applied; none where there is no such series."""
        client, name = get_ac(), self._name(symbol)
        stored = symbol_name(name, timeframe)
        if not client.has_symbol(LIBRARY, stored):
            return []
        self.versions[stored] = f"v{client.read(LIBRARY, stored, row_range=(0, 0)).version}"
        frame = read_adjusted(client, name, timeframe, start=first, end=until)
        starts = pd.DatetimeIndex(frame.index).as_unit("ns").astype("int64").to_numpy()
        columns = [frame[field].to_numpy(dtype="float64").tolist() for field in FIELDS]
        return [Bar(start, *row) for start, row in zip(starts.tolist(), zip(*columns, strict=True), strict=True)]

    def _name(self, symbol: str) -> str:
        found = self._names.get(symbol)
        if found is None:
            found = self._names[symbol] = self._find_name(symbol)
        return found

    def _find_name(self, symbol: str) -> str:
        row = Instrument.objects.filter(symbol=symbol, sec_type="STK").order_by("con_id").first()
        if row is None:
            return symbol
        client = get_ac()
        name = series_of(client, Listing(row.con_id, row.symbol, row.sec_type, row.currency))
        if name == symbol or any(client.has_symbol(LIBRARY, symbol_name(name, key)) for key in TIMEFRAMES):
            return name
        stored = [one for key in TIMEFRAMES if client.has_symbol(LIBRARY, one := symbol_name(symbol, key))]
        if not stored or any(owner_of(client.metadata(LIBRARY, one)) for one in stored):
            return name
        self.notes.append(f"{', '.join(stored)} came by hand: of which contract the bars are is not on record.")
        return symbol
