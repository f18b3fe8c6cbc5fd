"""Combinations (BAG): what a set of legs is as an instrument, what it is worth, what its execution does to the legs.

Owns: resolving legs, the combination's own contract, price and market, the legs' shares of an execution.
Leaves: orders (``exchange_orders``), booking (``exchange_state``).
Rule: a combination has no position and no cash of its own; its price is the sum of its legs' in units of the largest
multiplier, as IB quotes it (an option spread by the share, a stock pair by one pair).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from trading.brokers import fills
from trading.gateway.exchange_terms import ComboLeg, read_legs
from trading.gateway.instruments import Instrument, InstrumentTable
from trading.gateway.market import Market
from trading.gateway.model import Contract, OrderRequest, RequestError

BAG_CON_ID = 28_812_380  # IB's for every combination that has no id of its own
_MIN_LEGS, _MAX_LEGS = 2, 6


@dataclass(frozen=True, slots=True)
class Leg:
    """A resolved leg; ``ratio`` is signed as the combination is bought, ``unit`` its weight in the price."""

    instrument: Instrument
    contract: Contract
    ratio: Decimal
    unit: Decimal


def resolve_order(table: InstrumentTable, request: OrderRequest) -> tuple[Instrument, Contract]:
    """The instrument of an order, a combination's too.

    Raises: RequestError 200, 321.
    """
    if request.contract.sec_type != "BAG":
        return table.single(request.contract)
    if not request.contract.exchange:
        raise RequestError(321, "Error validating request.-'bN' : cause - Please enter exchange")
    legs = resolve_legs(table, read_legs(request))
    contract = _contract(request.contract, legs)
    return _instrument(contract, legs), contract


def resolve_legs(table: InstrumentTable, wanted: Iterable[ComboLeg]) -> tuple[Leg, ...]:
    """The legs with what they are.

    Raises: RequestError 200 for an unknown leg or another exchange's, 321 for a set that is no combination.
    """
    ordered = tuple(wanted)
    if not _MIN_LEGS <= len(ordered) <= _MAX_LEGS:
        raise RequestError(321, "Error validating request.-'bK' : cause - Missing or invalid combo legs")
    if len({leg.con_id for leg in ordered}) != len(ordered):
        raise RequestError(321, "Error validating request.-'bK' : cause - Combo legs repeat a contract")
    found = [table.single(Contract(con_id=leg.con_id, exchange=leg.exchange or "SMART")) for leg in ordered]
    if any(instrument.contract.sec_type in ("IND", "CASH", "BAG") for instrument, _ in found):
        raise RequestError(203, "The security is not available or allowed for this account.")
    if len({instrument.contract.currency for instrument, _ in found}) > 1:
        raise RequestError(321, "Error validating request.-'bK' : cause - Combo legs of several currencies")
    largest = max(instrument.multiplier for instrument, _ in found)
    return tuple(
        Leg(instrument, contract, leg.ratio if leg.is_buy else -leg.ratio, instrument.multiplier / largest)
        for leg, (instrument, contract) in zip(ordered, found, strict=True)
    )


def _contract(asked: Contract, legs: tuple[Leg, ...]) -> Contract:
    multiplier = max(leg.instrument.multiplier for leg in legs)
    return Contract(
        con_id=BAG_CON_ID,
        symbol=asked.symbol or legs[0].contract.symbol,
        sec_type="BAG",
        exchange=asked.exchange,
        currency=legs[0].contract.currency,
        multiplier="" if multiplier == 1 else str(multiplier),
        local_symbol=str(BAG_CON_ID),
        trading_class="COMB",
    )


def _instrument(contract: Contract, legs: tuple[Leg, ...]) -> Instrument:
    """As the first leg, where hours and zone are concerned; whole combinations only."""
    return replace(
        legs[0].instrument,
        contract=contract,
        long_name="",
        size_increment=max(Decimal(1), *(leg.instrument.size_increment for leg in legs)),
    )


def mark(market: Market, legs: tuple[Leg, ...], now: datetime) -> Decimal:
    """What one combination is worth at the legs' marks."""
    return sum((leg.ratio * leg.unit * market.mark(leg.contract.con_id, now) for leg in legs), Decimal(0))


def is_open(market: Market, legs: tuple[Leg, ...], now: datetime, *, outside_rth: bool) -> bool:
    """Tell whether all legs trade."""
    return all(market.is_open(leg.contract.con_id, now, outside_rth=outside_rth) for leg in legs)


def stretch(legs: tuple[Leg, ...], stretch_of: Callable[[Leg], fills.Stretch]) -> fills.Stretch:
    """The market of the combination."""
    return fills.combine([fills.Leg(leg.ratio, leg.unit, stretch_of(leg)) for leg in legs])


def leg_prices(
    legs: tuple[Leg, ...], stretch_of: Callable[[Leg], fills.Stretch], *, is_buy: bool
) -> list[tuple[Leg, bool, Decimal]]:
    """What each leg trades at when the combination takes the quotes: leg, whether it is bought, price.

    Their sum is the price that the fill model gives the combination.
    """
    priced = []
    for leg in legs:
        buys, quotes = (leg.ratio > 0) is is_buy, stretch_of(leg)
        priced.append((leg, buys, quotes.ask if buys else quotes.bid))
    return priced
