"""After 1102 what stays silent in an open market is asked for again once, then told; the rest is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from ib_async import IB, Contract

from tests.unit.ib import wire
from trading.ib import silence
from trading.ib.resubscribe import Subscriptions
from trading.ib.silence import Silence, SilenceWatch

SPY = Contract(conId=756733, symbol="SPY", secType="STK", exchange="SMART", currency="USD")
AAPL = wire.stock()


@dataclass
class Rig:
    """An IB that notes what it sends, its streams, and what the watch told."""

    ib: IB
    streams: Subscriptions
    sent: list[tuple[Any, ...]]
    told: list[Silence] = field(default_factory=list)
    open: dict[int, bool | None] = field(default_factory=dict)

    async def is_open(self, ib: IB, contract: Contract) -> bool | None:
        return self.open.get(contract.conId, True)

    def kept(self) -> None:
        """IB says that it kept the data."""
        self.sent.clear()
        wire.say(self.ib, *wire.error(1102, "Connectivity restored - data maintained.", req_id=-1))

    def names(self) -> list[list[str]]:
        return [sorted(one.contracts.values()) for one in self.told]


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    for name, value in (("QUIET_S", 0.06), ("LOOK_S", 0.01), ("RETRY_S", 0.3)):
        monkeypatch.setattr(silence, name, value)
    ib = wire.listening_ib()
    sent: list[tuple[Any, ...]] = []
    client: Any = ib.client
    client.send = lambda *fields, **_: sent.append((int(fields[0]), *fields[1:3]))
    made = Rig(ib, Subscriptions(ib), sent)
    watch = SilenceWatch(ib, made.streams, is_open=made.is_open, tell=made.told.append)
    yield made
    watch.close()


def subscribe(rig: Rig) -> None:
    """Ticks of SPY under 1, bars of SPY under 2, ticks of AAPL under 3."""
    client: Any = rig.ib.client
    wrapper: Any = rig.ib.wrapper
    for number, contract in ((1, SPY), (3, AAPL)):
        wrapper.startTicker(number, contract, "mktData")
        client.reqMktData(number, contract, "", False, False, [])
    client.reqRealTimeBars(2, SPY, 5, "TRADES", False, [])


def tick(rig: Rig, number: int) -> None:
    wire.say(rig.ib, 2, 6, number, 0, 300)


async def until(condition: Callable[[], Any], what: str) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what


async def test_streams_that_are_heard_are_left_alone_and_the_watch_ends(rig: Rig) -> None:
    subscribe(rig)
    rig.kept()
    tick(rig, 1)
    tick(rig, 3)
    wire.say(rig.ib, 50, 3, 2, 1_700_000_000, 1, 2, 0.5, 1.5, 10, 1.2, 3)
    await until(lambda: not rig.ib.wrapper.__dict__.keys() & set(silence._SPEAKERS), "it listens no more")
    await asyncio.sleep(0.1)
    assert (rig.sent, rig.told) == ([], [])


async def test_what_stays_silent_is_asked_for_again_under_its_id_and_then_told(rig: Rig) -> None:
    subscribe(rig)
    rig.kept()
    tick(rig, 3)
    await until(lambda: len(rig.sent) == 4, "cancelled and asked for again")
    assert [(kind, number) for kind, _, number in rig.sent] == [(2, 1), (1, 1), (51, 2), (50, 2)]
    assert rig.told == []
    await until(lambda: rig.told, "still nothing")
    assert rig.names() == [["SPY"]]
    tick(rig, 1)
    await until(lambda: len(rig.told) == 2, "it is over")
    assert rig.names() == [["SPY"], []]


async def test_a_stream_that_comes_back_when_asked_again_is_no_news(rig: Rig) -> None:
    subscribe(rig)
    rig.kept()
    tick(rig, 3)
    await until(lambda: len(rig.sent) == 4, "asked for again")
    tick(rig, 1)
    tick(rig, 2)  # bars or ticks: it is the request that counts
    await asyncio.sleep(0.2)
    assert rig.told == []


async def test_bars_of_a_contract_whose_ticks_flow_are_renewed_and_not_told(rig: Rig) -> None:
    subscribe(rig)
    rig.kept()
    tick(rig, 1)
    tick(rig, 3)
    await until(lambda: [kind for kind, *_ in rig.sent] == [51, 50], "the bars alone")
    await asyncio.sleep(0.2)
    assert rig.told == []


async def test_a_closed_market_is_quiet_and_one_that_opens_is_waited_for_anew(rig: Rig) -> None:
    subscribe(rig)
    rig.open = {SPY.conId: False, AAPL.conId: False}
    rig.kept()
    await asyncio.sleep(0.2)
    assert (rig.sent, rig.told) == ([], [])
    rig.open = {SPY.conId: False, AAPL.conId: True}
    await until(lambda: rig.told, "the one that opened")
    assert rig.names() == [["AAPL"]]
    assert {number for _, _, number in rig.sent} == {3}


async def test_unknown_hours_ask_again_and_tell_nothing(rig: Rig) -> None:
    subscribe(rig)
    rig.open = {SPY.conId: None, AAPL.conId: None}
    rig.kept()
    await until(lambda: len(rig.sent) >= 6, "all are asked for again")
    await asyncio.sleep(0.2)
    assert rig.told == []


async def test_what_is_dead_is_asked_for_now_and_then_and_told_once(rig: Rig) -> None:
    subscribe(rig)
    rig.kept()
    await until(lambda: len(rig.sent) >= 12, "a second time")
    assert rig.names() == [["AAPL", "SPY"]]


async def test_cancelled_streams_and_a_lost_line_end_it(rig: Rig) -> None:
    subscribe(rig)
    rig.kept()
    tick(rig, 3)
    await until(lambda: rig.told, "told")
    client: Any = rig.ib.client
    client.cancelMktData(1)
    client.cancelRealTimeBars(2)
    await until(lambda: len(rig.told) == 2, "nobody wants it any more")
    rig.kept()
    await until(lambda: len(rig.told) == 3, "AAPL now")
    rig.ib.disconnectedEvent.emit()
    assert rig.names() == [["SPY"], [], ["AAPL"], []]
    assert not rig.ib.wrapper.__dict__.keys() & set(silence._SPEAKERS)


async def test_another_1102_begins_anew_and_1101_is_somebody_elses(rig: Rig) -> None:
    subscribe(rig)
    rig.kept()
    tick(rig, 1)
    tick(rig, 2)
    tick(rig, 3)
    rig.kept()
    await until(lambda: rig.told, "what was heard before the second one proves nothing")
    wire.say(rig.ib, *wire.error(1101, "Connectivity restored - data lost.", req_id=-1))
    assert rig.names() == [["AAPL", "SPY"], []]
