"""Broker, wire, engine and hand-made ledger at one desk: what can be done to them, and what must hold after it.

Owns: delivering, crashing, rebooting, booking, and the comparison of books, model and truth. Leaves: which deeds in
which order (``test_books_machine``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

from portfolio import services as books
from portfolio.adjustments import book_adjustment, undo_adjustment
from portfolio.assignments import assign_execution
from portfolio.facts import BrokerPosition
from portfolio.models import Adjustment, Break, BreakKind, BreakState, Execution, Movement, ParkedReport
from portfolio.verification import verify_all
from strategies.events import ContractSnapshot, QueueMessage
from strategies.exceptions import ConflictError, StaleEpochError
from strategies.models import AuditEntry, Strategy
from tests.properties import books_rig
from tests.properties.books_model import NOBODY, ZERO, Model, divide
from tests.properties.books_rig import ACCOUNT, Crash, Engine, crash_at
from tests.properties.books_venue import (
    CONTRACTS,
    FUTURE,
    OPENING_CASH,
    OPENING_STOCK,
    STOCK,
    Venue,
    VenueOrder,
    shown,
    trade_of,
)
from trading.engine import proofs
from trading.engine.check_alerts import report_breaks
from trading.models import Alert, Order
from trading.orders import services as orders
from trading.orders.drafts import OrderDraft
from trading.orders.intents import IntentWriter
from trading.risk_models import TradingControl

STRATEGIES = {"ALPHA": "USD", "BETA": "EUR"}
OWNERS = (*STRATEGIES, NOBODY)
NEAR = Fraction(1, 10**5)  # the model never rounds; the books round each figure to ten decimals
MARK = Decimal(50)
ALLOCATED = Decimal(100_000)
WHO: dict[str, Any] = {"actor": "ann", "source": "page", "reason": "law"}


class Desk:
    """One account from its opening on."""

    def __init__(self) -> None:
        books_rig.empty()
        proofs.register()
        for symbol, currency in STRATEGIES.items():
            Strategy.objects.create(symbol=symbol, filename="a.py", currency=currency, target_weight=Decimal("0.1"))
        self.venue, self.model = Venue(), Model(CONTRACTS, STRATEGIES)
        self.wire: list[QueueMessage] = []
        self.armed: tuple[str, int] | None = None
        self.booked: dict[str, int] = {}  # key to id, of what may be undone
        self.actions = self.crashes = self.refusals = 0
        self.waiting: set[str] = set()  # parked
        self.engine = Engine(self.model.hear, lambda: self.venue.now)
        self._open()

    def _open(self) -> None:
        now = self.venue.now
        books.ensure_account(ACCOUNT, "USD")
        held = BrokerPosition(STOCK, *OPENING_STOCK)
        self.engine.do(lambda: books.open_account(ACCOUNT, OPENING_CASH, [held], [], now), "open")
        self.engine.do(lambda: books.ensure_instruments(CONTRACTS), "contracts")
        self.price({one.con_id: MARK for one in CONTRACTS})
        moves = {(NOBODY, currency): Fraction(amount) for currency, amount in OPENING_CASH.items()}
        self.model.book("opening:cash", "flow", now, moves=moves)
        quantity, average = map(Fraction, OPENING_STOCK)
        self.model.book("opening:stock", "opening", now, con_id=1, quantity=quantity, basis=quantity * average)
        for symbol, currency in STRATEGIES.items():
            self.engine.do(partial(books.allocate_strategy, ACCOUNT, symbol, ALLOCATED, currency, now), "allocate")
            self.move_cash(f"initial:{symbol}", NOBODY, symbol, currency, Fraction(ALLOCATED))

    def move_cash(self, key: str, giver: str, receiver: str, currency: str, amount: Fraction) -> None:
        """Tell the model of cash between owners."""
        moves = {(giver, currency): -amount, (receiver, currency): amount}
        self.model.book(key, "flow", self.venue.now, moves=moves)

    def price(self, marks: Mapping[int, Decimal]) -> None:
        """Have everybody see new prices."""
        self.venue.marks.update(marks)
        self.engine.do(lambda: books.record_marks(self.venue.marks, self.venue.now), "marks")

    # -- the wire

    def send(self, messages: Iterable[QueueMessage], *, hold: bool) -> None:
        """Put messages on the wire; deliver all of it unless it is held up."""
        self.wire += messages
        if not hold:
            self.deliver()

    def deliver(self, count: int | None = None, limit: int = 500) -> None:
        """Let the engine hear the next messages."""
        taken, self.wire = self.wire[:count], self.wire[count:] if count is not None else []
        try:
            with self._danger():
                self.engine.deliver(taken, limit)
        except Crash:
            self.reboot()

    def _danger(self) -> Any:
        armed, self.armed = self.armed, None
        return crash_at(*armed) if armed else nullcontext()

    def reboot(self, back: int = 0) -> None:
        """Start the next engine: what was under way is lost, the day is asked for again."""
        self.crashes += 1
        self.wire.clear()
        self.venue.order_ids = max(1, self.venue.order_ids - back)
        self.engine = Engine(self.model.hear, lambda: self.venue.now)
        self.replay()

    def replay(self) -> None:
        """Ask for the executions of the day and the orders, as after every connect."""
        self.engine.deliver(self.venue.repeat(self.venue.day))
        known = list(self.venue.orders.values())
        answers = [trade_of(one) for one in known if one.is_open], [trade_of(one) for one in known if not one.is_open]
        refs = {self.venue.fills[exec_id].order_ref for exec_id in self.venue.day}
        self.engine.do(lambda: orders.resolve_unconfirmed(*answers, refs, self.venue.now), "orders")

    def write_from_the_grave(self, messages: list[QueueMessage]) -> None:
        """An engine that lost its lease must not write."""
        old, before = self.engine, books_rig.books_hash()
        self.engine = Engine(self.model.hear, lambda: self.venue.now)
        with suppress(StaleEpochError):  # none, when all of it was known to it
            old.deliver(messages)
        assert books_rig.books_hash() == before, "a stale engine wrote"
        self.engine.deliver(messages)

    # -- orders

    def intend(self, owner: str, of: ContractSnapshot, side: str, quantity: int) -> str:
        """Write an order down before it is sent."""
        writer = IntentWriter(self.engine.lease.assert_epoch, lambda: self.venue.now)
        draft = OrderDraft(owner, of, side, Decimal(quantity), "LMT", Decimal(50), tif="GTC", account=ACCOUNT)
        return writer.commit(draft)

    def describe(self, order: VenueOrder) -> list[QueueMessage]:
        """Return what the wire says of an order."""
        return [
            {"type": "order", "strategy": "", "trade": trade_of(order)},
            self.venue.status(order),
        ]

    # -- adjustments

    def book(
        self,
        kind: str,
        details: dict[str, Any],
        tell: Callable[[str], None],
        *,
        at: datetime | None = None,
        refuses: bool | None = False,
    ) -> str:
        """Book an adjustment, in the books and in the model; ``refuses`` says whether the books must not take it."""
        now = self.venue.tick()
        key = f"law:{len(self.booked)}:{self.actions}:{self.refusals}"
        return self._act(
            key,
            key,
            lambda: book_adjustment(ACCOUNT, kind, details, **WHO, key=key, effective_at=at, now=now).adjustment_id,
            lambda: tell(key),
            refuses,
        )

    def assign(self, exec_id: str, giver: str, receiver: str, quantity: int | None) -> str:
        """Give an execution, or a part, to another owner."""
        report = self.model.reports[exec_id]
        live = self.model.live_of(exec_id.rpartition(".")[0]) is report
        share = abs(report.divided().get(giver, ZERO))
        refuses = not live or not share or (quantity is not None and quantity > share)
        key, now = f"assign:{self.actions}:{self.refusals}", self.venue.tick()
        part = None if quantity is None else Decimal(quantity)
        return self._act(
            key,
            key,
            lambda: (
                assign_execution(
                    ACCOUNT, exec_id, receiver, quantity=part, from_owner=giver, key=key, now=now, **WHO
                ).adjustment_id
            ),
            lambda: self.model.assign(key, exec_id, giver, receiver, None if part is None else Fraction(part)),
            refuses,
        )

    def undo(self, key: str) -> str:
        """Take an adjustment back, where the books allow it."""
        now, number = self.venue.tick(), self.booked[key]
        undone = self._act(
            "",
            f"undo:{key}",
            lambda: undo_adjustment(number, now=now, **WHO).adjustment_id,
            lambda: self.model.forget(key),
            None,
        )
        if undone:
            del self.booked[key]
        return undone

    def _act(self, key: str, row: str, work: Callable[[], int], tell: Callable[[], None], refuses: bool | None) -> str:
        """Do a deed until it is committed once; an engine that dies over it is asked again under the same key."""
        while True:
            try:
                with self._danger():
                    number = self.engine.do(work, "book")
            except Crash:
                if not Adjustment.objects.filter(key=row).exists():
                    self.reboot()
                    continue
                tell()
                self.reboot()
                number = self.engine.do(work, "book")
            except ConflictError as error:
                if refuses is False:
                    raise AssertionError("refused without reason") from error
                self.refusals += 1
                return ""
            else:
                assert refuses is not True, f"{row} was booked and should have been refused"
                tell()
            self.actions += 1
            if key:
                self.booked[key] = number
            return row

    def dividend(self, con_id: int, amount: Fraction) -> dict[str, Fraction]:
        """Return who gets what of a dividend, in cents."""
        held = {
            owner: one.quantity for (owner, of), one in self.model.fold().held.items() if of == con_id and one.quantity
        }
        if not sum(held.values(), ZERO):
            return {NOBODY: amount}
        return divide(amount, held, Fraction(1, 100))

    # -- checks against the broker

    def reconcile(self) -> None:
        """Compare with the broker, as after every connect; breaks stand exactly where they must."""
        held, _ = self.venue.truth()
        cash = {currency: decimal(amount) for currency, amount in self.venue.reported_cash().items()}
        quantities = {con_id: decimal(quantity) for con_id, quantity in held.items()}
        rows = [BrokerPosition(one, quantities[one.con_id], MARK) for one in CONTRACTS if quantities.get(one.con_id)]
        now, marks = self.venue.now, dict(self.venue.marks)

        def _compare() -> None:
            books.store_holdings(ACCOUNT, rows, now)
            facts = books.compare_positions(ACCOUNT, quantities, now)
            report_breaks([*facts, *books.compare_cash(ACCOUNT, cash, now, marks=marks)], now)

        self.engine.do(_compare, "compare")
        self.check_breaks()

    def check_breaks(self) -> None:
        """Open breaks and their alerts are the differences between truth and model, no more and no fewer."""
        held, _ = self.venue.truth()
        ours, money = self.model.totals(self.model.fold())
        wanted = {f"break:{one}" for one in {*held, *ours} if decimal(held.get(one, ZERO)) != decimal(ours[one])}
        theirs, mine = self.venue.reported_cash(), shown(ours, money, self.venue.marks)
        value = ours[FUTURE.con_id] * Fraction(self.venue.marks[FUTURE.con_id]) * Fraction(FUTURE.multiplier)
        for currency in {*theirs, *mine}:
            allowed = Fraction(1, 100) + (abs(value) / 200 if currency == "USD" else ZERO)
            if abs(theirs.get(currency, ZERO) - mine.get(currency, ZERO)) > allowed:
                wanted.add(f"break:cash:{currency}")
        opened = Break.objects.filter(state=BreakState.OPEN)
        found = {
            f"break:{row.instrument_id}" if row.kind == BreakKind.POSITION else f"break:cash:{row.currency}"
            for row in opened
        }
        assert found == wanted, f"breaks {found}, meant {wanted}"
        alerts = set(Alert.objects.filter(key__startswith="break:", cleared_at=None).values_list("key", flat=True))
        assert alerts == wanted, f"alerts {alerts}, breaks {wanted}"

    # -- laws

    def check(self) -> None:
        """Hold the books against the model: I1 to I7, I9, I15 to I17 as far as they live at this level."""
        state = self.model.fold()
        kept, cash = books_rig.positions(), books_rig.balances()
        self._check_positions(state.held, kept)
        _near("cash", state.cash, {key: row[0] for key, row in cash.items()})
        _near("realised apart", state.apart, {key: row[1] for key, row in cash.items()})
        profit = defaultdict(Fraction, state.flows)  # I16: what is there = what came + what was earned
        for (owner, currency), (amount, apart) in cash.items():
            profit[owner, currency] += apart - amount
        for (owner, con_id), (_, basis, realized) in kept.items():
            profit[owner, self.model.contracts[con_id].currency] += realized - basis
        assert not any(map(rough, profit.values())), f"profit and flows do not explain equity: {dict(profit)}"
        self._check_executions()
        self._check_orders()
        waiting = set(ParkedReport.objects.filter(state="waiting").values_list("key", flat=True))
        assert waiting == self.waiting, f"parked {waiting}, meant {self.waiting}"
        told = set(Alert.objects.filter(key__startswith="contradiction:").values_list("key", flat=True))
        assert told == {f"contradiction:{one}" for one in self.model.contradicted}, f"contradictions told: {told}"
        halts = AuditEntry.objects.filter(action="risk.halted").count()
        assert AuditEntry.objects.count() == self.actions + halts, "one audit entry for each action"

    def _check_positions(self, held: Mapping[tuple[str, int], Any], kept: books_rig.Kept) -> None:
        totals: dict[int, Fraction] = defaultdict(Fraction)
        cash: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
        rows = Movement.objects.exclude(instrument=None).values_list("owner", "instrument_id", "currency", "cash")
        for owner, con_id, currency, moved in rows:
            if currency == self.model.contracts[con_id].currency:
                cash[owner, con_id] += moved
        for key in {*held, *kept}:
            quantity, basis, realized = kept.get(key, (ZERO, ZERO, ZERO))
            meant = held.get(key)
            wanted = (meant.quantity, meant.basis, meant.realized) if meant else (ZERO, ZERO, ZERO)
            assert quantity == wanted[0], f"{key} holds {float(quantity)}, meant {float(wanted[0])}"
            _near(f"basis of {key}", {0: wanted[1]}, {0: basis})
            _near(f"realised of {key}", {0: wanted[2]}, {0: realized})
            totals[key[1]] += quantity
            opening = Fraction(OPENING_STOCK[0] * OPENING_STOCK[1]) if key == (NOBODY, STOCK.con_id) else ZERO
            assert realized == Fraction(cash[key]) + basis - opening, f"I5 of {key}"
        ledger = books.ledger_quantities(ACCOUNT)
        assert {k: v for k, v in totals.items() if v} == {k: Fraction(v) for k, v in ledger.items() if v}

    def _check_executions(self) -> None:
        shares: dict[str, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
        rows = Movement.objects.exclude(execution=None).values_list("execution__exec_id", "owner", "quantity")
        for exec_id, owner, quantity in rows:
            shares[exec_id][owner] += Fraction(quantity)
        live = self.model.live()
        columns = ("exec_id", "superseded", "quantity", "price", "owner", "divided", "commission")
        known = {row[0]: row[1:] for row in Execution.objects.values_list(*columns)}
        assert set(known) == set(self.model.reports), "the ledger's executions are not those that were delivered"
        for exec_id, (superseded, quantity, price, owner, divided, fee) in known.items():
            report = self.model.reports[exec_id]
            assert superseded is (exec_id not in live), f"I1: {exec_id}"
            assert (Fraction(quantity), price) == (report.signed, report.fill.price)
            parts = {who: part for who, part in shares[exec_id].items() if part}
            wanted = {} if superseded else report.divided()
            assert parts == wanted, f"I7: {exec_id} belongs to {parts}, meant {wanted}"
            if not superseded:
                assert owner in parts, f"{exec_id} names {owner}"
                assert divided is (len(parts) > 1), exec_id
            meant = self.model.fees.get(exec_id)
            assert (None if fee is None else Fraction(fee)) == (meant[0] if meant else None), f"fee of {exec_id}"

    def _check_orders(self) -> None:
        filled: dict[str, Fraction] = defaultdict(Fraction)
        for report in self.model.live().values():
            ref = report.fill.order_ref
            filled[ref if "/" in ref else f"perm/{report.fill.perm_id}"] += Fraction(report.fill.quantity)
        rows = {row.order_ref: row for row in Order.objects.all()}
        halted = dict(TradingControl.objects.filter(state="halted").values_list("owner", "reason"))
        assert AuditEntry.objects.filter(action="risk.halted").count() == len(halted), "a halt is audited once"
        assert all("overfilled" in reason for reason in halted.values()), f"halted without a cause: {halted}"
        for ref, row in rows.items():
            assert Fraction(row.filled) == filled.pop(ref, ZERO), f"I6: {ref} has filled {row.filled}"
            if row.order_type and row.filled > row.quantity and row.owner in STRATEGIES:
                assert row.reason, f"{ref} is overfilled and nobody was told"
                assert row.owner in halted, f"{ref} is overfilled and {row.owner} trades on"
        assert not filled, f"executions without an order: {dict(filled)}"
        assert all(count == 1 for count in self.venue.received.values()), "an order was sent twice"
        ours = {ref for ref in self.venue.received if ref.partition("/")[0] in STRATEGIES}
        assert ours <= set(rows), "an order was sent before it was written down"

    def verify(self) -> None:
        """Have MATS check itself; where the broker is meant to differ, it must say so and nothing else."""
        report = verify_all(arctic=False)
        wrong = [(one.name, one.findings[:3]) for one in report.checks if one.found and one.name not in ("I2", "I3")]
        assert not wrong, wrong

    def settle(self) -> None:
        """Let everything arrive that was ever said, as a statement brings it the day after; only then compare."""
        self.armed = None
        self.deliver()
        self.venue.silent.clear()
        self.engine = Engine(self.model.hear, lambda: self.venue.now)
        self.venue.day = list(self.venue.fills)
        self.replay()
        self.check()
        self.reconcile()
        self.verify()
        live = self.venue.live()
        assert set(live) == set(self.model.live()), "the books' executions are not the broker's"
        self.check_states()

    def check_states(self) -> None:
        """An order that ended at the broker has ended here."""
        for order in self.venue.orders.values():
            row = Order.objects.filter(order_ref=order.ref).first()
            if row is None or order.corrected or row.owner not in STRATEGIES:
                continue
            if order.word == "Filled":
                assert row.state == "filled", f"{order.ref} is {row.state}"
            elif order.word == "Cancelled":
                assert row.state == "cancelled", f"{order.ref} is {row.state}"
            else:
                assert row.state in {"sent", "accepted", "partial", "unknown"}, f"{order.ref} is {row.state}"


def decimal(number: Fraction) -> Decimal:
    """Return ten decimals of a fraction."""
    return (Decimal(number.numerator) / Decimal(number.denominator)).quantize(Decimal("1E-10"))


def rough(number: Fraction) -> bool:
    """Tell whether a number is more than rounding can leave."""
    return abs(number) > NEAR


def _near(what: str, wanted: Mapping[Any, Fraction], kept: Mapping[Any, Fraction]) -> None:
    for key in {*wanted, *kept}:
        ours, theirs = kept.get(key, ZERO), wanted.get(key, ZERO)
        assert not rough(ours - theirs), f"{what} {key}: kept {float(ours)}, meant {float(theirs)}"


def altered(report: Any, **changes: Any) -> Any:
    """Return a report that says something else."""
    return replace(report, **changes)
