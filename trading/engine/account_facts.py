"""The account's figures, holdings and terms as the checks ask for them, kept for a moment. Thread-safe.

Owns: how long each may be kept. Leaves: the books (``portfolio``). Rule: positions are dropped by every fill, so they
are as new as the books; IB's figures come once a second and are kept no longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from portfolio.accounts import net_liquidation_within, rates_of
from portfolio.changes import books_version
from portfolio.models import AccountValue, EquitySnapshot, Instrument, Mark
from portfolio.returns import flows_of
from portfolio.valuation import the_account
from strategies.events import ContractSnapshot
from strategies.exceptions import LedgerError
from trading.ib.mapping import to_optional_decimal
from trading.models import Order
from trading.orders.facts import AccountFigures, Holding, Quote
from trading.queries import day_start_equity

T = TypeVar("T")
PLAIN = "STK"
FIGURES_S, DAY_START_S, EQUITY_S, REALIZED_S, HOLDINGS_S = 1.0, 30.0, 3.0, 10.0, 60.0


class Host(Protocol):
    """What the facts need of the engine."""

    portfolio_manager: Any


class _Kept:
    """Answers with their time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._answers: dict[str, tuple[float, str, Any]] = {}

    def get(self, name: str, seconds: float, read: Callable[[], T], mark: str = "") -> T:
        """Return the answer of a name, read anew when it is older or was given under another mark."""
        with self._lock:
            found = self._answers.get(name)
        if found is not None and found[1] == mark and self._clock() - found[0] < seconds:
            kept: T = found[2]
            return kept
        fresh = read()
        with self._lock:
            self._answers[name] = (self._clock(), mark, fresh)
        return fresh


class AccountFacts:
    """Facts about the account that orders are checked against."""

    def __init__(self, host: Host, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._kept = _Kept(clock)
        self._terms: dict[int, tuple[Decimal, str]] = {}

    def figures(self, now: datetime) -> AccountFigures:
        """Return equity, excess liquidity and the equity that the day began with.

        Raises: LedgerError while IB has not reported the equity lately.
        """
        return self._kept.get("figures", FIGURES_S, lambda: self._read_figures(now))

    def _read_figures(self, now: datetime) -> AccountFigures:
        account = the_account()
        equity = net_liquidation_within(account.account_id, account.base_currency, now)
        text = (
            AccountValue.objects.filter(account=account, tag="ExcessLiquidity", currency=account.base_currency)
            .values_list("value", flat=True)
            .first()
        )
        excess = None if text is None else to_optional_decimal(float(text))
        start = self._kept.get("day_start", DAY_START_S, lambda: self._read_day_start(account, now))
        return AccountFigures(equity, excess, start)

    @staticmethod
    def _read_day_start(account: Any, now: datetime) -> Decimal | None:
        """Return the account's equity at 00:00 UTC and what came or left since; None without a record of today."""
        found = day_start_equity([""], now).get("")
        if found is None:
            return None
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        has_before = EquitySnapshot.objects.filter(owner="", taken_at__lt=midnight).exists()
        if not has_before:  # measured from the first figure of today: what came before it is in it
            return found
        flows = flows_of(account.account_id, "", midnight, now, account.base_currency, rates_of(account.account_id))
        return found + sum((flow.amount for flow in flows), Decimal(0))

    def holdings(self) -> Sequence[Holding]:
        """Return what every owner holds; read anew when the books changed."""
        return self._kept.get("holdings", HOLDINGS_S, self._read_holdings, mark=str(books_version()))

    def _read_holdings(self) -> Sequence[Holding]:
        rows = self._host.portfolio_manager.get_positions()
        return [Holding(row.owner, row.con_id, row.quantity) for row in rows if row.quantity]

    def position(self, owner: str, con_id: int) -> Decimal:
        """Return an owner's signed quantity of a contract."""
        held = self.holdings()
        return sum((one.quantity for one in held if (one.owner, one.con_id) == (owner, con_id)), Decimal(0))

    def realized_today(self, owner: str, now: datetime) -> Decimal:
        """Return what an owner realised today; added up anew when the books changed, or a rate may have.

        Raises: LedgerError when a currency in it has no rate.
        """
        name = f"realized:{owner}:{now.astimezone(UTC).date()}:{books_version()}"
        read: Callable[[str], Decimal] = self._host.portfolio_manager.get_daily_realized_pnl
        return self._kept.get("realized:" + owner, REALIZED_S, lambda: read(owner), mark=name)

    def equity(self, owner: str) -> Decimal:
        """Return an owner's equity, a few seconds old at most: a loss is measured by it, nothing is sized.

        Raises: LedgerError while it cannot be known.
        """
        read: Callable[[str], Decimal] = self._host.portfolio_manager.calculate_strategy_equity
        return self._kept.get("equity:" + owner, EQUITY_S, lambda: read(owner))

    def last_mark(self, con_id: int) -> Quote | None:
        """Return the last price that the books have of a contract, as it is quoted; None when there is none."""
        mark = Mark.objects.filter(instrument_id=con_id).select_related("instrument").first()
        if mark is None:
            return None
        return Quote(
            mark.price * (mark.instrument.price_magnifier or 1),
            max(0.0, (datetime.now(UTC) - mark.marked_at).total_seconds()),
        )

    def learn_terms(self, contract: ContractSnapshot) -> None:
        """Remember what a contract that is being traded stands for; the books know it only after its first fill."""
        points = contract.multiplier / (contract.price_magnifier or 1)
        self._terms[contract.con_id] = (points, contract.currency)

    def terms_of(self, con_id: int) -> tuple[Decimal, str]:
        """Return what a quoted price of 1 is worth for one unit of a contract, and in which currency.

        Raises: LedgerError for a contract that neither books nor orders explain.
        """
        found = self._terms.get(con_id)
        if found is None:
            found = self._terms[con_id] = _read_terms(con_id)
        return found

    def in_base(self, amount: Decimal, currency: str) -> Decimal:
        """Return an amount in the account's base currency.

        Raises: LedgerError while base currency or rate are not known.
        """
        books = self._host.portfolio_manager
        base = books.base_currency
        if base is None:
            raise LedgerError("The account's base currency is not known yet.", code="currency_unknown")
        if base == currency:
            return amount
        converted: Decimal = books.fx_cache.convert(amount, currency, base)
        return converted


def _read_terms(con_id: int) -> tuple[Decimal, str]:
    known = Instrument.objects.filter(con_id=con_id)
    row = known.values_list("multiplier", "price_magnifier", "currency").first()
    if row is not None:
        return row[0] / (row[1] or 1), row[2]
    order = Order.objects.filter(con_id=con_id).order_by("-id").values_list("sec_type", "currency").first()
    if order is not None and order[0] == PLAIN and order[1]:
        return Decimal(1), order[1]  # a share is one unit
    raise LedgerError(f"What a unit of contract {con_id} stands for is not known.", code="contract_unknown")
