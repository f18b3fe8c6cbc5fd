"""The paper gateway's listed instruments: a shipped CSV table that a user's own file extends, and what derives from it.

Owns: reading the table, resolving IB's contract queries, symbol search.
Leaves: one instrument and its ticks (``instrument``), futures and options (``derivatives``), prices (``market``),
trading hours texts (``hours``).
Rule: a conId is IB's real one where it is well known, otherwise it lies in our own range from 900,000,000 on; a row of
the user's file with the same conId replaces the shipped one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from strategies.exceptions import ConfigError
from trading.gateway import derivative_instruments
from trading.gateway.derivatives import Derivatives
from trading.gateway.hours import check_calendar, liquid_text, trading_text
from trading.gateway.instrument import (
    MARKET_RULES,
    Instrument,
    conforms,
    listed_types,
    order_type_names,
    round_to_tick,
    tick_at,
)
from trading.gateway.model import Contract, ContractDetails, RequestError

__all__ = [
    "COLUMNS",
    "MARKET_RULES",
    "SEC_TYPES",
    "Instrument",
    "InstrumentTable",
    "conforms",
    "details",
    "listed_types",
    "load_table",
    "round_to_tick",
    "tick_at",
]

SHIPPED_TABLE = Path(__file__).with_name("data") / "instruments.csv"
COLUMNS = (
    "con_id",
    "symbol",
    "sec_type",
    "exchange",
    "primary_exchange",
    "currency",
    "local_symbol",
    "trading_class",
    "multiplier",
    "long_name",
    "stock_type",
    "industry",
    "category",
    "subcategory",
    "market_rule",
    "calendar",
    "time_zone",
    "size_increment",
    "reference_price",
    "daily_volume",
    "volatility",
)

SEC_TYPES = frozenset(
    {
        "STK",
        "OPT",
        "FUT",
        "CONTFUT",
        "FUT+CONTFUT",
        "IND",
        "FOP",
        "CASH",
        "BAG",
        "WAR",
        "BOND",
        "CMDTY",
        "NEWS",
        "FUND",
        "CFD",
    }
)
_FUTURES = frozenset({"FUT", "CONTFUT", "FUT+CONTFUT"})

NO_DEFINITION = "No security definition has been found for the request"


class InstrumentTable:
    """All instruments by conId, with the look-ups that IB offers."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._by_id = {i.con_id: i for i in instruments}
        self._by_symbol: dict[str, list[Instrument]] = {}
        for instrument in self._by_id.values():
            self._by_symbol.setdefault(instrument.contract.symbol, []).append(instrument)
            if instrument.contract.local_symbol != instrument.contract.symbol:
                self._by_symbol.setdefault(instrument.contract.local_symbol, []).append(instrument)
        self.derivatives = Derivatives({i.con_id: i.contract.currency for i in self._by_id.values()})
        self._derived: dict[int, Instrument | None] = {}

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, con_id: int) -> Instrument:
        """The instrument of a conId.

        Raises: RequestError 200.
        """
        found = self.find(con_id)
        if found is None:
            raise RequestError(200, NO_DEFINITION)
        return found

    def find(self, con_id: int) -> Instrument | None:
        """An instrument of the table, or a future or option whose conId says what it is."""
        found = self._by_id.get(con_id)
        if found is None:
            if con_id not in self._derived:
                self._derived[con_id] = derivative_instruments.build(con_id, self._by_id)
            found = self._derived[con_id]
        return found

    def followed(self, instrument: Instrument) -> Instrument | None:
        """The listed underlying of a future or option."""
        return self._by_id.get(instrument.underlying)

    @property
    def magnifiers(self) -> dict[int, int]:
        """Instruments whose prices are in parts of their currency, with how many make one."""
        return {i.con_id: i.price_magnifier for i in self._by_id.values() if i.price_magnifier != 1}

    def check_currencies(self, base: str) -> None:
        """Refuse a table with a currency that cannot be valued in the account's.

        Raises: ConfigError naming the currency.
        """
        listed = {i.contract.currency for i in self._by_id.values()}
        listed |= {i.contract.symbol for i in self._by_id.values() if i.contract.sec_type == "CASH"}
        for currency in sorted(listed - {base}):
            if next(self.pairs(currency, base), None) is None:
                raise ConfigError(
                    f"The instrument table has no FX pair between {currency} and the account's currency {base}.",
                    code="instruments_file",
                )

    def pairs(self, currency: str, base: str) -> Iterator[tuple[int, bool]]:
        """FX pairs that convert a currency: conId, and whether its price must be inverted."""
        for instrument in self._by_id.values():
            contract = instrument.contract
            if contract.sec_type != "CASH":
                continue
            if (contract.symbol, contract.currency) == (currency, base):
                yield contract.con_id, False
            elif (contract.symbol, contract.currency) == (base, currency):
                yield contract.con_id, True

    def match(self, query: Contract, *, include_expired: bool = False) -> list[tuple[Instrument, Contract]]:
        """Instruments that fit the query, each with the contract as asked for (its exchange).

        Raises: RequestError 200 when none fits, 321 when the query is malformed.
        """
        candidates = self._candidates(query, include_expired=include_expired)
        found = [(i, _as_asked(i, query)) for i in candidates if _fits(i, query)]
        if not found:
            raise RequestError(200, NO_DEFINITION)
        return found

    def single(self, query: Contract) -> tuple[Instrument, Contract]:
        """The one instrument that fits a query of an order or subscription.

        Raises: RequestError 200 when none or several fit, 321 when exchange or security type is missing.
        """
        if not query.exchange:
            raise RequestError(321, "Error validating request.-'bN' : cause - Please enter exchange")
        found = self.match(query)
        if len(found) > 1:
            raise RequestError(200, f"The contract description specified for {query.symbol} is ambiguous.")
        return found[0]

    def search(self, pattern: str, limit: int = 16) -> list[Instrument]:
        """Instruments whose symbol or name matches, exact symbol first, then prefixes, then names."""
        text = pattern.strip().upper()
        if not text:
            return []
        ranked: list[tuple[int, str, int, Instrument]] = []
        for instrument in self._by_id.values():
            contract = instrument.contract
            names = (contract.symbol.upper(), contract.local_symbol.upper())
            if text in names:
                rank = 0
            elif any(name.startswith(text) for name in names):
                rank = 1
            elif text in instrument.long_name.upper():
                rank = 2
            else:
                continue
            ranked.append((rank, contract.symbol, contract.con_id, instrument))
        return [entry[3] for entry in sorted(ranked, key=lambda e: e[:3])[:limit]]

    def _candidates(self, query: Contract, *, include_expired: bool) -> Iterable[Instrument]:
        if query.con_id:
            found = self.find(query.con_id)
            hidden = found is None or found.contract.sec_type == "CMDTY" or self._is_over(found, include_expired)
            return [] if found is None or hidden else [found]
        if query.sec_type not in SEC_TYPES:
            raise RequestError(321, "Error validating request.-'bN' : cause - Please enter a valid security type")
        name = query.symbol or query.local_symbol
        if not name and not (query.sec_type in _FUTURES and query.trading_class):
            raise RequestError(321, "Error validating request.-'bN' : cause - Please enter a symbol or local symbol")
        listed = self._by_symbol.get(name, [])
        if query.sec_type == "OPT":
            return [*listed, *map(self.get, self.derivatives.options(query))]
        if query.sec_type in _FUTURES:
            return [*listed, *self._futures(query, include_expired=include_expired)]
        return listed

    def _futures(self, query: Contract, *, include_expired: bool) -> Iterator[Instrument]:
        if query.sec_type != "CONTFUT":
            yield from map(self.get, self.derivatives.futures(query, include_expired=include_expired))
        if query.sec_type != "FUT":
            for con_id in self.derivatives.front(query):
                front = self.get(con_id)
                yield replace(front, contract=replace(front.contract, sec_type="CONTFUT"))

    def _is_over(self, instrument: Instrument, include_expired: bool) -> bool:
        dated = bool(instrument.underlying)
        return dated and not include_expired and not self.derivatives.is_listed(instrument.contract)


def _fits(instrument: Instrument, query: Contract) -> bool:
    own = instrument.contract
    if query.exchange and query.exchange not in instrument.valid_exchanges:
        return False
    if query.con_id:
        return True
    if not _fits_in_time(instrument, query.last_trade_date):
        return False
    kinds = ("FUT", "CONTFUT") if query.sec_type == "FUT+CONTFUT" else (query.sec_type,)
    wanted = (
        (own.sec_type, kinds),
        (query.currency, (own.currency,)),
        (query.local_symbol, (own.local_symbol, own.local_symbol.replace(" ", ""))),
        (query.trading_class, (own.trading_class,)),
        (query.symbol, (own.symbol, own.local_symbol, *((own.trading_class,) if instrument.underlying else ()))),
        (query.primary_exchange, (own.primary_exchange, *(("ISLAND",) if own.primary_exchange == "NASDAQ" else ()))),
        (query.multiplier if own.multiplier else "", (own.multiplier,)),
    )
    return all(not value or value in allowed for value, allowed in wanted)


def _fits_in_time(instrument: Instrument, asked: str) -> bool:
    """A month names a contract month, eight digits a last trading day."""
    if not asked or not instrument.underlying:
        return True
    return asked in (instrument.contract_month, instrument.contract.last_trade_date)


def _as_asked(instrument: Instrument, query: Contract) -> Contract:
    if query.exchange and query.exchange != instrument.contract.exchange:
        return replace(instrument.contract, exchange=query.exchange)
    return instrument.contract


@lru_cache(maxsize=16384)
def details(
    instrument: Instrument, contract: Contract, day: date, underlying: Instrument | None = None
) -> ContractDetails:
    """What reqContractDetails answers on ``day`` (the hours texts begin there)."""
    exchanges = instrument.valid_exchanges
    return ContractDetails(
        contract=contract,
        long_name=instrument.long_name,
        min_tick=min(step.increment for step in MARKET_RULES[instrument.market_rule]),
        valid_exchanges=exchanges,
        order_types=order_type_names(instrument.contract.sec_type),
        market_rule_ids=(instrument.market_rule,) * len(exchanges),
        time_zone=instrument.time_zone,
        trading_hours=trading_text(instrument.calendar, instrument.contract.sec_type, instrument.time_zone, day),
        liquid_hours=liquid_text(instrument.regular_calendar, instrument.time_zone, day),
        stock_type=instrument.stock_type,
        industry=instrument.industry,
        category=instrument.category,
        subcategory=instrument.subcategory,
        price_magnifier=instrument.price_magnifier,
        min_size=instrument.size_increment,
        size_increment=instrument.size_increment,
        under_con_id=0 if underlying is None else underlying.con_id,
        under_symbol="" if underlying is None else underlying.contract.symbol,
        under_sec_type="" if underlying is None else underlying.contract.sec_type,
        contract_month=instrument.contract_month,
    )


def load_table(extra: Path | None = None) -> InstrumentTable:
    """Read the shipped table and the user's own file over it.

    Raises: ConfigError naming file, line and column.
    """
    rows = _shipped()
    return InstrumentTable(rows if extra is None else (*rows, *_read(extra)))


@lru_cache(maxsize=1)
def _shipped() -> tuple[Instrument, ...]:
    return tuple(_read(SHIPPED_TABLE))


def _read(path: Path) -> list[Instrument]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The instrument table {path} cannot be read: {error}", code="instruments_file") from error
    reader = csv.DictReader(text.splitlines())
    missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(
            f"The instrument table {path} lacks the columns {', '.join(missing)}: its first line must name them.",
            code="instruments_file",
        )
    return [_parse(path, reader.line_num, row) for row in reader]


def _parse(path: Path, line: int, row: dict[str, str]) -> Instrument:
    try:
        instrument = _instrument({key: (value or "").strip() for key, value in row.items() if key})
    except (ValueError, InvalidOperation) as error:
        raise ConfigError(f"{path}, line {line}: {error}", code="instruments_file", line=line) from error
    return instrument


def _instrument(row: dict[str, str]) -> Instrument:
    contract = Contract(
        con_id=int(row["con_id"]),
        symbol=row["symbol"],
        sec_type=row["sec_type"],
        multiplier=row["multiplier"],
        exchange=row["exchange"],
        primary_exchange=row["primary_exchange"],
        currency=row["currency"],
        local_symbol=row["local_symbol"] or row["symbol"],
        trading_class=row["trading_class"],
    )
    rule = int(row["market_rule"])
    if rule not in MARKET_RULES:
        raise ValueError(f"market_rule {rule} is unknown; known are {sorted(MARKET_RULES)}")
    if not (0 < contract.con_id < 2**31) or not contract.symbol or contract.sec_type not in SEC_TYPES:
        raise ValueError("con_id (1 to 2147483647), symbol and a sec_type of IB are needed")
    price = Decimal(row["reference_price"])
    if not price.is_finite() or price <= 0:
        raise ValueError("reference_price must be above zero")
    check_calendar(row["calendar"])
    try:
        ZoneInfo(row["time_zone"])
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"time_zone {row['time_zone']!r} is not an IANA zone") from None
    return Instrument(
        contract=contract,
        long_name=row["long_name"],
        stock_type=row["stock_type"],
        industry=row["industry"],
        category=row["category"],
        subcategory=row["subcategory"],
        market_rule=rule,
        calendar=row["calendar"],
        time_zone=row["time_zone"],
        size_increment=Decimal(row["size_increment"] or 1),
        reference_price=price,
        daily_volume=int(row["daily_volume"] or 0),
        volatility=float(row["volatility"] or 0.25),
        price_magnifier=int(row.get("price_magnifier") or 1),
    )
