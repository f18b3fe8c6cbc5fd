"""After 1101 every stream is asked for as before, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
from ib_async import IB

from tests.unit.ib import wire
from trading.ib.resubscribe import Subscriptions

SPY = wire.stock()
HISTORY = (SPY, "", "1 D", "1 min", "TRADES", True, 1)


@pytest.fixture
def asked() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def ib(asked: list[tuple[Any, ...]]) -> IB:
    """An IB that notes what it sends."""
    made = wire.listening_ib()
    client: Any = made.client
    client.send = lambda *fields, **_: asked.append(fields[:1] + fields[1:4])
    Subscriptions(made)
    return made


def again(ib: IB, asked: list[tuple[Any, ...]], code: int = 1101) -> list[int]:
    """The message ids that are sent when IB says a code."""
    asked.clear()
    wire.say(ib, *wire.error(code, "Connectivity restored", req_id=-1))
    return [int(fields[0]) for fields in asked]


async def test_streams_are_asked_for_again_under_their_ids(ib: IB, asked: list[tuple[Any, ...]]) -> None:
    client: Any = ib.client
    client.reqMktData(1, SPY, "233", False, False, [])
    client.reqRealTimeBars(2, SPY, 5, "TRADES", False, [])
    client.reqHistoricalData(3, *HISTORY, True, [])
    client.reqTickByTickData(4, SPY, "Last", 0, False)
    before = list(asked)
    assert again(ib, asked) == [1, 50, 20, 97]
    assert asked == before


async def test_single_answers_and_what_was_cancelled_are_not(ib: IB, asked: list[tuple[Any, ...]]) -> None:
    client: Any = ib.client
    client.reqMktData(1, SPY, "", True, False, [])
    client.reqHistoricalData(3, *HISTORY, False, [])
    client.reqRealTimeBars(2, SPY, 5, "TRADES", False, [])
    client.cancelRealTimeBars(2)
    assert again(ib, asked) == []


async def test_nothing_is_asked_after_1102_or_for_a_line_that_ended(ib: IB, asked: list[tuple[Any, ...]]) -> None:
    client: Any = ib.client
    client.reqRealTimeBars(2, SPY, 5, "TRADES", False, [])
    assert 50 not in again(ib, asked, 1102)
    ib.disconnectedEvent.emit()
    assert again(ib, asked) == []
