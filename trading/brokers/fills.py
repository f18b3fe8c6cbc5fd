"""The one fill model: what an order gets from a stretch of market, in paper trading and in backtests alike.

Owns: price and quantity of fills of market, limit and stop orders.
Leaves: when the stretch was (``gateway.exchange``, the backtest's loop), fees (``fees``).
Rule: a market order pays the quote at the stretch's start; a limit order gets its limit, or the better start when the
market gapped through it; a stop, once the last price reached it, pays the worse of stop and start; nobody gets more
than the volume there was. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A bar, or a slice of a running market. Units: prices of the instrument; volume None means without limit."""

    bid: Decimal  # at the start
    ask: Decimal
    last: Decimal
    high: Decimal  # traded within
    low: Decimal
    highest_bid: Decimal
    lowest_ask: Decimal
    volume: Decimal | None = None


@dataclass(frozen=True, slots=True)
class FillOrder:
    """What the model needs of an order."""

    is_buy: bool
    order_type: str  # MKT, LMT, STP
    remaining: Decimal
    limit: Decimal | None = None
    stop: Decimal | None = None
    triggered: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened: a fill (price and quantity above zero), a trigger, or neither."""

    price: Decimal = ZERO
    quantity: Decimal = ZERO
    triggered: bool = False


NOTHING = Outcome()


def stretch_of_bar(
    open_: Decimal, high: Decimal, low: Decimal, volume: Decimal | None = None, half_spread: Decimal = ZERO
) -> Stretch:
    """A bar of trades as a stretch, its quotes ``half_spread`` away on both sides."""
    return Stretch(
        bid=open_ - half_spread,
        ask=open_ + half_spread,
        last=open_,
        high=high,
        low=low,
        highest_bid=high - half_spread,
        lowest_ask=low + half_spread,
        volume=volume,
    )


def match(
    order: FillOrder, stretch: Stretch, *, participation: Decimal = Decimal(1), lot: Decimal = Decimal(1)
) -> Outcome:
    """Match one order against one stretch.

    ``participation`` is the share of the volume that the order may take, rounded down to whole lots.

    >>> day = stretch_of_bar(Decimal(100), Decimal(104), Decimal(97))
    >>> match(FillOrder(True, "LMT", Decimal(10), limit=Decimal(98)), day).price
    Decimal('98')
    >>> match(FillOrder(True, "LMT", Decimal(10), limit=Decimal(101)), day).price
    Decimal('100')
    >>> match(FillOrder(False, "STP", Decimal(10), stop=Decimal(99)), day).price
    Decimal('99')
    """
    quantity = _available(order.remaining, stretch.volume, participation, lot)
    if order.order_type == "MKT":
        return _filled(stretch.ask if order.is_buy else stretch.bid, quantity)
    if order.order_type == "LMT":
        return _match_limit(order, stretch, quantity)
    if order.order_type == "STP":
        return _match_stop(order, stretch, quantity)
    raise ValueError(f"the fill model knows no order type {order.order_type!r}")


def _match_limit(order: FillOrder, stretch: Stretch, quantity: Decimal) -> Outcome:
    if order.limit is None:
        raise ValueError("a limit order needs a limit")
    if order.is_buy:
        if stretch.ask <= order.limit:
            return _filled(stretch.ask, quantity)
        return _filled(order.limit, quantity) if stretch.lowest_ask <= order.limit else NOTHING
    if stretch.bid >= order.limit:
        return _filled(stretch.bid, quantity)
    return _filled(order.limit, quantity) if stretch.highest_bid >= order.limit else NOTHING


def _match_stop(order: FillOrder, stretch: Stretch, quantity: Decimal) -> Outcome:
    if order.stop is None:
        raise ValueError("a stop order needs a stop price")
    side_price = stretch.ask if order.is_buy else stretch.bid
    if order.triggered:
        return _filled(side_price, quantity, triggered=True)
    if order.is_buy:
        reached, worse = stretch.high >= order.stop, max(order.stop, side_price)
        gapped = stretch.last >= order.stop
    else:
        reached, worse = stretch.low <= order.stop, min(order.stop, side_price)
        gapped = stretch.last <= order.stop
    if not reached:
        return NOTHING
    # Reached on the way, the quote there is about half a spread beyond the stop.
    half = (stretch.ask - stretch.bid) / 2
    on_the_way = order.stop + half if order.is_buy else order.stop - half
    return _filled(worse if gapped else on_the_way, quantity, triggered=True)


def _available(remaining: Decimal, volume: Decimal | None, participation: Decimal, lot: Decimal) -> Decimal:
    if volume is None:
        return remaining
    lots = (volume * participation / lot).to_integral_value(rounding=ROUND_FLOOR)
    return min(remaining, lots * lot)


def _filled(price: Decimal, quantity: Decimal, *, triggered: bool = False) -> Outcome:
    if quantity <= 0:
        return Outcome(triggered=triggered)
    return Outcome(price=price, quantity=quantity, triggered=triggered)
