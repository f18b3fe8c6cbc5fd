"""The one fill model: what an order gets from a stretch of market, in paper trading and in backtests alike.

Owns: price, quantity and trigger of every order type, the way of a trailing stop, the price of a combination.
Leaves: when the stretch was (``gateway.exchange``, the backtest's loop), fees (``fees``), who ends what (OCA, TIF).
Rule, by type:

- MKT pays the quote at the stretch's start.
- LMT gets its limit, or the better start when the market gapped through it.
- STP, once the last price reached it, pays the worse of stop and start; on the way it pays the stop and half a spread.
- MIT is a market order once the price came to its trigger from the other side; a gap is to its advantage.
- STP LMT and LIT become limit orders when triggered. Within the stretch that triggers them only the price at the
  trigger counts, or all of it when they were triggered at its start: what came before the trigger fills nothing.
- TRAIL and TRAIL LIMIT are such stops whose stop follows the best price at its distance. It stands still within a
  stretch and moves at its end: whether a bar's high came before its low is not known.
- MOC and LOC fill in the closing auction, any order ``at_open`` in the opening one: at its price, or not at all.

Nobody gets more than the volume there was. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

STOPS = frozenset({"STP", "STP LMT"})
ZERO = Decimal(0)
_ONE = Decimal(1)
_HUNDRED = Decimal(100)


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
    opening: Decimal | None = None  # price of the auction that this stretch begins with
    closing: Decimal | None = None  # price of the auction that this stretch ends with


@dataclass(frozen=True, slots=True)
class FillOrder:
    """What the model needs of an order.

    ``stop`` is the trigger of STP, STP LMT, MIT and LIT, and where a trailing stop stands now (None: it starts at its
    distance from the last price). ``limit_offset`` is the distance of a trailing stop's limit beyond its stop.
    """

    is_buy: bool
    order_type: str  # IB's spelling: MKT, LMT, STP, STP LMT, MIT, LIT, TRAIL, TRAIL LIMIT, MOC, LOC
    remaining: Decimal
    limit: Decimal | None = None
    stop: Decimal | None = None
    triggered: bool = False
    trail: Decimal | None = None  # distance as a price
    trail_percent: Decimal | None = None  # or in percent of the best price
    limit_offset: Decimal | None = None
    at_open: bool = False  # works in the opening auction only
    whole: bool = False  # all of it or nothing


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened: a fill (price and quantity), a trigger, or neither; ``stop`` is where a trailing stop stands."""

    price: Decimal = ZERO
    quantity: Decimal = ZERO
    triggered: bool = False
    stop: Decimal | None = None


NOTHING = Outcome()


def stretch_of_bar(
    open_: Decimal,
    high: Decimal,
    low: Decimal,
    volume: Decimal | None = None,
    half_spread: Decimal = ZERO,
    *,
    opening: Decimal | None = None,
    closing: Decimal | None = None,
) -> Stretch:
    """A bar of trades as a stretch, its quotes ``half_spread`` away on both sides.

    Give ``opening`` with the first bar of a session and ``closing`` with its last, so that the auctions take place.
    """
    return Stretch(
        bid=open_ - half_spread,
        ask=open_ + half_spread,
        last=open_,
        high=high,
        low=low,
        highest_bid=high - half_spread,
        lowest_ask=low + half_spread,
        volume=volume,
        opening=opening,
        closing=closing,
    )


def rest_of(stretch: Stretch, price: Decimal) -> Stretch:
    """What is left of a stretch behind an entry that filled on the way, for the stop that protects it.

    It begins at the entry's price; the extremes stay, since they may have come after it.
    """
    half = (stretch.ask - stretch.bid) / 2
    return stretch_of_bar(price, stretch.high, stretch.low, stretch.volume, half)


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg of a combination: ``ratio`` units of it, signed as the combination is bought, each worth ``unit``."""

    ratio: Decimal
    unit: Decimal  # multiplier of the leg over that of the combination
    stretch: Stretch


def combine(legs: Sequence[Leg]) -> Stretch:
    """The market of a combination, from its legs' quotes at the stretch's start.

    Extremes of legs come at different moments and do not add up, so a combination trades at the moments looked at.

    >>> flat = lambda price: stretch_of_bar(Decimal(price), Decimal(price), Decimal(price), half_spread=Decimal("0.1"))
    >>> spread = combine([Leg(Decimal(1), Decimal(1), flat(10)), Leg(Decimal(-2), Decimal(1), flat(4))])
    >>> spread.bid, spread.last, spread.ask
    (Decimal('1.7'), Decimal('2'), Decimal('2.3'))
    """
    bid = ask = last = ZERO
    volume: Decimal | None = None
    for leg in legs:
        weight, stretch = leg.ratio * leg.unit, leg.stretch
        bid += weight * (stretch.bid if weight > 0 else stretch.ask)
        ask += weight * (stretch.ask if weight > 0 else stretch.bid)
        last += weight * stretch.last
        if stretch.volume is not None:
            units = (stretch.volume / abs(leg.ratio)).to_integral_value(rounding=ROUND_FLOOR)
            volume = units if volume is None else min(volume, units)
    return Stretch(bid, ask, last, last, last, bid, ask, volume)


def match(
    order: FillOrder,
    stretch: Stretch,
    *,
    participation: Decimal = _ONE,
    lot: Decimal = _ONE,
    tick: Decimal | None = None,
) -> Outcome:
    """Match one order against one stretch.

    ``participation`` is the share of the volume that the order may take, rounded down to whole lots. With ``tick``
    prices that the model makes (the way to a stop, a trailing stop) lie on it, rounded to the order's disadvantage.
    Raises: ValueError for an unknown type, and where a price that the type needs is missing.

    >>> day = stretch_of_bar(Decimal(100), Decimal(104), Decimal(97), closing=Decimal(103))
    >>> match(FillOrder(True, "LMT", Decimal(10), limit=Decimal(98)), day).price
    Decimal('98')
    >>> match(FillOrder(True, "LMT", Decimal(10), limit=Decimal(101)), day).price
    Decimal('100')
    >>> match(FillOrder(False, "STP", Decimal(10), stop=Decimal(99)), day).price
    Decimal('99')
    >>> match(FillOrder(True, "MIT", Decimal(10), stop=Decimal(98)), day).price
    Decimal('98')
    >>> match(FillOrder(True, "MOC", Decimal(10)), day).price
    Decimal('103')
    >>> match(FillOrder(True, "LOC", Decimal(10), limit=Decimal(102)), day).quantity
    Decimal('0')

    A stop at 99 with a limit of 99.5 is triggered on the way down to 97; 99 is below the limit, so it rests:

    >>> match(FillOrder(False, "STP LMT", Decimal(10), stop=Decimal(99), limit=Decimal("99.5")), day)
    Outcome(price=Decimal('0'), quantity=Decimal('0'), triggered=True, stop=None)

    A sale trailing by 5 starts at 95, which is not reached, and stands at 104 − 5 after the stretch:

    >>> match(FillOrder(False, "TRAIL", Decimal(10), trail=Decimal(5)), day).stop
    Decimal('99')
    """
    model = _MODELS.get(order.order_type)
    if model is None:
        raise ValueError(f"the fill model knows no order type {order.order_type!r}")
    quantity = _available(order.remaining, stretch.volume, participation, lot)
    if order.whole and quantity < order.remaining:
        quantity = ZERO
    if order.at_open:
        return _auction(order, stretch.opening, quantity)
    return model(order, stretch, quantity, tick)


def _market(order: FillOrder, stretch: Stretch, quantity: Decimal, tick: Decimal | None) -> Outcome:
    return _filled(stretch.ask if order.is_buy else stretch.bid, quantity)


def _limit(order: FillOrder, stretch: Stretch, quantity: Decimal, tick: Decimal | None) -> Outcome:
    return _at_limit(order.is_buy, _needed(order.limit, "a limit order needs a limit"), stretch, quantity)


def _at_limit(is_buy: bool, limit: Decimal, stretch: Stretch, quantity: Decimal, *, triggered: bool = False) -> Outcome:
    if is_buy:
        price = stretch.ask if stretch.ask <= limit else limit if stretch.lowest_ask <= limit else None
    else:
        price = stretch.bid if stretch.bid >= limit else limit if stretch.highest_bid >= limit else None
    if price is None:
        return Outcome(triggered=True) if triggered else NOTHING
    return _filled(price, quantity, triggered=triggered)


def _closing(order: FillOrder, stretch: Stretch, quantity: Decimal, tick: Decimal | None) -> Outcome:
    return _auction(order, stretch.closing, quantity)


def _auction(order: FillOrder, price: Decimal | None, quantity: Decimal) -> Outcome:
    if price is None:
        return NOTHING
    if order.order_type in ("LMT", "LOC"):
        limit = _needed(order.limit, "a limit order needs a limit")
        if price > limit if order.is_buy else price < limit:
            return NOTHING
    return _filled(price, quantity)


def _stop(order: FillOrder, stretch: Stretch, quantity: Decimal, tick: Decimal | None) -> Outcome:
    stop = _needed(order.stop, "a stop order needs a stop price")
    limit = None
    if order.order_type in ("STP LMT", "LIT"):
        limit = _needed(order.limit, "a limit order needs a limit")
    return _triggered(order, stop, limit, stretch, quantity, tick)


def _trailing(order: FillOrder, stretch: Stretch, quantity: Decimal, tick: Decimal | None) -> Outcome:
    stop = order.stop if order.stop is not None else _trailed(order, stretch.last, tick)
    limit = None
    if order.order_type == "TRAIL LIMIT":
        offset = _needed(order.limit_offset, "a trailing limit order needs the offset of its limit")
        limit = stop + offset if order.is_buy else stop - offset
    outcome = _triggered(order, stop, limit, stretch, quantity, tick)
    if not outcome.triggered:
        best = _trailed(order, stretch.low if order.is_buy else stretch.high, tick)
        stop = min(stop, best) if order.is_buy else max(stop, best)
    return Outcome(outcome.price, outcome.quantity, outcome.triggered, stop)


def _trailed(order: FillOrder, price: Decimal, tick: Decimal | None) -> Decimal:
    """The stop at its distance from a price."""
    if order.trail_percent is not None:
        distance = abs(price) * order.trail_percent / _HUNDRED
    else:
        distance = _needed(order.trail, "a trailing stop needs an amount or a percentage")
    return _on_tick(price + distance if order.is_buy else price - distance, tick, up=order.is_buy)


def _triggered(
    order: FillOrder, stop: Decimal, limit: Decimal | None, stretch: Stretch, quantity: Decimal, tick: Decimal | None
) -> Outcome:
    """A stop or if-touched order; with a limit it is a limit order once triggered."""
    touches = order.order_type in _TOUCHED
    from_start = order.triggered
    if not from_start:
        rising = order.is_buy is not touches
        if not (stretch.high >= stop if rising else stretch.low <= stop):
            return NOTHING
        from_start = stretch.last >= stop if rising else stretch.last <= stop
    if from_start:
        if limit is not None:
            return _at_limit(order.is_buy, limit, stretch, quantity, triggered=True)
        price = stretch.ask if order.is_buy else stretch.bid
        if not order.triggered and not touches:
            price = max(stop, price) if order.is_buy else min(stop, price)
        return _filled(price, quantity, triggered=True)
    price = _way_price(order.is_buy, stop, stretch, tick)
    if limit is not None and (price > limit if order.is_buy else price < limit):
        return Outcome(triggered=True)
    return _filled(price, quantity, triggered=True)


def _way_price(is_buy: bool, stop: Decimal, stretch: Stretch, tick: Decimal | None) -> Decimal:
    """Reached on the way, the quote is about half a spread beyond the stop; never better than the stretch's best."""
    half = (stretch.ask - stretch.bid) / 2
    if is_buy:
        return max(_on_tick(stop + half, tick, up=True), stretch.lowest_ask)
    return min(_on_tick(stop - half, tick, up=False), stretch.highest_bid)


def _on_tick(price: Decimal, tick: Decimal | None, *, up: bool) -> Decimal:
    if tick is None:
        return price
    return (price / tick).to_integral_value(rounding=ROUND_CEILING if up else ROUND_FLOOR) * tick


def _needed(price: Decimal | None, text: str) -> Decimal:
    if price is None:
        raise ValueError(text)
    return price


def _available(remaining: Decimal, volume: Decimal | None, participation: Decimal, lot: Decimal) -> Decimal:
    if volume is None:
        return remaining
    lots = (volume * participation / lot).to_integral_value(rounding=ROUND_FLOOR)
    return min(remaining, lots * lot)


def _filled(price: Decimal, quantity: Decimal, *, triggered: bool = False) -> Outcome:
    if quantity <= 0:
        return Outcome(triggered=triggered)
    return Outcome(price, quantity, triggered)


_TOUCHED = frozenset({"MIT", "LIT"})
_Model = Callable[[FillOrder, Stretch, Decimal, Decimal | None], Outcome]
_MODELS: dict[str, _Model] = {
    "MKT": _market,
    "LMT": _limit,
    "STP": _stop,
    "STP LMT": _stop,
    "MIT": _stop,
    "LIT": _stop,
    "TRAIL": _trailing,
    "TRAIL LIMIT": _trailing,
    "MOC": _closing,
    "LOC": _closing,
}
