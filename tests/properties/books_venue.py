"""A broker in a few dictionaries: the truth that the books are held against, and what it says of it on the wire.

Owns: orders, executions with their revisions, fees, flows and corporate actions, each with its time; positions and cash
follow from them in the order of time. Rule: it knows no owners and no books; what it says can be lost, doubled and
disordered by whoever carries it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from strategies.events import (
    CommissionSnapshot,
    ContractSnapshot,
    FillSnapshot,
    QueueMessage,
    StatusSnapshot,
    TradeSnapshot,
)
from tests.unit.portfolio.builders import ACCOUNT, contract

START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
CALL = {"sec_type": "OPT", "multiplier": Decimal(100), "strike": Decimal(50), "right": "C"}
STOCK, FOREIGN, OPTION, FUTURE, PAIR, RENAMED = (
    contract(1, "AAPL"),
    contract(2, "SIE", currency="EUR"),
    contract(3, "AAPL", **CALL),
    contract(4, "ES", sec_type="FUT", multiplier=Decimal(50)),
    contract(5, "EUR", sec_type="CASH"),
    contract(6, "AAPN"),
)
CONTRACTS = (STOCK, FOREIGN, OPTION, FUTURE, PAIR, RENAMED)
OPENING_CASH = {"USD": Decimal(1_000_000), "EUR": Decimal(500_000)}
OPENING_STOCK = (Decimal(40), Decimal(45))
Fee = tuple[Decimal, str]


@dataclass
class VenueOrder:
    """One order as the broker has it."""

    ref: str
    perm_id: int
    order_id: int
    contract: ContractSnapshot
    side: str
    quantity: Decimal
    created_at: datetime
    filled: Decimal = Decimal(0)
    word: str = "Submitted"
    corrected: bool = False

    @property
    def is_open(self) -> bool:
        """Tell whether it may still be changed."""
        return self.word == "Submitted"


@dataclass
class Venue:
    """The broker. ``day`` holds the executions that it repeats on request."""

    now: datetime = START
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    fills: dict[str, FillSnapshot] = field(default_factory=dict)
    fees: dict[str, Fee] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)  # executions whose fee it never tells
    day: list[str] = field(default_factory=list)
    acts: list[tuple[datetime, str, dict[str, Any]]] = field(default_factory=list)
    marks: dict[int, Decimal] = field(default_factory=dict)
    received: Counter[str] = field(default_factory=Counter)
    order_ids: int = 1
    numbers: int = 0

    def tick(self, **span: int) -> datetime:
        """Let time pass, a second when nothing is said."""
        self.now += timedelta(**(span or {"seconds": 1}))
        return self.now

    def place(self, ref: str, of: ContractSnapshot, side: str, quantity: int) -> VenueOrder:
        """Accept an order."""
        self.numbers += 1
        if ref:
            self.received[ref] += 1
        order = VenueOrder(ref, 7000 + self.numbers, self.order_ids, of, side, Decimal(quantity), self.now)
        self.order_ids += 1
        self.orders[ref] = order
        return order

    def fill(self, order: VenueOrder, quantity: int, price: Decimal, fee: Fee | None, *, silent: bool) -> FillSnapshot:
        """Execute a part of an order, perhaps more than is left of it."""
        self.numbers += 1
        order.filled += quantity
        if order.filled >= order.quantity:
            order.word = "Filled"
        report = FillSnapshot(
            exec_id=f"0000e0d5.{self.numbers:08x}.01.01",
            account=ACCOUNT,
            contract=order.contract,
            side="BOT" if order.side == "BUY" else "SLD",
            quantity=Decimal(quantity),
            price=price,
            executed_at=self.tick(),
            perm_id=order.perm_id,
            client_id=3,
            order_id=order.order_id,
            order_ref=order.ref,
            cum_quantity=order.filled,
            average_price=price,
            exchange="ISLAND",
        )
        return self._report(report, fee, silent=silent)

    def correct(self, exec_id: str, fee: Fee | None, *, silent: bool, **changes: Any) -> FillSnapshot:
        """Issue the next revision of an execution."""
        family = exec_id.rpartition(".")[0]
        last = max(int(one.rpartition(".")[2]) for one in self.fills if one.rpartition(".")[0] == family)
        before = self.fills[f"{family}.{last:02d}"]
        for order in self.orders.values():
            if order.perm_id == before.perm_id:
                order.corrected = True
                order.filled += changes.get("quantity", before.quantity) - before.quantity
        self.tick()
        return self._report(replace(before, exec_id=f"{family}.{last + 1:02d}", **changes), fee, silent=silent)

    def _report(self, report: FillSnapshot, fee: Fee | None, *, silent: bool) -> FillSnapshot:
        self.fills[report.exec_id] = report
        self.day.append(report.exec_id)
        if fee is not None:
            self.fees[report.exec_id] = fee
        if silent:
            self.silent.add(report.exec_id)
        return report

    def act(self, kind: str, at: datetime | None = None, **data: Any) -> datetime:
        """Let something happen that is no execution."""
        moment = at or self.tick()
        self.acts.append((moment, kind, data))
        return moment

    # -- what it says

    def fee_report(self, exec_id: str) -> QueueMessage | None:
        """Return the commission report of an execution, None when there is none to tell."""
        if exec_id not in self.fees or exec_id in self.silent:
            return None
        report = CommissionSnapshot(exec_id, *self.fees[exec_id])
        return {"type": "commission", "strategy": "", "trade": None, "commission": report}

    def repeat(self, exec_ids: list[str]) -> list[QueueMessage]:
        """Return what it answers to a request for executions."""
        found: list[QueueMessage] = []
        for exec_id in exec_ids:
            found.append(said(replace(self.fills[exec_id], is_replay=True)))
            fee = self.fee_report(exec_id)
            found += [fee] if fee else []
        return found

    def status(self, order: VenueOrder) -> QueueMessage:
        """Return a status of an order."""
        left = max(order.quantity - order.filled, Decimal(0))
        word = StatusSnapshot(order.word, order.filled, left, None, self.now)
        return {"type": "status_change", "strategy": "", "trade": trade_of(order), "status": word}

    # -- what is true

    def live(self) -> dict[str, FillSnapshot]:
        """Return the highest revision of each execution."""
        found: dict[str, FillSnapshot] = {}
        for exec_id in sorted(self.fills):
            found[exec_id.rpartition(".")[0]] = self.fills[exec_id]
        return {one.exec_id: one for one in found.values()}

    def truth(self) -> tuple[dict[int, Fraction], dict[str, Fraction]]:
        """Return positions by contract and cash by currency; futures and pairs at notional."""
        held: dict[int, Fraction] = defaultdict(Fraction)
        cash: dict[str, Fraction] = defaultdict(Fraction)
        held[STOCK.con_id] = Fraction(OPENING_STOCK[0])
        cash.update({currency: Fraction(amount) for currency, amount in OPENING_CASH.items()})
        for _, kind, data in sorted(self._history(), key=lambda one: one[0]):
            _HAPPENS[kind](held, cash, **data)
        return held, cash

    def _history(self) -> Iterator[tuple[datetime, str, dict[str, Any]]]:
        yield from self.acts
        for exec_id, one in self.live().items():
            yield one.executed_at, "trade", {"fill": one, "fee": self.fees.get(exec_id)}

    def reported_cash(self) -> dict[str, Fraction]:
        """Return cash as the broker shows it: futures by their daily gain, pairs as money."""
        held, cash = self.truth()
        return shown(held, cash, self.marks)


def shown(held: dict[int, Fraction], cash: dict[str, Fraction], marks: dict[int, Decimal]) -> dict[str, Fraction]:
    """Return cash as a broker shows it for positions and cash at notional."""
    found = defaultdict(Fraction, cash)
    future = held.get(FUTURE.con_id, Fraction(0))
    if future:
        found["USD"] += future * Fraction(marks[FUTURE.con_id]) * Fraction(FUTURE.multiplier)
    found[PAIR.symbol] += held.get(PAIR.con_id, Fraction(0))
    return dict(found)


def said(report: FillSnapshot) -> QueueMessage:
    """Return the message that carries an execution."""
    return {"type": "fill", "strategy": "", "trade": None, "fill": report}


def trade_of(order: VenueOrder) -> TradeSnapshot:
    """Return an order as the broker describes it."""
    return TradeSnapshot(
        order_ref=order.ref,
        client_id=3,
        order_id=order.order_id,
        perm_id=order.perm_id,
        account=ACCOUNT,
        contract=order.contract,
        action=order.side,
        quantity=order.quantity,
        order_type="LMT",
        limit_price=Decimal(50),
        stop_price=None,
        tif="GTC",
        status=order.word,
        filled=order.filled,
        remaining=max(order.quantity - order.filled, Decimal(0)),
        average_price=None,
    )


Holdings = dict[int, Fraction]
Money = dict[str, Fraction]


def _trade(held: Holdings, cash: Money, fill: FillSnapshot, fee: Fee | None) -> None:
    signed = Fraction(fill.quantity) * (1 if fill.side == "BOT" else -1)
    held[fill.contract.con_id] += signed
    cash[fill.contract.currency] -= signed * Fraction(fill.price) * Fraction(fill.contract.multiplier)
    if fee is not None:
        cash[fee[1]] -= Fraction(fee[0])


def _money(held: Holdings, cash: Money, currency: str, amount: Fraction) -> None:
    cash[currency] += amount


def _units(held: Holdings, cash: Money, con_id: int, quantity: Fraction, cost: Fraction) -> None:
    """Units come or go without a trade; a future at notional, as it is held here."""
    held[con_id] += quantity
    if con_id == FUTURE.con_id:
        cash["USD"] -= cost


def _split(held: Holdings, cash: Money, con_id: int, ratio: Fraction) -> None:
    held[con_id] *= ratio


def _change(held: Holdings, cash: Money, con_id: int, new: int) -> None:
    held[new] += held[con_id]
    held[con_id] = Fraction(0)


def _expiry(held: Holdings, cash: Money, con_id: int, price: Fraction, multiplier: Fraction) -> None:
    cash["USD"] += held[con_id] * price * multiplier
    held[con_id] = Fraction(0)


def _exercise(held: Holdings, cash: Money, contracts: Fraction) -> None:
    held[OPTION.con_id] -= contracts
    held[STOCK.con_id] += contracts * 100
    cash["USD"] -= contracts * 100 * 50


_HAPPENS: dict[str, Callable[..., None]] = {
    "trade": _trade,
    "money": _money,
    "units": _units,
    "split": _split,
    "change": _change,
    "expiry": _expiry,
    "exercise": _exercise,
}
