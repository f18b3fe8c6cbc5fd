"""Laws of the books, on real tables: whatever order, repetition or cut the reports arrive in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portfolio.fold import Item
from portfolio.ledger.pnl import market_value, unrealized_pnl
from portfolio.ledger.positions import FLAT, PositionState, apply_fill
from portfolio.models import CashBalance, Execution, Movement, PendingCommission, Position
from portfolio.services import ensure_account, fold_batch, ledger_quantities
from portfolio.verification import verify_ledger
from strategies.events import CommissionSnapshot, FillSnapshot
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db

OWNERS = ("ALPHA", "BETA", "Discretionary")
CONTRACTS = (
    contract(1, "AAPL"),
    contract(2, "AAPL", sec_type="OPT", multiplier=Decimal(100)),
    contract(3, "SIE", currency="EUR"),
)
LAWS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

quantities = st.integers(-50, 50).filter(bool)
prices = st.decimals(Decimal("0.01"), Decimal(500), places=4)
fees = st.one_of(st.none(), st.decimals(Decimal(0), Decimal(5), places=4))


@dataclass(frozen=True)
class Report:
    """One fill as drawn: perhaps corrected, perhaps with a fee."""

    quantity: int
    price: Decimal
    owner: str
    contract: int
    fee: Decimal | None
    fee_currency: str
    corrected_to: tuple[int, Decimal] | None


@dataclass
class Model:
    """The ledger by hand: dictionaries over the final revisions."""

    quantity: dict[tuple[str, int], Decimal] = field(default_factory=dict)
    cash: dict[tuple[str, str], Decimal] = field(default_factory=dict)

    def add(self, owner: str, con_id: int, currency: str, quantity: Decimal, paid: Decimal) -> None:
        self.quantity[owner, con_id] = self.quantity.get((owner, con_id), Decimal(0)) + quantity
        self.pay(owner, currency, paid)

    def pay(self, owner: str, currency: str, paid: Decimal) -> None:
        self.cash[owner, currency] = self.cash.get((owner, currency), Decimal(0)) - paid


reports = st.lists(
    st.builds(
        Report,
        quantities,
        prices,
        st.sampled_from(OWNERS),
        st.integers(0, len(CONTRACTS) - 1),
        fees,
        st.sampled_from(["USD", "EUR"]),
        st.one_of(st.none(), st.none(), st.tuples(st.integers(1, 50), prices)),
    ),
    min_size=1,
    max_size=12,
)


def items_of(drawn: Sequence[Report]) -> list[Item]:
    """Return what IB would report, in order: fill, fee, and later the corrections with their fees."""
    first: list[Item] = []
    later: list[Item] = []
    for number, one in enumerate(drawn, 1):
        of = CONTRACTS[one.contract]
        first.append(fill(number, one.quantity, str(one.price), owner=one.owner, of=of))
        if one.fee is not None:
            first.append(fee(number, str(one.fee), one.fee_currency))
        if one.corrected_to is not None:
            size, price = one.corrected_to
            signed = size if one.quantity > 0 else -size
            later.append(fill(number, signed, str(price), owner=one.owner, of=of, revision=2))
            later.append(fee(number, "0.25", one.fee_currency, revision=2))
    return first + later


def expected(drawn: Sequence[Report]) -> Model:
    """Return the truth: only the revision in force counts."""
    model = Model()
    for one in drawn:
        of = CONTRACTS[one.contract]
        quantity, price = Decimal(one.quantity), one.price
        paid = one.fee
        if one.corrected_to is not None:
            quantity = Decimal(one.corrected_to[0] if one.quantity > 0 else -one.corrected_to[0])
            price, paid = one.corrected_to[1], Decimal("0.25")
        model.add(one.owner, of.con_id, of.currency, quantity, quantity * price * of.multiplier)
        if paid is not None:
            model.pay(one.owner, one.fee_currency, paid)
    return model


def books() -> Model:
    found = Model()
    for row in Position.objects.all():
        found.quantity[row.owner, row.instrument_id] = row.quantity
    for balance in CashBalance.objects.all():
        found.cash[balance.owner, balance.currency] = balance.amount
    return found


def same(left: dict[tuple[str, object], Decimal], right: dict[tuple[str, object], Decimal]) -> bool:
    return {k: v for k, v in left.items() if v} == {k: v for k, v in right.items() if v}


def final_hash(*, with_averages: bool = True) -> str:
    """Return a digest of everything that is kept but ids and times."""
    lines = [f"{r.owner} {r.currency} {r.amount}" for r in CashBalance.objects.all() if r.amount]
    for row in Position.objects.all():
        state = f"{row.cost_basis} {row.realized_pnl} {row.commissions}" if with_averages else ""
        lines.append(f"{row.owner} {row.instrument_id} {row.quantity} {state}")
    lines += [f"{e.exec_id} {e.superseded} {e.commission} {e.commission_currency}" for e in Execution.objects.all()]
    lines += [f"waits {p.exec_id} {p.amount}" for p in PendingCommission.objects.all()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


class Trial:
    """A fresh set of books that leaves nothing behind: one for each variant of one example."""

    def fold(self, *batches: Sequence[Item]) -> None:
        for batch in batches:
            fold_batch(ACCOUNT, batch, owner_of, NOW)

    def crash(self, batch: Sequence[Item]) -> None:
        """Fold a batch whose transaction never commits."""
        with transaction.atomic():
            self.fold(batch)
            transaction.set_rollback(True)


@contextmanager
def fresh() -> Iterator[Trial]:
    with transaction.atomic():
        ensure_account(ACCOUNT, "USD")
        yield Trial()
        transaction.set_rollback(True)


def cut(items: Sequence[Item], places: Sequence[int]) -> Iterator[Sequence[Item]]:
    edges = sorted({0, len(items), *(place % (len(items) + 1) for place in places)})
    for start, end in pairwise(edges):
        yield items[start:end]


@LAWS
@given(reports)
def test_quantity_and_cash_are_what_the_revisions_in_force_say(drawn: list[Report]) -> None:
    with fresh() as trial:
        trial.fold(items_of(drawn))
        truth, found = expected(drawn), books()
        assert same(found.quantity, truth.quantity)  # type: ignore[arg-type]  # keys of either kind
        assert same(found.cash, truth.cash)  # type: ignore[arg-type]  # keys of either kind


@LAWS
@given(reports)
def test_owners_sum_to_the_account(drawn: list[Report]) -> None:
    with fresh() as trial:
        trial.fold(items_of(drawn))
        bought: dict[int, Decimal] = {}
        for row in Execution.objects.filter(superseded=False):
            bought[row.instrument_id] = bought.get(row.instrument_id, Decimal(0)) + row.quantity
        assert ledger_quantities(ACCOUNT) == bought


@LAWS
@given(reports)
def test_the_journal_proves_the_books(drawn: list[Report]) -> None:
    with fresh() as trial:
        trial.fold(items_of(drawn))
        assert verify_ledger().findings == []


@LAWS
@given(reports, st.lists(st.integers(0, 60), max_size=6))
def test_cutting_a_stream_anywhere_gives_the_same_books(drawn: list[Report], places: list[int]) -> None:
    items = items_of(drawn)
    with fresh() as trial:
        trial.fold(items)
        whole, journal = final_hash(), list(Movement.objects.values_list("key", "quantity", "cash", "cash_after"))
    with fresh() as trial:
        trial.fold(*cut(items, places))
        assert final_hash() == whole
        assert list(Movement.objects.values_list("key", "quantity", "cash", "cash_after")) == journal


@LAWS
@given(reports, st.lists(st.integers(0, 60), max_size=6))
def test_a_crash_and_a_replay_of_everything_change_nothing(drawn: list[Report], places: list[int]) -> None:
    items = items_of(drawn)
    with fresh() as trial:
        trial.fold(items)
        once = final_hash()
        count = Movement.objects.count()
        trial.fold(items)
        assert (final_hash(), Movement.objects.count()) == (once, count)
    with fresh() as trial:
        for part in cut(items, places):
            trial.crash(part)
            trial.fold(part)
        trial.fold(items)
        assert final_hash() == once


@LAWS
@given(reports, st.randoms(use_true_random=False))
def test_order_of_reports_does_not_matter_to_quantity_cash_and_fees(drawn: list[Report], random: Random) -> None:
    items = items_of(drawn)
    with fresh() as trial:
        trial.fold(items)
        straight = final_hash(with_averages=False)
    shuffled = list(items)
    random.shuffle(shuffled)
    with fresh() as trial:
        trial.fold(shuffled)
        assert final_hash(with_averages=False) == straight
        assert verify_ledger().findings == []


@LAWS
@given(reports, st.randoms(use_true_random=False))
def test_when_a_fee_arrives_does_not_matter_to_anything(drawn: list[Report], random: Random) -> None:
    items = items_of(drawn)
    fills = [item for item in items if isinstance(item, FillSnapshot)]
    paid = [item for item in items if isinstance(item, CommissionSnapshot)]
    random.shuffle(paid)
    hashes = set()
    variants: list[list[Item]] = [[*fills, *paid], [*paid, *fills], [*paid, *paid, *fills, *fills]]
    for variant in variants:
        with fresh() as trial:
            trial.fold(variant)
            hashes.add(final_hash())
    assert len(hashes) == 1


@LAWS
@given(reports)
def test_a_correction_equals_having_been_right_at_once(drawn: list[Report]) -> None:
    items = items_of(drawn)
    with fresh() as trial:
        trial.fold(items)
        corrected = {(p.owner, p.instrument_id): _figures(p) for p in Position.objects.all()}
    in_force: dict[str, Item] = {}
    for item in items:
        if isinstance(item, FillSnapshot):
            in_force[item.exec_id[:-3]] = item
    ids = {item.exec_id for item in in_force.values()}
    paid = [item for item in items if isinstance(item, CommissionSnapshot) and item.exec_id in ids]
    with fresh() as trial:
        trial.fold(list(in_force.values()), paid)
        assert {(p.owner, p.instrument_id): _figures(p) for p in Position.objects.all()} == corrected


def _figures(row: Position) -> tuple[Decimal, Decimal, Decimal]:
    return row.quantity, row.cost_basis, row.realized_pnl


def flows() -> dict[tuple[str, int], Decimal]:
    """Return what each owner's instrument moved in cash of its own currency, fees and all."""
    found: dict[tuple[str, int], Decimal] = {}
    rows = Movement.objects.exclude(instrument=None).select_related("instrument")
    for row in rows:
        assert row.instrument is not None
        if row.currency == row.instrument.currency:
            key = row.owner, row.instrument.con_id
            found[key] = found.get(key, Decimal(0)) + row.cash
    return found


def closing(drawn: Sequence[Report]) -> list[Item]:
    """Return the fills that flatten every position the reports leave, in uneven parts."""
    items: list[Item] = []
    held = expected(drawn).quantity
    for (owner, con_id), quantity in sorted(held.items()):
        of = next(one for one in CONTRACTS if one.con_id == con_id)
        parts = [int(quantity / 3), int(quantity) - int(quantity / 3)]
        for part in filter(None, parts):
            number = 1000 + len(items)
            items.append(fill(number, -part, f"{number % 7 + 1}.{number % 97:02d}13", owner=owner, of=of))
    return items


@LAWS
@given(reports)
def test_a_flat_position_realised_exactly_its_cash_flows(drawn: list[Report]) -> None:
    """Not a digit of dust, whatever reversals, partial closes, multipliers and corrections came before."""
    with fresh() as trial:
        trial.fold(items_of(drawn), closing(drawn))
        moved = flows()
        for row in Position.objects.all():
            assert not row.quantity
            assert not row.cost_basis
            assert row.realized_pnl == moved[row.owner, row.instrument_id]


@LAWS
@given(reports)
def test_an_open_position_realised_its_cash_flows_and_what_it_still_costs(drawn: list[Report]) -> None:
    with fresh() as trial:
        trial.fold(items_of(drawn))
        moved = flows()
        for row in Position.objects.all():
            assert row.realized_pnl == moved[row.owner, row.instrument_id] + row.cost_basis
        for entry in Movement.objects.exclude(basis_after=None).order_by("-id")[:1]:
            held = Position.objects.get(owner=entry.owner, instrument=entry.instrument)
            assert (entry.basis_after, entry.realized_after) == (held.cost_basis, held.realized_pnl)


@LAWS
@given(reports)
def test_cash_of_every_currency_is_what_was_realised_less_what_is_held(drawn: list[Report]) -> None:
    """Fees in a currency other than the instrument's included: nothing an owner pays is forgotten."""
    with fresh() as trial:
        trial.fold(items_of(drawn))
        realized: dict[tuple[str, str], Decimal] = {}
        for row in Position.objects.select_related("instrument"):
            key = row.owner, row.instrument.currency
            realized[key] = realized.get(key, Decimal(0)) + row.realized_pnl - row.cost_basis
        for balance in CashBalance.objects.all():
            assert balance.amount == realized.pop((balance.owner, balance.currency), 0) + balance.realized_apart
        assert not any(realized.values())


fine_quantities = st.decimals(Decimal(-50), Decimal(50), places=8).filter(bool)
fine_prices = st.decimals(Decimal("0.0001"), Decimal(500), places=10)
trades = st.lists(st.tuples(st.one_of(quantities.map(Decimal), fine_quantities), fine_prices, fees), max_size=60)
multipliers = st.sampled_from([Decimal(1), Decimal(100), Decimal("0.1")])


@given(trades, fine_prices, multipliers)
def test_a_flat_state_realised_exactly_its_cash(
    drawn: list[tuple[Decimal, Decimal, Decimal | None]], last: Decimal, multiplier: Decimal
) -> None:
    """The same law where quantities have fractions and prices all ten decimals."""
    state: PositionState = FLAT
    cash = Decimal(0)
    for quantity, price, paid in drawn:
        result = apply_fill(state, quantity, price, paid, multiplier)
        state, cash = result.position, cash + result.cash
        assert state.realized_pnl == cash + state.cost_basis
    if state.quantity:
        result = apply_fill(state, -state.quantity, last, None, multiplier)
        state, cash = result.position, cash + result.cash
    assert not state.cost_basis
    assert state.realized_pnl == cash


@given(trades, fine_prices, multipliers)
def test_cash_plus_value_is_realised_plus_unrealised(
    drawn: list[tuple[Decimal, Decimal, Decimal | None]], mark: Decimal, multiplier: Decimal
) -> None:
    """Equity starts at nothing: what is not realised is in the position."""
    state: PositionState = FLAT
    cash = Decimal(0)
    for quantity, price, paid in drawn:
        result = apply_fill(state, quantity, price, paid, multiplier)
        state, cash = result.position, cash + result.cash
    equity = cash + market_value(state.quantity, mark, multiplier)
    assert equity == state.realized_pnl + unrealized_pnl(state.quantity, state.cost_basis, mark, multiplier)


@given(trades, multipliers)
def test_a_close_leaves_the_average_and_more_of_the_same_weighs_it(
    drawn: list[tuple[Decimal, Decimal, Decimal | None]], multiplier: Decimal
) -> None:
    """Against the textbook, with fractions that never round."""
    state, held, average = FLAT, Fraction(0), Fraction(0)
    for number, (quantity, price, _) in enumerate(drawn, 1):
        state = apply_fill(state, quantity, price, None, multiplier).position
        signed, paid = Fraction(quantity), Fraction(price)
        if held * signed >= 0:
            average = (held * average + signed * paid) / (held + signed)
        elif abs(signed) >= abs(held):
            average = paid if abs(signed) > abs(held) else Fraction(0)
        held += signed
        off = abs(Fraction(state.cost_basis) - held * average * Fraction(multiplier))
        assert off <= number * Fraction(1, 10**10)
