"""The engine's side of the pre-trade checks: decisions in memory, facts read lazily, halts noticed at once.

Owns: the decisions that hold and when they are read anew, the watch on the halt file, the facts of one order, what is
asked of IB before an order (a fresh price, liquid hours). Leaves: the checks (``trading.orders.risk``), writing
decisions (``trading.risk_services``), the account's figures (``account_facts``).
Rule: without decisions nothing is sent. A halt file that was seen halts until a release that is younger than it,
whatever becomes of the file; a database that cannot be read changes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from django.db import DatabaseError
from django.db import connection as database
from ib_async import IB, Contract

from strategies.exceptions import LedgerError, OrderDeniedError, TransientError
from trading.engine.account_facts import AccountFacts
from trading.engine.gate import Gate
from trading.engine.halt_file import HaltFile
from trading.engine.margin_desk import MarginDesk
from trading.engine.pulse import Pulse
from trading.engine.rate_counter import RateCounter
from trading.engine.standing import ACCOUNT, Decisions, read_decisions, read_revision
from trading.market.calendar_rows import make_time_manager
from trading.market.liquid_hours import LiquidHours
from trading.market.quotes import QuoteBook, ask_price
from trading.orders import queries
from trading.orders.drafts import OrderDraft
from trading.orders.facts import Desk, RiskFacts
from trading.orders.margins import Move
from trading.orders.trading_state import TradingState

logger = logging.getLogger(__name__)

WATCH_S = 0.05
BEAT_EVERY = 20  # looks at the file between two signs of life
POLL_EVERY = 4  # looks at the file between two looks at the database
LINE_WAIT_S, SNAPSHOT_WAIT_S, HOURS_WAIT_S = 1.5, 5.0, 5.0


class Host(Protocol):
    """What the desk needs of the engine."""

    account_id: str
    gate: Gate
    portfolio_manager: Any
    session: Any

    @property
    def reset_at(self) -> datetime | None:
        """Return when the gateway's next scheduled reset is."""

    def follow_price(self, contract: Contract) -> None:
        """Have the market recorder follow a contract."""

    def on_halted(self, owner: str, reason: str, by: str) -> None:
        """Take note that the halt file appeared: store and show it, without waiting."""

    def note_repeats(self) -> None:
        """Have the numbers of denials that repeated written, without waiting."""

    def on_throttled(self, owner: str, text: str) -> None:
        """Hold a strategy that sent too many orders: store and show it, without waiting."""


class RiskDesk:
    """Decisions and facts for every order of this engine. Thread-safe."""

    def __init__(self, host: Host, halt_file: HaltFile) -> None:
        self._host = host
        self.halt_file = halt_file
        self.pulse = Pulse(halt_file.path.parent)
        self.quotes = QuoteBook()
        self.hours = LiquidHours()
        self.rates = RateCounter()
        self.account = AccountFacts(host)
        self.margins = MarginDesk(host, self.account.holdings)
        self._decisions: Decisions | None = None
        self._lock = threading.Lock()
        self._halted_at: datetime | None = None
        self._held: dict[str, tuple[datetime, str]] = {}  # throttled just now, not stored yet
        self._stopped: dict[str, tuple[datetime, str]] = {}  # halted just now, not stored yet
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # -- decisions

    @property
    def decisions(self) -> Decisions:
        """Return what holds.

        Raises: OrderDeniedError (limits_unknown) while it was never read.
        """
        found = self._decisions
        if found is None:
            raise OrderDeniedError("The limits were not read yet; nothing is sent without them.", code="limits_unknown")
        return found

    def reload(self) -> None:
        """Read all decisions now.

        Raises: DatabaseError; then what was known holds on.
        """
        with self._lock:
            found = read_decisions()
            self._decisions = found
            account = found.states.get(ACCOUNT)
            released = account is None or account.state is not TradingState.HALTED
            enabled = account.enabled_at if account is not None else None
            if released and self._halted_at and enabled and enabled > self._halted_at:
                self._forget_file(enabled)
            self._held = {
                owner: held
                for owner, held in self._held.items()
                if owner not in found.states or found.states[owner].since < held[0]
            }
            self._stopped = {
                owner: stopped
                for owner, stopped in self._stopped.items()
                if owner not in found.states or found.states[owner].since < stopped[0]
            }
            self._tell_gate()

    def _forget_file(self, released_at: datetime) -> None:
        """End a halt that a release is younger than, its file included; a file that was made since halts on."""
        made_at = self.halt_file.made_at()
        if made_at is not None and made_at > released_at:
            return
        self.halt_file.remove()
        self._halted_at = None

    def _tell_gate(self) -> None:
        """Have the gate refuse, once more right before the wire, whom these decisions halt."""
        states = self._decisions.states if self._decisions is not None else {}
        halted = {owner: reason for owner, (_, reason) in self._stopped.items()}
        halted |= {owner: one.reason for owner, one in states.items() if one.state is TradingState.HALTED}
        if self._halted_at is not None:
            halted.setdefault(ACCOUNT, "The halt file was seen; a release by an administrator is needed.")
        self._host.gate.set_halted(halted)

    def halt_now(self, owner: str, reason: str) -> None:
        """Refuse an owner's orders (the account's when empty) from this moment, before anything is stored."""
        with self._lock:
            if owner == ACCOUNT:
                self._halted_at = datetime.now(UTC)
            else:
                self._stopped[owner] = datetime.now(UTC), reason
            self._host.gate.add_halted(owner, reason)

    # -- the watch

    def start(self) -> None:
        """Read the decisions and begin to watch."""
        self.reload()
        calendar = make_time_manager()  # hears of operators' edits as long as somebody holds it
        self.hours.follow(lambda: calendar.overrides)
        self._thread = threading.Thread(target=self._watch, name="mats-risk", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the watch."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _watch(self) -> None:
        turn = 0
        try:
            while not self._stop.is_set():
                self._look_at_file()
                if turn % BEAT_EVERY == 0:
                    self.pulse.beat()
                    self._host.note_repeats()
                turn += 1
                if turn % POLL_EVERY == 0:
                    self._look_at_rows()
                self._stop.wait(WATCH_S)
            self._host.note_repeats()
            self.pulse.end()
        finally:
            database.close()

    def _look_at_file(self) -> None:
        if self._halted_at is not None or not self.halt_file.exists():
            return
        note = self.halt_file.note()
        reason = note.text if note is not None else "The halt file is there."
        self.halt_now(ACCOUNT, reason)
        logger.error("trading halted by the file %s reason=%s", self.halt_file.path, reason)
        self._host.on_halted(ACCOUNT, reason, note.by if note is not None else "")

    def _look_at_rows(self) -> None:
        try:
            if self._decisions is None or read_revision() != self._decisions.revision:
                self.reload()
        except DatabaseError as error:
            logger.warning("decisions about risk not read reason=%s", error)
            database.close()
        except Exception:  # thread border: a row that cannot be understood must not end the watch on the file
            logger.exception("decisions about risk not read")
            database.close()

    # -- one order

    async def prepare(self, ib: IB, contract: Contract) -> None:
        """Have a fresh price and the liquid hours of a contract at hand, as far as IB gives them in time."""
        decisions = self._decisions
        if decisions is None or not contract.conId:
            return
        limit = decisions.limits.find("quote_age_s", "", contract.conId)
        age_s = float(limit.value) if limit is not None else 60.0
        quote = self.quotes.get(contract.conId)
        if quote is None or quote.age_s > age_s:
            self._host.follow_price(contract)
            if not await self.quotes.wait_fresh(contract.conId, age_s, LINE_WAIT_S):
                await self._ask_price(ib, contract, age_s)
        hours = decisions.limits.find("liquid_hours_only", "", contract.conId)
        if hours is not None and hours.value:
            await self.hours.learn(ib, contract, datetime.now(UTC), HOURS_WAIT_S)

    async def _ask_price(self, ib: IB, contract: Contract, age_s: float) -> None:
        """Have a price asked for once, however many strategies want to trade it in one instant."""
        if not self.quotes.begin_asking(contract.conId):
            await self.quotes.wait_fresh(contract.conId, age_s, SNAPSHOT_WAIT_S)
            return
        try:
            price = await ask_price(ib, contract, SNAPSHOT_WAIT_S)
        except TransientError as error:
            logger.info("no price con_id=%s reason=%s", contract.conId, error.message)
            return
        finally:
            self.quotes.end_asking(contract.conId)
        if price is not None:
            self.quotes.take(contract.conId, price)

    async def learn_margins(self, moves: Sequence[Move]) -> None:
        """Ask IB what the checks have to know of margin; await it on any loop.

        Raises: TransientError, NotFoundError, LedgerError when it does not say it.
        """
        await self.margins.learn(moves)

    def learn_margins_now(self, moves: Sequence[Move]) -> None:
        """Do the same on a thread that may wait."""
        self.margins.learn_now(moves)

    def facts(self, draft: OrderDraft, params: Mapping[str, Any]) -> RiskFacts:
        """Return what the checks may ask about an order.

        Raises: OrderDeniedError (limits_unknown).
        """
        now, owner, con_id = datetime.now(UTC), draft.owner, draft.contract.con_id
        decisions = self.decisions
        self.account.learn_terms(draft.contract)
        self.margins.know(draft.contract)
        return RiskFacts(
            read_orders_today=lambda: queries.orders_today(owner, now, self._enabled_at(decisions, owner)),
            read_realized_today=lambda: self.account.realized_today(owner, now),
            read_equity=lambda: self.account.equity(owner),
            read_position=lambda: self.account.position(owner, con_id),
            read_open_orders=lambda: queries.open_orders(now),
            limits={name: params.get(name) for name in ("max_daily_trades", "max_daily_loss")},
            desk=self._desk(draft, decisions, now),
        )

    def _desk(self, draft: OrderDraft, decisions: Decisions, now: datetime) -> Desk:
        owner, con_id = draft.owner, draft.contract.con_id
        standing = decisions.standing(owner, con_id, now)
        held = self._held.get(owner)
        if held is not None and standing.state is TradingState.ACTIVE:
            standing = replace(standing, state=TradingState.REDUCING, state_reason=held[1])
        return Desk(
            limit=lambda name: decisions.limits.find(name, owner, con_id),
            now=now,
            standing=standing,
            quote=self.quotes.get(con_id) or self.account.last_mark(con_id),
            read_holdings=self.account.holdings,
            read_account=lambda: self.account.figures(now),
            unit_value=self.unit_value,
            hours=self.hours.get(con_id, now),
            reset_at=self._host.reset_at,
            take_turn=lambda minute, second: self.rates.take_turn(owner, minute, second),
            read_margins=self.margins.view,
            on_throttled=lambda text: self._throttle(owner, text),
        )

    def unit_value(self, con_id: int, price: Decimal | None) -> Decimal:
        """Return what one unit is worth in base currency, at a price or the latest known.

        Raises: LedgerError when price, multiplier or rate is not known.
        """
        if price is None:
            quote = self.quotes.get(con_id) or self.account.last_mark(con_id)
            if quote is None:
                raise LedgerError(f"No price of contract {con_id} is known.", code="price_unknown", con_id=con_id)
            price = quote.price
        points, currency = self.account.terms_of(con_id)
        return self.account.in_base(price * points, currency)

    def _throttle(self, owner: str, text: str) -> None:
        with self._lock:
            if owner in self._held:
                return
            self._held[owner] = (datetime.now(UTC), text)
        self._host.on_throttled(owner, text)

    @staticmethod
    def _enabled_at(decisions: Decisions, owner: str) -> datetime | None:
        state = decisions.states.get(owner)
        return None if state is None else state.enabled_at
