"""Listed futures and options: generated from two small tables, the same on every machine and after every restart.

Owns: roots of futures and options, conIds, which contracts are listed at a moment, chains.
Leaves: expiry rules (``derivative_dates``), prices (``market_derived``), margin (``margins``).
Rule: a conId is arithmetic, so it names the same contract for ever and needs no registry:

    future  910,000,000 + root · 2,000 + (year − 2000) · 12 + month − 1         (… + 1,999: the commodity itself)
    option  1,000,000,000 + ((root · 2,200 + week) · 2,100 + strike / step) · 2 + (0 call, 1 put)
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Literal

from trading.gateway.derivative_dates import (
    expiry_moment,
    future_expiry,
    is_monthly,
    listed_weeks,
    option_expiry,
)
from trading.gateway.hours import NEW_YORK
from trading.gateway.model import Contract, OptionChain

FUTURES_TABLE = Path(__file__).with_name("data") / "futures.csv"
OPTIONS_TABLE = Path(__file__).with_name("data") / "options.csv"
FUTURES_BASE, FUTURES_A_ROOT, SPOT = 910_000_000, 2_000, 1_999
OPTIONS_BASE, WEEKS, STRIKES, OPTION_ROOTS = 1_000_000_000, 2_200, 2_100, 120
GRID = Decimal("0.3")  # strikes are listed so far from the underlying's mean price
MONTH_CODES = "FGHJKMNQUVXZ"
EXPIRED_MONTHS = 24  # how far back expired futures are known
OPTION_EXCHANGES = ("SMART", "AMEX", "CBOE", "PHLX", "ISE", "BOX", "BATS")


@dataclass(frozen=True, slots=True)
class FutureRoot:
    """One row of ``futures.csv``. Units: margins and fee in the contract's currency for each contract."""

    number: int
    symbol: str
    exchange: str
    currency: str
    multiplier: str
    trading_class: str
    long_name: str
    underlying: int  # conId of what it follows
    cycle: str
    rule: str
    market_rule: int
    calendar: str
    liquid_calendar: str
    time_zone: str
    initial_margin: Decimal
    maintenance_margin: Decimal
    fee: Decimal
    reference_price: Decimal | None  # of a commodity that is not listed itself
    daily_volume: int
    volatility: float | None
    carry: float  # yearly premium over the underlying
    listed: int


@dataclass(frozen=True, slots=True)
class OptionRoot:
    """One row of ``options.csv``."""

    number: int
    underlying: int
    symbol: str
    exchange: str
    trading_class: str
    weekly_class: str
    multiplier: str
    step: Decimal
    market_rule: int
    settlement: Literal["physical", "cash"]
    style: Literal["american", "european"]


@dataclass(frozen=True, slots=True)
class OptionId:
    """What an option's conId says."""

    root: OptionRoot
    week: int
    strike: Decimal
    right: Literal["C", "P"]


@dataclass(frozen=True, slots=True)
class FutureId:
    """What a future's conId says; month 0 is the commodity that the future follows."""

    root: FutureRoot
    year: int
    month: int


def future_of(con_id: int) -> FutureId | None:
    """Read a conId as that of a future."""
    number, offset = divmod(con_id - FUTURES_BASE, FUTURES_A_ROOT)
    root = future_roots().get(number)
    if root is None:
        return None
    if offset == SPOT:
        return FutureId(root, 0, 0) if root.underlying == con_id else None
    year, month = 2000 + offset // 12, offset % 12 + 1
    return FutureId(root, year, month) if MONTH_CODES[month - 1] in root.cycle and year < 2100 else None


def option_of(con_id: int) -> OptionId | None:
    """Read a conId as that of an option."""
    if con_id < OPTIONS_BASE:
        return None
    rest, put = divmod(con_id - OPTIONS_BASE, 2)
    rest, strike = divmod(rest, STRIKES)
    number, week = divmod(rest, WEEKS)
    root = option_roots().get(number)
    if root is None or strike == 0:
        return None
    return OptionId(root, week, strike * root.step, "P" if put else "C")


def option_con_id(root: OptionRoot, week: int, strike: Decimal, right: str) -> int | None:
    """The conId of an option, None when its strike is off the grid of the root."""
    index = strike / root.step
    if index != int(index) or not 0 < index < STRIKES or not 0 <= week < WEEKS:
        return None
    return OPTIONS_BASE + ((root.number * WEEKS + week) * STRIKES + int(index)) * 2 + (right == "P")


def future_con_id(root: FutureRoot, year: int, month: int) -> int:
    """The conId of a contract month."""
    return FUTURES_BASE + root.number * FUTURES_A_ROOT + (year - 2000) * 12 + month - 1


@lru_cache(maxsize=1)
def future_roots() -> Mapping[int, FutureRoot]:
    """The shipped futures by number."""
    return {root.number: root for root in map(_future_root, _rows(FUTURES_TABLE))}


@lru_cache(maxsize=1)
def option_roots() -> Mapping[int, OptionRoot]:
    """The shipped option roots by number."""
    return {root.number: root for root in map(_option_root, _rows(OPTIONS_TABLE))}


def future_contract(found: FutureId) -> Contract:
    """IB's contract of a future."""
    root = found.root
    return Contract(
        con_id=future_con_id(root, found.year, found.month),
        symbol=root.symbol,
        sec_type="FUT",
        last_trade_date=f"{future_expiry(root.rule, found.year, found.month):%Y%m%d}",
        multiplier=root.multiplier,
        exchange=root.exchange,
        currency=root.currency,
        local_symbol=f"{root.trading_class}{MONTH_CODES[found.month - 1]}{found.year % 10}",
        trading_class=root.trading_class,
    )


def option_contract(con_id: int, found: OptionId, currency: str) -> Contract:
    """IB's contract of an option; its local symbol is the 21 characters of the clearing house."""
    root, day = found.root, option_expiry(found.week)
    name = trading_class(root, found.week)
    return Contract(
        con_id=con_id,
        symbol=root.symbol,
        sec_type="OPT",
        last_trade_date=f"{day:%Y%m%d}",
        strike=float(found.strike),
        right=found.right,
        multiplier=root.multiplier,
        exchange=root.exchange,
        currency=currency,
        local_symbol=f"{name:<6}{day:%y%m%d}{found.right}{int(found.strike * 1000):08d}",
        trading_class=name,
    )


def trading_class(root: OptionRoot, week: int) -> str:
    """The class of a week: indices have one of their own for weeks that are no third Friday."""
    return root.trading_class if is_monthly(week) or not root.weekly_class else root.weekly_class


class Derivatives:
    """What is listed at ``now`` around given underlyings. ``centre`` tells the mean price of a conId."""

    def __init__(self, currencies: Mapping[int, str]) -> None:
        self._currencies = dict(currencies)  # of the underlyings that are listed
        self.now = datetime(2020, 1, 2, tzinfo=UTC)
        self.centre: Callable[[int], Decimal] | None = None

    def is_listed(self, contract: Contract) -> bool:
        """Tell whether a contract has not settled yet."""
        return expiry_moment(contract.last_trade_date) > self.now

    def futures(self, query: Contract, *, include_expired: bool) -> Iterator[int]:
        """ConIds of the futures that a query may mean, nearest first."""
        for root in future_roots().values():
            names = (root.symbol, root.trading_class)
            wanted = query.symbol in names or (not query.symbol and query.local_symbol.startswith(root.trading_class))
            if wanted and (root.underlying in self._currencies or root.reference_price is not None):
                for year, month in self._months(root, include_expired=include_expired):
                    yield future_con_id(root, year, month)

    def front(self, query: Contract) -> Iterator[int]:
        """ConIds of the nearest listed month of each root that a query may mean."""
        seen: set[int] = set()
        for con_id in self.futures(query, include_expired=False):
            number = (con_id - FUTURES_BASE) // FUTURES_A_ROOT
            if number not in seen:
                seen.add(number)
                yield con_id

    def options(self, query: Contract) -> Iterator[int]:
        """ConIds of the listed options that a query may mean, by expiry and strike."""
        rights = [right for right in "CP" if query.right in ("", right, {"C": "CALL", "P": "PUT"}[right])]
        strike = Decimal(str(query.strike)) if query.strike else None
        for root in self._roots_named(query):
            listed = set(self.strikes(root))
            strikes = sorted(listed if strike is None else listed & {strike})
            for week in self._weeks(query.last_trade_date):
                for each in strikes:
                    found = (option_con_id(root, week, each, right) for right in rights)
                    yield from (con_id for con_id in found if con_id is not None)

    def kinds(self, underlying: int) -> tuple[str, ...]:
        """Security types that are listed on an underlying."""
        options = any(root.underlying == underlying for root in option_roots().values())
        futures = any(root.underlying == underlying for root in future_roots().values())
        return (*(("FUT",) if futures else ()), *(("OPT",) if options else ()))

    def chains(self, underlying: int, exchange: str = "") -> list[OptionChain]:
        """What reqSecDefOptParams says: one chain for each exchange and trading class."""
        found: list[OptionChain] = []
        for root in option_roots().values():
            if root.underlying != underlying or underlying not in self._currencies:
                continue
            weeks: dict[str, list[str]] = {}
            for week in self._weeks(""):
                weeks.setdefault(trading_class(root, week), []).append(f"{option_expiry(week):%Y%m%d}")
            strikes = tuple(self.strikes(root))
            found += [
                OptionChain(place, underlying, name, root.multiplier, tuple(days), strikes)
                for place in OPTION_EXCHANGES
                if exchange in ("", place)
                for name, days in weeks.items()
            ]
        return found

    def strikes(self, root: OptionRoot) -> list[Decimal]:
        """The listed strikes of a root, ascending."""
        if self.centre is None:
            return []
        middle = self.centre(root.underlying)
        first = int(middle * (1 - GRID) / root.step) + 1
        last = min(int(middle * (1 + GRID) / root.step), STRIKES - 1)
        return [number * root.step for number in range(max(first, 1), last + 1)]

    def _roots_named(self, query: Contract) -> Iterator[OptionRoot]:
        name = query.symbol or query.local_symbol[:6].strip()
        for root in option_roots().values():
            if name in (root.symbol, root.trading_class, root.weekly_class) and root.underlying in self._currencies:
                yield root

    def _weeks(self, wanted: str) -> Iterable[int]:
        today = self.now.astimezone(NEW_YORK).date()
        for week in listed_weeks(today):
            day = f"{option_expiry(week):%Y%m%d}"
            if day.startswith(wanted) and expiry_moment(day) > self.now:
                yield week

    def _months(self, root: FutureRoot, *, include_expired: bool) -> Iterator[tuple[int, int]]:
        today = self.now.astimezone(NEW_YORK).date()
        index = today.year * 12 + today.month - 1 - (EXPIRED_MONTHS if include_expired else 0)
        listed = 0
        while listed < root.listed:
            year, month = index // 12, index % 12 + 1
            index += 1
            if MONTH_CODES[month - 1] not in root.cycle:
                continue
            is_over = expiry_moment(f"{future_expiry(root.rule, year, month):%Y%m%d}") <= self.now
            listed += not is_over
            if include_expired or not is_over:
                yield year, month


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def _future_root(row: dict[str, str]) -> FutureRoot:
    texts = {k: row[k] for k in ("symbol", "exchange", "currency", "multiplier", "trading_class", "long_name")}
    places = {k: row[k] for k in ("cycle", "rule", "calendar", "liquid_calendar", "time_zone")}
    return FutureRoot(
        **texts,
        **places,
        number=int(row["number"]),
        underlying=int(row["underlying"]),
        market_rule=int(row["market_rule"]),
        initial_margin=Decimal(row["initial_margin"]),
        maintenance_margin=Decimal(row["maintenance_margin"]),
        fee=Decimal(row["fee"]),
        reference_price=Decimal(row["reference_price"]) if row["reference_price"] else None,
        daily_volume=int(row["daily_volume"]),
        volatility=float(row["volatility"]) if row["volatility"] else None,
        carry=float(row["carry"]),
        listed=int(row["listed"]),
    )


def _option_root(row: dict[str, str]) -> OptionRoot:
    return OptionRoot(
        number=int(row["number"]),
        underlying=int(row["underlying"]),
        symbol=row["symbol"],
        exchange=row["exchange"],
        trading_class=row["trading_class"],
        weekly_class=row["weekly_class"],
        multiplier=row["multiplier"],
        step=Decimal(row["step"]),
        market_rule=int(row["market_rule"]),
        settlement="cash" if row["settlement"] == "cash" else "physical",
        style="european" if row["style"] == "european" else "american",
    )
