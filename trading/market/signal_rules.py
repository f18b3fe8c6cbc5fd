"""What a signal becomes: the order that a strategy's wish stands for, or why it stands for none. Pure.

Owns: the meaning of BUY, SELL, CLOSE and HOLD, sizing, bounds, protective exits.
Leaves: types and prices (``signal_terms``), working orders and exits: the backtest's executor and the live
``SignalExecutor``, which both call this.
Rule:

- HOLD trades nothing. CLOSE takes back what works and flattens; with a quantity it closes that much.
- An unsized BUY or SELL never crosses zero and never adds: it closes what stands against it, or opens from flat, sized
  by the gates' share of equity. While the position, or an order for it, is there already, it asks for nothing.
- A sized one is taken literally; a SELL beyond what is held needs permission to go short, or is cut to what is held.
- What only closes passes quality and bounds. A bound cuts what was sized here and refuses what the strategy sized.

Units: quantities of the instrument, signed in answers; prices per unit; money in the instrument's currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from typing import Any, NamedTuple, Protocol

from strategies.exceptions import ConfigError, OrderDeniedError
from strategies.order_types import Terms
from strategies.quantities import size_to_quantity
from strategies.reactive import Signal, SignalAction
from trading.market.signal_terms import MARKET, is_number, is_plain_market, number_of, on_tick, terms_of

ZERO = Decimal(0)
_ONE = Decimal(1)
_BUY, _SELL, _CLOSE, _HOLD = SignalAction.BUY, SignalAction.SELL, SignalAction.CLOSE, SignalAction.HOLD


@dataclass(frozen=True, slots=True)
class Gates:
    """What bounds one strategy's signals. None is no bound; money in the instrument's currency."""

    fraction: Decimal = _ONE  # of equity, what an unsized entry may cost
    allow_short: bool = False
    minimum_quality: float = 0.0  # per cent
    max_quantity: Decimal | None = None  # of one order
    max_per_trade: Decimal | None = None  # value of one order
    max_per_symbol: Decimal | None = None  # value of one position
    max_buying_power: Decimal | None = None  # value of all positions
    max_open_positions: int | None = None
    are_tight: bool = field(init=False, repr=False, compare=False, default=False)
    """Whether there is any bound beside the permission to go short."""

    def __post_init__(self) -> None:
        bounds = (
            self.max_quantity,
            self.max_per_trade,
            self.max_per_symbol,
            self.max_buying_power,
            self.max_open_positions,
        )
        tight = bool(self.minimum_quality) or any(bound is not None for bound in bounds)
        object.__setattr__(self, "are_tight", tight)


class Facts(Protocol):
    """What is known of strategy and symbol when a signal comes; read only where the rules need it."""

    @property
    def held(self) -> Decimal:
        """Return the strategy's position, signed."""

    @property
    def buying(self) -> Decimal:
        """Return what working orders may still buy, protective exits left out; unsigned."""

    @property
    def selling(self) -> Decimal:
        """Return what working orders may still sell, protective exits left out; unsigned."""

    @property
    def closing(self) -> Decimal:
        """Return what working market orders that close will still close; unsigned."""

    @property
    def price(self) -> Decimal | None:
        """Return the last price."""

    @property
    def equity(self) -> Decimal | None:
        """Return the strategy's equity."""

    @property
    def quality(self) -> float:
        """Return how complete the bars are, 0–100."""

    @property
    def multiplier(self) -> Decimal:
        """Return what one unit of price is worth."""

    @property
    def lot(self) -> Decimal:
        """Return the step of quantities."""

    @property
    def tick(self) -> Decimal | None:
        """Return the step of prices; None leaves prices as they are."""

    @property
    def other_value(self) -> Decimal:
        """Return the unsigned value of positions and working entries in the strategy's other symbols."""

    @property
    def other_positions(self) -> int:
        """Return how many other symbols are held or being entered."""


@dataclass(frozen=True, slots=True)
class KnownFacts:
    """Facts that are at hand already; see ``Facts``."""

    held: Decimal = ZERO
    buying: Decimal = ZERO
    selling: Decimal = ZERO
    closing: Decimal = ZERO
    price: Decimal | None = None
    equity: Decimal | None = None
    quality: float = 100.0
    multiplier: Decimal = _ONE
    lot: Decimal = _ONE
    tick: Decimal | None = None
    other_value: Decimal = ZERO
    other_positions: int = 0


class Plan(NamedTuple):
    """What is to be done.

    ``cancel_working`` first takes back the strategy's working orders in the symbol, protective exits left alone: they
    end with the position. ``quantity`` is signed, 0 when nothing is to be ordered. ``opens`` is the unsigned part of it
    that opens or adds; ``stop_loss`` and ``take_profit`` protect that part, one cancelling the other.
    """

    quantity: Decimal
    terms: Terms = MARKET
    opens: Decimal = ZERO
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    cancel_working: bool = False
    note: str = ""  # what was changed of the wish, in words


def plan_signal(signal: Signal, facts: Facts, gates: Gates) -> Plan | None:
    """Return what a signal asks for; None when it asks for nothing.

    >>> flat, gates = KnownFacts(price=Decimal(50), equity=Decimal(10_000)), Gates(fraction=Decimal("0.5"))
    >>> plan_signal(Signal("AAPL", SignalAction.BUY), flat, gates).quantity
    Decimal('100')
    >>> plan_signal(Signal("AAPL", SignalAction.BUY, 7), flat, gates).quantity
    Decimal('7')
    >>> long = KnownFacts(held=Decimal(100), price=Decimal(50), equity=Decimal(10_000))
    >>> plan_signal(Signal("AAPL", SignalAction.BUY), long, gates) is None  # it is there already
    True
    >>> plan_signal(Signal("AAPL", SignalAction.SELL), long, gates).quantity
    Decimal('-100')
    >>> sold = plan_signal(Signal("AAPL", SignalAction.SELL, 150), long, gates)
    >>> sold.quantity, sold.note
    (Decimal('-100'), 'cut from 150 to the 100 held: going short is not allowed')
    >>> closed = plan_signal(Signal("AAPL", SignalAction.CLOSE), long, gates)
    >>> closed.quantity, closed.cancel_working
    (Decimal('-100'), True)
    >>> plan_signal(Signal("AAPL", SignalAction.HOLD), long, gates) is None
    True
    >>> plan_signal(Signal("AAPL", SignalAction.SELL), flat, gates)
    Traceback (most recent call last):
    ...
    strategies.exceptions.OrderDeniedError: A sale of AAPL from flat goes short, which is not allowed here.

    Exits protect an entry; they must lie on their sides of its price:

    >>> plan = plan_signal(Signal("AAPL", SignalAction.BUY, 10, stop_loss=48.5, take_profit=55), flat, gates)
    >>> plan.opens, plan.stop_loss, plan.take_profit
    (Decimal('10'), Decimal('48.5'), Decimal('55'))

    Raises: OrderDeniedError with the bound that was broken, or what is wrong with the signal.
    """
    action = signal.action
    if action is _HOLD:
        return None
    if action is _CLOSE:
        return _close(signal, facts)
    if action is not _BUY and action is not _SELL:
        raise OrderDeniedError(f"The action {action!r} is none of BUY, SELL, HOLD, CLOSE.", code="unknown_action")
    if type(signal.quantity) is int and not gates.are_tight and is_plain_market(signal):
        plain = _plain(signal.quantity, facts, is_buy=action is _BUY)
        if plain is not None and (action is _BUY or gates.allow_short):
            return plain
    terms = terms_of(signal, facts.tick, is_buy=action is _BUY)
    if signal.quantity is None:
        return _unsized(signal, terms, facts, gates)
    return _sized(signal, terms, facts, gates)


# -- what is wanted


def _close(signal: Signal, facts: Facts) -> Plan | None:
    held = facts.held
    if not held:
        return Plan(ZERO, cancel_working=True) if facts.buying or facts.selling else None
    if signal.quantity is not None:
        quantity = min(_units(signal, facts), abs(held))
        terms = terms_of(signal, facts.tick, is_buy=held < 0)
        return Plan(quantity if held < 0 else -quantity, terms)
    if facts.closing == abs(held):
        return None  # on its way
    return Plan(-held, terms_of(signal, facts.tick, is_buy=held < 0), cancel_working=True)


def _plain(units: int, facts: Facts, *, is_buy: bool) -> Plan | None:
    """Say what ``_sized`` says of the usual signal, a market order of so many units that no gate bounds, in a third of
    the time; None leaves it to ``_sized``.
    """
    if units <= 0 or (facts.lot != 1 and units % facts.lot):
        return None
    change, held = Decimal(units if is_buy else -units), facts.held
    opens = opening_part(held, change) if held else abs(change)
    made: Plan = tuple.__new__(Plan, (change, MARKET, opens, None, None, False, ""))
    return made


def _unsized(signal: Signal, terms: Terms, facts: Facts, gates: Gates) -> Plan | None:
    is_buy = signal.action is _BUY
    held = facts.held
    against = -held if is_buy else held
    working = facts.buying if is_buy else facts.selling
    if against > 0:
        left = against - working
        return Plan(left if is_buy else -left, terms) if left > 0 else None
    if held or working:
        return None
    if not is_buy and not gates.allow_short:
        raise _no_short(signal)
    price = _price(signal, terms, facts)
    quantity = _sized_here(signal, price, facts, gates)
    _check_entry(signal, quantity, price, facts, gates)
    return _entry(signal, terms, quantity if is_buy else -quantity, quantity, price, facts)


def _sized(signal: Signal, terms: Terms, facts: Facts, gates: Gates) -> Plan:
    is_buy = signal.action is _BUY
    quantity = _units(signal, facts)
    held, note = facts.held, ""
    if not is_buy and not gates.allow_short and quantity > held - facts.selling:
        left = held - facts.selling
        if left <= 0:
            raise _no_short(signal) if held <= 0 else _sold_already(signal, held)
        note = f"cut from {quantity:f} to the {left:f} held: going short is not allowed"
        quantity = left
    change = quantity if is_buy else -quantity
    opens = opening_part(held, change)
    if not opens:
        return Plan(change, terms, ZERO, None, None, False, note)
    price = facts.price if terms.limit is None else terms.limit
    _check_entry(signal, opens, price, facts, gates)
    if gates.max_quantity is not None and quantity > gates.max_quantity:
        raise _bound("max_quantity", f"{quantity:f} {signal.symbol}", gates.max_quantity)
    return _entry(signal, terms, change, opens, price, facts, note)


def opening_part(held: Decimal, change: Decimal) -> Decimal:
    """Return how much of a signed change opens or adds, unsigned.

    >>> opening_part(Decimal(100), Decimal(-150)), opening_part(Decimal(-20), Decimal(20))
    (Decimal('50'), Decimal('0'))
    """
    size = abs(change)
    if not held or (held > 0) is (change > 0):
        return size
    closable = abs(held)
    return size - closable if size > closable else ZERO


def _entry(
    signal: Signal,
    terms: Terms,
    change: Decimal,
    opens: Decimal,
    price: Decimal | None,
    facts: Facts,
    note: str = "",
) -> Plan:
    if signal.stop_loss is None and signal.take_profit is None:
        return Plan(change, terms, opens, None, None, False, note)
    is_buy = change > 0
    stop_loss = number_of(signal, "stop_loss", signal.stop_loss)
    take_profit = number_of(signal, "take_profit", signal.take_profit)
    if stop_loss is not None:  # the earlier trigger: up for what a sale leaves, down for what a purchase covers
        stop_loss = on_tick(stop_loss, facts.tick, up=is_buy)
    if take_profit is not None:
        take_profit = on_tick(take_profit, facts.tick, up=is_buy)
    reference = terms.stop if terms.order_type in ("STP", "STP LMT", "MIT", "LIT") else price
    _check_sides(signal, is_buy, reference, stop_loss, take_profit)
    return Plan(change, terms, opens, stop_loss, take_profit, note=note)


def _check_sides(
    signal: Signal, is_buy: bool, price: Decimal | None, stop_loss: Decimal | None, take_profit: Decimal | None
) -> None:
    below, above = (stop_loss, take_profit) if is_buy else (take_profit, stop_loss)
    for low, high in ((below, price), (price, above), (below, above)):
        if low is not None and high is not None and low >= high:
            side = "purchase" if is_buy else "short sale"
            raise OrderDeniedError(
                f"The exits of a {side} of {signal.symbol} at {price} must lie on both sides of it: "
                f"stop_loss {stop_loss}, take_profit {take_profit}.",
                code="bad_exits",
            )


# -- how much


def _units(signal: Signal, facts: Facts) -> Decimal:
    """The signal's own quantity, checked."""
    given: Any = signal.quantity
    quantity: Decimal | None
    if type(given) is int:  # the usual case; True is no quantity
        quantity = Decimal(given)
    else:
        quantity = given if isinstance(given, Decimal) else Decimal(str(given)) if is_number(given) else None
    if quantity is None or not quantity.is_finite() or quantity <= 0:
        raise OrderDeniedError(
            f"The quantity {given!r} of {signal.symbol} is no number above zero; the action says the side.",
            code="bad_quantity",
        )
    if quantity % facts.lot:
        raise OrderDeniedError(f"{quantity:f} {signal.symbol} is no multiple of {facts.lot:f}.", code="bad_lot")
    return quantity


def _sized_here(signal: Signal, price: Decimal, facts: Facts, gates: Gates) -> Decimal:
    """The share of equity in whole lots, cut to the bounds."""
    equity = facts.equity
    if equity is None:
        raise OrderDeniedError(
            f"The equity is not known, so {signal.symbol} cannot be sized; give a quantity.", code="no_equity"
        )
    value = facts.multiplier * price
    quantity = size_to_quantity(equity, gates.fraction, price, facts.multiplier)
    bounds = [gates.max_quantity, _room(gates.max_per_trade, ZERO, value), _room(gates.max_per_symbol, ZERO, value)]
    bounds.append(
        _room(gates.max_buying_power, facts.other_value if gates.max_buying_power is not None else ZERO, value)
    )
    quantity = min([quantity, *(bound for bound in bounds if bound is not None)])
    quantity = (quantity / facts.lot).to_integral_value(rounding=ROUND_FLOOR) * facts.lot
    if quantity <= 0:
        raise OrderDeniedError(
            f"Equity and bounds do not buy one lot of {signal.symbol} at {price}.", code="zero_quantity"
        )
    return quantity


def _room(bound: Decimal | None, used: Decimal, value: Decimal) -> Decimal | None:
    return None if bound is None else max(bound - used, ZERO) / value


def _price(signal: Signal, terms: Terms, facts: Facts) -> Decimal:
    price = facts.price if terms.limit is None else terms.limit
    if price is None or price <= 0:
        raise OrderDeniedError(f"{signal.symbol} has no usable price ({price}) to size with.", code="no_price")
    return price


# -- whether at all


def _check_entry(signal: Signal, opens: Decimal, price: Decimal | None, facts: Facts, gates: Gates) -> None:
    """Refuse an entry beyond the gates."""
    if gates.minimum_quality and facts.quality < gates.minimum_quality:
        raise OrderDeniedError(
            f"The bars of {signal.symbol} are {facts.quality:.1f} % complete, below {gates.minimum_quality:g} %.",
            code="low_quality",
        )
    if gates.max_open_positions is not None and not facts.held and facts.other_positions >= gates.max_open_positions:
        raise _bound("max_open_positions", f"{signal.symbol} beside {facts.other_positions}", gates.max_open_positions)
    if gates.max_per_trade is None and gates.max_per_symbol is None and gates.max_buying_power is None:
        return
    _check_value(signal, opens, price, facts, gates)


def _check_value(signal: Signal, opens: Decimal, price: Decimal | None, facts: Facts, gates: Gates) -> None:
    if price is None:
        raise OrderDeniedError(f"{signal.symbol} has no price to hold its bounds against.", code="no_price")
    unit = abs(price) * facts.multiplier
    value = opens * unit
    is_buy = signal.action is _BUY
    same_side = max(facts.held, ZERO) + facts.buying if is_buy else max(-facts.held, ZERO) + facts.selling
    after = value + same_side * unit
    if gates.max_per_trade is not None and value > gates.max_per_trade:
        raise _bound("max_per_trade", f"{value:.2f} of {signal.symbol}", gates.max_per_trade)
    if gates.max_per_symbol is not None and after > gates.max_per_symbol:
        raise _bound("max_per_symbol", f"{after:.2f} of {signal.symbol}", gates.max_per_symbol)
    if gates.max_buying_power is not None and after + facts.other_value > gates.max_buying_power:
        raise _bound("max_buying_power", f"{after + facts.other_value:.2f} in all", gates.max_buying_power)


def _bound(name: str, what: str, bound: Decimal | int) -> OrderDeniedError:
    return OrderDeniedError(f"{what} is more than {name} allows ({bound}).", code=name, limit=str(bound))


def _no_short(signal: Signal) -> OrderDeniedError:
    return OrderDeniedError(
        f"A sale of {signal.symbol} from flat goes short, which is not allowed here.", code="short_not_allowed"
    )


def _sold_already(signal: Signal, held: Decimal) -> OrderDeniedError:
    return OrderDeniedError(f"The {held:f} {signal.symbol} held are being sold already.", code="short_not_allowed")


# -- the gates of a strategy


def gates_of(config: Mapping[str, Any], *, allow_short: bool, trading: Mapping[str, Any] | None = None) -> Gates:
    """Return a strategy's gates: its own parameters, within what the account and the session (``trading``) allow.

    ``position_size`` is the share of equity of an unsized entry, never above ``max_position_size``; ``allow_short``
    must be allowed by both sides; ``min_quality`` and ``max_quantity`` are the strategy's, the money bounds and
    ``max_open_positions`` the session's.

    >>> gates = gates_of({"position_size": 0.5, "max_position_size": 0.25}, allow_short=True)
    >>> gates.fraction, gates.allow_short
    (Decimal('0.25'), True)
    >>> gates_of({"allow_short": False}, allow_short=True).allow_short
    False

    Raises: ConfigError (bad_gates) naming the parameter.
    """
    bounds = trading or {}
    most = _setting(config, "max_position_size")
    most = _ONE if most is None else most
    size = _setting(config, "position_size")
    positions = _setting(bounds, "max_open_positions")
    return Gates(
        fraction=most if size is None else min(size, most),
        allow_short=allow_short and bool(config.get("allow_short", True)),
        minimum_quality=float(_setting(config, "min_quality") or 0),
        max_quantity=_setting(config, "max_quantity"),
        max_per_trade=_setting(bounds, "max_per_trade"),
        max_per_symbol=_setting(bounds, "max_per_symbol"),
        max_buying_power=_setting(bounds, "max_buying_power"),
        max_open_positions=None if positions is None else int(positions),
    )


def _setting(values: Mapping[str, Any], name: str) -> Decimal | None:
    value = values.get(name)
    if value is None:
        return None
    number = value if isinstance(value, Decimal) else Decimal(str(value)) if is_number(value) else None
    if number is None or not number.is_finite() or number < 0:
        raise ConfigError(f"{name} is {value!r}; a number, not below zero, is needed.", code="bad_gates")
    return number
