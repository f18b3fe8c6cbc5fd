"""The paper account: cash per currency, positions at IB's average cost, margin and profit.

Owns: what an execution does to cash and position, and every figure derived from them.
Leaves: prices and exchange rates (given as functions), texts of account values (``account_values``).
Rule: cash moves by price times quantity less commission, in the contract's currency; FX moves both currencies and its
position is a mere memo that counts nowhere in equity. A future is not paid for: ``cash`` is booked like a stock's, and
what is reported as cash has the value of the futures in it, so that it moves by the commission and the daily gain.
Average cost contains commission and multiplier, as IB's does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from trading.gateway.model import Contract, WhatIf

ZERO = Decimal(0)
INITIAL_MARGIN = Decimal("0.50")
MAINTENANCE_LONG = Decimal("0.25")
MAINTENANCE_SHORT = Decimal("0.30")
FX_MARGIN = Decimal("0.03")

MarkOf = Callable[[int], Decimal]  # conId → price
RateOf = Callable[[str], Decimal]  # currency → value of one unit in the account's currency


@dataclass(slots=True)
class Holding:
    """One contract's position; stays listed at quantity 0 until the day ends, for its realised profit."""

    contract: Contract
    quantity: Decimal = ZERO
    average_cost: Decimal = ZERO  # per unit, with commission and multiplier
    realized: Decimal = ZERO  # today

    @property
    def multiplier(self) -> Decimal:
        """Units of the underlying per contract."""
        return Decimal(self.contract.multiplier or 1)


@dataclass(frozen=True, slots=True)
class Trade:
    """What the account needs of an execution. ``quantity`` is signed."""

    contract: Contract
    quantity: Decimal
    price: Decimal
    commission: Decimal


@dataclass(frozen=True, slots=True)
class Figures:
    """The account at one moment, in its own currency."""

    net_liquidation: Decimal
    total_cash: Decimal
    gross_positions: Decimal
    stock_value: Decimal
    initial_margin: Decimal
    maintenance_margin: Decimal
    unrealized: Decimal
    realized: Decimal

    @property
    def available(self) -> Decimal:
        """What may still be bound as initial margin."""
        return self.net_liquidation - self.initial_margin

    @property
    def excess(self) -> Decimal:
        """Equity above maintenance margin."""
        return self.net_liquidation - self.maintenance_margin


@dataclass(slots=True)
class Account:
    """Cash and positions of the one paper account."""

    account_id: str
    currency: str
    cash: dict[str, Decimal] = field(default_factory=dict)  # futures at notional
    holdings: dict[int, Holding] = field(default_factory=dict)
    day_start_equity: Decimal | None = None  # None until the first valuation of the day

    def apply(self, trade: Trade) -> Decimal | None:
        """Book an execution; return the realised profit, None when it closed nothing."""
        contract = trade.contract
        holding = self.holdings.get(contract.con_id)
        if holding is None:
            holding = self.holdings[contract.con_id] = Holding(contract)
        self.move_cash(contract.currency, -trade.quantity * trade.price * holding.multiplier - trade.commission)
        if contract.sec_type == "CASH":
            self.move_cash(contract.symbol, trade.quantity)
        realized = _fold(holding, trade)
        if realized is not None:
            holding.realized += realized
        return realized

    def move_cash(self, currency: str, amount: Decimal) -> None:
        """Change the balance of a currency."""
        self.cash[currency] = self.cash.get(currency, ZERO) + amount

    def move_position(self, contract: Contract, quantity: Decimal) -> None:
        """Change a position without a trade; what it cost in sum stays, unless nothing is left."""
        holding = self.holdings.setdefault(contract.con_id, Holding(contract))
        cost = holding.quantity * holding.average_cost
        holding.quantity += quantity
        holding.average_cost = cost / holding.quantity if holding.quantity else ZERO

    def end_day(self) -> None:
        """Forget what counts by the day."""
        self.day_start_equity = None
        self.holdings = {key: h for key, h in self.holdings.items() if h.quantity}
        for holding in self.holdings.values():
            holding.realized = ZERO

    # valuation

    def figures(self, mark_of: MarkOf, rate_of: RateOf) -> Figures:
        """Value everything at the present marks and rates."""
        cash = sum((amount * rate_of(ccy) for ccy, amount in self.cash.items()), ZERO)
        gross = stock = initial = maintenance = unrealized = realized = ZERO
        for holding in self.holdings.values():
            rate = rate_of(holding.contract.currency)
            realized += holding.realized * rate
            if not holding.quantity:
                continue
            value = holding.quantity * mark_of(holding.contract.con_id) * holding.multiplier * rate
            unrealized += value - holding.quantity * holding.average_cost * rate
            initial += abs(value) * _initial_rate(holding.contract)
            maintenance += abs(value) * _maintenance_rate(holding.contract, holding.quantity)
            if holding.contract.sec_type == "FUT":
                cash += value
            elif holding.contract.sec_type != "CASH":
                gross += abs(value)
                stock += value
        return Figures(cash + stock, cash, gross, stock, initial, maintenance, unrealized, realized)

    def what_if(self, trades: Sequence[Trade], mark_of: MarkOf, rate_of: RateOf) -> WhatIf:
        """Margin and equity before and after trades that do not happen: one, or one for each leg of a combination."""
        before = self.figures(mark_of, rate_of)
        initial = maintenance = equity = ZERO
        for trade in trades:
            rate, contract = rate_of(trade.contract.currency), trade.contract
            held = self.holdings.get(contract.con_id)
            quantity = held.quantity if held else ZERO
            unit = mark_of(contract.con_id) * Decimal(contract.multiplier or 1) * rate
            after = quantity + trade.quantity
            initial += (abs(after) - abs(quantity)) * unit * _initial_rate(contract)
            maintenance += unit * (
                abs(after) * _maintenance_rate(contract, after) - abs(quantity) * _maintenance_rate(contract, quantity)
            )
            equity -= trade.commission * rate
        return WhatIf(
            init_margin_before=before.initial_margin,
            init_margin_change=initial,
            init_margin_after=before.initial_margin + initial,
            maint_margin_before=before.maintenance_margin,
            maint_margin_change=maintenance,
            maint_margin_after=before.maintenance_margin + maintenance,
            equity_before=before.net_liquidation,
            equity_change=equity,
            equity_after=before.net_liquidation + equity,
            commission=sum((trade.commission for trade in trades), ZERO),
            currency=trades[0].contract.currency,
        )


def _fold(holding: Holding, trade: Trade) -> Decimal | None:
    """Move one holding by one trade; a trade through zero closes first and opens with the rest."""
    unit = trade.price * holding.multiplier
    quantity, size = trade.quantity, abs(trade.quantity)
    direction = 1 if quantity > 0 else -1
    closing = min(size, abs(holding.quantity)) if holding.quantity * quantity < 0 else ZERO
    opening = size - closing
    realized = None
    if closing:
        fee = trade.commission * closing / size
        realized = -direction * closing * (unit - holding.average_cost) - fee
        holding.quantity += direction * closing
        if not holding.quantity:
            holding.average_cost = ZERO
    if opening:
        fee = trade.commission * opening / size
        held = holding.quantity * holding.average_cost
        holding.quantity += direction * opening
        holding.average_cost = (held + direction * opening * unit + fee) / holding.quantity
    return realized


def _initial_rate(contract: Contract) -> Decimal:
    return FX_MARGIN if contract.sec_type == "CASH" else INITIAL_MARGIN


def _maintenance_rate(contract: Contract, quantity: Decimal) -> Decimal:
    if contract.sec_type == "CASH":
        return FX_MARGIN
    return MAINTENANCE_LONG if quantity >= 0 else MAINTENANCE_SHORT
