"""Reports that cannot be booked are kept whole, and booked or let go later."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from portfolio.models import Execution, ParkedReport, Position
from portfolio.parking import Report, decode, discard_parked, encode, park, parked_waiting, retry_parked, settle_known
from portfolio.services import ensure_account, ensure_instruments, fold_batch
from strategies.events import CommissionSnapshot, FillSnapshot
from strategies.exceptions import ConflictError, LedgerError, NotFoundError
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db

OPTION = contract(77, "SPY", sec_type="OPT", multiplier=Decimal(100), strike=Decimal("412.5"), right="C")
BAD = LedgerError("It has no price.", code="bad_execution")
LATER = NOW + timedelta(hours=1)


@pytest.fixture(autouse=True)
def _books() -> None:
    ensure_account(ACCOUNT, "USD")


@pytest.mark.parametrize(
    "report",
    [
        fill(1, "2.5", "-0.0000000001", of=OPTION),
        fill(2, 1, 5, commission="1.23", commission_currency="EUR"),
        fee(3, "-0.25"),
    ],
)
def test_report_is_read_back_as_it_was(report: Report) -> None:
    park(report, BAD, NOW)
    found = decode(ParkedReport.objects.get().payload)
    assert encode(found) == {**encode(report), **({"is_replay": True} if isinstance(found, FillSnapshot) else {})}
    assert isinstance(found, CommissionSnapshot) or replace(found, is_replay=False) == report


def test_report_without_a_number_is_kept_too() -> None:
    park(replace(fill(1), price=Decimal("NaN")), BAD, NOW)
    assert encode(decode(ParkedReport.objects.get().payload))["price"] == "NaN"


def test_report_that_comes_again_is_counted_on_its_row() -> None:
    first = park(fill(1), BAD, NOW)
    again = park(replace(fill(1), is_replay=True, received_ns=9), LedgerError("No currency.", code="other"), LATER)
    assert (again.pk, again.times, again.code, again.parked_at, again.last_at) == (first.pk, 2, "other", NOW, LATER)


def test_same_id_with_other_content_is_a_row_of_its_own() -> None:
    park(fill(1), BAD, NOW)
    park(fill(1, price=51), BAD, NOW)
    assert {row.payload["price"] for row in parked_waiting(265598)} == {"50", "51"}


def test_retry_books_what_can_be_booked_and_leaves_the_rest_waiting() -> None:
    ensure_instruments([contract(5, "MSFT")])
    park(fill(1), BAD, NOW)
    park(fill(2, of=contract(5, "MSFT", currency="EUR")), BAD, NOW)  # contradicts what is booked under its id
    park(fill(3), BAD, NOW)
    outcome = retry_parked(ACCOUNT, owner_of, LATER)
    assert [row.key for row in outcome.booked] == [f"fill:{fill(1).exec_id}", f"fill:{fill(3).exec_id}"]
    assert [row.code for row in outcome.waiting] == ["instrument_changed"]
    assert Position.objects.get().quantity == 200
    assert retry_parked(ACCOUNT, owner_of, LATER).booked == []


def test_report_that_a_replay_has_booked_meanwhile_is_settled() -> None:
    park(fill(1), BAD, NOW)
    fold_batch(ACCOUNT, [fill(1)], owner_of, NOW)
    [row] = retry_parked(ACCOUNT, owner_of, LATER).booked
    assert row.settled_by == "MATS: was in the books"
    assert Execution.objects.count() == 1


def test_one_report_is_retried_alone_in_the_name_of_who_asked() -> None:
    wanted, other = park(fill(1), BAD, NOW), park(fill(2), BAD, NOW)
    retry_parked(ACCOUNT, owner_of, LATER, parked_id=wanted.pk, actor="ann")
    wanted.refresh_from_db()
    assert (wanted.state, wanted.settled_by) == ("booked", "ann: booked")
    assert parked_waiting() == [other]
    with pytest.raises(ConflictError):
        retry_parked(ACCOUNT, owner_of, LATER, parked_id=wanted.pk)
    with pytest.raises(NotFoundError):
        retry_parked(ACCOUNT, owner_of, LATER, parked_id=999)


def test_discarded_report_stays_discarded_when_it_comes_again() -> None:
    row = park(fill(1), BAD, NOW)
    with pytest.raises(LedgerError):
        discard_parked(row.pk, actor="ann", reason=" ", now=LATER)
    discard_parked(row.pk, actor="ann", reason="busted", now=LATER)
    assert park(fill(1), BAD, LATER).state == "discarded"
    assert retry_parked(ACCOUNT, owner_of, LATER).booked == []
    with pytest.raises(ConflictError):
        discard_parked(row.pk, actor="ann", reason="again", now=LATER)


def test_report_whose_execution_came_another_way_is_settled_and_no_other() -> None:
    mine, other = park(replace(fill(1), price=Decimal("NaN")), BAD, NOW), park(fill(2), BAD, NOW)
    twin = park(replace(fill(1), price=Decimal(0)), BAD, NOW)
    (first, second) = settle_known([fill(1).exec_id], actor="Flex statement", now=LATER)
    assert {first.pk, second.pk} == {mine.pk, twin.pk}
    mine.refresh_from_db()
    assert (mine.state, mine.settled_at, mine.settled_by) == ("booked", LATER, "Flex statement: booked from there")
    assert parked_waiting() == [other]


def test_report_of_another_account_is_not_called_booked() -> None:
    park(replace(fill(1), account="DU2000002"), BAD, NOW)
    outcome = retry_parked(ACCOUNT, owner_of, LATER)
    assert (outcome.booked, len(outcome.waiting)) == ([], 1)
    assert ParkedReport.objects.get().state == "waiting"
    assert not Execution.objects.exists()
