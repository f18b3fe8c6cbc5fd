"""What IB takes for an order: fixed and tiered commissions of US stocks, options and futures by contract, and FX.

Owns: fee schedules and the commission of an order's executions one after the other.
Leaves: when it is reported (``gateway.exchange``, the backtest).
Rule: minimum and maximum count per order, so an execution costs what the order costs with it less what it cost before.
Units: amounts in the currency the instrument trades in; for FX that is the quote currency, the minimum included.
Source: interactivebrokers.com commission pages (US stocks fixed and tiered, IDEALPRO). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

ZERO = Decimal(0)
_PLACES = Decimal("0.000001")


class Traded(NamedTuple):
    """What one order has traded so far."""

    quantity: Decimal = ZERO  # shares, unsigned
    value: Decimal = ZERO  # quantity times price, unsigned
    is_sell: bool = False


class FeeSchedule(Protocol):
    """Total commission of an order."""

    def total(self, traded: Traded) -> Decimal:
        """What the order has cost so far."""


@dataclass(frozen=True, slots=True)
class RegulatoryFees:
    """Fees of US regulators on sales of stock, passed on by the broker. They change: give the rates of your time."""

    sec_rate: Decimal = Decimal("0.0000278")  # of the value sold
    taf_per_share: Decimal = Decimal("0.000166")
    taf_maximum: Decimal = Decimal("8.30")

    def total(self, traded: Traded) -> Decimal:
        """What the order has cost so far."""
        if not traded.is_sell:
            return ZERO
        return traded.value * self.sec_rate + min(traded.quantity * self.taf_per_share, self.taf_maximum)


NO_REGULATORY_FEES = RegulatoryFees(ZERO, ZERO, ZERO)


@dataclass(frozen=True, slots=True)
class FixedStockFees:
    """IB's fixed plan.

    >>> FixedStockFees().total(Traded(Decimal(100), Decimal(5000)))
    Decimal('1.00')
    >>> FixedStockFees().total(Traded(Decimal(1000), Decimal(50000)))
    Decimal('5.000')
    >>> FixedStockFees().total(Traded(Decimal(1000), Decimal(250)))  # no more than 1 % of the value
    Decimal('2.50')
    """

    per_share: Decimal = Decimal("0.005")
    minimum: Decimal = Decimal("1.00")
    maximum_share: Decimal = Decimal("0.01")
    regulatory: RegulatoryFees = NO_REGULATORY_FEES

    def total(self, traded: Traded) -> Decimal:
        """What the order has cost so far."""
        if traded.quantity == 0:
            return ZERO
        commission, most = traded.quantity * self.per_share, traded.value * self.maximum_share
        if commission < self.minimum:
            commission = self.minimum
        if most < commission:
            commission = most
        if self.regulatory is NO_REGULATORY_FEES:
            return commission
        return commission + self.regulatory.total(traded)


@dataclass(frozen=True, slots=True)
class Tier:
    """Price per share up to a monthly volume; None is the last tier."""

    up_to: Decimal | None
    per_share: Decimal


TIERS = (
    Tier(Decimal(300_000), Decimal("0.0035")),
    Tier(Decimal(3_000_000), Decimal("0.0020")),
    Tier(Decimal(20_000_000), Decimal("0.0015")),
    Tier(Decimal(100_000_000), Decimal("0.0010")),
    Tier(None, Decimal("0.0005")),
)


@dataclass(frozen=True, slots=True)
class TieredStockFees:
    """IB's tiered plan: commission by the month's volume, exchange and clearing fees passed on.

    >>> TieredStockFees(exchange_per_share=Decimal(0)).total(Traded(Decimal(1000), Decimal(50000)))
    Decimal('3.70000')
    """

    month_volume: Decimal = ZERO  # shares traded this month before the order
    minimum: Decimal = Decimal("0.35")
    maximum_share: Decimal = Decimal("0.01")
    exchange_per_share: Decimal = Decimal("0.0030")  # of an order that takes liquidity
    clearing_per_share: Decimal = Decimal("0.00020")
    clearing_maximum_share: Decimal = Decimal("0.005")
    regulatory: RegulatoryFees = NO_REGULATORY_FEES
    tiers: tuple[Tier, ...] = TIERS

    def total(self, traded: Traded) -> Decimal:
        """What the order has cost so far."""
        if traded.quantity == 0:
            return ZERO
        commission = min(max(self._graded(traded.quantity), self.minimum), traded.value * self.maximum_share)
        clearing = min(traded.quantity * self.clearing_per_share, traded.value * self.clearing_maximum_share)
        passed_on = traded.quantity * self.exchange_per_share + clearing
        return commission + passed_on + self.regulatory.total(traded)

    def _graded(self, quantity: Decimal) -> Decimal:
        """Shares of one order that cross a tier's edge are charged by both tiers."""
        done, left, amount = self.month_volume, quantity, ZERO
        for tier in self.tiers:
            room = left if tier.up_to is None else max(tier.up_to - done, ZERO)
            taken = min(left, room)
            amount += taken * tier.per_share
            done, left = done + taken, left - taken
        return amount


@dataclass(frozen=True, slots=True)
class ForexFees:
    """IDEALPRO: a fifth of a basis point of the value, at least 2 USD worth.

    >>> ForexFees().total(Traded(Decimal(1000000), Decimal(1080000)))
    Decimal('21.60000')
    """

    rate: Decimal = Decimal("0.00002")
    minimum: Decimal = Decimal("2.00")

    def total(self, traded: Traded) -> Decimal:
        """What the order has cost so far."""
        return max(traded.value * self.rate, self.minimum) if traded.quantity else ZERO


@dataclass(frozen=True, slots=True)
class PerContractFees:
    """Futures and options: so much a contract, exchange and clearing fees included, with a minimum for the order.

    >>> US_OPTION_FEES.total(Traded(Decimal(1), Decimal(300)))
    Decimal('1.00')
    >>> US_OPTION_FEES.total(Traded(Decimal(10), Decimal(3000)))
    Decimal('6.50')
    """

    per_contract: Decimal
    minimum: Decimal = ZERO

    def total(self, traded: Traded) -> Decimal:
        """What the order has cost so far."""
        return max(traded.quantity * self.per_contract, self.minimum) if traded.quantity else ZERO


US_OPTION_FEES = PerContractFees(Decimal("0.65"), Decimal("1.00"))
US_FUTURE_FEES = PerContractFees(Decimal("2.25"))  # an index future's: execution, exchange and regulator


def execution_fee(schedule: FeeSchedule, before: Traded, after: Traded) -> Decimal:
    """The share of an order's commission that its next execution bears; it can be 0 while the minimum covers it."""
    return (schedule.total(after) - schedule.total(before)).quantize(_PLACES)
