"""What the parts of a session's configuration must agree on; each rule names the place that breaks it.

Leaves: the parts by themselves (``session_parts``). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from strategies.exceptions import MatsError
from strategies.intervals import parse_interval
from trading.market.indicators.registry import make_request
from trading.market.session_parts import (
    HistoricalIndicator,
    Mode,
    ScannerConfig,
    ScanWindow,
    SessionConfig,
    SessionIndicator,
)

Problems = Iterator[tuple[str, str]]
_DATA = "session_data_config"


def problems_of(config: SessionConfig) -> dict[str, str]:
    """Return every broken rule by its place; nothing when all hold."""
    found: dict[str, str] = {}
    for rule in _RULES:
        for place, reason in rule(config):
            found.setdefault(place, reason)
    return found


def base_interval(streams: Sequence[str]) -> str:
    """Return the interval that is streamed; all others are derived from it.

    Minutes are cut from 1m and days from 1d. Of seconds the finest is streamed itself: neither IB nor the store has
    bars of one second.
    """
    finest = min((parse_interval(text) for text in streams), key=lambda one: one.seconds)
    return finest.text if finest.unit == "s" else finest.base


def _exchange(config: SessionConfig) -> Problems:
    if config.exchange_group != "US_EQUITY":
        from trading.market.calendars import group_of  # loads the calendars, which takes a second

        try:
            group_of(config.exchange_group)
        except MatsError as error:
            yield "exchange_group", error.message


def _mode(config: SessionConfig) -> Problems:
    backtest = config.backtest_config
    if config.mode is Mode.BACKTEST and backtest is None:
        yield "backtest_config", "A backtest needs start_date and end_date."
    if backtest is not None and backtest.end_date < backtest.start_date:
        yield "backtest_config.end_date", f"{backtest.end_date} comes before start_date {backtest.start_date}."
    if config.mode is Mode.BACKTEST:
        for name in ("data_api", "trade_api"):
            if getattr(config.api_config, name) == "ib":
                yield f"api_config.{name}", "A backtest reads stored bars and simulates fills; leave it empty or sim."
    else:
        for name in ("data_api", "trade_api"):
            if getattr(config.api_config, name) == "sim":
                yield f"api_config.{name}", "A live session is IB's; to simulate use the mode backtest."


def _symbols(config: SessionConfig) -> Problems:
    data = config.session_data_config
    yield from _twice(f"{_DATA}.symbols", data.symbols)
    if not data.symbols and not any(scanner.enabled for scanner in data.scanners):
        yield f"{_DATA}.symbols", "A session needs a symbol, or a scanner that finds some."
    for place, series in enumerate(data.historical.data):
        here = f"{_DATA}.historical.data[{place}]"
        yield from _twice(f"{here}.intervals", series.intervals)
        if isinstance(series.apply_to, list):
            yield from _twice(f"{here}.apply_to", series.apply_to)
            for number, symbol in enumerate(series.apply_to):
                if symbol not in data.symbols:
                    yield f"{here}.apply_to[{number}]", f"{symbol} is not one of the session's symbols."


def _streams(config: SessionConfig) -> Problems:
    streams = config.session_data_config.streams
    yield from _twice(f"{_DATA}.streams", streams)
    if not any(parse_interval(text).is_intraday for text in streams):
        yield f"{_DATA}.streams", "A session streams bars within the day: add 1m."
        return
    base = parse_interval(base_interval(streams))
    for place, text in enumerate(streams):
        if parse_interval(text).seconds % base.seconds:
            yield f"{_DATA}.streams[{place}]", f"{text} cannot be cut from bars of {base.text}."


def _indicators(config: SessionConfig) -> Problems:
    data = config.session_data_config
    for kind, listed in (("session", data.indicators.session), ("historical", data.indicators.historical)):
        here = f"{_DATA}.indicators.{kind}"
        yield from _twice_keys(here, listed)
        yield from _requests(here, listed)
    known = {*data.streams, base_interval(data.streams)}
    for place, one in enumerate(data.indicators.session):
        if one.interval not in known:
            where = f"{_DATA}.indicators.session[{place}].interval"
            yield where, f"{one.interval} is not streamed; streams are {', '.join(sorted(known))}."


def _requests(here: str, listed: Sequence[SessionIndicator]) -> Problems:
    for place, one in enumerate(listed):
        unit = one.unit if isinstance(one, HistoricalIndicator) else None
        try:
            make_request(one.name, one.interval, one.period, one.params, unit=unit)
        except MatsError as error:
            yield f"{here}[{place}]", error.message


def _twice_keys(here: str, listed: Sequence[SessionIndicator]) -> Problems:
    seen: dict[str, int] = {}
    for place, one in enumerate(listed):
        if one.key in seen:
            yield f"{here}[{place}]", f"{one.key} is there already, as number {seen[one.key]}."
        seen.setdefault(one.key, place)


def _strategies(config: SessionConfig) -> Problems:
    seen: dict[str, int] = {}
    for place, entry in enumerate(config.session_data_config.strategies):
        name = entry.module.rpartition(".")[2]
        if name in seen:
            reason = f"{name} is there already, as number {seen[name]}; a session runs a strategy once."
            yield f"{_DATA}.strategies[{place}].module", reason
        seen.setdefault(name, place)


def _scanners(config: SessionConfig) -> Problems:
    seen: dict[str, int] = {}
    for place, scanner in enumerate(config.session_data_config.scanners):
        here = f"{_DATA}.scanners[{place}]"
        if scanner.name in seen:
            yield f"{here}.module", f"{scanner.name} is there already, as number {seen[scanner.name]}."
        seen.setdefault(scanner.name, place)
        yield from _schedule(here, scanner)


def _schedule(here: str, scanner: ScannerConfig) -> Problems:
    if scanner.enabled and not scanner.pre_session and not scanner.regular_session:
        yield here, "It never scans: set pre_session, or give regular_session a window."
    for place, window in enumerate(scanner.regular_session):
        where = f"{here}.regular_session[{place}]"
        if window.end < window.start:
            yield f"{where}.end", f"{window.end:%H:%M} comes before start {window.start:%H:%M}."
    ordered = sorted(enumerate(scanner.regular_session), key=lambda item: item[1].start)
    for (before, earlier), (place, later) in pairwise(ordered):
        if _overlap(earlier, later):
            reason = f"It overlaps number {before}, {earlier.start:%H:%M} to {earlier.end:%H:%M}."
            yield f"{here}.regular_session[{place}]", reason


def _overlap(earlier: ScanWindow, later: ScanWindow) -> bool:
    return later.start <= earlier.end


def _limits(config: SessionConfig) -> Problems:
    limits = config.trading_config
    for name in ("max_per_trade", "max_per_symbol"):
        value = getattr(limits, name)
        if value > limits.max_buying_power:
            yield f"trading_config.{name}", f"{value} is more than max_buying_power {limits.max_buying_power}."
    if limits.max_per_trade > limits.max_per_symbol:
        yield (
            "trading_config.max_per_trade",
            f"{limits.max_per_trade} is more than max_per_symbol {limits.max_per_symbol}.",
        )


def _twice(here: str, values: Sequence[str]) -> Problems:
    seen: set[str] = set()
    for place, value in enumerate(values):
        if value in seen:
            yield f"{here}[{place}]", f"{value} is there already."
        seen.add(value)


_RULES: tuple[Callable[[SessionConfig], Problems], ...] = (
    _mode,
    _exchange,
    _symbols,
    _streams,
    _indicators,
    _strategies,
    _scanners,
    _limits,
)
