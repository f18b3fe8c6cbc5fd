"""Where evidence takes an order, in whatever order and however often it comes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.ib.codes import OrderVerdict, order_verdict
from trading.orders.progress import UNACKNOWLEDGED, Progress, add_fill, on_error, on_status, with_quantity
from trading.orders.state import FINAL, MOVES, OrderState, can_move

S = OrderState
HUNDRED = Decimal(100)


def sent(state: OrderState = S.SENT, filled: int = 0) -> Progress:
    return Progress(state, HUNDRED, Decimal(filled), Decimal(10) if filled else None)


@dataclass(frozen=True)
class Said:
    """One piece of evidence: a fill (with its id), a status or an error."""

    fill: int = 0
    exec_id: int = 0
    word: str = ""
    filled: int = 0
    code: int = 0


def fold(progress: Progress, evidence: list[Said]) -> Progress:
    seen: set[int] = set()
    for said in evidence:
        if said.fill:
            if said.exec_id not in seen:  # the ledger takes an execution once
                seen.add(said.exec_id)
                progress = add_fill(progress, Decimal(said.fill), Decimal(10))
        elif said.code:
            progress = on_error(progress, said.code, "text", order_verdict(said.code))
        else:
            progress = on_status(progress, said.word, Decimal(said.filled))
    return progress


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[Said], list[Said], Decimal]:
    """Draw an order's life that ends, a shuffle of it with duplicates and notices, and what was filled."""
    parts = draw(st.lists(st.integers(1, 40), max_size=4))
    total = sum(parts)
    life = [Said(fill=part, exec_id=number + 1) for number, part in enumerate(parts)]
    life.append(Said(word="Submitted"))
    if total < 100:
        life.append(Said(word="Cancelled", filled=total))
    repeated = draw(st.lists(st.sampled_from(life), max_size=6))
    notices = draw(st.lists(st.sampled_from([Said(code=399), Said(code=10349), Said(code=161), Said(code=202)])))
    return life, draw(st.permutations(life + repeated + notices)), Decimal(total)


@given(lives())
def test_final_state_is_independent_of_order_duplicates_and_notices(
    life: tuple[list[Said], list[Said], Decimal],
) -> None:
    plain, shuffled, total = life
    end, other = fold(sent(), plain), fold(sent(), shuffled)
    assert (end.state, end.filled, end.average_price) == (other.state, other.filled, other.average_price)
    assert other.state is (S.FILLED if total >= 100 else S.CANCELLED)
    assert other.filled == total


class Strict:
    """Folds evidence and refuses any move that the table does not know."""

    def __init__(self) -> None:
        self.progress = sent()

    def take(self, said: Said, seen: set[int]) -> None:
        before = self.progress
        if said.fill and said.exec_id not in seen:
            seen.add(said.exec_id)
            self.progress = add_fill(before, Decimal(said.fill), Decimal(10))
        elif said.code:
            self.progress = on_error(before, said.code, "text", order_verdict(said.code))
        elif said.word == "silence":
            if can_move(before.state, S.UNKNOWN) and before.state is S.SENT:
                self.progress = before.ended(S.UNKNOWN, UNACKNOWLEDGED)
        elif said.word:
            self.progress = on_status(before, said.word, Decimal(said.filled))
        after = self.progress.state
        assert after is before.state or can_move(before.state, after), f"{before.state} → {after}"


NOISE = [
    *(Said(code=code) for code in (104, 105, 110, 134, 136, 161, 201, 202, 399, 404, 2102, 2109, 2137, 10147, 10148)),
    *(Said(code=code) for code in (10149, 10349, 77777)),
    *(Said(word=word) for word in ("PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel", "silence")),
]


@given(lives(), st.lists(st.sampled_from(NOISE), max_size=12), st.randoms())
def test_any_evidence_in_any_order_ends_where_executions_and_the_final_status_say(
    life: tuple[list[Said], list[Said], Decimal], noise: list[Said], shuffler: Random
) -> None:
    evidence = life[1] + noise
    shuffler.shuffle(evidence)
    strict, seen = Strict(), set[int]()
    for said in evidence:
        strict.take(said, seen)
    ended = {S.FILLED} if life[2] >= 100 else {S.CANCELLED} | ({S.REJECTED} if life[2] == 0 else set())
    assert strict.progress.state in ended
    assert strict.progress.filled == life[2]


@given(st.lists(st.sampled_from([said for said in NOISE if said.code and said.code != 201]), max_size=8))
def test_no_error_text_ends_or_changes_a_working_order(errors: list[Said]) -> None:
    progress = fold(sent(S.ACCEPTED), errors)
    assert (progress.state, progress.quantity, progress.filled) == (S.ACCEPTED, HUNDRED, Decimal(0))


@given(st.lists(st.builds(Said, fill=st.integers(1, 60), exec_id=st.integers(1, 9)), max_size=8))
def test_filled_is_the_sum_of_distinct_executions(evidence: list[Said]) -> None:
    distinct = {said.exec_id: said for said in reversed(evidence)}
    assert fold(sent(), evidence).filled == sum(said.fill for said in distinct.values())


def test_cancel_is_not_believed_before_its_executions_are_there() -> None:
    waiting = on_status(sent(), "Cancelled", Decimal(40))
    assert waiting.state is S.UNKNOWN
    assert "40" in waiting.reason
    assert add_fill(waiting, Decimal(40), Decimal(10)).state is S.CANCELLED


def test_late_fill_of_a_cancelled_order_is_kept() -> None:
    cancelled = on_status(sent(), "Cancelled", Decimal(0))
    late = add_fill(cancelled, Decimal(30), Decimal(11))
    assert (late.state, late.filled, late.average_price) == (S.CANCELLED, Decimal(30), Decimal(11))
    assert add_fill(late, Decimal(70), Decimal(11)).state is S.FILLED


def test_status_from_before_the_cancel_does_not_revive_the_order() -> None:
    cancelled = on_status(sent(), "Cancelled", Decimal(0))
    assert on_status(cancelled, "Submitted", Decimal(0)).state is S.CANCELLED


def test_filled_word_alone_fills_nothing() -> None:
    assert on_status(sent(), "Filled", HUNDRED).state is S.ACCEPTED


def test_fill_needs_no_status() -> None:
    assert add_fill(sent(S.INTENT), HUNDRED, Decimal(10)).state is S.FILLED


def test_more_than_ordered_is_filled_and_flagged() -> None:
    progress = add_fill(sent(), Decimal(120), Decimal(10))
    assert progress.state is S.FILLED
    assert progress.is_overfilled


@pytest.mark.parametrize("word", ["ValidationError", "PendingCancel", "", "ApiUpdate"])
def test_words_that_ib_does_not_send_are_no_evidence(word: str) -> None:
    assert on_status(sent(S.ACCEPTED), word, Decimal(0)) == sent(S.ACCEPTED)


def test_refusal_ends_a_new_order_but_not_a_working_one() -> None:
    refused = on_error(sent(), 201, "margin", OrderVerdict.REJECTED)
    assert (refused.state, refused.reason) == (S.REJECTED, "201 margin")
    working = on_error(sent(S.ACCEPTED), 110, "tick", OrderVerdict.REJECTED)
    assert working.state is S.ACCEPTED


def test_accepted_order_that_ib_rejects_later_is_rejected_not_cancelled() -> None:
    doubtful = on_error(sent(S.ACCEPTED), 201, "margin", OrderVerdict.REJECTED)
    assert on_status(doubtful, "Inactive", Decimal(0)).state is S.REJECTED
    assert on_status(doubtful, "Cancelled", Decimal(0)).state is S.REJECTED


def test_working_status_outweighs_a_refusal_text() -> None:
    refused = on_error(sent(), 203, "not available", OrderVerdict.REJECTED)
    assert on_status(refused, "Submitted", Decimal(0)).state is S.ACCEPTED


def test_inactive_order_may_come_back() -> None:
    inactive = on_status(sent(S.ACCEPTED), "Inactive", Decimal(0))
    assert inactive.state is S.INACTIVE
    assert on_status(inactive, "Submitted", Decimal(0)).state is S.ACCEPTED


def test_smaller_size_can_complete_a_partly_filled_order() -> None:
    partial = add_fill(sent(), Decimal(40), Decimal(10))
    assert partial.state is S.PARTIAL
    assert with_quantity(partial, Decimal(40)).state is S.FILLED


def test_average_price_is_weighted_by_quantity() -> None:
    progress = add_fill(add_fill(sent(), Decimal(10), Decimal(10)), Decimal(30), Decimal(12))
    assert progress.average_price == Decimal("11.5")


def test_final_states_are_left_only_for_a_fill_or_a_status_against_an_error_text() -> None:
    for state in FINAL - {S.REJECTED}:
        assert MOVES[state] <= {S.ACCEPTED, S.PARTIAL, S.FILLED}
    assert not MOVES[S.FILLED]
    assert not MOVES[S.DENIED]


@pytest.mark.parametrize("state", [S.SENT, S.ACCEPTED, S.PARTIAL, S.UNKNOWN, S.INACTIVE])
def test_what_was_sent_is_never_denied_or_intended_again(state: OrderState) -> None:
    assert not can_move(state, S.DENIED)
    assert not can_move(state, S.INTENT)


def test_filled_word_ends_an_order_known_only_through_the_executions_that_it_counts() -> None:
    seen = add_fill(Progress(S.UNKNOWN, Decimal(0)), Decimal(7), Decimal(10))
    assert seen.state is S.PARTIAL
    assert on_status(seen, "Filled", Decimal(9)).state is S.PARTIAL, "two more were executed and have not come"
    assert on_status(seen, "Filled", Decimal(7)).state is S.FILLED
