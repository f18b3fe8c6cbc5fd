"""The first half of the machine: orders, executions, what the wire does to them, and nonsense.

Owns: these deeds and all bundles. Leaves: what is no fill, figures and laws to ``test_books_machine``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, precondition, rule

from portfolio import services as books
from portfolio.models import ParkedReport
from strategies.events import CommissionSnapshot, ContractSnapshot, FillSnapshot
from tests.properties.books_desk import OWNERS, STRATEGIES, Desk, altered, decimal
from tests.properties.books_rig import ACCOUNT, POINTS
from tests.properties.books_venue import CONTRACTS, RENAMED, STOCK, Venue, VenueOrder, said
from trading.orders import services as orders
from trading.orders.refs import new_ref

sizes = st.integers(1, 60)
prices = st.decimals(Decimal("0.01"), Decimal(200), places=2)
amounts = st.decimals(Decimal("0.01"), Decimal(900), places=2)
currencies = st.sampled_from(["USD", "EUR", "GBP"])
fees = st.one_of(st.none(), st.tuples(st.decimals(Decimal("-0.5"), Decimal(5), places=4), currencies))
arrivals = st.sampled_from(["with", "early", "late", "late", "never"])
holds = st.booleans()
owners = st.sampled_from(OWNERS)


class Trading(RuleBasedStateMachine):
    """An account that is traded, by a broker and over a wire that do what they like."""

    strategies: Bundle[str] = Bundle("strategies")
    contracts: Bundle[ContractSnapshot] = Bundle("contracts")
    orders: Bundle[str] = Bundle("orders")
    executions: Bundle[str] = Bundle("executions")
    bookings: Bundle[str] = Bundle("bookings")

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.steps_taken = 0
        self.moments = 0
        self.late: list[str] = []  # executions whose fee the wire owes

    @property
    def venue(self) -> Venue:
        """The broker."""
        return self.desk.venue

    @initialize(target=strategies)
    def know_strategies(self) -> Any:
        return multiple(*STRATEGIES)

    @initialize(target=contracts)
    def know_contracts(self) -> Any:
        return multiple(*CONTRACTS)

    # -- orders and fills

    @rule(target=orders, owner=strategies, of=contracts, side=st.sampled_from(["BUY", "SELL"]), size=sizes, hold=holds)
    def place(self, owner: str, of: ContractSnapshot, side: str, size: int, hold: bool) -> str:
        self.venue.tick()
        ref = self.desk.intend(owner, of, side, size)
        order = self.venue.place(ref, of, side, size)
        self.desk.send(self.desk.describe(order), hold=hold)
        return ref

    @rule(owner=strategies, of=contracts, size=sizes)
    def die_before_sending(self, owner: str, of: ContractSnapshot, size: int) -> None:
        """The intent is committed, the engine is not there to send it: the next one must not."""
        self.venue.tick()
        self.desk.intend(owner, of, "BUY", size)
        self.desk.reboot()

    @rule(ref=orders, size=sizes, hold=holds)
    def modify(self, ref: str, size: int, hold: bool) -> None:
        order = self.venue.orders[ref]
        if order.is_open and size > order.filled:
            order.quantity = Decimal(size)
            self.desk.send(self.desk.describe(order), hold=hold)

    @rule(ref=orders, hold=holds)
    def cancel(self, ref: str, hold: bool) -> None:
        order = self.venue.orders[ref]
        if order.is_open:
            order.word = "Cancelled"
            self.desk.send([self.venue.status(order)], hold=hold)

    @rule(target=executions, ref=orders, size=sizes, price=prices, fee=fees, arrival=arrivals, hold=holds)
    def fill(self, ref: str, size: int, price: Decimal, fee: Any, arrival: str, hold: bool) -> Any:
        """A part of an order, all of it, or more."""
        order = self.venue.orders[ref]
        if not order.is_open:
            return multiple()
        return self._execute(order, size, price, fee, arrival, hold)

    @rule(target=executions, of=contracts, size=sizes, price=prices, fee=fees, arrival=arrivals, hold=holds)
    def trade_by_hand(self, of: ContractSnapshot, size: int, price: Decimal, fee: Any, arrival: str, hold: bool) -> str:
        order = self.venue.place("", of, "BUY" if size % 2 else "SELL", size)
        return self._execute(order, size, price, fee, arrival, hold)

    @rule(target=executions, of=contracts, size=sizes, price=prices, fee=fees, arrival=arrivals, hold=holds)
    def trade_of_an_unknown_owner(
        self, of: ContractSnapshot, size: int, price: Decimal, fee: Any, arrival: str, hold: bool
    ) -> str:
        order = self.venue.place(new_ref("GONE"), of, "SELL" if size % 2 else "BUY", size)
        return self._execute(order, size, price, fee, arrival, hold)

    def _execute(self, order: VenueOrder, size: int, price: Decimal, fee: Any, arrival: str, hold: bool) -> str:
        report = self.venue.fill(order, size, price, fee, silent=arrival == "never")
        self._report(report, fee, arrival, hold)
        if order.ref in self.venue.received:
            self.desk.send([self.venue.status(order)], hold=hold)
        return report.exec_id

    def _report(self, report: FillSnapshot, fee: Any, arrival: str, hold: bool) -> None:
        told = self.venue.fee_report(report.exec_id)
        if told is not None and arrival == "late":
            self.late.append(report.exec_id)
        first = [told] if told and arrival == "early" else []
        then = [told] if told and arrival == "with" else []
        self.desk.send([*first, said(report), *then], hold=hold)

    @precondition(lambda self: self.late)
    @rule(number=st.integers(0, 99))
    def late_fee(self, number: int) -> None:
        report = self.venue.fee_report(self.late.pop(number % len(self.late)))
        self.desk.send([report] if report else [], hold=False)

    @rule(
        target=executions,
        exec_id=executions,
        size=sizes,
        price=prices,
        fee=fees,
        arrival=arrivals,
        hold=holds,
        turn=st.sampled_from(["size", "price", "side", "contract"]),
    )
    def correct(self, exec_id: str, size: int, price: Decimal, fee: Any, arrival: str, hold: bool, turn: str) -> str:
        """Issue a revision: another size, price, side or contract."""
        changes: dict[str, Any] = {"quantity": Decimal(size)} if turn == "size" else {"price": price}
        known = self.venue.fills[exec_id]
        if turn == "side":
            changes["side"] = "SLD" if known.side == "BOT" else "BOT"
        if turn == "contract":
            changes["contract"] = RENAMED if known.contract.con_id == STOCK.con_id else STOCK
        report = self.venue.correct(exec_id, fee, silent=arrival == "never", **changes)
        self._report(report, fee, arrival, hold)
        return report.exec_id

    @rule(ref=strategies)
    def flatten(self, ref: str) -> None:
        """Close everything that a strategy holds in whole units."""
        self.desk.deliver()
        for (owner, con_id), held in self.desk.model.fold().held.items():
            size = int(abs(held.quantity))
            if owner == ref and size:
                of = self.desk.model.contracts[con_id]
                side = "SELL" if held.quantity > 0 else "BUY"
                order = self.venue.place(self.desk.intend(owner, of, side, size), of, side, size)
                self.desk.send(self.desk.describe(order), hold=False)
                self._execute(order, size, Decimal(50), None, "never", False)

    # -- the wire

    @precondition(lambda self: self.desk.wire)
    @rule(count=st.integers(1, 8), limit=st.sampled_from([1, 2, 500]))
    def deliver(self, count: int, limit: int) -> None:
        self.desk.deliver(count, limit)

    @precondition(lambda self: len(self.desk.wire) > 1)
    @rule(first=st.integers(0, 99), second=st.integers(0, 99))
    def reorder(self, first: int, second: int) -> None:
        wire = self.desk.wire
        first, second = first % len(wire), second % len(wire)
        wire[first], wire[second] = wire[second], wire[first]

    @rule(exec_id=executions, replayed=st.booleans(), hold=holds)
    def duplicate(self, exec_id: str, replayed: bool, hold: bool) -> None:
        if replayed:
            self.desk.send(self.venue.repeat([exec_id]), hold=hold)
        else:
            fee = self.venue.fee_report(exec_id)
            self.desk.send([said(self.venue.fills[exec_id]), *([fee] if fee else [])], hold=hold)

    @precondition(lambda self: self.desk.wire)
    @rule()
    def disconnect(self) -> None:
        """What was on the wire is lost; the day is asked for again."""
        self.desk.wire.clear()
        self.desk.replay()

    @rule(back=st.integers(0, 6))
    def reboot(self, back: int) -> None:
        self.desk.reboot(back)

    @rule(point=st.sampled_from(POINTS), nth=st.integers(1, 3))
    def arm_a_crash(self, point: str, nth: int) -> None:
        self.desk.armed = point, nth

    @rule(count=st.integers(0, 3))
    def freeze_and_thaw(self, count: int) -> None:
        """Another engine takes the lease while this one sleeps over its messages."""
        taken, self.desk.wire = self.desk.wire[:count], self.desk.wire[count:]
        self.desk.write_from_the_grave(taken)

    @rule()
    def midnight(self) -> None:
        self.venue.tick(days=1)
        self.venue.day.clear()

    @rule()
    def reconcile(self) -> None:
        self.desk.reconcile()

    # -- nonsense

    @rule(exec_id=executions, what=st.sampled_from(["price", "quantity", "fee", "nan"]))
    def contradict(self, exec_id: str, what: str) -> None:
        """Repeat something booked with other content: the books stay and say so."""
        known = self.desk.model.reports.get(exec_id)
        if known is None:
            return
        if what == "fee":
            fee = self.desk.model.fees.get(exec_id)
            if fee is not None:
                report = CommissionSnapshot(exec_id, decimal(fee[0]) + 1, fee[1])
                self.desk.send(
                    [{"type": "commission", "strategy": "", "trade": None, "commission": report}], hold=False
                )
            return
        changes: dict[str, dict[str, Any]] = {
            "price": {"price": known.fill.price + 1},
            "quantity": {"quantity": known.fill.quantity + 1},
        }
        changed = altered(known.fill, **changes.get(what, {"price": Decimal("NaN")}))
        self.desk.send([said(altered(changed, is_replay=False))], hold=False)

    @rule(
        of=contracts,
        what=st.sampled_from(["nan", "infinite", "zero", "free", "currency", "contract", "multiplier", "fee", "owing"]),
        hold=holds,
    )
    def nonsense(self, of: ContractSnapshot, what: str, hold: bool) -> None:
        """What cannot be booked is kept whole, and its neighbours are booked."""
        self.venue.numbers += 1
        self.desk.armed = None  # what was lost with an engine comes again only when the broker knows it
        exec_id = f"0000dead.{self.venue.numbers:08x}.01.01"
        if what in ("fee", "owing"):
            amount, currency = (Decimal("NaN"), "USD") if what == "fee" else (Decimal(1), "dollars")
            report = CommissionSnapshot(exec_id, amount, currency)
            self.desk.waiting.add(f"commission:{exec_id}")
            self.desk.send([{"type": "commission", "strategy": "", "trade": None, "commission": report}], hold=hold)
        else:
            faults: dict[str, dict[str, Any]] = {
                "nan": {"quantity": Decimal("NaN")},
                "infinite": {"price": Decimal("Infinity")},
                "zero": {"quantity": Decimal(0)},
                "free": {"price": Decimal(-1), "contract": STOCK},
                "currency": {"contract": altered(of, con_id=77, currency="usd")},
                "contract": {"contract": altered(of, con_id=0)},
                "multiplier": {"contract": altered(of, multiplier=of.multiplier * 10)},
            }
            order = VenueOrder("", 9_000_000 + self.venue.numbers, 0, of, "BUY", Decimal(1), self.venue.now)
            self.desk.waiting.add(f"fill:{exec_id}")
            self.desk.send([said(altered(_blank(exec_id, order), **faults[what]))], hold=hold)
        if hold:
            self.desk.deliver()

    @precondition(lambda self: self.desk.waiting)
    @rule(discard=st.booleans())
    def settle_parked(self, discard: bool) -> None:
        """A retry books nothing that is still nonsense; a person may let go of it."""
        now = self.venue.now
        outcome = self.desk.engine.do(lambda: books.retry_parked(ACCOUNT, orders.owner_of, now), "retry")
        assert not outcome.booked
        if discard:
            row = ParkedReport.objects.filter(state="waiting").order_by("id").first()
            assert row is not None
            self.desk.engine.do(
                lambda: books.discard_parked(row.pk, actor="ann", reason="nonsense", now=now), "discard"
            )
            self.desk.waiting.discard(row.key)


def _blank(exec_id: str, order: VenueOrder) -> FillSnapshot:
    return FillSnapshot(
        exec_id=exec_id,
        account=ACCOUNT,
        contract=order.contract,
        side="BOT",
        quantity=Decimal(1),
        price=Decimal(1),
        executed_at=order.created_at,
        perm_id=order.perm_id,
        client_id=0,
        order_id=0,
        order_ref="",
        cum_quantity=Decimal(1),
        average_price=Decimal(1),
        exchange="ISLAND",
    )
