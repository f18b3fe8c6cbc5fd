"""The venue's market data beyond quotes and bars: entitlements, option figures, single ticks, scans, schedules.

Owns: these queries of ``model.Venue``; ``exchange.Exchange`` inherits them.
Leaves: orders and account (``exchange``), the arithmetic (``option_model``, ``market_ticks``, ``market_scanner``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from trading.gateway import hours, option_model
from trading.gateway.instrument import Instrument
from trading.gateway.instruments import InstrumentTable
from trading.gateway.market import Market
from trading.gateway.market_derived import Option
from trading.gateway.market_entitlements import Subscriptions
from trading.gateway.market_scanner import run_scan
from trading.gateway.model import (
    ContractDetails,
    Entitlement,
    OptionChain,
    OptionFigures,
    RequestError,
    Scan,
    Tick,
    TickKind,
    TradingSession,
)
from trading.gateway.option_model import Greeks

NO_TRADES = "Historical Market Data Service error message:No historical market data for this instrument@"
_SCHEDULE_REACH = 20  # calendar days searched beyond those asked for


class VenueData:
    """Market data queries. Not thread-safe."""

    _table: InstrumentTable
    _market: Market
    _subscriptions: Subscriptions
    _competing = False

    def _touch(self, now: datetime) -> None:
        raise NotImplementedError

    def _details_of(self, instrument: Instrument) -> ContractDetails:
        raise NotImplementedError

    # who may see what

    def entitlement(self, con_id: int) -> Entitlement:
        """What the user has subscribed to for an instrument."""
        return self._subscriptions.of(self._table.get(con_id).contract)

    @property
    def competing(self) -> bool:
        """Whether the user is logged in elsewhere and the market data go there."""
        return self._competing

    def compete(self, elsewhere: bool) -> None:
        """Log the user in elsewhere, or out again."""
        self._competing = elsewhere

    def is_open(self, con_id: int, now: datetime) -> bool:
        """Tell whether an instrument trades."""
        self._touch(now)
        return self._market.is_open(con_id, now)

    # options

    def option_chains(self, con_id: int, exchange: str) -> Sequence[OptionChain]:
        """Expiries and strikes on an underlying."""
        return self._table.derivatives.chains(con_id, exchange)

    def option_figures(self, con_id: int, price: Decimal | None, now: datetime) -> OptionFigures | None:
        """An option's sensitivities at a price of it, None: at the model's."""
        self._touch(now)
        found = self._market.option(con_id, now)
        if found is None:
            return None
        option, underlying, years = found
        if price is None:
            return _figures(option_model.greeks(option.right, underlying, option.strike, years, option.volatility))
        return _implied(option, float(price), underlying, years)

    def implied_volatility(
        self, con_id: int, price: Decimal, underlying: Decimal, now: datetime
    ) -> OptionFigures | None:
        """The volatility behind a price, at a price of the underlying."""
        self._touch(now)
        found = self._market.option(con_id, now)
        return None if found is None else _implied(found[0], float(price), float(underlying), found[2])

    def option_price(self, con_id: int, volatility: float, underlying: Decimal, now: datetime) -> OptionFigures | None:
        """The price at a volatility and a price of the underlying."""
        self._touch(now)
        found = self._market.option(con_id, now)
        if found is None:
            return None
        option, _, years = found
        return _figures(option_model.greeks(option.right, float(underlying), option.strike, years, volatility))

    # single ticks

    def ticks(self, con_id: int, kind: TickKind, since: datetime, until: datetime) -> Sequence[Tick]:
        """Ticks in [since, until), oldest first."""
        self._touch(until)
        self._check_ticks(con_id, kind)
        return self._market.tick_source(con_id).between(kind, since, until)

    def past_ticks(
        self, con_id: int, kind: TickKind, *, start: datetime | None, end: datetime | None, count: int, use_rth: bool,
        now: datetime,
    ) -> Sequence[Tick]:  # fmt: skip
        """The first ``count`` ticks from ``start`` on, or the last before ``end``."""
        self._touch(now)
        self._check_ticks(con_id, kind)
        source = self._market.tick_source(con_id)
        if start is not None:
            return source.forward(kind, start, count, use_rth=use_rth, now=now)
        return source.backward(kind, min(end or now, now), count, use_rth=use_rth)

    def _check_ticks(self, con_id: int, kind: TickKind) -> None:
        sec_type = self._table.get(con_id).contract.sec_type
        wanting = {"CASH": TickKind.TRADES, "IND": TickKind.QUOTES}.get(sec_type)
        if kind is wanting:
            raise RequestError(162, f"{NO_TRADES}{kind}")

    # lists

    def scan(self, scan: Scan, now: datetime) -> Sequence[ContractDetails]:
        """Listed stocks, best first."""
        self._touch(now)
        found = run_scan(scan, self._table, lambda con_id: self._market.quote(con_id, now))
        return [self._details_of(instrument) for instrument in found]

    def schedule(
        self, con_id: int, *, end: datetime, days: int, use_rth: bool, now: datetime
    ) -> Sequence[TradingSession]:
        """The last ``days`` sessions that began before ``end``, oldest first."""
        instrument = self._table.get(con_id)
        zone = ZoneInfo(instrument.time_zone)
        extended = not use_rth and instrument.contract.sec_type == "STK"
        calendar = instrument.regular_calendar if use_rth else instrument.calendar
        last, found = end.astimezone(zone).date(), list[TradingSession]()
        for back in range(days * 2 + _SCHEDULE_REACH):
            day = last - timedelta(days=back)
            for opens, closes in reversed(hours.sessions_of(calendar, day, extended=extended)):
                if opens < end and len(found) < days:
                    found.append(TradingSession(f"{day:%Y%m%d}", opens, closes))
        return found[::-1]


def _implied(option: Option, price: float, underlying: float, years: float) -> OptionFigures:
    volatility = option_model.implied_volatility(option.right, price, underlying, option.strike, years)
    if volatility is None:
        return OptionFigures(None, None, price, None, None, None, underlying)
    found = option_model.greeks(option.right, underlying, option.strike, years, volatility)
    return OptionFigures(volatility, found.delta, price, found.gamma, found.vega, found.theta, underlying)


def _figures(found: Greeks) -> OptionFigures:
    return OptionFigures(
        found.volatility, found.delta, found.price, found.gamma, found.vega, found.theta, found.underlying
    )
