"""The paper account: cash per currency, positions at IB's average cost, margin and profit.

Owns: what an execution does to cash and position, and every figure derived from them.
Leaves: prices and exchange rates (given as functions), margin (``margins``), texts of account values
(``account_values``).
Rule: cash moves by price times quantity less commission, in the contract's currency; FX moves both currencies and its
position is a mere memo that counts nowhere in equity. A future is not paid for: ``cash`` is booked like a stock's, and
what is reported as cash has the value of the futures in it, so that it moves by the commission and the daily gain. An
expired contract leaves at its settlement price; an exercised option takes its premium into the shares' cost.
Average cost contains commission and multiplier, as IB's does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from trading.gateway.margins import INITIAL_MARGIN, margin_of
from trading.gateway.model import Contract, WhatIf

__all__ = ["INITIAL_MARGIN", "Account", "Figures", "Holding", "MarkOf", "RateOf", "Trade"]
ZERO = Decimal(0)

MarkOf = Callable[[int], Decimal]  # conId → price
RateOf = Callable[[str], Decimal]  # currency → value of one unit in the account's currency


@dataclass(slots=True)
class Holding:
    """One contract's position; stays listed at quantity 0 until the day ends, for its realised profit."""

    contract: Contract
    quantity: Decimal = ZERO
    average_cost: Decimal = ZERO  # per unit, with commission and multiplier
    realized: Decimal = ZERO  # today


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
    option_value: Decimal
    futures_gain: Decimal  # unrealised, part of the cash
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
    magnifiers: Mapping[int, int] = field(default_factory=dict)  # conId → parts of the currency that prices are in

    def unit(self, contract: Contract) -> Decimal:
        """Money for one contract at a price of 1: the multiplier, in whole units of the currency."""
        return Decimal(contract.multiplier or 1) / self.magnifiers.get(contract.con_id, 1)

    def value(self, holding: Holding, mark: Decimal) -> Decimal:
        """What a holding is worth, signed, in its currency."""
        return holding.quantity * mark * self.unit(holding.contract)

    def apply(self, trade: Trade) -> Decimal | None:
        """Book an execution; return the realised profit, None when it closed nothing."""
        contract = trade.contract
        holding = self.holdings.get(contract.con_id)
        if holding is None:
            holding = self.holdings[contract.con_id] = Holding(contract)
        unit = self.unit(contract)
        self.move_cash(contract.currency, -trade.quantity * trade.price * unit - trade.commission)
        if contract.sec_type == "CASH":
            self.move_cash(contract.symbol, trade.quantity)
        realized = _fold(holding, trade, unit)
        if realized is not None:
            holding.realized += realized
        return realized

    def settle(self, con_id: int, price: Decimal) -> None:
        """End an expired contract at its settlement price."""
        holding = self.holdings[con_id]
        self.apply(Trade(holding.contract, -holding.quantity, price, ZERO))

    def exercise(self, con_id: int, quantity: Decimal, underlying: Contract) -> None:
        """Turn ``quantity`` contracts, signed as they are held, into shares at the strike; nothing is realised."""
        option = self.holdings[con_id]
        contract = option.contract
        shares = quantity * Decimal(contract.multiplier or 1) * (1 if contract.right == "C" else -1)
        paid = shares * Decimal(str(contract.strike))
        premium = quantity * option.average_cost
        option.quantity -= quantity
        if not option.quantity:
            option.average_cost = ZERO
        self.move_cash(contract.currency, -paid)
        stock = self.holdings.setdefault(underlying.con_id, Holding(underlying))
        realized = _fold(stock, Trade(underlying, shares, (paid + premium) / shares, ZERO), self.unit(underlying))
        stock.realized += realized or ZERO

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
        gross = stock = options = gain = initial = maintenance = unrealized = realized = ZERO
        for holding in self.holdings.values():
            rate = rate_of(holding.contract.currency)
            realized += holding.realized * rate
            if not holding.quantity:
                continue
            contract = holding.contract
            value = self.value(holding, mark_of(contract.con_id)) * rate
            profit = value - holding.quantity * holding.average_cost * rate
            unrealized += profit
            bound = margin_of(contract, holding.quantity, self.unit(contract), mark_of)
            initial += bound.initial * rate
            maintenance += bound.maintenance * rate
            if contract.sec_type == "FUT":
                cash += value
                gain += profit
            elif contract.sec_type != "CASH":
                gross += abs(value)
                if contract.sec_type == "OPT":
                    options += value
                else:
                    stock += value
        liquidation = cash + stock + options
        return Figures(liquidation, cash, gross, stock, options, gain, initial, maintenance, unrealized, realized)

    def what_if(self, trades: Sequence[Trade], mark_of: MarkOf, rate_of: RateOf) -> WhatIf:
        """Margin and equity before and after trades that do not happen: one, or one for each leg of a combination."""
        before = self.figures(mark_of, rate_of)
        initial = maintenance = equity = ZERO
        for trade in trades:
            rate, contract = rate_of(trade.contract.currency), trade.contract
            held = self.holdings.get(contract.con_id)
            quantity, unit = held.quantity if held else ZERO, self.unit(contract)
            now = margin_of(contract, quantity, unit, mark_of)
            after = margin_of(contract, quantity + trade.quantity, unit, mark_of)
            initial += (after.initial - now.initial) * rate
            maintenance += (after.maintenance - now.maintenance) * rate
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


def _fold(holding: Holding, trade: Trade, money: Decimal) -> Decimal | None:
    """Move one holding by one trade; a trade through zero closes first and opens with the rest."""
    unit = trade.price * money
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
