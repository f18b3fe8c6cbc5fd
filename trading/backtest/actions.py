"""Splits and dividends of a run: what they do to positions, resting orders and cash.

Owns: when each takes place on the clock, and its arithmetic. Leaves: prices, which come as they were traded.
Rule: an action takes place before the first bar that begins at or after its moment. A split keeps the basis; units that
it does not leave whole are paid out at the last close. A dividend is paid on what is held, and charged to a short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from typing import NamedTuple

from portfolio.ledger.money import exact
from strategies.bar_series import Nanos
from strategies.exceptions import ConfigError
from strategies.order_types import Terms
from trading.backtest.book import Holding
from trading.backtest.contracts import CorporateAction
from trading.backtest.desk import Desk
from trading.backtest.lane import Lane
from trading.backtest.orders import WorkingOrder
from trading.market.signal_terms import on_tick

ZERO = Decimal(0)


class DatedAction(NamedTuple):
    """An action and the index of the moment before whose bars it takes place."""

    at: int
    action: CorporateAction


def dated(actions: Iterable[CorporateAction], lanes: Mapping[str, Lane], moments: Nanos) -> list[DatedAction]:
    """Return the actions that fall into a run, in its order.

    Raises: ConfigError (bad_action) for one that is neither a split nor a dividend.
    """
    found = []
    for action in actions:
        if (action.ratio is None) == (action.amount is None) or (action.ratio is not None and action.ratio <= 0):
            raise ConfigError(
                f"The action of {action.symbol} has ratio {action.ratio} and amount {action.amount}: a split has a "
                "ratio above zero, a dividend an amount.",
                code="bad_action",
            )
        lane = lanes.get(action.symbol)
        if lane is None:
            continue
        track = lane.track
        row = int(track.starts.searchsorted(action.at_ns))
        if track.first <= row < track.last:
            found.append(DatedAction(int(moments.searchsorted(track.ends[row])), action))
    return sorted(found, key=lambda each: (each.at, each.action.at_ns, each.action.symbol))


def apply(action: CorporateAction, holdings: Sequence[Holding], desk: Desk) -> list[str]:
    """Do an action to every strategy's books; return what is worth a warning."""
    if action.ratio is not None:
        return [text for holding in holdings for text in _split(holding, action.ratio, desk)]
    for holding in holdings:
        if holding.held and action.amount is not None:
            holding.book.pay(exact(holding.held * action.amount * holding.multiplier), desk.at)
    return []


def _split(holding: Holding, ratio: Decimal, desk: Desk) -> list[str]:
    told = []
    if holding.held:
        whole = _lots(abs(holding.held) * ratio, holding.lot)
        part = abs(holding.held) * ratio - whole
        sign = 1 if holding.held > 0 else -1
        price = holding.price
        holding.held = holding.held * ratio
        if part and price is not None:
            holding.book.pay_out(holding, sign * part, exact(price / ratio), desk.at)
            told.append(
                f"{holding.lane.symbol}: the split {ratio} for 1 left {part:f} units, paid out at {price / ratio:.4f}."
            )
        holding.held_f = float(holding.held)
        holding.steps.add(desk.at, holding.held_f)
    for order in [*holding.orders, *holding.exits]:
        _split_order(order, ratio)
    for order in [order for order in (*holding.orders, *holding.exits) if order.remaining <= 0]:
        if order in holding.orders or order in holding.exits:
            desk.end(order, "cancelled", desk.now_ns, "the split left nothing of it")
    if holding.exits:
        desk.fit_exits(holding, desk.now_ns)
    return told


def _split_order(order: WorkingOrder, ratio: Decimal) -> None:
    """Keep what an order is worth: its quantity times the ratio, its prices divided by it."""
    lot, tick = order.holding.lot, order.holding.tick
    order.filled = order.filled * ratio
    order.remaining = _lots(order.remaining * ratio, lot)
    order.closes = _lots(order.closes * ratio, lot)
    order.quantity = order.filled + order.remaining
    order.size_f = float(order.quantity)
    limit_up, stop_up = not order.is_buy, not order.is_buy
    order.reprice(
        limit=_divided(order.limit, ratio, tick, up=limit_up),
        stop=_divided(order.stop, ratio, tick, up=stop_up),
        ratio=ratio,
    )
    order.exits = tuple(
        one._replace(terms=_split_terms(one.terms, ratio, tick, up=order.is_buy)) for one in order.exits
    )
    if order.watcher is not None:
        order.watcher.resized(order.quantity)


def _split_terms(terms: Terms, ratio: Decimal, tick: Decimal | None, *, up: bool) -> Terms:
    return replace(
        terms,
        limit=_divided(terms.limit, ratio, tick, up=up),
        stop=_divided(terms.stop, ratio, tick, up=up),
        trail=None if terms.trail is None else terms.trail / ratio,
        limit_offset=None if terms.limit_offset is None else terms.limit_offset / ratio,
    )


def _divided(price: Decimal | None, ratio: Decimal, tick: Decimal | None, *, up: bool) -> Decimal | None:
    return None if price is None else on_tick(exact(price / ratio), tick, up=up)


def _lots(quantity: Decimal, lot: Decimal) -> Decimal:
    return (quantity / lot).to_integral_value(rounding=ROUND_FLOOR) * lot
