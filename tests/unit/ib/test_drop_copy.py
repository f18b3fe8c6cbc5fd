"""The master decodes what nobody else brings, and only that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ib_async import IB

from strategies.events import CommissionSnapshot
from tests.unit.ib import wire
from tests.unit.ib.test_reader import open_order, read_fields, ready_ib
from trading.ib import mapping
from trading.ib.drop_copy import DropCopy

GRACE_S = 0.03
OTHER = wire.CLIENT_ID + 1  # a client that is not ours
Ids = list[str]


class Rig:
    """A master's connection, the clients that are live, and what the queue has heard."""

    def __init__(self) -> None:
        self.ib: IB = ready_ib()
        self.live = {wire.CLIENT_ID}
        self.heard: set[tuple[str, CommissionSnapshot | None]] = set()
        self.watched = False
        self.found = read_fields(self.ib)
        self.copy = DropCopy(
            self.ib,
            is_live=lambda client_id: client_id in self.live,
            has_heard=lambda exec_id, fee=None: (exec_id, fee) in self.heard,
            is_watched=lambda: self.watched,
            grace_s=GRACE_S,
        )

    def receive(self, *fields: Any) -> None:
        """Have the gateway say something to the master."""
        wire.receive(self.ib, *fields)

    @property
    def kinds(self) -> Ids:
        """Return the kinds of the messages that were decoded."""
        return [fields[0] for fields in self.found]

    async def until_decoded(self, count: int) -> None:
        """Wait until so many messages were decoded."""
        async with asyncio.timeout(5):
            while len(self.found) < count:
                await asyncio.sleep(GRACE_S / 10)

    async def let_grace_pass(self) -> None:
        """Wait for longer than anything is held."""
        await asyncio.sleep(GRACE_S * 3)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


def fee_of(exec_id: str) -> CommissionSnapshot:
    """Return the fee of ``wire.commission`` as the queue knows it."""
    fee = mapping.commission_of(exec_id, 1.05, "USD")
    assert fee is not None
    return fee


async def test_execution_and_fee_that_the_owner_brought_are_not_decoded(rig: Rig) -> None:
    rig.heard |= {("a.01", None), ("a.01", fee_of("a.01"))}
    rig.receive(*wire.execution("a.01"))
    rig.receive(*wire.commission("a.01"))
    await rig.let_grace_pass()
    assert rig.found == []
    assert rig.copy.skipped == 2


async def test_execution_that_the_owner_brings_within_the_grace_is_not_decoded(rig: Rig) -> None:
    rig.receive(*wire.execution("a.01"))
    rig.heard.add(("a.01", None))
    await rig.let_grace_pass()
    assert rig.found == []


async def test_execution_and_fee_that_the_owner_does_not_bring_are_decoded_in_order(rig: Rig) -> None:
    rig.receive(*wire.execution("a.01"))
    rig.receive(*wire.commission("a.01"))
    assert rig.found == []
    await rig.until_decoded(2)
    assert rig.kinds == ["11", "59"]
    assert rig.copy.taken_over == 2


async def test_a_fee_that_differs_from_the_one_heard_is_decoded(rig: Rig) -> None:
    rig.heard |= {("a.01", None), ("a.01", fee_of("a.01"))}
    rig.receive(*wire.execution("a.01"))
    rig.receive(*wire.commission("a.01", amount="2.5"))
    await rig.until_decoded(1)
    assert rig.kinds == ["59"]


async def test_an_owner_that_is_slow_but_moves_keeps_its_burst(rig: Rig) -> None:
    ids = [f"a.{number:02}.01" for number in range(8)]
    for exec_id in ids:
        rig.receive(*wire.execution(exec_id))
    for exec_id in ids:  # eight times half the grace: far behind, never quiet
        await asyncio.sleep(GRACE_S / 2)
        rig.heard.add((exec_id, None))
    await rig.let_grace_pass()
    assert rig.found == []


async def test_a_long_backlog_of_a_blocked_owner_is_decoded_completely(rig: Rig) -> None:
    for number in range(1_000):
        rig.receive(*wire.execution(f"a.{number:04}.01"))
    await rig.until_decoded(1_000)
    assert [fields[14] for fields in rig.found] == [f"a.{number:04}.01" for number in range(1_000)]


@pytest.mark.parametrize("kind", ["manual", "answer", "watched", "owner not connected"])
async def test_execution_that_only_the_master_hears_is_decoded_at_once(rig: Rig, kind: str) -> None:
    fields = wire.execution("a.01", req_id=12 if kind == "answer" else -1)
    if kind == "manual":
        fields[22] = 0
    rig.watched = kind == "watched"
    if kind == "owner not connected":
        rig.live.clear()
    rig.receive(*fields)
    rig.receive(*wire.commission("a.01"))
    assert rig.kinds == ["11", "59"]


async def test_held_executions_are_decoded_when_the_owner_is_lost(rig: Rig) -> None:
    rig.receive(*wire.execution("a.01"))
    rig.live.clear()
    rig.copy.release()
    assert rig.kinds == ["11"]


async def test_held_executions_are_decoded_when_the_master_is_disconnected(rig: Rig) -> None:
    rig.receive(*wire.execution("a.01"))
    rig.ib.disconnectedEvent.emit()
    assert rig.kinds == ["11"]


async def test_order_news_of_a_connected_client_is_not_decoded(rig: Rig) -> None:
    rig.receive(*open_order(3))
    rig.receive(*wire.status("Submitted", "40", "60"))
    assert rig.found == []


async def test_order_news_of_other_clients_and_of_manual_orders_is_decoded_at_once(rig: Rig) -> None:
    for client_id in (OTHER, 0):
        rig.receive(*open_order(3, client_id))
    assert rig.kinds == ["5", "5"]


async def test_an_answer_to_req_all_open_orders_is_decoded_completely(rig: Rig) -> None:
    wrapper: Any = rig.ib.wrapper
    rig.receive(*open_order(3))
    wrapper.startReq("openOrders")
    for order_id in (3, 4):
        rig.receive(*open_order(order_id))
        rig.receive(*wire.status("Submitted", "0", "100", order_id=order_id))
    assert rig.kinds == ["5", "3", "5", "3"]


async def test_the_last_word_on_each_order_is_decoded_when_its_owner_is_lost(rig: Rig) -> None:
    rig.receive(*open_order(3, limit="10.5"))
    rig.receive(*open_order(3, limit="11"))
    rig.receive(*wire.status("Cancelled", "40", "60"))
    rig.live.clear()
    rig.copy.release()
    assert rig.kinds == ["5", "3"]
    assert rig.found[0][16] == "11"
    assert not rig.copy.is_copy(wire.CLIENT_ID)


async def test_a_blocked_owners_orders_are_decoded_before_its_executions(rig: Rig) -> None:
    rig.receive(*open_order(3))
    rig.receive(*wire.execution("a.01"))
    await rig.until_decoded(2)
    assert rig.kinds == ["5", "11"]


async def test_ids_of_skipped_orders_are_not_used_again(rig: Rig) -> None:
    rig.receive(*open_order(700))
    client: Any = rig.ib.client
    assert client._reqIdSeq > 700


async def test_a_message_too_short_to_judge_is_left_to_the_decoder(rig: Rig) -> None:
    for kind in (3, 5, 11, 59):
        rig.receive(kind, -1)
    assert rig.kinds == ["3", "5", "11", "59"]
