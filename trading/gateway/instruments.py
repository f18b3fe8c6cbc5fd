"""The paper gateway's listed instruments: a shipped CSV table that a user's own file extends.

Owns: reading the table, resolving IB's contract queries, symbol search, market rules and tick arithmetic.
Leaves: prices (``market``), trading hours texts (``hours``).
Rule: a conId is IB's real one where it is well known, otherwise it lies in our own range from 900,000,000 on; a row of
the user's file with the same conId replaces the shipped one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from strategies.exceptions import ConfigError
from trading.gateway.hours import check_calendar, liquid_text, trading_text
from trading.gateway.model import Contract, ContractDetails, PriceIncrement, RequestError

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

MARKET_RULES: dict[int, tuple[PriceIncrement, ...]] = {
    26: (PriceIncrement(Decimal(0), Decimal("0.01")),),
    32: (PriceIncrement(Decimal(0), Decimal("0.0001")), PriceIncrement(Decimal(1), Decimal("0.01"))),
    59: (PriceIncrement(Decimal(0), Decimal("0.005")),),
    239: (PriceIncrement(Decimal(0), Decimal("0.00005")),),
}
# In IB's spelling of orders; reqContractDetails lists them without blanks.
_COMMON_TYPES = ("MKT", "LMT", "STP", "STP LMT", "MIT", "LIT", "TRAIL", "TRAIL LIMIT")
_TYPES = {"STK": (*_COMMON_TYPES, "MOC", "LOC"), "BAG": ("MKT", "LMT"), "IND": ()}
_ATTRIBUTES = ("ACTIVETIM", "ALERT", "ALGO", "AON", "DAY", "FOK", "GAT", "GTC", "GTD", "IOC", "OCA", "WHATIF")
STOCK_EXCHANGES = ("SMART", "AMEX", "NYSE", "CBOE", "ARCA", "NASDAQ", "ISLAND", "BATS", "IEX", "DRCTEDGE", "BYX")
SEC_TYPES = frozenset({"STK", "OPT", "FUT", "IND", "FOP", "CASH", "BAG", "WAR", "BOND", "CMDTY", "NEWS", "FUND", "CFD"})

NO_DEFINITION = "No security definition has been found for the request"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the table."""

    contract: Contract
    long_name: str
    stock_type: str
    industry: str
    category: str
    subcategory: str
    market_rule: int
    calendar: str  # an exchange_calendars name, or FX
    time_zone: str
    size_increment: Decimal
    reference_price: Decimal  # anchors generated prices
    daily_volume: int
    volatility: float  # of a year, as a fraction

    @property
    def con_id(self) -> int:
        """The contract id."""
        return self.contract.con_id

    @property
    def multiplier(self) -> Decimal:
        """Units of the underlying per contract."""
        return Decimal(self.contract.multiplier or 1)

    @property
    def valid_exchanges(self) -> tuple[str, ...]:
        """Exchanges an order or query may name."""
        if self.contract.sec_type != "STK":
            return (self.contract.exchange,)
        if self.contract.primary_exchange in STOCK_EXCHANGES:
            return STOCK_EXCHANGES
        return ("SMART", self.contract.primary_exchange)

    def tick(self, price: Decimal) -> Decimal:
        """The smallest price step at ``price``."""
        return tick_at(MARKET_RULES[self.market_rule], price)


def listed_types(sec_type: str) -> tuple[str, ...]:
    """The order types that the exchanges take for a kind of contract, in the spelling of orders."""
    return _TYPES.get(sec_type, _COMMON_TYPES)


@lru_cache(maxsize=16)
def order_type_names(sec_type: str) -> tuple[str, ...]:
    """The same and the attributes, as reqContractDetails lists them."""
    types = (kind.replace("TRAIL LIMIT", "TRAILLMT").replace(" ", "") for kind in listed_types(sec_type))
    return tuple(sorted({*_ATTRIBUTES, *types, *(("OPG", "RTH") if sec_type == "STK" else ())}))


def tick_at(rule: Sequence[PriceIncrement], price: Decimal) -> Decimal:
    """The increment of the last step of ``rule`` whose low edge is not above ``price``."""
    increment = rule[0].increment
    for step in rule:
        if price >= step.low_edge:
            increment = step.increment
    return increment


def conforms(price: Decimal, tick: Decimal) -> bool:
    """Tell whether ``price`` is a whole number of ticks."""
    return price % tick == 0


def round_to_tick(price: Decimal, tick: Decimal) -> Decimal:
    """Round down to a whole number of ticks."""
    return (price / tick).to_integral_value(rounding=ROUND_FLOOR) * tick


class InstrumentTable:
    """All instruments by conId, with the look-ups that IB offers."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._by_id = {i.con_id: i for i in instruments}
        self._by_symbol: dict[str, list[Instrument]] = {}
        for instrument in self._by_id.values():
            self._by_symbol.setdefault(instrument.contract.symbol, []).append(instrument)
            if instrument.contract.local_symbol != instrument.contract.symbol:
                self._by_symbol.setdefault(instrument.contract.local_symbol, []).append(instrument)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, con_id: int) -> Instrument:
        """The instrument of a conId.

        Raises: RequestError 200.
        """
        try:
            return self._by_id[con_id]
        except KeyError:
            raise RequestError(200, NO_DEFINITION) from None

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

    def match(self, query: Contract) -> list[tuple[Instrument, Contract]]:
        """Instruments that fit the query, each with the contract as asked for (its exchange).

        Raises: RequestError 200 when none fits, 321 when the query is malformed.
        """
        candidates = self._candidates(query)
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

    def _candidates(self, query: Contract) -> Sequence[Instrument]:
        if query.con_id:
            found = self._by_id.get(query.con_id)
            return [found] if found else []
        if query.sec_type not in SEC_TYPES:
            raise RequestError(321, "Error validating request.-'bN' : cause - Please enter a valid security type")
        name = query.symbol or query.local_symbol
        if not name:
            raise RequestError(321, "Error validating request.-'bN' : cause - Please enter a symbol or local symbol")
        return self._by_symbol.get(name, [])


def _fits(instrument: Instrument, query: Contract) -> bool:
    own = instrument.contract
    if query.exchange and query.exchange not in instrument.valid_exchanges:
        return False
    if query.con_id:
        return True
    wanted = (
        (query.sec_type, (own.sec_type,)),
        (query.currency, (own.currency,)),
        (query.local_symbol, (own.local_symbol,)),
        (query.trading_class, (own.trading_class,)),
        (query.symbol, (own.symbol, own.local_symbol)),
        (query.primary_exchange, (own.primary_exchange, *(("ISLAND",) if own.primary_exchange == "NASDAQ" else ()))),
    )
    return all(not value or value in allowed for value, allowed in wanted)


def _as_asked(instrument: Instrument, query: Contract) -> Contract:
    if query.exchange and query.exchange != instrument.contract.exchange:
        return replace(instrument.contract, exchange=query.exchange)
    return instrument.contract


@lru_cache(maxsize=4096)
def details(instrument: Instrument, contract: Contract, day: date) -> ContractDetails:
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
        liquid_hours=liquid_text(instrument.calendar, instrument.time_zone, day),
        stock_type=instrument.stock_type,
        industry=instrument.industry,
        category=instrument.category,
        subcategory=instrument.subcategory,
        min_size=instrument.size_increment,
        size_increment=instrument.size_increment,
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
    )
