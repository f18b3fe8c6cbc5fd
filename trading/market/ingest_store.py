"""Put bars and actions into ``market_data``: what is new is added, what is there stays, what differs is asked about.

Owns: comparing with what is stored, cutting into parcels, delivering them. Leaves: where bars come from (``importers``,
``ingest_ib``), writing (``portfolio.arctic.parcels``).
Rules: history is never replaced silently. A bar that is stored with the same numbers is left out; one with others is
refused with its place, unless the caller says ``keep`` or ``replace``. New bars behind the last one are appended, all
others are laid into their range together with what is stored there. Versions before stay in ArcticDB until compacted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from portfolio.arctic.client import ArcticClient, get_ac
from portfolio.arctic.market_data import ACTIONS, LIBRARY, read_bars, symbol_name
from portfolio.arctic.parcels import APPEND, JOIN, UPDATE, WRITE, deliver, submit
from portfolio.arctic.schema import BARS
from strategies.exceptions import ConfigError, ConflictError
from trading.market.adjustments import merge_actions, read_actions, rebase
from trading.market.handover import report_refused

REFUSE, KEEP, REPLACE = "refuse", "keep", "replace"
CONFLICTS = (REFUSE, KEEP, REPLACE)
DELIVER_S = 120.0
_SAME = 1e-9  # relative: what a float loses on its way through text
_LARGEST = 2_000_000  # bars of one parcel


@dataclass(frozen=True, slots=True)
class Put:
    """What became of some bars: how many were new, there already, and replaced; the version that holds them."""

    new: int = 0
    known: int = 0
    replaced: int = 0
    version: int | None = None

    def __add__(self, other: Put) -> Put:
        version = self.version if other.version is None else other.version
        return Put(self.new + other.new, self.known + other.known, self.replaced + other.replaced, version)


def store_bars(
    symbol: str,
    timeframe: str,
    bars: pd.DataFrame,
    metadata: Mapping[str, Any],
    *,
    source: str,
    on_conflict: str = REFUSE,
    timeout_s: float = DELIVER_S,
    client: ArcticClient | None = None,
    is_on_scale: bool = False,
) -> Put:
    """Add bars to a series, and wait until they are written.

    Shape: ``bars`` as ``importers`` gives them: sorted, each start once, prices as they were traded; ``is_on_scale``:
    with the same splits applied as the series' ``split_basis`` says.
    Raises: ConflictError (bars_differ) naming the first bar that is stored otherwise; ConfigError (other_hours,
    other_prices) when the series holds bars of other hours, or of bids and not of trades; TransientError when nobody
    writes them in time: they are written later.
    """
    if on_conflict not in CONFLICTS:
        raise ConfigError(
            f"«{on_conflict}» is no answer to a conflict; say {', '.join(CONFLICTS)}.", code="bad_conflict"
        )
    done = Put()
    for begin in range(0, len(bars), _LARGEST):
        part = bars.iloc[begin : begin + _LARGEST]
        done += _store(
            symbol,
            timeframe,
            part,
            {"source": source, **metadata},
            on_conflict,
            timeout_s,
            client or get_ac(),
            is_on_scale,
        )
    return done


def _store(
    symbol: str,
    timeframe: str,
    bars: pd.DataFrame,
    metadata: Mapping[str, Any],
    on_conflict: str,
    timeout_s: float,
    client: ArcticClient,
    is_on_scale: bool,
) -> Put:
    name, source = symbol_name(symbol, timeframe), str(metadata["source"])
    known = client.metadata(LIBRARY, name)
    _check_hours(name, known, metadata)
    if not is_on_scale:
        bars = on_scale(client, symbol, timeframe, bars)
    stored = read_bars(client, symbol, timeframe, start=_moment(bars.index[0]), end=_moment(bars.index[-1]))
    change = _compare(name, stored, bars, on_conflict)
    tags = {"symbol": symbol, "timeframe": timeframe, **metadata}
    last = pd.Timestamp(known["last"], tz="UTC") if known.get("last") else None
    behind, within = change.fresh, change.fresh.iloc[:0]
    if last is not None:
        behind, within = change.fresh[change.fresh.index > last], change.fresh[change.fresh.index <= last]
    version = None
    if len(within) or len(change.changed):
        laid = _laid(stored, pd.concat([within, change.changed]).sort_index())
        version = _send(name, laid, UPDATE, tags, source, timeout_s)
    if len(behind):
        join = {JOIN: 0 if last is None else last.value}
        version = _send(name, behind, APPEND, {**tags, **join}, source, timeout_s)
    return Put(len(change.fresh), change.known, len(change.changed), version)


def on_scale(client: ArcticClient, symbol: str, timeframe: str, bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars as they were traded on the scale of a series: with the splits applied that it has."""
    basis = client.metadata(LIBRARY, symbol_name(symbol, timeframe)).get("split_basis")
    if not basis:
        return bars
    return rebase(bars, read_actions(client, symbol), timeframe, None, pd.Timestamp(basis).date())


def _check_hours(name: str, known: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    has, wants = known.get("use_rth"), metadata.get("use_rth")
    if has is not None and wants is not None and has != wants:
        words = {True: "only regular hours", False: "all hours"}
        raise ConfigError(
            f"{name} holds {words[bool(has)]}, these bars are of {words[bool(wants)]}: they do not belong together.",
            code="other_hours",
        )
    had, now = known.get("what"), metadata.get("what")
    if had is not None and now is not None and had != now:
        raise ConfigError(
            f"{name} holds {had}, these bars are {now}: they do not belong together.", code="other_prices"
        )


@dataclass(frozen=True, slots=True)
class _Change:
    fresh: pd.DataFrame
    changed: pd.DataFrame
    known: int


def _compare(name: str, stored: pd.DataFrame, bars: pd.DataFrame, on_conflict: str) -> _Change:
    common = bars.index.intersection(stored.index)
    fresh = bars[~bars.index.isin(common)]
    if not len(common):
        return _Change(fresh, bars.iloc[:0], 0)
    ours, theirs = stored.loc[common, list(BARS)].to_numpy(), bars.loc[common, list(BARS)].to_numpy()
    differ = ~np.isclose(ours, theirs, rtol=_SAME, atol=0).all(axis=1)
    if differ.any() and on_conflict == REFUSE:
        place = int(np.flatnonzero(differ)[0])
        column = int(np.flatnonzero(~np.isclose(ours[place], theirs[place], rtol=_SAME, atol=0))[0])
        raise ConflictError(
            f"{name}: the bar of {common[place]:%Y-%m-%d %H:%M:%S}Z is stored with {list(BARS)[column]} "
            f"{ours[place][column]:.10g}, here it is {theirs[place][column]:.10g}; {int(differ.sum())} of "
            f"{len(common)} bars that both have differ. Nothing was changed. Say --on-conflict keep or "
            "replace if you mean one.",
            code="bars_differ",
            count=int(differ.sum()),
        )
    changed = bars.loc[common[differ]] if on_conflict == REPLACE else bars.iloc[:0]
    return _Change(fresh, changed, len(common) - len(changed))


def _laid(stored: pd.DataFrame, news: pd.DataFrame) -> pd.DataFrame:
    """Return what the range of the new bars holds afterwards: an update replaces all of its range."""
    rest = stored[(stored.index >= news.index[0]) & (stored.index <= news.index[-1]) & ~stored.index.isin(news.index)]
    found = pd.concat([rest[list(BARS)], news[list(BARS)]]).sort_index()
    return found.set_axis(pd.DatetimeIndex(found.index).as_unit("ns").rename("ts"), axis=0)


def _send(
    name: str, frame: pd.DataFrame, mode: str, metadata: Mapping[str, Any], source: str, timeout_s: float
) -> int | None:
    parcel = submit(LIBRARY, name, frame[list(BARS)], mode=mode, metadata=metadata, source=source)
    return deliver(parcel, timeout_s, report_refused)


def store_actions(symbol: str, actions: pd.DataFrame, *, source: str, client: ArcticClient | None = None) -> int | None:
    """Add splits and dividends to a symbol's, and wait until they are written; the newer word on a day counts.

    The whole small table is written anew; its versions before stay readable.
    """
    if actions.empty:
        return None
    merged = merge_actions(read_actions(client or get_ac(), symbol), actions)
    name = symbol_name(symbol, ACTIONS)
    parcel = submit(LIBRARY, name, merged, mode=WRITE, metadata={"symbol": symbol}, source=source)
    return deliver(parcel, DELIVER_S, report_refused)


def _moment(stamp: pd.Timestamp) -> datetime:
    return stamp.to_pydatetime()
