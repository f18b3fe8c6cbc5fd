"""One history told in other ways must end in the same books: twice, in other batches, disordered, cut off by crashes.

Owns: the ways. The digest covers positions, cash, realised profit, executions in force, their shares, and, where the
order of booking is the same, every row that the research store is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from strategies.events import QueueMessage
from tests.properties.books_desk import Desk
from tests.properties.books_model import NOBODY
from tests.properties.books_rig import books_hash
from tests.properties.books_venue import CONTRACTS, RENAMED, STOCK, said
from tests.properties.test_books_machine import quiet
from trading.orders.refs import new_ref

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["quiet"]  # a fixture

LAWS = settings(
    max_examples=4,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # shrinking would take minutes; what failed is printed whole
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
prices = st.decimals(Decimal("0.01"), Decimal(200), places=2)
fees = st.one_of(st.none(), st.tuples(st.decimals(Decimal(0), Decimal(5), places=4), st.sampled_from(["USD", "EUR"])))
told = st.tuples(
    st.sampled_from(["ALPHA", "BETA", "GONE", ""]),
    st.sampled_from(CONTRACTS),
    st.integers(-60, 60).filter(bool),
    prices,
    fees,
    st.one_of(st.none(), st.tuples(st.sampled_from(["quantity", "price", "contract"]), st.integers(1, 60))),
)
histories = st.lists(told, min_size=3, max_size=5)
REFS = {owner: [new_ref(owner) for _ in range(10)] for owner in ("ALPHA", "BETA", "GONE")}


class Told:
    """A desk whose broker went through a history that nobody has heard yet."""

    def __init__(self, history: Sequence[Any]) -> None:
        self.desk = Desk()
        self.messages: list[QueueMessage] = []
        corrected: list[QueueMessage] = []
        for number, (owner, of, size, price, fee, change) in enumerate(history):
            ref = REFS[owner][number] if owner else ""
            order = self.desk.venue.place(ref, of, "BUY" if size > 0 else "SELL", abs(size))
            report = self.desk.venue.fill(order, abs(size), price, fee, silent=False)
            self.messages += self.desk.venue.repeat([report.exec_id])
            self.messages[-1 if fee is None else -2] = said(report)
            if change is not None:
                field, value = change
                new: Any = Decimal(value)
                if field == "contract":
                    new = RENAMED if of is STOCK else STOCK
                again = self.desk.venue.correct(report.exec_id, fee, silent=False, **{field: new})
                fee_again = self.desk.venue.fee_report(again.exec_id)
                corrected += [said(again), *([fee_again] if fee_again else [])]
        self.messages += corrected

    def end(self, *, journal: bool) -> str:
        """Divide an execution, say everything once more, and return the digest of what is left."""
        desk = self.desk
        exec_id = sorted(desk.model.live())[0]
        giver = sorted(desk.model.reports[exec_id].divided())[0]
        desk.assign(exec_id, giver, NOBODY if giver != NOBODY else "BETA", 1)
        desk.engine.deliver(desk.venue.repeat(desk.venue.day))
        desk.check()
        return books_hash(journal=journal)


def straight(history: Sequence[Any], *, journal: bool) -> str:
    """Tell a history as it was, in one batch."""
    one = Told(history)
    one.desk.engine.deliver(one.messages)
    return one.end(journal=journal)


@LAWS
@given(histories, st.integers(1, 4))
def test_other_batches_give_the_same_books_and_rows(history: list[Any], limit: int) -> None:
    one = Told(history)
    one.desk.engine.deliver(one.messages, limit)
    assert one.end(journal=True) == straight(history, journal=True)


@LAWS
@given(histories)
def test_every_message_twice_gives_the_same_books_and_rows(history: list[Any]) -> None:
    one = Told(history)
    for message in one.messages:
        one.desk.engine.deliver([message, message])
    one.desk.reboot()  # and once more to an engine that remembers nothing
    one.desk.engine.deliver(one.messages)
    assert one.end(journal=True) == straight(history, journal=True)


@LAWS
@given(histories, st.randoms(use_true_random=False))
def test_what_the_wire_may_disorder_gives_the_same_books(history: list[Any], random: Random) -> None:
    """Fees come at any time, and what concerns different contracts in any order."""
    one = Told(history)
    fees = [message for message in one.messages if message["type"] == "commission"]
    rows: dict[int, list[QueueMessage]] = {}
    moved = {change[2] for change in _moves(one)}
    for message in one.messages:
        if message["type"] == "fill":
            con_id = message["fill"].contract.con_id
            rows.setdefault(0 if con_id in moved else con_id, []).append(message)
    mixed: list[QueueMessage] = []
    while any(rows.values()):
        mixed.append(random.choice([row for row in rows.values() if row]).pop(0))
    for message in fees:
        mixed.insert(random.randint(0, len(mixed)), message)
    one.desk.engine.deliver(mixed, random.randint(1, 5))
    assert one.end(journal=False) == straight(history, journal=False)


def _moves(one: Told) -> list[tuple[str, int, int]]:
    """Return the contracts between which a correction moves an execution: their order is kept."""
    found = []
    first = {m["fill"].exec_id[:-3]: m["fill"].contract.con_id for m in reversed(one.messages) if m["type"] == "fill"}
    for message in one.messages:
        if message["type"] == "fill":
            family, con_id = message["fill"].exec_id[:-3], message["fill"].contract.con_id
            if first[family] != con_id:
                found += [(family, 0, con_id), (family, 0, first[family])]
    return found


@LAWS
@given(histories, st.sampled_from(["begin", "fill", "position", "cash", "event", "commit", "committed"]))
def test_a_crash_after_any_prefix_gives_the_same_books(history: list[Any], point: str) -> None:
    wanted = straight(history, journal=False)
    for length in range(len(Told(history).messages)):
        one = Told(history)
        one.desk.engine.deliver(one.messages[:length])
        one.desk.armed = point, 1
        one.desk.send(one.messages[length:], hold=False)  # dies over it; the next engine asks for the day
        one.desk.engine.deliver(one.messages)
        assert one.end(journal=False) == wanted, f"crash at {point} after {length} messages"
