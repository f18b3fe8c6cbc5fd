"""Sending to a real gateway: orders overtake data, history keeps IB's limits, nothing outlives its line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from ib_async import MarketOrder, Stock

from strategies.exceptions import TransientError
from tests.e2e.orders.conftest import Desk, until
from trading.ib import pacing, requests
from trading.ib.connection import IBConnection
from trading.ib.pacing import Budget

pytestmark = pytest.mark.e2e
Connect = Callable[..., IBConnection]


async def test_an_order_behind_150_requests_waits_for_none_of_them(desk: Desk) -> None:
    spy = await requests.qualify(desk.connection.ib, Stock("SPY", "SMART", "USD"))
    loop = asyncio.get_running_loop()
    questions = [asyncio.ensure_future(desk.connection.ib.reqContractDetailsAsync(spy)) for _ in range(150)]
    sender = desk.connection._sender
    assert sender.waiting > 100
    began = loop.time()
    ticket = await desk.broker.place_order(spy, MarketOrder("BUY", 1), owner="T")
    assert await ticket.wait_done(10.0)
    assert loop.time() - began < 2.0  # 3 s alone in ib_async's own queue
    assert sender.waiting > 0
    for question in questions:
        question.cancel()
    sender.clear()


async def test_what_books_are_compared_by_waits_neither_for_the_data_of_its_own_line_nor_for_that_of_others(
    connect: Connect,
) -> None:
    budget = Budget()
    master, busy = connect(0, budget=budget), connect(1, budget=budget)
    for one in (master, busy):
        await one.connect_once()
        for _ in range(150):
            one.ib.reqMarketDataType(1)
    began = asyncio.get_running_loop().time()
    await requests.ask(master.ib.reqPositionsAsync(), "positions", timeout_s=10)
    await requests.ask(master.ib.reqAllOpenOrdersAsync(), "open orders", timeout_s=10)
    assert asyncio.get_running_loop().time() - began < 4.0  # behind the data of both it would be ten
    assert master._sender.waiting > 0
    for one in (master, busy):
        one._sender.clear()
        one.disconnect()


async def test_an_order_waits_for_its_turn_where_a_halt_reaches_it(desk: Desk) -> None:
    spy = await requests.qualify(desk.connection.ib, Stock("SPY", "SMART", "USD"))
    loop, sender = asyncio.get_running_loop(), desk.connection._sender
    while not sender.turn_s(loop.time()):
        pass  # until this second's messages are used up
    began = loop.time()
    placing = asyncio.ensure_future(desk.broker.place_order(spy, MarketOrder("BUY", 1), owner="T"))
    while not placing.done():
        assert not sender.orders_wait, "what is in the line's queue goes out whatever comes"
        await asyncio.sleep(0.005)
    assert loop.time() - began > 0.5
    assert await placing.result().wait_done(10.0)


async def test_an_order_counts_as_waiting_until_it_was_written(desk: Desk) -> None:
    """Whoever writes past the loop looks at this from another thread, and must not overtake what is about to go."""
    sender, client = desk.connection._sender, cast(Any, desk.connection.ib.client)
    conn = client.conn
    write, waited = conn.sendMsg, list[bool]()

    def _look(message: bytes) -> None:
        waited.append(sender.orders_wait)
        write(message)

    conn.sendMsg = _look
    client.cancelOrder(4711, "")
    conn.sendMsg = write
    assert (waited, sender.orders_wait) == ([True], False)


def _stamped(stamps: list[float], send: Callable[[bytes], None], message: bytes) -> None:
    stamps.append(asyncio.get_running_loop().time())
    send(message)


async def test_all_connections_together_stay_below_the_limit(connect: Connect) -> None:
    budget = Budget(messages_per_s=20)
    connections = [connect(number, budget=budget) for number in (1, 2, 3)]
    for one in connections:
        await one.connect_once()
    stamps: list[float] = []
    for one in connections:
        client: Any = one.ib.client
        original = client.conn.sendMsg
        client.conn.sendMsg = partial(_stamped, stamps, original)
    for one in connections:
        for _ in range(12):
            one.ib.reqMarketDataType(1)
    await until(lambda: len(stamps) == 36, "all were sent")
    assert all(sum(1 for at in stamps if start <= at < start + 0.98) <= 20 for start in stamps)
    for one in connections:
        one.disconnect()


async def test_what_waits_when_the_line_ends_reaches_no_other_session(connect: Connect) -> None:
    budget = Budget(messages_per_s=10)
    connection = connect(1, budget=budget)
    await connection.connect_once()
    for _ in range(60):
        connection.ib.reqMarketDataType(1)
    assert connection._sender.waiting > 40
    connection.disconnect()
    await connection.connect_once()
    assert connection._sender.waiting == 0
    assert connection.ib.client.conn.numMsgSent <= 3
    connection.disconnect()


async def test_history_beyond_ibs_limits_is_refused_in_words_and_an_answer_frees_its_place(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget()
    connection = connect(1, budget=budget)
    await connection.connect_once()
    spy = await requests.qualify(connection.ib, Stock("SPY", "SMART", "USD"))
    monkeypatch.setattr(budget._history, "max_in_span", 2)

    async def _bars(duration: str) -> Any:
        ask = connection.ib.reqHistoricalDataAsync(spy, "", duration, "5 secs", "TRADES", False, formatDate=2)
        return await requests.ask(ask, "bars", timeout_s=8)

    assert await _bars("60 S")
    assert budget.of_client(1, 0.0)["history_open"] == 0
    assert await _bars("90 S")
    with pytest.raises(TransientError) as caught:
        await _bars("120 S")
    assert caught.value.fields["ib_code"] == 162
    assert "Try again in" in caught.value.message
    connection.disconnect()


async def test_lines_are_counted_until_they_are_cancelled_and_snapshots_are_none(connect: Connect) -> None:
    budget = Budget()
    connection = connect(1, budget=budget)
    await connection.connect_once()
    spy = await requests.qualify(connection.ib, Stock("SPY", "SMART", "USD"))
    connection.ib.reqMktData(spy, "", False, False)
    bars = connection.ib.reqRealTimeBars(spy, 5, "TRADES", False)
    await requests.ask(connection.ib.reqTickersAsync(spy), "price", timeout_s=10)
    now = asyncio.get_running_loop().time()
    assert budget.figures(now)["lines"] == {"used": 2, "most": 100}
    connection.ib.cancelRealTimeBars(bars)
    assert budget.of_client(1, now)["lines"] == 1
    connection.ib.wrapper.error(-1, 1101, "data lost", "")
    assert budget.of_client(1, now)["lines"] == 0
    connection.disconnect()
    assert budget.figures(now)["sockets"]["used"] == 0


async def test_the_socket_above_the_limit_is_not_tried(connect: Connect) -> None:
    budget = Budget(sockets=2)
    first, second, third = (connect(number, budget=budget) for number in (1, 2, 3))
    await first.connect_once()
    await second.connect_once()
    with pytest.raises(TransientError) as caught:
        await third.connect_once()
    assert caught.value.code == "client_limit"
    assert third.ib.client.conn.transport is None
    first.disconnect()
    await third.connect_once()
    second.disconnect()
    third.disconnect()
    assert pacing.PER_CONNECTION < 50
