"""Write the answers about chains, option figures, single ticks, histograms, scans and schedules.

Owns: their field order and version gates. Leaves: everything else (``protocol_responses``).
Rule: every function returns one whole frame; what cannot be computed is −1, of a sensitivity −2, as IB has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from . import versions as v
from .model import ContractDetails, OptionChain, OptionFigures, Tick, TickKind, TradingSession
from .protocol_fields import ib_zone, price, size
from .protocol_responses import message, sized

TRADE_TICKS = {"Last": 1, "AllLast": 2}


def option_chain(req_id: int, chain: OptionChain) -> bytes:
    """securityDefinitionOptionParameter of one exchange and trading class."""
    return message(
        "75", str(req_id), chain.exchange, str(chain.under_con_id), chain.trading_class, chain.multiplier,
        str(len(chain.expiries)), *chain.expiries, str(len(chain.strikes)), *(size(strike) for strike in chain.strikes),
    )  # fmt: skip


def option_computation(req_id: int, tick: int, figures: OptionFigures, version: int) -> bytes:
    """tickOptionComputation; no dividends are expected, so their present value is 0."""
    head = ["21", str(req_id), str(tick), "0"]
    if version < v.PRICE_BASED_VOLATILITY:
        head = ["21", "6", str(req_id), str(tick)]
    return message(
        *head, _number(figures.volatility), _number(figures.delta, "-2"), _number(figures.price), "0.0",
        _number(figures.gamma, "-2"), _number(figures.vega, "-2"), _number(figures.theta, "-2"),
        _number(figures.underlying),
    )  # fmt: skip


def tick_by_tick(req_id: int, kind: str, tick: Tick, exchange: str, version: int) -> bytes:
    """tickByTick of one of IB's four kinds."""
    moment = str(int(tick.time.timestamp()))
    if kind in TRADE_TICKS:
        number, amount = str(TRADE_TICKS[kind]), sized(tick.size, version)
        return message("99", str(req_id), number, moment, price(tick.price), amount, "0", exchange, "")
    if kind == "BidAsk":
        sizes = sized(tick.bid_size, version), sized(tick.ask_size, version)
        return message("99", str(req_id), "3", moment, price(tick.bid), price(tick.ask), *sizes, "0")
    return message("99", str(req_id), "4", moment, price(_middle(tick)))


def historical_ticks(req_id: int, kind: TickKind, ticks: Sequence[Tick], exchange: str, version: int) -> bytes:
    """historicalTicks, historicalTicksBidAsk or historicalTicksLast: all of one answer."""
    fields: list[str] = []
    for tick in ticks:
        fields += (str(int(tick.time.timestamp())), "0")
        if kind is TickKind.QUOTES:
            sizes = sized(tick.bid_size, version), sized(tick.ask_size, version)
            fields += (price(tick.bid), price(tick.ask), *sizes)
        elif kind is TickKind.TRADES:
            fields += (price(tick.price), sized(tick.size, version), exchange, "")
        else:
            fields += (price(_middle(tick)), "0")
    number = {TickKind.MIDPOINT: "96", TickKind.QUOTES: "97", TickKind.TRADES: "98"}[kind]
    return message(number, str(req_id), str(len(ticks)), *fields, "1")


def histogram(req_id: int, rows: Sequence[tuple[Decimal, int]]) -> bytes:
    """histogramData: price and size, ascending by price."""
    fields = [text for value, amount in rows for text in (price(value), str(amount))]
    return message("89", str(req_id), str(len(rows)), *fields)


def historical_schedule(req_id: int, zone: str, sessions: Sequence[TradingSession]) -> bytes:
    """historicalSchedule, in the instrument's zone."""
    rows = [(_local(one.opens, zone), _local(one.closes, zone), one.day) for one in sessions]
    return message(
        "106", str(req_id), rows[0][0], rows[-1][1], ib_zone(zone), str(len(rows)),
        *(text for row in rows for text in row),
    )  # fmt: skip


def scanner_parameters(xml: str) -> bytes:
    """scannerParameters."""
    return message("19", "1", xml)


def scanner_data(req_id: int, found: Sequence[ContractDetails]) -> bytes:
    """scannerData: one whole list, rank 0 first."""
    fields: list[str] = []
    for rank, details in enumerate(found):
        c = details.contract
        fields += (
            str(rank), str(c.con_id), c.symbol, c.sec_type, c.last_trade_date, str(c.strike), c.right, c.exchange,
            c.currency, c.local_symbol, c.trading_class, c.trading_class, "", "", "", "",
        )  # fmt: skip
    return message("20", "3", str(req_id), str(len(found)), *fields)


def smart_components(req_id: int, exchanges: Sequence[str]) -> bytes:
    """smartComponents: a bit and a letter for each exchange behind SMART."""
    rows = (text for bit, name in enumerate(exchanges) for text in (str(bit), name, chr(ord("A") + bit)))
    return message("82", str(req_id), str(len(exchanges)), *rows)


def display_group_updated(req_id: int) -> bytes:
    """displayGroupUpdated: nothing is selected in TWS."""
    return message("68", "1", str(req_id), "none")


def _middle(tick: Tick) -> Decimal:
    return (tick.bid + tick.ask) / 2


def _number(value: float | None, unknown: str = "-1") -> str:
    return unknown if value is None else f"{value:.10g}"


def _local(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%Y%m%d-%H:%M:%S}"
