"""Everything the broker says about orders becomes messages, also what ib_async raises no event for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from ib_async import IB, Contract, Execution, Order, Trade
from ib_async.wrapper import RequestError

from strategies.events import QueueMessage
from strategies.exceptions import TransientError
from tests.unit.ib import wire
from trading.ib.capture import Capture
from trading.ib.tap import WireTap

Heard = list[QueueMessage]


@pytest.fixture
async def ib() -> IB:
    return wire.listening_ib()


@pytest.fixture
async def heard(ib: IB) -> Heard:
    messages: Heard = []
    Capture(ib, messages.append, "T")
    return messages


async def test_execution_of_an_unknown_order_is_captured_with_its_zone_in_utc(ib: IB, heard: Heard) -> None:
    wire.say(ib, *wire.execution(ref="somebody", perm_id=1))
    [message] = heard
    fill = message["fill"]
    assert (message["type"], message["trade"]) == ("fill", None)
    assert (fill.quantity, fill.price, fill.side) == (Decimal(22), Decimal("22.96"), "BOT")
    assert fill.executed_at == datetime(2025, 11, 4, 14, 13, 24, tzinfo=UTC)
    assert not fill.is_replay
    assert fill.received_ns > 0
    assert fill.commission is None


async def test_answer_to_req_executions_is_captured_as_replay(ib: IB, heard: Heard) -> None:
    wire.say(ib, *wire.execution(req_id=12))
    assert heard[0]["fill"].is_replay


async def test_commission_before_its_execution_is_captured(ib: IB, heard: Heard) -> None:
    wire.say(ib, *wire.commission())
    assert heard[0]["commission"].amount == Decimal("1.05")


@pytest.mark.parametrize(("amount", "currency"), [("-1", "USD"), ("1.7976931348623157E308", "USD"), ("", "")])
async def test_commission_that_ib_does_not_know_yet_is_not_zero(
    ib: IB, heard: Heard, amount: str, currency: str
) -> None:
    wire.say(ib, *wire.commission(amount=amount, currency=currency))
    assert heard == []


async def test_manual_order_has_order_id_zero_instead_of_ibs_unset(ib: IB, heard: Heard) -> None:
    wire.say(ib, *wire.execution(order_id=2147483647, ref=""))
    assert heard[0]["fill"].order_id == 0


async def test_status_carries_ibs_word_and_repeats_are_passed_on(ib: IB, heard: Heard) -> None:
    wire.known_order(ib)
    for _ in range(2):
        wire.say(ib, *wire.status("Submitted", "40", "60", average="10.5"))
    assert [m["status"].status for m in heard] == ["Submitted", "Submitted"]
    trade = heard[0]["trade"]
    assert trade is not None
    assert (trade.filled, trade.remaining, trade.average_price) == (Decimal(40), Decimal(60), Decimal("10.5"))


@pytest.mark.parametrize("code", [10349, 388, 404, 161, 136, 10147, 10148, 104, 135, 999])
async def test_error_text_never_changes_the_status_of_a_working_order(ib: IB, heard: Heard, code: int) -> None:
    trade = wire.known_order(ib)
    wire.say(ib, *wire.error(code, "something"))
    assert trade.orderStatus.status == "Submitted"
    assert not trade.isDone()
    assert (heard[0]["status"].code, heard[0]["status"].status) == (code, "")


async def test_warning_after_the_fill_does_not_reopen_the_order(ib: IB, heard: Heard) -> None:
    trade = wire.known_order(ib, status="Filled")
    wire.say(ib, *wire.error(399, "will not be placed at the exchange until …"))
    assert trade.isDone()
    assert ib.openTrades() == []


async def test_refusal_of_a_new_order_ends_its_trade(ib: IB, heard: Heard) -> None:
    trade = wire.known_order(ib, status="PendingSubmit")
    cancelled: list[object] = []
    trade.cancelledEvent += cancelled.append
    wire.say(ib, *wire.error(201, "Order rejected - reason: margin"))
    assert trade.isDone()
    assert cancelled == [trade]


async def test_request_that_only_gets_a_warning_code_fails_instead_of_hanging(ib: IB) -> None:
    WireTap.of(ib)
    ib.RaiseRequestErrors = True
    wrapper: Any = ib.wrapper
    future: asyncio.Future[object] = wrapper.startReq(55)
    wire.say(ib, *wire.error(321, "Error validating request", req_id=55))
    with pytest.raises(RequestError):
        await asyncio.wait_for(future, 1)


async def test_unreadable_message_is_reported_and_the_next_one_is_read(ib: IB, heard: Heard) -> None:
    seen: list[str] = []
    WireTap.of(ib).decode_errors.append(seen.append)
    wire.say(ib, *wire.execution(time="20251104 15:13:24 Nowhere/Land"))
    wire.say(ib, *wire.execution(exec_id="0001.02.04.01"))
    assert len(seen) == 1
    assert [m["fill"].exec_id for m in heard] == ["0001.02.04.01"]


async def test_observers_hear_what_the_sink_hears(ib: IB, heard: Heard) -> None:
    capture = Capture.of(ib)
    assert capture is not None
    seen: Heard = []
    capture.observers.append(seen.append)
    wire.say(ib, *wire.execution())
    assert seen == heard


async def test_owner_is_looked_up_by_reference(ib: IB) -> None:
    messages: Heard = []
    Capture(ib, messages.append, "", owner_of_ref=lambda ref: f"owner of {ref}")
    wire.say(ib, *wire.execution())
    assert messages[0]["strategy"] == "owner of T/x"


async def test_contract_as_a_caller_wrote_it_does_not_stand_for_what_ib_says_of_the_fill(ib: IB, heard: Heard) -> None:
    written = Contract(conId=265598, symbol="AAPL", secType="OPT", exchange="SMART", currency="USD")
    ib.newOrderEvent.emit(Trade(written, Order(orderId=3, clientId=7, orderRef="T/1", totalQuantity=1)))
    said = Contract(conId=265598, symbol="AAPL", secType="OPT", exchange="SMART", currency="USD", multiplier="100")
    executed = Execution(execId="0001.1.01.01", time=datetime.now(UTC), side="BOT", shares=1, price=2, orderRef="T/1")
    wrapper: Any = ib.wrapper
    wrapper.execDetails(-1, said, executed)
    assert heard[-1]["fill"].contract.multiplier == 100


async def test_replay_that_nobody_waits_for_any_more_is_held_back_until_ib_ended_it(
    ib: IB, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = Capture(ib, lambda _: None, "T", is_replay_ahead=lambda: True)
    asked: list[int] = []
    monkeypatch.setattr(ib, "isConnected", lambda: True)
    monkeypatch.setattr(ib.client, "getReqId", lambda: 12)
    monkeypatch.setattr(ib.client, "reqExecutions", lambda req_id, _: asked.append(req_id))
    states = [capture.is_replaying]
    with pytest.raises(TransientError, match="did not answer"):
        await capture.replay_executions(0.01)
    assert asked == [12]
    states.append(capture.is_replaying)  # IB may still send a day's executions
    wire.say(ib, *wire.execution(req_id=12))
    states.append(capture.is_replaying)
    wire.say(ib, 55, 1, 12)
    states.append(capture.is_replaying)
    assert states == [False, True, True, False]
