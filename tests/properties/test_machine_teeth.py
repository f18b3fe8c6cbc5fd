"""Does the machine bite? Faults are put into the books one by one; each must be found by the machine's own laws.

Owns: the faults, and a tour through the machine's rules that is short enough to run once for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.db import IntegrityError

from portfolio import adjustments, corrections, effects, fold, reconcile, refolding, undoing
from portfolio.books import Books as Ledger
from portfolio.books import Line
from portfolio.ledger import journal
from portfolio.ledger.money import ZERO
from portfolio.ledger.positions import FillResult, PositionState, apply_fill
from portfolio.models import MovementKind
from strategies.exceptions import LedgerError
from tests.properties.books_model import NOBODY
from tests.properties.books_venue import FOREIGN, OPTION, STOCK
from tests.properties.test_books_machine import Books, quiet
from trading.engine.handlers import Folding
from trading.engine.lease import Lease
from trading.orders import services as order_services

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["quiet"]  # a fixture

Fault = Callable[[pytest.MonkeyPatch], None]
ONE = Decimal(1)
TWO = Decimal(2)


def tour() -> None:
    """Go through most of what can happen once, with every law after every step."""
    machine = Books()
    for _ in _steps(machine):
        machine.the_books_are_what_the_truth_makes_them()
    machine.teardown()


def _steps(m: Books) -> Iterator[Any]:
    fee = ONE, "USD"
    ref = m.place("ALPHA", STOCK, "BUY", 60, False)
    yield ref
    first = m.fill(ref, 30, Decimal(50), fee, "with", False)
    yield first
    second = m.fill(ref, 30, Decimal(52), (TWO, "EUR"), "late", False)
    yield m.assign(second, "ALPHA", "BETA", 10)
    yield m.late_fee(0)
    yield m.duplicate(first, True, False)
    yield m.duplicate(second, False, False)
    yield m.contradict(first, "price")
    early = m.trade_by_hand(OPTION, 5, Decimal(3), fee, "early", False)
    yield m.assign(early, NOBODY, "BETA", None)
    through = m.place("ALPHA", STOCK, "SELL", 90, False)
    sold = m.fill(through, 90, Decimal(55), fee, "with", False)
    yield sold
    yield m.correct(first, 20, Decimal(50), fee, "with", False, "size")
    held = m.assign(sold, "ALPHA", "BETA", 30)
    yield m.undo(held)
    yield m.dividend(STOCK, "USD", Decimal(10), False, False)
    bought = m.trade_by_hand(FOREIGN, 41, Decimal(20), (ONE, "USD"), "with", False)
    yield m.split(FOREIGN, Fraction(2), 0)
    yield m.correct(bought, 33, Decimal(21), None, "never", False, "size")
    cash = m.move_cash("ALPHA", "BETA", "USD", Decimal(5))
    yield m.undo(cash)
    yield m.move_position(NOBODY, "ALPHA", STOCK, 10, None)
    came = m.receive_units("BETA", OPTION, 4, False, Decimal(3))
    yield came
    yield m.deliver_units("BETA", OPTION, 3)
    yield m.undo(came)
    yield m.nonsense(STOCK, "nan", False)
    yield m.trade_of_an_unknown_owner(STOCK, 7, Decimal(50), fee, "with", True)
    yield m.reconcile()
    yield m.freeze_and_thaw(1)
    yield m.reconcile()


def skip_the_reversal(patch: pytest.MonkeyPatch) -> None:
    """A correction posts anew and takes nothing back."""
    patch.setattr(corrections, "_reverse", lambda *args: None)


def lose_a_fee_of_a_divided_execution(patch: pytest.MonkeyPatch) -> None:
    """Only the first owner pays."""
    real = corrections.fee_lines
    patch.setattr(fold, "fee_lines", lambda *args: real(*args)[:1])


def _realised_over_everything(
    position: PositionState, quantity: Decimal, price: Decimal, *rest: Any, **named: Any
) -> FillResult:
    result = apply_fill(position, quantity, price, *rest, **named)
    if not result.closed or abs(quantity) == result.closed or not position.quantity:
        return result
    if position.quantity * result.position.quantity > 0:
        return result
    gain = (abs(quantity) - result.closed) * (price - position.cost_basis / position.quantity)
    state = result.position
    wrong = PositionState(state.quantity, state.cost_basis + gain, state.realized_pnl + gain, state.commissions)
    return replace(result, position=wrong, realized_pnl=result.realized_pnl + gain)


def realise_over_the_whole_fill(patch: pytest.MonkeyPatch) -> None:
    """A sale through zero earns on what it opened as well; the journal is folded in the same wrong way."""
    patch.setattr(fold, "apply_fill", _realised_over_everything)
    patch.setattr(journal, "apply_fill", _realised_over_everything)


def drop_a_movement(patch: pytest.MonkeyPatch) -> None:
    """One fee moves balances and leaves no line."""
    real, left = Ledger.book, [1]

    def _book(self: Ledger, line: Line) -> None:
        real(self, line)
        if line.kind == MovementKind.COMMISSION and left:
            left.pop()
            self._lines.pop()

    patch.setattr(Ledger, "book", _book)


def double_a_duplicate(patch: pytest.MonkeyPatch) -> None:
    """A repeated execution pays again."""
    real, count = fold._Fold._fill, [0]

    def _fill(self: Any, report: Any) -> None:
        known = self.books.executions.get(report.exec_id)
        real(self, report)
        if known is not None:
            count[0] += 1
            key = f"twice:{count[0]}"
            self.books.book(Line(known.owner, MovementKind.FILL, key, "USD", known.exec_id, known.con_id, cash=ONE))

    patch.setattr(fold._Fold, "_fill", _fill)


def forget_the_split(patch: pytest.MonkeyPatch) -> None:
    """A late correction is not carried through a split."""
    patch.setattr(refolding, "contract_events", lambda *args: {})


def assign_without_cash(patch: pytest.MonkeyPatch) -> None:
    """Units go to another owner, what they cost does not."""
    real = effects._share_lines
    patch.setattr(effects, "_share_lines", lambda *args: [replace(one, cash=ZERO) for one in real(*args)])


def undo_twice_as_much(patch: pytest.MonkeyPatch) -> None:
    """An undo reverses every movement two times."""
    real = undoing._reversed

    def _twice(*args: Any) -> Line:
        line = real(*args)
        return replace(line, cash=line.cash * 2, quantity=line.quantity * 2)

    patch.setattr(undoing, "_reversed", _twice)


def forget_what_waited(patch: pytest.MonkeyPatch) -> None:
    """A fee that came before its execution is lost."""
    patch.setattr(Ledger, "take_pending", lambda self, exec_id: None)


def take_corrections_for_fills(patch: pytest.MonkeyPatch) -> None:
    """A revision is added to what it corrects."""
    patch.setattr(fold, "split_exec_id", lambda exec_id: (exec_id, 0))


def believe_the_second_word(patch: pytest.MonkeyPatch) -> None:
    """An id that returns with other content is taken for a duplicate."""
    patch.setattr(fold, "_agrees", lambda known, report: True)


def pay_the_fee_in_the_wrong_currency(patch: pytest.MonkeyPatch) -> None:
    """A fee leaves the currency of the contract, whatever it was paid in."""
    real = fold._Fold._book_fee
    patch.setattr(fold._Fold, "_book_fee", lambda self, booked, amount, currency: real(self, booked, amount, "USD"))


def pay_dividends_to_one(patch: pytest.MonkeyPatch) -> None:
    """A dividend goes to whoever is asked first."""
    patch.setattr(effects, "holdings_at", lambda *args: {"BETA": ONE})


def see_no_break(patch: pytest.MonkeyPatch) -> None:
    """Positions are compared and always agree."""
    patch.setattr(reconcile, "compare", lambda theirs, ours: [])


def let_a_stale_engine_write(patch: pytest.MonkeyPatch) -> None:
    """The lease is not asked."""
    patch.setattr(Lease, "assert_epoch", lambda self: None)


def give_every_fill_to_nobody(patch: pytest.MonkeyPatch) -> None:
    """The order of a fill is not looked at."""
    patch.setattr(order_services, "owner_of", lambda report: NOBODY)
    patch.setattr(order_services, "owners_of_batch", lambda *_: lambda report: NOBODY)


def lose_what_cannot_be_booked(patch: pytest.MonkeyPatch) -> None:
    """A bad report is dropped."""
    patch.setattr(Folding, "park", lambda self, item, error: True)


def keep_no_record(patch: pytest.MonkeyPatch) -> None:
    """An adjustment is booked without its audit entry."""
    patch.setattr(adjustments, "record", lambda *args, **named: None)


FAULTS: tuple[Fault, ...] = (
    skip_the_reversal,
    lose_a_fee_of_a_divided_execution,
    realise_over_the_whole_fill,
    drop_a_movement,
    double_a_duplicate,
    forget_the_split,
    assign_without_cash,
    undo_twice_as_much,
    forget_what_waited,
    take_corrections_for_fills,
    believe_the_second_word,
    pay_the_fee_in_the_wrong_currency,
    pay_dividends_to_one,
    see_no_break,
    let_a_stale_engine_write,
    give_every_fill_to_nobody,
    lose_what_cannot_be_booked,
    keep_no_record,
)


def test_the_tour_holds_every_law_without_a_fault() -> None:
    tour()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_machine_finds(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises((AssertionError, LedgerError, IntegrityError)) as caught:
        tour()
    print(f"found by: {caught.value}")
