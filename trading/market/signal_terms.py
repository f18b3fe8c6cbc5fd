"""How the order of a signal is worked: its type, its prices on the tick, its time in force. Pure.

Owns: reading a signal's fields into the terms that every order has (``strategies.order_types``).
Leaves: whether and how much (``signal_rules``).
Rule: a limit is rounded to the tick that pays less, a trigger to the one that comes earlier.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from strategies.exceptions import OrderDeniedError
from strategies.order_types import TYPES, Terms, check_terms
from strategies.reactive import Signal

MARKET = Terms()
"""A market order of the day."""


def terms_of(signal: Signal, tick: Decimal | None, *, is_buy: bool) -> Terms:
    """Return how the order is to be worked: the signal's own type, else LMT with a price, else MKT.

    >>> from strategies.reactive import SignalAction
    >>> terms_of(Signal("AAPL", SignalAction.BUY, price=97.987), Decimal("0.01"), is_buy=True).limit
    Decimal('97.98')

    Raises: OrderDeniedError for prices and times that do not belong to the type, or are no numbers.
    """
    kind = signal.order_type
    is_market = signal.price is None and kind in (None, "MKT") and signal.tif == "DAY" and signal.good_till is None
    if is_market and _is_plain(signal):
        return MARKET
    if kind is None:
        if not _is_plain(signal):
            raise OrderDeniedError(
                f"A signal for {signal.symbol} with stop or trail names its order_type: STP, STP LMT, TRAIL …; "
                "an exit that protects an entry is its stop_loss.",
                code="order_type_missing",
            )
        kind = "MKT" if signal.price is None else "LMT"
    row = TYPES.get(kind)
    limit = number_of(signal, "price", signal.price) if row is not None and row.limit else None
    stop = number_of(signal, "stop", signal.stop)
    # A stop sells below the market: the earlier trigger is the higher one. If-touched orders mirror it.
    up = is_buy is (kind in ("MIT", "LIT"))
    terms = Terms(
        kind,
        limit=None if limit is None else on_tick(limit, tick, up=not is_buy),
        stop=None if stop is None else on_tick(stop, tick, up=up),
        trail=number_of(signal, "trail", signal.trail),
        trail_percent=number_of(signal, "trail_percent", signal.trail_percent),
        limit_offset=number_of(signal, "limit_offset", signal.limit_offset),
        tif=signal.tif,
        good_till=signal.good_till,
    )
    check_terms(terms)
    return terms


def is_plain_market(signal: Signal) -> bool:
    """Tell whether a signal is a market order of the day without exits: what most signals are."""
    return (
        signal.price is None
        and signal.stop_loss is None
        and signal.take_profit is None
        and signal.order_type in (None, "MKT")
        and signal.tif == "DAY"
        and signal.stop is None
        and signal.trail is None
        and signal.trail_percent is None
        and signal.limit_offset is None
        and signal.good_till is None
    )


def _is_plain(signal: Signal) -> bool:
    return signal.stop is None and signal.trail is None and signal.trail_percent is None and signal.limit_offset is None


def on_tick(price: Decimal, tick: Decimal | None, *, up: bool) -> Decimal:
    """Return the price on the tick beside it.

    >>> on_tick(Decimal("10.037"), Decimal("0.05"), up=True), on_tick(Decimal("10.05"), Decimal("0.05"), up=True)
    (Decimal('10.05'), Decimal('10.05'))
    """
    if tick is None:
        return price
    return (price / tick).to_integral_value(rounding=ROUND_CEILING if up else ROUND_FLOOR) * tick


def is_number(value: object) -> bool:
    """Tell whether a value is an int or a float; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number_of(signal: Signal, name: str, value: Any) -> Decimal | None:
    """Return a price of the signal as people write it; ``name`` is its field.

    Raises: OrderDeniedError (bad_price) for what is no finite number.
    """
    if value is None:
        return None
    number = value if isinstance(value, Decimal) else Decimal(str(value)) if is_number(value) else None
    if number is None or not number.is_finite():
        raise OrderDeniedError(f"{name} of a signal for {signal.symbol} is {value!r}, no price.", code="bad_price")
    return number
