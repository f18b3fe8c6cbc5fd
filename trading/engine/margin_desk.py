"""The engine's questions to IB about margin, with its answers kept for a moment. Thread-safe.

Owns: asking about moves through the master, how long an answer counts, contracts that IB described once.
Leaves: which moves (``orders.margins`` and whoever plans), what follows from an answer.
Rule: what the account holds is read before IB is asked, and an answer is kept for that position alone; an answer that
does not come, or comes without figures, is an error. Whoever asks holds nothing that others wait for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from ib_async import Contract

from strategies.combos import combination
from strategies.events import ContractSnapshot
from strategies.exceptions import LedgerError, TransientError
from strategies.sizing import build_order
from trading.engine.margin import ANSWER_S, SMART_ROUTED, Session, impact_of, master_of
from trading.ib.requests import qualify
from trading.orders.db_threads import in_db_thread
from trading.orders.facts import Holding, MarginImpact
from trading.orders.margins import Held, MarginBase, MarginView, Move, held_of

CHANGE_FRESH_S, BASE_FRESH_S = 30.0, 10.0  # for how long an answer may decide about an order
KEPT_S, KEPT = 900.0, 2_000
AT_ONCE = 4  # questions; each is a message among those of orders


class Host(Protocol):
    """What the desk needs of the engine."""

    session: Session  # looked up at every question: it is made after the desk


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    impact: MarginImpact


class MarginDesk:
    """Questions and answers about margin."""

    def __init__(
        self,
        host: Host,
        holdings: Callable[[], Sequence[Holding]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._holdings = holdings
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[Move, _Answer] = {}
        self._base: tuple[float, MarginBase] | None = None
        self._contracts: dict[int, Contract] = {}

    def know(self, contract: ContractSnapshot) -> None:
        """Remember a contract, so that IB need not describe it before it is asked."""
        if contract.con_id and contract.exchange and contract.con_id not in self._contracts:
            self._contracts[contract.con_id] = Contract(
                conId=contract.con_id,
                symbol=contract.symbol,
                secType=contract.sec_type,
                exchange=contract.exchange,
                currency=contract.currency,
            )

    def symbol_of(self, con_id: int) -> str:
        """Return the ticker of a contract that was described, else nothing."""
        known = self._contracts.get(con_id)
        return "" if known is None else str(known.symbol)

    async def contract(self, con_id: int) -> Contract:
        """Return a contract as it is asked about; on the master's loop.

        Raises: NotFoundError; TransientError.
        """
        known = self._contracts.get(con_id)
        if known is None:
            known = await qualify(master_of(self._host.session).ib, Contract(conId=con_id))
            if known.secType in SMART_ROUTED:
                known.exchange = "SMART"
            self._contracts[con_id] = known
        return known

    # what orders are checked against

    def view(self) -> MarginView:
        """Return the answers that are young enough to decide about an order."""
        now = self._clock()
        with self._lock:
            base = self._base
            found = {
                move: answer.impact.initial_margin_change
                for move, answer in self._answers.items()
                if now - answer.at < CHANGE_FRESH_S
            }
        known = {move: change for move, change in found.items() if change is not None}
        return MarginView(base[1] if base is not None and now - base[0] < BASE_FRESH_S else None, known)

    async def learn(self, moves: Sequence[Move]) -> None:
        """Ask IB about moves; await it on any loop.

        Raises: TransientError, NotFoundError, LedgerError (margin_unknown).
        """
        held = held_of(await in_db_thread(self._holdings))
        answer = self._host.session.begin(lambda: self._ask_all(moves, held))
        try:
            await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # the master ended, and with it the question; whoever asks lives on
            raise TransientError("The master session ended.", code="no_connection") from None

    def learn_now(self, moves: Sequence[Move]) -> None:
        """Ask IB about moves. Blocks its thread.

        Raises: as ``learn``.
        """
        held = held_of(self._holdings())
        self._host.session.run(lambda: self._ask_all(moves, held), ANSWER_S * 3)

    # what plans and shares are made of

    def impact(self, move: Move, max_age_s: float) -> MarginImpact:
        """Return what IB says of a move, at most so old. Blocks its thread for a round trip.

        Raises: as ``learn``.
        """
        with self._lock:
            known = self._answers.get(move)
        if known is not None and self._clock() - known.at < max_age_s:
            return known.impact
        held = held_of(self._holdings())
        found: MarginImpact = self._host.session.run(lambda: self._ask(move), ANSWER_S * 3)
        self._keep(move, found, held)
        return found

    async def _ask_all(self, moves: Sequence[Move], held: Held) -> None:
        turns = asyncio.Semaphore(AT_ONCE)

        async def _one(move: Move) -> None:
            async with turns:
                self._keep(move, await self._ask(move), held)

        await asyncio.gather(*(_one(move) for move in moves))

    async def _ask(self, move: Move) -> MarginImpact:
        contracts = [await self.contract(con_id) for con_id, _ in move.legs]
        contract, units = contracts[0], move.units
        if len(contracts) > 1:
            contract = combination([(one, ratio) for one, (_, ratio) in zip(contracts, move.legs, strict=True)])
        order = build_order(
            units,
            "MKT" if move.limit is None else "LMT",
            algo=False,
            urgency="Patient",
            limit=move.limit,
            stop=None,
            use_rth=False,
            tif="DAY",
            transmit=True,
        )
        impact = await impact_of(self._host.session, contract, order)
        if None in (impact.initial_margin_change, impact.initial_margin_after, impact.equity_with_loan_after):
            text = f"IB did not say what {units:f} {contract.symbol} would do to the margin."
            raise LedgerError(text, code="margin_unknown")
        return impact

    def _keep(self, move: Move, impact: MarginImpact, held: Held) -> None:
        """Keep an answer, unless it was given for another position than the move speaks of."""
        now = self._clock()
        is_of_now = move.held == tuple(held.get(con_id, Decimal(0)) for con_id, _ in move.legs)
        initial, change, equity = (
            impact.initial_margin_after,
            impact.initial_margin_change,
            impact.equity_with_loan_after,
        )
        with self._lock:
            if initial is not None and change is not None and equity is not None:
                self._base = now, MarginBase(initial - change, equity, held)
            if is_of_now:
                self._answers[move] = _Answer(now, impact)
            if len(self._answers) > KEPT:
                kept = {key: answer for key, answer in self._answers.items() if now - answer.at < KEPT_S}
                self._answers = kept if len(kept) <= KEPT else {move: _Answer(now, impact)}
