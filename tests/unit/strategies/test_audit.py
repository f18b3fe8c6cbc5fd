"""The audit trail: nothing in it can be altered, taken out or forked without showing."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from strategies.audit import GENESIS, head, record, storable, verify_chain
from strategies.models import AuditEntry

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats()
    | st.decimals()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def write(count: int, who: str = "ann") -> None:
    """Append entries."""
    for number in range(count):
        record("test.done", f"thing {number}", actor=who, source="cli", reason="a test", after={"n": number})


@pytest.mark.django_db
class TestChain:
    """Links between entries."""

    def test_an_empty_trail_is_sound_and_starts_at_genesis(self) -> None:
        assert verify_chain() == []
        assert head() == GENESIS
        write(1)
        assert AuditEntry.objects.get().previous_hash == GENESIS

    def test_each_entry_names_the_hash_of_the_one_before(self) -> None:
        write(3)
        first, second, third = AuditEntry.objects.all()
        assert (second.previous_hash, third.previous_hash, head()) == (first.hash, second.hash, third.hash)
        assert verify_chain() == []

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("actor", "bob"),
            ("reason", ""),
            ("after", {"n": 2}),
            ("before", 0),
            ("subject", "another"),
            ("at", datetime(2020, 1, 1, tzinfo=UTC)),
            ("source", "api"),
            ("action", "test.undone"),
        ],
    )
    def test_an_altered_column_shows(self, column: str, value: Any) -> None:
        write(3)
        middle = AuditEntry.objects.order_by("id")[1]
        AuditEntry.objects.filter(pk=middle.pk).update(**{column: value})
        (problem,) = verify_chain()
        assert str(middle.pk) in problem

    def test_an_entry_taken_out_shows(self) -> None:
        write(3)
        AuditEntry.objects.order_by("id")[1].delete()
        (problem,) = verify_chain()
        assert "taken out" in problem

    def test_the_first_entry_taken_out_shows(self) -> None:
        write(2)
        AuditEntry.objects.order_by("id")[0].delete()
        assert verify_chain()

    def test_an_entry_goes_with_its_transaction(self) -> None:
        with transaction.atomic():
            write(1)
            transaction.set_rollback(True)
        write(1)
        assert AuditEntry.objects.count() == 1
        assert verify_chain() == []

    def test_long_and_unstorable_texts_are_cut_and_cleaned_not_refused(self) -> None:
        record("x" * 60, "s\x00\ud800" * 100, actor="a" * 200, source="api", reason="r" * 500)
        entry = AuditEntry.objects.get()
        assert (len(entry.action), len(entry.subject), len(entry.actor), len(entry.reason)) == (40, 160, 150, 400)
        assert verify_chain() == []

    def test_an_unknown_source_and_a_naive_time_are_refused(self) -> None:
        with pytest.raises(ValueError, match="no source"):
            record("a", "b", actor="c", source="somewhere")
        with pytest.raises(ValueError, match="zone"):
            record("a", "b", actor="c", source="cli", now=datetime(2026, 1, 1))  # noqa: DTZ001 - the point


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_do_not_fork_the_chain() -> None:
    failures: list[BaseException] = []

    def work(who: str) -> None:
        try:
            write(10, who)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(f"writer {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert AuditEntry.objects.count() == 60
    assert verify_chain() == []


@pytest.mark.django_db
@given(value=JSON)
def test_whatever_is_recorded_reads_back_as_it_was_hashed(value: Any) -> None:
    with transaction.atomic():
        entry = record("test.done", "anything", actor="ann", source="cli", before=value, after=[value])
        assert AuditEntry.objects.get(pk=entry.pk).before == storable(value)
        assert verify_chain() == []
        transaction.set_rollback(True)


def test_money_is_spelled_as_plain_text() -> None:
    assert storable({"a": Decimal("1E+3"), "b": 0.1, "c": Decimal("-0E-10")}) == {"a": "1000", "b": "0.1", "c": "0"}
