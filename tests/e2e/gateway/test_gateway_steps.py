"""Steps of a standing gateway as a client on the wire hears of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.gateway.test_gateway_ib_async import connected, eventually, qualified
from tests.e2e.gateway.test_gateway_orders_ib_async import order
from tests.support.stepped import session_minutes, walk, write_bars
from trading.gateway.faults import FaultError
from trading.gateway.testing import RunningGateway, running_gateway

pytestmark = pytest.mark.e2e
FIRST = datetime(2020, 1, 2, 20, 58, tzinfo=UTC)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway that stands two minutes before a close."""
    starts = np.concatenate([session_minutes(date(2020, 1, 2), 386, 4), session_minutes(date(2020, 1, 3), 0, 4)])
    path = write_bars(tmp_path / "bars.parquet", [walk("SPY", starts, 5)])
    with running_gateway(market=f"replay:{path}", clock="step", hours="exchange", partial_fills=False) as running:
        yield running


async def test_every_piece_of_every_bar_is_sent_also_behind_a_night(gateway: RunningGateway) -> None:
    async with connected(gateway, 1) as ib:
        bars = ib.reqRealTimeBars(await qualified(ib), 5, "TRADES", False)
        await eventually(lambda: gateway.call(lambda: bool(gateway.server.hub.context.sessions[1].bars)))
        assert gateway.fault("step 3 every=10ms") == "3 steps, one each 0.01 s, from 2020-01-02T20:58Z on"
        await eventually(lambda: len(bars) == 36)
        night = FIRST + timedelta(minutes=2)
        morning = datetime(2020, 1, 3, 14, 30, tzinfo=UTC)
        expected = [FIRST + timedelta(seconds=5 * n) for n in range(24)]
        assert expected[-1] < night
        assert [bar.time for bar in bars] == [*expected, *(morning + timedelta(seconds=5 * n) for n in range(12))]


async def test_a_fill_is_told_before_the_bar_that_it_lies_in(gateway: RunningGateway) -> None:
    heard: list[str] = []
    async with connected(gateway, 1) as ib:
        contract = await qualified(ib)
        bars = ib.reqRealTimeBars(contract, 5, "TRADES", False)
        bars.updateEvent += lambda *_: heard.append("bar")
        trade = ib.placeOrder(contract, order("BUY", 3, "MKT"))
        trade.commissionReportEvent += lambda *_: heard.append("commission")
        await eventually(lambda: trade.orderStatus.status == "PreSubmitted")
        gateway.fault("step")
        await eventually(lambda: heard.count("bar") == 12)
        assert heard.index("commission") < len(heard) - 1
        assert trade.fills[0].execution.time == FIRST


def test_steps_under_way_are_not_doubled_and_can_be_ended(gateway: RunningGateway) -> None:
    gateway.fault("step 3 every=60")
    with pytest.raises(FaultError, match="under way"):
        gateway.fault("step")
    assert gateway.fault("step 0") == "no more steps"
    assert gateway.fault("step 0") == "no steps are under way"


def test_a_running_gateway_says_that_it_takes_no_steps() -> None:
    with running_gateway(market="synthetic") as running, pytest.raises(FaultError, match="--clock step"):
        running.fault("step")
