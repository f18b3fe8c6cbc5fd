"""Laws of what is no fill: an undo restores, owners are conserved, the journal folded again is the state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portfolio.adjustments import book_adjustment, undo_adjustment
from portfolio.assignments import assign_execution, shares_of
from portfolio.facts import Booking
from portfolio.models import CashBalance, Execution, Movement, Position
from portfolio.services import ensure_instruments, fold_batch, ledger_quantities
from portfolio.verification.journal import verify_ledger
from strategies.exceptions import ConflictError
from strategies.models import Strategy
from tests.properties.test_ledger_laws import CONTRACTS, OWNERS, fresh
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db

LATER = NOW + timedelta(hours=1)
WHO: dict[str, Any] = {"actor": "ann", "source": "page", "reason": "law", "now": LATER}
LAWS = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NEW = contract(50, "NEW")

numbers = st.integers(1, 8)
owners = st.sampled_from(OWNERS)
amounts = st.decimals(Decimal("0.01"), Decimal(900), places=2)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), st.integers(-60, 60).filter(bool), amounts, owners),
        st.tuples(st.just("fee"), numbers, amounts, st.sampled_from(["USD", "EUR"])),
        st.tuples(st.just("correct"), numbers, st.integers(1, 60), amounts),
        st.tuples(st.just("assign"), numbers, owners, owners, st.one_of(st.none(), st.integers(1, 40))),
        st.tuples(st.just("cash"), owners, owners, amounts),
        st.tuples(st.just("move"), owners, owners, st.integers(1, 20), st.one_of(st.none(), amounts)),
        st.tuples(st.just("split"), st.integers(1, 4), st.integers(1, 4)),
        st.tuples(st.just("dividend"), amounts),
        st.tuples(st.just("change"), st.integers(1, 3)),
    ),
    min_size=3,
    max_size=14,
)


class Desk:
    """The books under a row of drawn steps; a step that the books refuse changes nothing."""

    def __init__(self) -> None:
        for symbol in OWNERS[:2]:
            Strategy.objects.create(symbol=symbol, filename="alpha.py")
        ensure_instruments([CONTRACTS[0], NEW])
        self.fills: dict[int, tuple[int, int, str]] = {}  # number: sign, revision, owner
        self.last: Booking | None = None

    def run(self, step: tuple[Any, ...]) -> None:
        act: Callable[..., Booking | None] = getattr(self, f"_{step[0]}")
        try:
            self.last = act(*step[1:]) or self.last
        except ConflictError:
            return

    def forget(self) -> None:
        self.last = None

    def _fill(self, size: int, price: Decimal, owner: str) -> None:
        number = len(self.fills) + 1
        self.fills[number] = (1 if size > 0 else -1, 1, owner)
        fold_batch(ACCOUNT, [fill(number, size, str(price), owner=owner, of=CONTRACTS[0])], owner_of, NOW)

    def _fee(self, number: int, amount: Decimal, currency: str) -> None:
        if number in self.fills:
            report = fee(number, str(amount), currency, revision=self.fills[number][1])
            fold_batch(ACCOUNT, [report], owner_of, NOW)

    def _correct(self, number: int, size: int, price: Decimal) -> None:
        if number not in self.fills:
            return
        sign, revision, owner = self.fills[number]
        self.fills[number] = (sign, revision + 1, owner)
        report = fill(number, sign * size, str(price), owner=owner, of=CONTRACTS[0], revision=revision + 1)
        fold_batch(ACCOUNT, [report], owner_of, NOW)

    def _assign(self, number: int, giver: str, receiver: str, size: int | None) -> Booking | None:
        if number not in self.fills or giver == receiver:
            return None
        exec_id = fill(number, revision=self.fills[number][1]).exec_id
        quantity = None if size is None else Decimal(size)
        return assign_execution(ACCOUNT, exec_id, receiver, quantity=quantity, from_owner=giver, **WHO)

    def _cash(self, giver: str, receiver: str, amount: Decimal) -> Booking | None:
        if giver == receiver:
            return None
        details = {"from": giver, "to": receiver, "currency": "USD", "amount": amount}
        return book_adjustment(ACCOUNT, "transfer_cash", details, **WHO)

    def _move(self, giver: str, receiver: str, size: int, price: Decimal | None) -> Booking | None:
        if giver == receiver:
            return None
        details = {"from": giver, "to": receiver, "con_id": 1, "quantity": Decimal(size), "price": price}
        return book_adjustment(ACCOUNT, "transfer_position", details, **WHO)

    def _split(self, upper: int, lower: int) -> Booking | None:
        if upper == lower:
            return None
        details = {"con_id": 1, "numerator": Decimal(upper), "denominator": Decimal(lower)}
        return book_adjustment(ACCOUNT, "split", details, **WHO)

    def _dividend(self, amount: Decimal) -> Booking:
        details = {"con_id": 1, "currency": "USD", "amount": amount}
        return book_adjustment(ACCOUNT, "dividend", details, **WHO)

    def _change(self, upper: int) -> Booking:
        details = {"con_id": 1, "new_con_id": 50, "numerator": Decimal(upper)}
        return book_adjustment(ACCOUNT, "symbol_change", details, **WHO)


def figures() -> tuple[object, ...]:
    """Everything that is kept; what is nothing is left out."""
    held = [
        (row.owner, row.instrument_id, row.quantity, row.cost_basis, row.realized_pnl, row.commissions)
        for row in Position.objects.order_by("owner", "instrument_id")
    ]
    paid = [
        (row.owner, row.currency, row.amount, row.realized_apart)
        for row in CashBalance.objects.order_by("owner", "currency")
    ]
    return [row for row in held if any(row[2:])], [row for row in paid if any(row[2:])]


def totals() -> tuple[dict[int, Decimal], dict[str, Decimal]]:
    """What the account holds and has, whoever owns it."""
    cash: dict[str, Decimal] = {}
    for row in CashBalance.objects.all():
        cash[row.currency] = cash.get(row.currency, Decimal(0)) + row.amount
    return {k: v for k, v in ledger_quantities(ACCOUNT).items() if v}, {k: v for k, v in cash.items() if v}


@LAWS
@given(steps)
def test_the_journal_proves_the_books_after_any_steps(drawn: list[tuple[Any, ...]]) -> None:
    with fresh():
        desk = Desk()
        for step in drawn:
            desk.run(step)
        assert verify_ledger().findings == []
        _check_cash_is_explained()
        for row in Execution.objects.filter(superseded=False):
            assert sum((share.quantity for share in shares_of(row.exec_id)), Decimal(0)) == row.quantity


def _check_cash_is_explained() -> None:
    """Σ cash + basis = realised + flows between owners, in each currency, to the last digit."""
    balance: dict[tuple[str, str], Decimal] = {}
    for cash in CashBalance.objects.all():
        balance[cash.owner, cash.currency] = cash.amount - cash.realized_apart
    for row in Position.objects.select_related("instrument"):
        key = row.owner, row.instrument.currency
        balance[key] = balance.get(key, Decimal(0)) + row.cost_basis - row.realized_pnl
    for flow in Movement.objects.filter(instrument=None):
        balance[flow.owner, flow.currency] -= flow.cash - flow.realized_pnl
    assert not any(balance.values())


@LAWS
@given(steps, st.data())
def test_an_undo_restores_every_figure(drawn: list[tuple[Any, ...]], data: st.DataObject) -> None:
    with fresh():
        desk = Desk()
        for step in drawn:
            desk.run(step)
        before = figures()
        desk.forget()
        kinds = ("assign", "cash", "move", "split", "dividend", "change")
        desk.run(data.draw(steps.map(lambda found: next((one for one in found if one[0] in kinds), ("dividend", 1)))))
        if desk.last is not None:
            undo_adjustment(desk.last.adjustment_id, **WHO)
        assert figures() == before
        assert verify_ledger().findings == []


@LAWS
@given(steps)
def test_what_owners_do_among_themselves_leaves_the_account_as_it_is(drawn: list[tuple[Any, ...]]) -> None:
    with fresh():
        desk = Desk()
        for step in drawn:
            before = totals()
            desk.run(step)
            if step[0] in {"assign", "cash", "move"}:
                assert totals() == before
