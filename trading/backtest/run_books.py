"""The books of a run as an imperative strategy may ask for them: its own, and those of the others of the run.

Owns: answers in the shape of ``strategies.ports.PortfolioPort``. Leaves: bookkeeping (``book``, ``desk``). Pure.
Rule: a run converts nothing; a rate that it would need is an error, never 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from ib_async import Contract

from strategies.bar_series import moment_of, nanos_of
from strategies.exceptions import LedgerError, NotFoundError
from strategies.ports import StrategyPosition
from trading.backtest.book import Holding
from trading.backtest.desk import Desk
from trading.backtest.executor import Executor

ZERO = Decimal(0)


def position_of(contract: Contract, holding: Holding) -> StrategyPosition:
    """Return a position of a run as strategies see positions."""
    return StrategyPosition(
        con_id=contract.conId,
        symbol=contract.symbol,
        sec_type=contract.secType,
        currency=holding.currency,
        quantity=holding.held,
        average_cost=holding.average,
        multiplier=holding.multiplier,
        realized_pnl=holding.realized,
        mark=holding.price,
    )


class Same(NamedTuple):
    """An amount that stayed in its currency."""

    amount: Decimal
    stale: bool = False
    as_of: datetime | None = None


class NoRates:
    """Exchange rates of a run: each currency into itself."""

    def convert(self, amount: Decimal, source: str, target: str, *, at: datetime | None = None) -> Decimal:
        """Return the amount.

        Raises: LedgerError (fx_unknown) for two currencies.
        """
        if source != target:
            raise LedgerError(f"A backtest knows no rate of {source} in {target}.", code="fx_unknown")
        return amount

    def convert_flagged(self, amount: Decimal, source: str, target: str, *, at: datetime | None = None) -> Same:
        """Return the amount, as well known as it was.

        Raises: LedgerError (fx_unknown) for two currencies.
        """
        return Same(self.convert(amount, source, target, at=at))


class RunBooks:
    """All strategies' books of one run; implements ``strategies.ports.PortfolioPort``."""

    fx_cache = NoRates()

    def __init__(self, desk: Desk, contract_of: Callable[[str], Contract], now_ns: Callable[[], int]) -> None:
        self._desk, self._contract_of, self._now_ns = desk, contract_of, now_ns
        self._executors: dict[str, Executor] = {}

    def add(self, executor: Executor) -> None:
        """Take in one strategy's books."""
        self._executors[executor.name] = executor

    @property
    def base_currency(self) -> str | None:
        """Return the one currency of the run's strategies; None where they have several."""
        found = {executor.currency for executor in self._executors.values() if executor.currency}
        return found.pop() if len(found) == 1 else None

    def get_strategy_positions(self, strategy: str) -> Sequence[StrategyPosition]:
        """Return what a strategy holds, flat ones left out."""
        holdings = self._of(strategy).holdings.items()
        return [position_of(self._contract_of(symbol), one) for symbol, one in holdings if one.held]

    def calculate_strategy_equity(self, strategy: str) -> Decimal:
        """Return cash plus positions at the last closes."""
        return self._of(strategy).book.equity()

    def get_portfolio_summary(self) -> Mapping[str, Any]:
        """Return the sums over the run; ``net_liquidation`` is None where the currencies differ."""
        total = sum((executor.book.equity() for executor in self._executors.values()), ZERO)
        return {"net_liquidation": total if self.base_currency else None, "base_currency": self.base_currency}

    def get_daily_realized_pnl(self, strategy: str) -> Decimal:
        """Return what a strategy realised since midnight UTC, net of fees."""
        today = moment_of(self._now_ns()).replace(hour=0, minute=0, second=0, microsecond=0)
        since, total = nanos_of(today), ZERO
        name = self._of(strategy).name
        for time_ns, owner, _, _, _, fee, _, _, _, realized in reversed(self._desk.fills):
            if time_ns < since:
                break
            if owner == name:
                total += realized - fee
        return total

    def _of(self, strategy: str) -> Executor:
        found = self._executors.get(strategy)
        if found is None:
            raise NotFoundError(f"{strategy} is no imperative strategy of this run.", code="unknown_strategy")
        return found
