"""Splits and dividends: stored beside raw bars, found in adjusted closes, applied when bars are read.

Owns: the arithmetic, and reading a series adjusted. Leaves: storing (``ingest_store``), reading files (``importers``).
Rules: bars are stored as they were traded and stay so; what is adjusted is made at each read, so that a split that is
learnt later changes nothing that is stored. Prices are brought to the scale of the series' last bar: before a split of
``ratio`` new shares for one old they are divided by it, and volumes multiplied; before the ex-date of a dividend they
are multiplied by 1 − amount / (last close before it). A source that applied splits itself says up to which day
(``split_basis`` in the metadata); those are not applied again.
Shape: actions are indexed by ex-date, 00:00 UTC, with ``ratio``, ``amount`` (NaN where there is none) and ``source``.
Source: the CRSP and Yahoo conventions of adjusted closes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolio.arctic.market_data import ACTIONS, LIBRARY, read_bars, split_name, symbol_name
from portfolio.arctic.schema import ACTIONS as ACTION_COLUMNS
from strategies.exceptions import ConfigError
from strategies.timeframes import DAY, TIMEFRAMES
from trading.market.frames import nanos_of_index

if TYPE_CHECKING:
    from portfolio.arctic.client import ArcticClient

Floats = npt.NDArray[np.float64]
NEW_YORK = "America/New_York"
PRICES = ["open", "high", "low", "close"]


def empty_actions() -> pd.DataFrame:
    """Return no actions."""
    index = pd.DatetimeIndex([], tz="UTC", name="ts").as_unit("ns")
    return pd.DataFrame({"ratio": [], "amount": [], "source": []}, index=index).astype(
        {"ratio": "float64", "amount": "float64", "source": object}
    )


def action_frame(splits: Mapping[date, float], dividends: Mapping[date, float], source: str) -> pd.DataFrame:
    """Return actions as they are stored, one row a day.

    Raises: ConfigError (bad_action) for a ratio or amount that cannot be.
    """
    for what, values in (("split", splits), ("dividend", dividends)):
        for day, value in values.items():
            if not (np.isfinite(value) and value > 0):
                raise ConfigError(f"The {what} of {day} is {value}; it must be above 0.", code="bad_action")
    days = sorted({*splits, *dividends})
    index = pd.DatetimeIndex([pd.Timestamp(day) for day in days], name="ts").tz_localize("UTC").as_unit("ns")
    rows = {
        "ratio": [splits.get(day, np.nan) for day in days],
        "amount": [dividends.get(day, np.nan) for day in days],
        "source": [source] * len(days),
    }
    return pd.DataFrame(rows, index=index).astype(
        {name: "object" if kind == "str" else kind for name, kind in ACTION_COLUMNS.items()}
    )


def merge_actions(known: pd.DataFrame, news: pd.DataFrame) -> pd.DataFrame:
    """Return both; of a day that both know the newer word counts where it says something."""
    merged = news.combine_first(known) if len(known) else news
    return merged.sort_index()[list(ACTION_COLUMNS)]


def read_actions(client: ArcticClient, symbol: str) -> pd.DataFrame:
    """Return the stored actions of a symbol, none when there are none."""
    name = symbol_name(symbol, ACTIONS)
    if not client.has_symbol(LIBRARY, name):
        return empty_actions()
    found: pd.DataFrame = client.read(LIBRARY, name).data
    return found


def read_adjusted(
    client: ArcticClient,
    symbol: str,
    timeframe: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    dividends: bool = False,
) -> pd.DataFrame:
    """Read bars that start in [start, end] with splits applied, and dividends too when asked for.

    Shape: as ``read_bars``. The scale is that of the series' last bar, whatever part is read.
    Raises: ConfigError for weekly bars: the week of a split has both scales in it, adjust days and join them.
    """
    if TIMEFRAMES[timeframe].length > DAY:
        raise ConfigError(f"{timeframe} bars cannot be adjusted; adjust 1_day bars and join them.", code="not_adjusted")
    bars = read_bars(client, symbol, timeframe, start=start, end=end)
    actions = read_actions(client, symbol)
    if bars.empty or actions.empty:
        return bars
    name = symbol_name(symbol, timeframe)
    closes = client.read(LIBRARY, name, columns=["close"]).data["close"]
    steps = Steps.of(closes, actions, timeframe, client.metadata(LIBRARY, name), dividends=dividends)
    return steps.apply(bars)


class Steps:
    """From which moment back which factor holds: sorted moments with the factors of prices and of volumes."""

    def __init__(self, moments: npt.NDArray[np.int64], prices: Floats, volumes: Floats) -> None:
        self._moments = moments
        # Of everything after a moment: the product from the end.
        self._prices = np.append(np.cumprod(prices[::-1])[::-1], 1.0)
        self._volumes = np.append(np.cumprod(volumes[::-1])[::-1], 1.0)

    @classmethod
    def of(
        cls,
        closes: pd.Series[float],
        actions: pd.DataFrame,
        timeframe: str,
        metadata: Mapping[str, Any],
        *,
        dividends: bool,
    ) -> Steps:
        """Return the steps of a series that has these closes, with the stored ``metadata``."""
        starts, values = nanos_of_index(closes.index), closes.to_numpy(dtype="float64")
        zone = str(metadata.get("zone", NEW_YORK))
        actions = actions[cutoffs(actions.index, timeframe, zone) <= starts[-1]]  # later ones are on no bar's scale yet
        basis = _day(metadata.get("split_basis"))
        cuts = cutoffs(actions.index, timeframe, zone)
        ratios = actions["ratio"].fillna(1.0).to_numpy(dtype="float64")
        applied = np.array([basis is not None and day <= basis for day in actions.index], dtype=bool)
        splits = np.where(applied, 1.0, ratios)
        prices, before = 1.0 / splits, np.searchsorted(starts, cuts)
        if dividends:
            amounts = actions["amount"].fillna(0.0).to_numpy(dtype="float64")
            for row in np.flatnonzero(amounts > 0):
                if before[row]:
                    scale = ratios[row] / float(np.prod(ratios[row:][applied[row:]]))
                    last = values[before[row] - 1] / scale  # as it was traded, in shares of the ex-date
                    prices[row] *= 1.0 - amounts[row] / last
        return cls(cuts, prices, splits)

    def apply(self, bars: pd.DataFrame) -> pd.DataFrame:
        """Return bars with prices and volumes on the scale of the end."""
        places = np.searchsorted(self._moments, nanos_of_index(bars.index), side="right")
        found = bars.copy()
        for name in PRICES:
            found[name] = bars[name] * self._prices[places]
        found["volume"] = bars["volume"] * self._volumes[places]
        return found


def rebase(
    bars: pd.DataFrame,
    actions: pd.DataFrame,
    timeframe: str,
    has: date | None,
    wanted: date | None,
    zone: str = NEW_YORK,
) -> pd.DataFrame:
    """Return bars of a source that had applied splits up to the day ``has`` as one that did so up to ``wanted``.

    None is «as they were traded».
    """
    if has == wanted or actions.empty:
        return bars
    days = [stamp.date() for stamp in actions.index]
    ratios = actions["ratio"].fillna(1.0).to_numpy(dtype="float64")
    undone = np.array([has is not None and day <= has and (wanted is None or day > wanted) for day in days])
    done = np.array([wanted is not None and day <= wanted and (has is None or day > has) for day in days])
    factors = np.where(done, 1.0 / ratios, np.where(undone, ratios, 1.0))
    return Steps(cutoffs(actions.index, timeframe, zone), factors, 1.0 / factors).apply(bars)


def cutoffs(days: pd.Index[Any], timeframe: str, zone: str) -> npt.NDArray[np.int64]:
    """Return the moments from which bars are of each ex-date or later: local midnight, for daily bars their own."""
    found = pd.DatetimeIndex(days)
    if TIMEFRAMES[timeframe].is_intraday:
        found = found.tz_localize(None).tz_localize(zone).tz_convert("UTC")
    return nanos_of_index(found)


def _day(text: str | None) -> pd.Timestamp | None:
    return None if not text else pd.Timestamp(text, tz="UTC")


def series_with_actions(client: ArcticClient) -> list[str]:
    """Return the symbols that have actions stored."""
    split = (split_name(name) for name in client.list_symbols(LIBRARY))
    return sorted(found[0] for found in split if found is not None and found[1] == ACTIONS)
