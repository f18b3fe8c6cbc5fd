"""Before a strategy is started or its weight is raised: what it could come to hold, and what IB says that would bind.

Owns: which instruments that is, their prices, IB's answers, what strategies that run were granted.
Leaves: quantities, sums and limits (``orders.planning``), asking for margin (``margin_desk``).
Rule: what it holds, else what it held last, else its universe in equal parts; where there is none of these, that is
said. Nothing is placed. Two starts at once are checked one after the other, so that both do not get one room.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ib_async import Contract, Stock

from portfolio.models import Execution, Instrument, Position
from strategies.data import names_library, resolve_universe
from strategies.exceptions import ConflictError, LedgerError, MatsError
from strategies.loader import load_strategy_class
from strategies.models import Strategy, StrategyKind
from strategies.services import effective_params
from trading.engine.margin import master_of
from trading.engine.margin_shares import bound_before, figures_of, name_of
from trading.ib import mapping
from trading.ib.requests import qualify
from trading.market.quotes import ask_price
from trading.orders.db_threads import in_db_thread
from trading.orders.facts import MarginImpact
from trading.orders.margins import held_of, single
from trading.orders.planning import (
    HELD,
    LAST_HELD,
    NOTHING,
    UNIVERSE,
    ZERO,
    AccountMargin,
    Line,
    Plan,
    Promised,
    grown,
    left_of,
    parted,
    together,
)

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

logger = logging.getLogger(__name__)

ASKED_AT_MOST = 20  # instruments; a universe beyond that is asked about by its first ones, with all of the weight
LAST_HELD_WITHIN = timedelta(days=7)  # of the position that was closed last
ANSWERS_S = 60.0
PLAN_S = 20.0  # for all questions together
PRICE_S = 5.0
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Grant:
    """What a strategy was let start with: the plan's additions, its weight, and what it held then."""

    adds: Promised
    weight: Decimal
    gross: Decimal


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a plan is made for: changes by contract, and why others were left out."""

    basis: str
    changes: dict[int, Decimal]
    problems: tuple[str, ...] = ()


class MarginPlanner:
    """The plans of one engine. Thread-safe."""

    def __init__(self, engine: StrategyManager, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._granting = threading.Lock()
        self._grants: dict[str, _Grant] = {}

    def plan(self, row: Strategy, weight: Decimal) -> Plan:
        """Ask IB what a strategy at a weight could bind. Blocks its thread for some round trips.

        Whatever cannot be found out makes the plan unknown; nothing is raised for it.
        """
        deadline = self._clock() + PLAN_S
        base = self._engine.portfolio_manager.base_currency or ""
        before, problem = self._account()
        blank = Plan(row.symbol, weight, NOTHING, base, before=before)
        if before.net_liquidation is None:
            return replace(blank, problems=(problem,))
        try:
            wish = self._wish(row, weight, before.net_liquidation)
        except MatsError as error:
            return replace(blank, problems=(error.message,))
        answers = [self._ask(con_id, change, deadline) for con_id, change in wish.changes.items()]
        return replace(
            blank,
            basis=wish.basis,
            lines=tuple(line for line, _ in answers),
            problems=wish.problems,
            before=_as_answered(before, [impact for _, impact in answers if impact is not None]),
            gross_change=self._gross_change(wish.changes),
        )

    def check(self, plan: Plan, *, grants: bool, accepted: bool = False) -> tuple[Plan, dict[str, Any]]:
        """Return the plan beside what others were granted, and how it is told.

        ``grants`` takes the room for a strategy that is about to start; ``accepted``: a person lets it pass a limit.
        Raises: ConflictError named by the limit, with limit, value, source and the plan.
        """
        limits = self._engine.risk.decisions.limits
        with self._granting:
            whole = replace(plan, promised=self._promised(plan.symbol))
            refused = whole.refusal(lambda name: limits.find(name, "", 0))
            told = whole.told(refused)
            if refused is not None and not accepted:
                raise ConflictError(refused.message, code=refused.code, **refused.fields, margin=told)
            if grants:
                self._grants[plan.symbol] = _Grant(whole.adds, plan.weight, self._gross_of(plan.symbol) or ZERO)
        return whole, told

    def forget(self, symbol: str) -> None:
        """Give back the room of a strategy that did not start."""
        with self._granting:
            self._grants.pop(symbol, None)

    # what others may still come to hold

    def _promised(self, symbol: str) -> Promised:
        running = {runner.symbol for runner in self._engine.supervisor.alive()} - {symbol}
        granted = {name: grant for name, grant in self._grants.items() if name in running}
        weights = dict(Strategy.objects.filter(symbol__in=granted).values_list("symbol", "target_weight"))
        return together([self._left_of(name, grant, weights.get(name)) for name, grant in granted.items()])

    def _left_of(self, symbol: str, grant: _Grant, weight: Decimal | None) -> Promised:
        """Return what is left of a grant, grown with the weight where that was raised since."""
        grows = weight / grant.weight if weight is not None and grant.weight else Decimal(1)
        adds = grant.adds
        whole = Promised(adds.initial * grows, adds.maintenance * grows, adds.gross * grows)
        return left_of(whole, grant.gross, self._gross_of(symbol))

    def _gross_of(self, symbol: str) -> Decimal | None:
        risk = self._engine.risk
        try:
            held = [one for one in risk.account.holdings() if one.owner == symbol]
            return sum((abs(one.quantity * risk.unit_value(one.con_id, None)) for one in held), ZERO)
        except LedgerError:
            return None

    # the account

    def _account(self) -> tuple[AccountMargin, str]:
        risk = self._engine.risk
        try:
            figures = risk.account.figures(datetime.now(UTC))
        except LedgerError as error:
            return AccountMargin(), error.message
        bound = figures_of(self._engine.account_id)
        try:
            held = held_of(risk.account.holdings())
            gross = sum((abs(quantity * risk.unit_value(con_id, None)) for con_id, quantity in held.items()), ZERO)
        except LedgerError:
            gross = None  # a price is missing: then gross exposure is not known, and every order is measured by it
        return (
            AccountMargin(
                net_liquidation=figures.net_liquidation,
                excess=figures.excess_liquidity,
                initial=bound.initial,
                maintenance=bound.maintenance,
                gross=gross,
            ),
            "",
        )

    def _gross_change(self, changes: dict[int, Decimal]) -> Decimal:
        """Return how much the account's gross value would grow."""
        risk = self._engine.risk
        held, total = held_of(risk.account.holdings()), ZERO
        for con_id, change in changes.items():
            now = held.get(con_id, ZERO)
            total += (abs(now + change) - abs(now)) * abs(risk.unit_value(con_id, None))
        return max(ZERO, total)

    # which instruments, and how much of each

    def _wish(self, row: Strategy, weight: Decimal, net_liquidation: Decimal) -> _Wish:
        """Return what the strategy would add.

        Raises: MatsError when nothing can be said.
        """
        target = weight * net_liquidation
        held = {one.con_id: one.quantity for one in self._engine.risk.account.holdings() if one.owner == row.symbol}
        if held:
            worth, problems = self._worth([(Contract(conId=con_id), name_of(con_id)) for con_id in held])
            known = {con_id: quantity for con_id, quantity in held.items() if con_id in worth}
            growth = weight / row.target_weight if row.target_weight else Decimal(1)
            return _Wish(HELD, grown(known, worth, target, max(Decimal(1), growth)), problems)
        last = _last_held(row.symbol)
        if last:
            worth, problems = self._worth([(Contract(conId=con_id), name_of(con_id)) for con_id in last])
            return self._in_parts(LAST_HELD, target, worth, problems, last)
        symbols = self._universe(row)
        worth, problems = self._worth([(Stock(symbol, "SMART", row.currency), symbol) for symbol in symbols])
        return self._in_parts(UNIVERSE, target, worth, problems, {})

    @staticmethod
    def _in_parts(
        basis: str, target: Decimal, worth: dict[int, Decimal], problems: tuple[str, ...], sides: dict[int, int]
    ) -> _Wish:
        changes = parted(target, worth, sides)
        if target and not changes and not problems:
            problems = ("Its weight does not buy one unit of any of its instruments.",)
        return _Wish(basis, changes, problems)

    def _universe(self, row: Strategy) -> list[str]:
        loaded = load_strategy_class(row.filename)
        params = effective_params(row, loaded)
        text = str(params.get("universe") or "")
        if loaded.kind == StrategyKind.REACTIVE:  # it trades what it follows
            text = ",".join(params.get("symbols") or ())
        symbols = resolve_universe(self._engine.ac if names_library(text) else None, text)[:ASKED_AT_MOST]
        if not symbols:
            raise LedgerError(
                "It holds nothing, held nothing lately and has no universe; nothing can be asked.",
                code="nothing_to_ask",
            )
        return symbols

    # prices and answers

    def _worth(self, contracts: Sequence[tuple[Contract, str]]) -> tuple[dict[int, Decimal], tuple[str, ...]]:
        """Return what one unit of each contract is worth in base currency, and why that of others is not known.

        Raises: TransientError when the master's loop does not answer.
        """
        found = self._engine.session.run(lambda: self._learn_all(contracts), PLAN_S)
        worth: dict[int, Decimal] = {}
        problems: list[str] = []
        for answer, (_, name) in zip(found, contracts, strict=True):
            try:
                if isinstance(answer, MatsError):
                    raise answer
                worth[answer] = abs(self._engine.risk.unit_value(answer, None))
            except MatsError as error:
                problems.append(f"{name}: {error.message}")
        return worth, tuple(problems)

    async def _learn_all(self, contracts: Sequence[tuple[Contract, str]]) -> list[int | MatsError]:
        turns = asyncio.Semaphore(AT_ONCE)

        async def _one(contract: Contract) -> int | MatsError:
            async with turns:
                try:
                    return await self._learn(contract)
                except MatsError as error:
                    return error

        return await asyncio.gather(*(_one(contract) for contract, _ in contracts))

    async def _learn(self, contract: Contract) -> int:
        """Have a price of a contract at hand, and its terms unless the books know it; return its id."""
        risk, ib = self._engine.risk, master_of(self._engine.session).ib
        if contract.conId:
            qualified = await risk.margins.contract(contract.conId)
        else:
            qualified = await qualify(ib, contract)
            snapshot = mapping.contract_snapshot(qualified)
            risk.account.learn_terms(snapshot)
            risk.margins.know(snapshot)
        con_id = int(qualified.conId)
        if risk.quotes.get(con_id) is None and await in_db_thread(risk.account.last_mark, con_id) is None:
            price = await ask_price(ib, qualified, PRICE_S)
            if price is not None:
                risk.quotes.take(con_id, price)
        return con_id

    def _ask(self, con_id: int, change: Decimal, deadline: float) -> tuple[Line, MarginImpact | None]:
        risk = self._engine.risk
        name = risk.margins.symbol_of(con_id) or name_of(con_id)
        line = Line(con_id, name, change, abs(change * risk.unit_value(con_id, None)))
        if self._clock() > deadline:
            return replace(line, problem="IB took too long over the others; it was not asked."), None
        try:
            impact = risk.margins.impact(single(con_id, change, held_of(risk.account.holdings())), ANSWERS_S)
        except MatsError as error:
            return replace(line, problem=error.message), None
        answered = replace(line, initial=impact.initial_margin_change, maintenance=impact.maintenance_margin_change)
        return answered if answered.is_known else replace(answered, problem="IB did not say what it binds."), impact


def _as_answered(before: AccountMargin, impacts: Sequence[MarginImpact]) -> AccountMargin:
    """Return the account as IB's answers have it: they are of this moment, its account figures minutes old."""
    for impact in impacts:
        initial, maintenance = bound_before(impact)
        if initial is None or maintenance is None or impact.equity_with_loan_after is None:
            continue
        free = impact.equity_with_loan_after - maintenance
        before = replace(
            before,
            equity_with_loan=impact.equity_with_loan_after,
            initial=initial,
            maintenance=maintenance,
            excess=free if before.excess is None else min(before.excess, free),
        )
    return before


def _last_held(symbol: str) -> dict[int, int]:
    """Return the contracts that a strategy closed last, 1 for those that were long and −1 for those that were short."""
    rows = Position.objects.filter(owner=symbol, quantity=0).select_related("instrument").order_by("-updated_at")
    found = list(rows[:ASKED_AT_MOST])
    today = datetime.now(UTC).strftime("%Y%m%d")
    kept = [
        row.instrument
        for row in found
        if found[0].updated_at - row.updated_at <= LAST_HELD_WITHIN and (row.instrument.expiry or today) >= today
    ]
    return {instrument.con_id: _side_of(symbol, instrument) for instrument in kept}


def _side_of(symbol: str, instrument: Instrument) -> int:
    last = Execution.objects.filter(owner=symbol, instrument=instrument, superseded=False)
    last = last.order_by("-executed_at", "-id")
    return -1 if last.values_list("side", flat=True).first() == "BOT" else 1
