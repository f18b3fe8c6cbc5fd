"""What stands between a wish and the wire: how an order goes on record, the gate, and the pre-trade checks.

Owns: drafts, which contracts of an order the gate and the checks look at, the checks of a change.
Leaves: the rules (``orders.risk``), the facts of an engine (``engine.risk_desk``), sending (``live``).
Rule: a combination is checked by its legs, since it has neither a price nor a position of its own; an exit is measured
against the position that its entry will have made; what is left of a changed order is checked as if it were new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

from ib_async import Contract, Order

from strategies.combos import COMBINATION
from strategies.exceptions import LedgerError, MatsError, NotFoundError, OrderDeniedError, TransientError
from strategies.sizing import says_multiplier
from trading.brokers.order_book import REQUEST_TIMEOUT_S, OrderBook
from trading.ib import mapping, requests
from trading.orders import queries, risk
from trading.orders.db_threads import in_db_thread
from trading.orders.drafts import FLATTEN, OrderDraft
from trading.orders.exposure_checks import unanswered
from trading.orders.margins import MarginWanted, Move
from trading.orders.refs import owner_named
from trading.orders.tickets import LiveTicket

NOT_CONNECTED = "not_connected"
MARGIN_ROUNDS = 5  # each of them asks IB about what came to work since the last
TOO_FAST = "What works in the account changes faster than IB says what it does to the margin."

T = TypeVar("T")


class OrderChecks(OrderBook):
    """Drafts and checks of one connection's orders."""

    # contracts

    async def _qualify(self, contract: Contract) -> Contract:
        """Return the contract completed by IB; of a combination its legs are known afterwards."""
        if contract.secType == COMBINATION:
            for leg in contract.comboLegs or ():
                self._legs[leg.conId] = await self._qualify(Contract(conId=leg.conId, exchange=leg.exchange))
            return contract
        key = repr(contract)
        known = self._contracts.get(key)
        if known is not None:
            return known
        named = contract.conId and contract.symbol and contract.secType and contract.exchange and contract.currency
        if named and says_multiplier(contract):
            self._contracts[key] = contract
            return contract
        if not self.ib.isConnected():
            raise OrderDeniedError(f"{self.strategy_symbol} is not connected to IB.", code=NOT_CONNECTED)
        try:
            qualified = await requests.qualify(self.ib, contract, timeout_s=REQUEST_TIMEOUT_S)
        except (NotFoundError, TransientError) as error:
            raise OrderDeniedError(error.message, code=error.code) from error
        self._contracts[key] = qualified
        return qualified

    async def prepare(self, contracts: Iterable[Contract]) -> None:
        """Have what the checks need of the market at hand, as far as IB gives it in time."""
        if self._engine is None or self._engine.risk is None:
            return
        for contract in contracts:
            legs = [self._legs[leg.conId] for leg in contract.comboLegs or () if leg.conId in self._legs]
            for one in legs or [contract]:
                await self._engine.risk.prepare(self.ib, one)

    # drafts

    def _draft(
        self, contract: Contract, order: Order, owner: str, *, by_hand: bool = False, purpose: str = ""
    ) -> OrderDraft:
        decided_by = None if by_hand else self._strategy
        accounts = self.ib.wrapper.accounts
        return OrderDraft(
            owner=owner,
            contract=mapping.contract_snapshot(contract),
            side=order.action,
            quantity=mapping.to_optional_decimal(order.totalQuantity) or Decimal(0),
            order_type=order.orderType,
            limit_price=mapping.limit_of(order),
            stop_price=mapping.stop_of(order),
            tif=order.tif or "DAY",
            account=order.account or (accounts[0] if accounts else ""),
            client_id=self.ib.client.clientId,
            algo_strategy=order.algoStrategy,
            algo=mapping.algo_of(order),
            trail_amount=mapping.trail_of(order),
            trail_percent=mapping.to_optional_decimal(order.trailingPercent),
            limit_offset=mapping.to_optional_decimal(order.lmtPriceOffset),
            good_till=mapping.moment_of(order.goodTillDate),
            good_after=mapping.moment_of(order.goodAfterTime),
            outside_rth=bool(order.outsideRth),
            oca_group=order.ocaGroup,
            transmitted=bool(order.transmit),
            code_hash=str(getattr(decided_by, "code_hash", "")),
            params_revision=int(getattr(decided_by, "params_revision", 0)),
            purpose=purpose,
        )

    def _leg_drafts(self, draft: OrderDraft) -> list[OrderDraft]:
        """Return what a combination does in each leg, as orders at market.

        Raises: LedgerError when a leg is not known: nothing could be checked then.
        """
        found = []
        for leg in draft.contract.legs:
            contract = self._legs.get(leg.con_id)
            if contract is None:
                raise LedgerError(f"Leg {leg.con_id} of the combination is not known.", code="leg_unknown")
            buys = (leg.ratio > 0) is (draft.side == "BUY")
            found.append(
                replace(
                    draft,
                    contract=mapping.contract_snapshot(contract),
                    side="BUY" if buys else "SELL",
                    quantity=draft.quantity * abs(leg.ratio),
                    order_type="MKT",
                    limit_price=None,
                    stop_price=None,
                )
            )
        return found

    # gate and checks

    def _check_way(self, draft: OrderDraft) -> None:
        """Refuse while there is no way to the broker, or the engine's gate is shut for what would be traded."""
        if not self.ib.isConnected():
            raise OrderDeniedError(f"{self.strategy_symbol} is not connected to IB.", code=NOT_CONNECTED)
        con_ids = [leg.con_id for leg in draft.contract.legs] or [draft.contract.con_id]
        self._check_gate(con_ids, draft.owner, closing=draft.purpose == FLATTEN)

    def _check_gate(self, con_ids: Iterable[int], owner: str, *, closing: bool = False) -> None:
        if self._engine is not None:
            for con_id in con_ids:
                self._engine.gate.check(con_id, owner, closing=closing)

    def _check(
        self, draft: OrderDraft, coming: Decimal = Decimal(0), *, changes: str = "", looks_only: bool = False
    ) -> None:
        """Let a draft pass the checks.

        ``coming`` is what its entry may still trade, signed; ``changes`` names the order that it is to replace; who
        ``looks_only`` sends nothing, which counts for no rate and holds no strategy.
        Raises: OrderDeniedError; MarginWanted, see ``_knowing_margins``.
        """
        looking = looks_only and not changes
        if not draft.contract.legs:
            checks = risk.CHANGES if changes else (risk.LOOKING if looking else None)
            risk.check_order(draft, self._facts(draft, coming, changes), checks)
            return
        facts = self._facts(draft, changes=changes)
        whole = risk.COMBINATION_CHANGED if changes else risk.COMBINATION
        whole = risk.COMBINATION_LOOKING if looking else whole
        if self._engine is None or self._engine.risk is None:
            risk.check_order(draft, facts, whole)
            return
        risk.check_order(draft, facts, risk.FORM)
        try:
            legs = self._leg_drafts(draft)
            known = [self._facts(leg, changes=changes) for leg in legs]
            facts.legs_reduce = all(one.is_reduction(leg) for one, leg in zip(known, legs, strict=True))
        except LedgerError as error:
            raise OrderDeniedError(f"This cannot be checked: {error.message}", code=error.code) from error
        for place, (leg, one) in enumerate(zip(legs, known, strict=True)):
            others = [_as_open(other) for number, other in enumerate(legs) if number != place]
            risk.check_order(leg, _beside(one, others), risk.LEGS)
        risk.check_order(draft, facts, whole)

    async def _knowing_margins(
        self, checks: Callable[[], T], on_refused: Callable[[OrderDraft, OrderDeniedError], object] | None = None
    ) -> T:
        """Run checks on a database thread; what they have to know of IB's margin is asked between two runs.

        So nothing is held while IB takes its time: neither the decision of other orders nor a database thread. Each run
        looks at everything anew. ``on_refused`` is told of a refusal that no run could put on record.
        Raises: what the checks raise; OrderDeniedError (what_if_margin) when IB does not say it.
        """
        error: MatsError | None = None
        for _ in range(MARGIN_ROUNDS):
            try:
                return await in_db_thread(checks)
            except MarginWanted as wanted:
                draft, error = wanted.draft, await self._learn_margins(wanted.moves)
            if error is not None:
                break
        refusal = unanswered(error or LedgerError(TOO_FAST))
        if on_refused is not None:
            await in_db_thread(on_refused, draft, refusal)
        raise refusal from error

    async def _learn_margins(self, moves: Sequence[Move]) -> MatsError | None:
        if self._engine is None or self._engine.risk is None:
            return LedgerError("This broker has no engine that could ask.", code="no_engine")
        try:
            await self._engine.risk.learn_margins(moves)
        except MatsError as error:
            return error
        return None

    def _check_change(self, ticket: LiveTicket, changed: Order) -> None:
        """Check what is left of a changed order as if it were sent anew: a change could make it a large one."""
        owner = owner_named(ticket.order_ref) or self.strategy_symbol
        draft = self._draft(ticket.contract, changed, owner)
        row = queries.find_order(ticket.order_ref)
        parent_ref = row.parent_ref if row is not None else ""
        coming = queries.still_to_trade(parent_ref) if parent_ref else Decimal(0)
        draft = replace(draft, quantity=draft.quantity - ticket.filled, parent_ref=parent_ref)
        self._check(draft, coming, changes=ticket.order_ref)

    def _check_change_now(self, ticket: LiveTicket, changed: Order) -> None:
        """Check a change on a thread that may wait for IB's answer about the margin."""
        for _ in range(MARGIN_ROUNDS):
            try:
                return self._check_change(ticket, changed)
            except MarginWanted as wanted:
                moves = wanted.moves
            if self._engine is None or self._engine.risk is None:
                break
            try:
                self._engine.risk.learn_margins_now(moves)
            except MatsError as error:
                raise unanswered(error) from error
        raise unanswered(LedgerError(TOO_FAST))

    async def verdict(self, contract: Contract, order: Order, owner: str) -> tuple[OrderDraft, OrderDeniedError | None]:
        """Return how an order would go on record and why MATS would not send it; writes nothing."""
        draft = self._draft(contract, order, owner, by_hand=True)

        def _look() -> None:
            self._check_way(draft)
            self._check(draft, looks_only=True)

        try:
            await self._knowing_margins(_look)
        except OrderDeniedError as error:
            return draft, error
        return draft, None

    def _facts(self, draft: OrderDraft, coming: Decimal = Decimal(0), changes: str = "") -> risk.RiskFacts:
        """Return what the checks may ask."""
        now, owner = datetime.now(UTC), draft.owner
        params = getattr(self._strategy, "params", None) or {}
        if self._engine is not None and self._engine.risk is not None:
            facts = self._engine.risk.facts(draft, params)
        else:
            facts = risk.RiskFacts(
                read_orders_today=lambda: queries.orders_today(owner, now),
                read_realized_today=lambda: self.portfolio.get_daily_realized_pnl(owner),
                read_equity=lambda: self.portfolio.calculate_strategy_equity(owner),
                read_position=lambda: self._position(draft),
                read_open_orders=lambda: queries.open_orders(now),
                limits={name: params.get(name) for name in ("max_daily_trades", "max_daily_loss")},
            )
        if coming:
            held = facts.read_position
            facts.read_position = lambda: held() + coming
        facts.leave_out = changes
        return facts

    def _position(self, draft: OrderDraft) -> Decimal:
        held = self.portfolio.get_strategy_positions(draft.owner)
        return sum((row.quantity for row in held if row.con_id == draft.contract.con_id), Decimal(0))

    async def qualify_all(self, contracts: Sequence[Contract]) -> list[Contract]:
        """Return the contracts completed by IB.

        Raises: OrderDeniedError when one is not known or ambiguous.
        """
        return [await self._qualify(contract) for contract in contracts]


def _as_open(leg: OrderDraft) -> risk.OpenOrder:
    return risk.OpenOrder(
        con_id=leg.contract.con_id,
        side=leg.side,
        quantity=leg.quantity,
        order_type=leg.order_type,
        limit_price=None,
        stop_price=None,
        age_s=0.0,
        owner=leg.owner,
    )


def _beside(facts: risk.RiskFacts, others: Sequence[risk.OpenOrder]) -> risk.RiskFacts:
    """Return the facts about a leg as if the other legs worked already: together they may be too much."""
    working = facts.open_orders
    return replace(facts, read_open_orders=lambda: [*working, *others], leave_out="")
