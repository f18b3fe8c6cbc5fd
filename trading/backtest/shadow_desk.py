"""The order port of a replay: facts of the ledger's past, orders that are wished for and not sent.

Owns: which moment of the ledger a signal is decided on, and which live order a wish belongs to. Leaves: the record
(``shadow_record``), comparing (``shadow``).
Rule: live, a signal meets the books some moments after its bar. So a wish is decided on the books right before the live
order that it belongs to, or some seconds after the bar where there is none. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from portfolio.ledger.money import plain
from strategies.bar_series import moment_of
from strategies.reactive import Signal, StrategyContext
from trading.backtest.shadow_record import ZERO, LiveOrder, Record
from trading.market.signal_rules import Gates, KnownFacts, Plan

_SECOND_NS = 1_000_000_000
EARLY_NS = 2 * _SECOND_NS  # clocks of IB and of the engine's machine
LATE_NS, DAY_LATE_NS = 15 * _SECOND_NS, 600 * _SECOND_NS  # bars of days are fetched after the close
_WINDOW_NS = 60 * _SECOND_NS
_LAG_NS = 2 * _SECOND_NS
_ANY_EQUITY = Decimal(10) ** 12  # for a quantity that is then not compared


@dataclass(slots=True)
class Wished:
    """One order that the replay would have placed. ``quantity`` None: it hangs on an equity that is not known."""

    at_ns: int
    symbol: str
    side: str
    quantity: Decimal | None
    order_type: str
    limit: Decimal | None
    stop: Decimal | None
    trail: Decimal | None
    trail_percent: Decimal | None
    tif: str
    stop_loss: Decimal | None
    take_profit: Decimal | None
    is_sized_here: bool  # by the gates' share of equity
    is_intraday: bool
    live: LiveOrder | None = None  # the order that it belongs to

    @property
    def text(self) -> str:
        """Return it in words."""
        prices = [("at", self.limit), ("stop", self.stop), ("exit", self.take_profit), ("exit", self.stop_loss)]
        said = "".join(f" {name} {plain(price)}" for name, price in prices if price is not None)
        quantity = "?" if self.quantity is None else plain(self.quantity)
        return f"{moment_of(self.at_ns):%H:%M:%S} {self.side} {quantity} {self.order_type}{said}"


class ShadowDesk:
    """Takes the wishes of one day."""

    def __init__(self, record: Record, first_ns: int, last_ns: int) -> None:
        self.wishes: list[Wished] = []
        self.unsized = 0
        self._record = record
        self._free = record.decided(first_ns - EARLY_NS, last_ns + DAY_LATE_NS)
        self._now_ns, self._is_intraday = 0, True
        self._context: StrategyContext
        self._withdrawn: dict[str, bool] = {}  # symbols of this turn, and whether exits alone were taken back
        self._placed_ns: dict[str, int] = {}  # when the last live order of this turn was placed, by symbol

    def turn(self, now_ns: int, context: StrategyContext, is_intraday: bool) -> None:
        """Take the moment whose signals come now."""
        if now_ns != self._now_ns:
            self._withdrawn, self._placed_ns = {}, {}
        self._now_ns, self._context, self._is_intraday = now_ns, context, is_intraday

    # -- facts

    def _next_live(self, symbol: str) -> LiveOrder | None:
        """The first live order of the symbol after this bar that belongs to no wish yet."""
        window = _WINDOW_NS if self._is_intraday else DAY_LATE_NS
        first, last = self._now_ns - EARLY_NS, self._now_ns + window
        return next((one for one in self._free if one.symbol == symbol and first <= one.placed_ns < last), None)

    def _as_of(self, symbol: str) -> int:
        live = self._next_live(symbol)
        if live is not None:
            return live.placed_ns - 1
        return max(self._now_ns + _LAG_NS, self._placed_ns.get(symbol, 0) + 1)

    def _working(self, symbol: str, at_ns: int, *, exits: bool) -> list[tuple[LiveOrder, Decimal]]:
        gone = self._withdrawn.get(symbol)
        if gone is not None and (exits or not gone):
            return []
        return [
            (one, left)
            for one, left in self._record.working(at_ns)
            if one.symbol == symbol and bool(one.parent_ref) is exits
        ]

    async def facts(self, symbol: str, interval: str, gates: Gates) -> KnownFacts:
        """Return what the ledger knew when this signal was carried out."""
        at_ns = self._as_of(symbol)
        held, entries = self._record.held(symbol, at_ns), self._working(symbol, at_ns, exits=False)
        against = "SELL" if held > 0 else "BUY"
        others = gates.max_buying_power is not None or gates.max_open_positions is not None
        value, count = self._others(symbol, interval, at_ns) if others else (ZERO, 0)
        return KnownFacts(
            held=held,
            buying=sum((left for one, left in entries if one.side == "BUY"), ZERO),
            selling=sum((left for one, left in entries if one.side == "SELL"), ZERO),
            closing=sum((left for one, left in entries if one.side == against and one.order_type == "MKT"), ZERO)
            if held
            else ZERO,
            price=self._price(symbol, interval),
            equity=self._record.equity_at(at_ns) or _ANY_EQUITY,
            quality=self._context.get_bar_quality(symbol, interval),
            other_value=value,
            other_positions=count,
        )

    def _price(self, symbol: str, interval: str) -> Decimal | None:
        bars = self._context.get_bars(symbol, interval)
        return Decimal(repr(float(bars.last_close))) if len(bars) else None

    def _others(self, symbol: str, interval: str, at_ns: int) -> tuple[Decimal, int]:
        """Value of the other symbols that are held, and how many they are; one without a price counts alone."""
        names = [one for one in self._record.symbols_held(at_ns) if one != symbol]
        prices = {name: self._price(name, interval) for name in names}
        value = sum((abs(self._record.held(name, at_ns)) * (prices[name] or ZERO) for name in names), ZERO)
        return value, len(names)

    # -- orders

    async def has_exits(self, symbol: str) -> bool:
        """Tell whether protective exits worked."""
        return bool(self._working(symbol, self._as_of(symbol), exits=True))

    async def withdraw(self, symbol: str, *, exits_only: bool) -> None:
        """Leave the orders out that would have been taken back."""
        self._withdrawn[symbol] = exits_only and self._withdrawn.get(symbol, True)

    async def shrink_exits(self, symbol: str, quantity: Decimal) -> None:
        """Do nothing: exits are compared as they were placed."""

    async def place(self, symbol: str, plan: Plan, signal: Signal) -> None:
        """Note the orders that would have been placed: what closes first, then the entry with its exits."""
        has_exits = plan.stop_loss is not None or plan.take_profit is not None
        opens = plan.opens if plan.quantity > 0 else -plan.opens
        rest = plan.quantity - opens if has_exits else plan.quantity
        is_sized_here = signal.quantity is None and bool(plan.opens)
        if rest:
            self._note(symbol, plan, rest, is_sized_here=is_sized_here, has_exits=False)
        if has_exits:
            self._note(symbol, plan, opens, is_sized_here=is_sized_here, has_exits=True)

    def _note(self, symbol: str, plan: Plan, change: Decimal, *, is_sized_here: bool, has_exits: bool) -> None:
        live = self._next_live(symbol)
        at_ns = self._as_of(symbol)
        is_unknown = is_sized_here and self._record.equity_at(at_ns) is None
        self.unsized += is_unknown
        terms = plan.terms
        self.wishes.append(
            Wished(
                at_ns=self._now_ns,
                symbol=symbol,
                side="BUY" if change > 0 else "SELL",
                quantity=None if is_unknown else abs(change),
                order_type=terms.order_type,
                limit=terms.limit,
                stop=terms.stop,
                trail=terms.trail,
                trail_percent=terms.trail_percent,
                tif=terms.tif,
                stop_loss=plan.stop_loss if has_exits else None,
                take_profit=plan.take_profit if has_exits else None,
                is_sized_here=is_sized_here,
                is_intraday=self._is_intraday,
                live=live,
            )
        )
        if live is not None:
            self._free.remove(live)
            self._placed_ns[symbol] = live.placed_ns
