"""Bring strategies back to their target weight, by cash alone.

Owns: the weights of now, the plan and its limits. Leaves: the booking (``adjustments``), when it runs
(``trading.engine.rebalancing``), selling what binds the money (the strategy or its operator).
Rule: money goes between a strategy and Discretionary, which holds what no strategy has. Nobody gives what its
positions bind: free is the smaller of its cash in the currency and its equity less the absolute value of all that it
holds, both less what its working orders may still cost. What any figure of is unknown, old or in dispute is refused,
per strategy and with the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

from django.db import transaction

from portfolio.accounts import net_liquidation, net_liquidation_within, rates_within
from portfolio.adjustments import book_adjustment
from portfolio.facts import Booking
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ONE, ZERO, exact, plain
from portfolio.models import (
    Account,
    Adjustment,
    AdjustmentKind,
    Break,
    BreakKind,
    BreakState,
    CashBalance,
    Movement,
    Position,
)
from portfolio.reserved import Reserved
from portfolio.valuation import Figures, all_figures, currency_of, figures_of
from strategies.exceptions import LedgerError, NotFoundError
from strategies.models import DISCRETIONARY, Strategy
from strategies.ordering import take_turn

logger = logging.getLogger(__name__)

CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class RebalanceLine:
    """What rebalancing would do to one strategy.

    Units: ``equity`` and ``amount`` in ``currency``; weights are fractions of the account's net liquidation.
    ``amount`` is signed: what the strategy gets, negative what it gives, zero when nothing moves. ``limited_by`` says
    what kept it smaller than wanted and ``must_sell`` how much value has to be sold for the rest. ``reason`` says why
    a strategy is refused or stays as it is. None is unknown.
    """

    strategy: str
    currency: str
    equity: Decimal | None
    weight: Decimal | None
    min: Decimal
    target: Decimal
    max: Decimal
    amount: Decimal = ZERO
    limited_by: str = ""
    must_sell: Decimal = ZERO
    refused: bool = False
    reason: str = ""


def weights_now(account_id: str, symbol: str | None = None, *, now: datetime) -> list[RebalanceLine]:
    """Return every strategy's weight beside its target, or one strategy's; nothing is to move.

    Raises: NotFoundError for an unknown strategy.
    """
    return [line for line, _ in _Plan(account_id, now).lines(_strategies(symbol))]


def plan_rebalance(
    account_id: str, symbol: str | None = None, *, force: bool = False, now: datetime
) -> list[RebalanceLine]:
    """Return what would bring strategies outside [min, max], with ``force`` all, to their target; write nothing.

    Who gives comes first, so that its money can go to who takes; within both by symbol.
    Raises: NotFoundError for an unknown strategy.
    """
    plan = _Plan(account_id, now)
    wanted = [(line, _wanted(line, figures, plan, force)) for line, figures in plan.lines(_strategies(symbol))]
    pool, done = _Pool(plan), {}
    for line, amount in sorted(wanted, key=lambda pair: (pair[1] >= 0, pair[0].strategy)):
        done[line.strategy] = plan.limited(line, amount, pool) if amount else line
    return [done[line.strategy] for line, _ in wanted]


def apply(
    account_id: str,
    symbol: str | None = None,
    *,
    force: bool = False,
    actor: str,
    source: str,
    reason: str = "",
    key: str,
    now: datetime,
) -> tuple[list[RebalanceLine], list[Booking]]:
    """Plan and book in one transaction; the same key again books nothing and returns no lines.

    Raises: NotFoundError for an unknown strategy; what ``book_adjustment`` raises: then nothing is booked.
    """
    prefix = f"{key}:"
    with transaction.atomic():
        take_turn()
        # Each key in full: a prefix would take "May:1" for "May", and on SQLite "MAY" for it as well.
        keys = [f"{prefix}{name}" for name in Strategy.objects.values_list("symbol", flat=True)]
        if Adjustment.objects.filter(key__in=keys, kind=AdjustmentKind.REBALANCE).exists():
            return [], []
        lines = plan_rebalance(account_id, symbol, force=force, now=now)
        net = _or_none(account_id)
        bookings = [
            book_adjustment(
                account_id,
                AdjustmentKind.REBALANCE,
                _details(line, net),
                actor=actor,
                source=source,
                reason=reason or f"Rebalancing {line.strategy} to {line.target:%}.",
                key=f"{prefix}{line.strategy}",
                now=now,
            )
            for line in lines
            if line.amount
        ]
    return lines, bookings


def target_warning() -> str:
    """Return a warning when all targets together ask for more than there is, else an empty text."""
    total = sum(Strategy.objects.values_list("target_weight", flat=True), ZERO)
    if total <= ONE:
        return ""
    return f"The target weights add up to {total:%}: more than the account has. The last to be served get less."


def _strategies(symbol: str | None) -> list[Strategy]:
    rows = Strategy.objects.order_by("symbol")
    if symbol is None:
        return list(rows)
    found = list(rows.filter(symbol=symbol))
    if not found:
        raise NotFoundError(f"There is no strategy {symbol}.", strategy=symbol)
    return found


def _wanted(line: RebalanceLine, figures: Figures | None, plan: _Plan, force: bool) -> Decimal:
    """Return the signed amount that would bring a line to its target, in its currency; zero when it may stay."""
    if line.refused or line.weight is None or figures is None or plan.net is None or plan.rates is None:
        return ZERO
    if not force and line.min <= line.weight <= line.max:
        return ZERO
    missing = (line.target - line.weight) * plan.net
    return plan.rates.convert(exact(missing), plan.rates.base, line.currency).quantize(CENT, ROUND_DOWN)


class _Plan:
    """The figures that all lines of one plan share."""

    def __init__(self, account_id: str, now: datetime) -> None:
        self.account_id, self.now = account_id, now
        self.rates: Rates | None = None
        self.net: Decimal | None = None
        self.trouble = self.old = ""
        self._reserved = Reserved(account_id)
        self._known: dict[str, Figures] = {}
        try:
            if not Account.objects.filter(pk=account_id, opened_at__isnull=False).exists():
                raise LedgerError("The books of the account are not opened yet.", code="account_unknown")
            self.rates = rates_within(account_id, now)
            self.net = net_liquidation(account_id, self.rates.base)
            if self.net <= 0:
                raise LedgerError(f"The net liquidation is {self.net}.", code="equity_unknown")
        except LedgerError as error:
            self.trouble = error.message
        else:
            self.old = _age_fault(account_id, self.rates.base, now)
        breaks = Break.objects.filter(account_id=account_id, state=BreakState.OPEN, kind=BreakKind.POSITION)
        self._broken = {row.instrument_id: str(row.instrument) for row in breaks.select_related("instrument")}

    def lines(self, strategies: Iterable[Strategy]) -> list[tuple[RebalanceLine, Figures | None]]:
        """Return each strategy's line, nothing to move yet, with its figures."""
        rows = list(strategies)
        if self.rates is not None and not self.trouble:
            self._known = all_figures(self.account_id, [row.symbol for row in rows], self.rates, self.now)
        return [self._line(row) for row in rows]

    def _line(self, row: Strategy) -> tuple[RebalanceLine, Figures | None]:
        bounds = (row.min_weight, row.target_weight, row.max_weight)
        blank = RebalanceLine(row.symbol, row.currency, None, None, *bounds)
        if self.rates is None or self.net is None or self.trouble:
            return replace(blank, refused=True, reason=self.trouble), None
        figures = self.figures(row.symbol)
        try:
            if figures.equity is None:
                raise figures.error or LedgerError("Its equity is not known.", code="equity_unknown")
            worth = ZERO
            if figures.equity or row.target_weight:  # who has nothing still needs a rate to be given something
                worth = self.rates.convert(figures.equity, figures.currency, self.rates.base)
        except LedgerError as error:
            return replace(blank, refused=True, reason=error.message), figures
        line = replace(blank, equity=figures.equity, weight=exact(worth / self.net))
        reason = self.old or self.refusal(row.symbol, figures) or self._not_allocated(row)
        return replace(line, refused=bool(reason), reason=reason), figures

    def figures(self, owner: str) -> Figures:
        """Return an owner's figures at rates that are young enough to decide an amount."""
        assert self.rates is not None  # noqa: S101 - asked for by a plan without trouble alone
        if owner in self._known:
            return self._known[owner]
        currency = currency_of(owner, self.rates.base)
        return figures_of(self.account_id, owner, currency, self.rates, self.now)

    def refusal(self, owner: str, figures: Figures) -> str:
        """Return why nothing may be taken from or given to an owner, empty when it may."""
        if figures.error is not None:
            return figures.error.message
        if not figures.fresh:
            return f"The prices of what {owner} holds are old."
        held = Position.objects.filter(account_id=self.account_id, owner=owner, instrument_id__in=list(self._broken))
        broken = sorted(self._broken[row.instrument_id] for row in held if row.quantity)
        if broken:
            return f"{owner} holds {', '.join(broken)}, in which the books differ from IB's."
        try:
            self.reserved(owner, figures.currency)
        except LedgerError as error:
            return error.message
        return ""

    def reserved(self, owner: str, currency: str) -> Decimal:
        """Return what an owner's working orders may still cost. Raises: LedgerError while that is not known."""
        assert self.rates is not None  # noqa: S101 - asked for by a plan without trouble alone
        return self._reserved.of(owner, currency, self.rates)

    def _not_allocated(self, row: Strategy) -> str:
        key = f"allocation:{self.account_id}:{row.symbol}:initial"
        if not row.target_weight or Movement.objects.filter(key=key).exists():
            return ""
        return f"{row.symbol} has not got its initial cash yet; that comes first."

    def cash(self, owner: str, currency: str) -> Decimal:
        """Return an owner's own cash in one currency."""
        row = CashBalance.objects.filter(account_id=self.account_id, owner=owner, currency=currency).first()
        return row.amount if row else ZERO

    def limited(self, line: RebalanceLine, amount: Decimal, pool: _Pool) -> RebalanceLine:
        """Cut what is wanted to what its giver has free."""
        if amount < 0:
            return self._giving(line, -amount, pool)
        if pool.refusal:
            return replace(line, refused=True, reason=pool.refusal)
        free = pool.free_in(line.currency)
        given = min(amount, free)
        pool.take(given, line.currency)
        limit = "" if given == amount else f"{DISCRETIONARY} has only {plain(free)} {line.currency} free"
        return replace(line, amount=given, limited_by=limit)

    def _giving(self, line: RebalanceLine, amount: Decimal, pool: _Pool) -> RebalanceLine:
        figures = self.figures(line.strategy)
        equity, gross = figures.equity or ZERO, figures.gross or ZERO
        reserved = self.reserved(line.strategy, line.currency)
        unbound = equity - gross - reserved
        cash = self.cash(line.strategy, line.currency) - reserved
        free = max(ZERO, min(unbound, cash)).quantize(CENT, ROUND_DOWN)
        given = min(amount, free)
        pool.add(given, line.currency)
        if given == amount:
            return replace(line, amount=-given)
        short = amount - max(ZERO, min(equity - gross, amount))
        if short > 0:
            text = f"positions bind the rest: sell {plain(short)} {line.currency} of them"
        elif unbound < amount:
            text = f"working orders may need {plain(reserved)} {line.currency} (an estimate)"
        else:
            text = f"the rest is held in other currencies than {line.currency}"
        return replace(line, amount=-given, limited_by=text, must_sell=short)


class _Pool:
    """What Discretionary can give, in base currency: over all currencies, since the account converts as it needs."""

    def __init__(self, plan: _Plan) -> None:
        self._rates = plan.rates
        self._free = ZERO
        self.refusal = plan.trouble
        if self._rates is None or plan.trouble:
            return
        figures = plan.figures(DISCRETIONARY)
        self.refusal = plan.refusal(DISCRETIONARY, figures)
        if not self.refusal:
            equity, gross, cash = (part or ZERO for part in (figures.equity, figures.gross, figures.cash))
            reserved = plan.reserved(DISCRETIONARY, figures.currency)
            self._free = max(ZERO, min(cash, equity - gross) - reserved)

    def free_in(self, currency: str) -> Decimal:
        assert self._rates is not None  # noqa: S101 - a pool without rates refuses before
        return self._rates.convert(exact(self._free), self._rates.base, currency).quantize(CENT, ROUND_DOWN)

    def take(self, amount: Decimal, currency: str) -> None:
        self.add(-amount, currency)

    def add(self, amount: Decimal, currency: str) -> None:
        assert self._rates is not None  # noqa: S101 - a pool without rates refuses before
        self._free += self._rates.convert(amount, currency, self._rates.base)


def _age_fault(account_id: str, base: str, now: datetime) -> str:
    try:
        net_liquidation_within(account_id, base, now)
    except LedgerError as error:
        return error.message
    return ""


def _or_none(account_id: str) -> Decimal:
    base = Account.objects.values_list("base_currency", flat=True).get(pk=account_id)
    try:
        return net_liquidation(account_id, base)
    except LedgerError:
        return ZERO  # then no line has an amount


def _details(line: RebalanceLine, net: Decimal) -> dict[str, str]:
    giver, taker = (DISCRETIONARY, line.strategy) if line.amount > 0 else (line.strategy, DISCRETIONARY)
    return {
        "from": giver,
        "to": taker,
        "currency": line.currency,
        "amount": plain(abs(line.amount)),
        "target_weight": plain(line.target),
        "equity": plain(exact(line.equity or ZERO)),
        "net_liquidation": plain(exact(net)),
    }
