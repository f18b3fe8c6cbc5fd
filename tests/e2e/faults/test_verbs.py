"""What each verb does to a gateway, seen from its venue and from a plain client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.engine.harness import until
from trading.gateway.faults import VERBS, FaultError
from trading.gateway.model import ExecutionFilter
from trading.gateway.testing import RunningGateway, running_gateway

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningGateway]:
    """One gateway for all: each test asks for trouble of its own and ends it."""
    with running_gateway(market="synthetic", seed=7, commission_delay_s=0.0) as running:
        yield running


@pytest.fixture
def gateway(shared: RunningGateway) -> Iterator[RunningGateway]:
    yield shared
    shared.fault("clear")
    shared.fault("withhold off")


def executions(gateway: RunningGateway) -> list[Any]:
    """The day's executions, oldest first, with their commissions."""
    return list(gateway.call(lambda: gateway.venue.executions(ExecutionFilter())))


def held(gateway: RunningGateway, symbol: str) -> Decimal:
    """The venue's position."""

    def _read() -> Decimal:
        rows = gateway.venue.positions(gateway.server.hub.context.now())
        return sum((row.quantity for row in rows if row.contract.symbol == symbol), Decimal(0))

    return gateway.call(_read)


def test_a_trade_by_hand_carries_no_reference_and_a_price_if_wanted(gateway: RunningGateway) -> None:
    gateway.fault("hand QQQ -3 250.5")
    execution, _ = executions(gateway)[-1]
    assert (execution.order_ref, execution.client_id, execution.order_id < 0) == ("", 0, True)
    assert (execution.side, execution.quantity, execution.price) == ("SLD", Decimal(3), Decimal("250.5"))


def test_a_fill_that_nobody_is_told_of_belongs_to_the_newest_order_of_its_symbol(gateway: RunningGateway) -> None:
    gateway.fault("offfill IWM 2 ref=T/1 client=4")
    assert "client 4, reference T/1" in gateway.fault("offfill IWM -1")
    execution, _ = executions(gateway)[-1]
    assert (execution.order_ref, execution.client_id, execution.side) == ("T/1", 4, "SLD")
    assert held(gateway, "IWM") == 1


def test_a_correction_is_the_next_revision(gateway: RunningGateway) -> None:
    gateway.fault("hand SPY 10 100")
    first, _ = executions(gateway)[-1]
    gateway.fault("fix quantity=6 told=no")
    gateway.fault("fix price=99")
    second, _ = executions(gateway)[-1]
    assert (first.exec_id[-2:], second.exec_id[-2:], second.exec_id[:-2]) == ("01", "03", first.exec_id[:-2])
    assert (second.quantity, second.price, held(gateway, "SPY")) == (Decimal(6), Decimal(99), Decimal(6))


def test_commissions_are_withheld_until_told_otherwise(gateway: RunningGateway) -> None:
    gateway.fault("withhold on")
    gateway.fault("hand SPY 1")
    assert executions(gateway)[-1][1] is None
    gateway.fault("withhold off")
    until(lambda: executions(gateway)[-1][1] is not None)


def test_positions_and_cash_move_without_an_execution(gateway: RunningGateway) -> None:
    before, known = held(gateway, "QQQ"), len(executions(gateway))
    cash = gateway.call(lambda: gateway.venue._state.account.cash["USD"])
    gateway.fault("move QQQ 40")
    gateway.fault("cash usd -12.50")
    assert held(gateway, "QQQ") - before == 40
    assert gateway.call(lambda: gateway.venue._state.account.cash["USD"]) - cash == Decimal("-12.50")
    assert len(executions(gateway)) == known


def test_a_forgotten_day_has_no_executions_and_the_same_positions(gateway: RunningGateway) -> None:
    gateway.fault("hand SPY 2")
    before = held(gateway, "SPY")
    gateway.fault("forget")
    assert not executions(gateway)
    assert held(gateway, "SPY") == before


def test_rolled_back_ids_may_be_used_again_and_never_below_one(gateway: RunningGateway) -> None:
    def _next() -> int:
        return gateway.call(lambda: gateway.venue.next_order_id(9))

    for _ in range(6):
        gateway.fault("offfill SPY 1 ref=T/9 client=9")
    assert _next() == 7
    gateway.fault("reboot 4")
    assert _next() == 3
    gateway.fault("offfill SPY 1 ref=T/9 client=9")
    assert (_next(), executions(gateway)[-1][0].order_id) == (4, 3)
    gateway.fault("reboot 1000")
    assert _next() == 1


def test_status_tells_what_is_in_force_what_waits_and_what_happened(gateway: RunningGateway) -> None:
    assert "in force" not in gateway.fault("status")
    gateway.fault("lose execDetails client=7 count=all")
    gateway.fault("after 1h drop")
    told = gateway.fault("status")
    assert "in force: lose execDetails client=7 count=all" in told
    assert "waiting: after 1h drop" in told
    assert gateway.fault("clear") == "2 faults ended"
    assert "in force" not in gateway.fault("status")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("hand NOSUCH 5", "lists no NOSUCH"),
        ("fix 0001.02.03.01", "no execution 0001.02.03.01"),
        ("reject", "No order of anybody works"),
        ("fill 3 ref=T/none", "no order of T/none"),
    ],
)
def test_what_cannot_be_had_is_said_and_changes_nothing(gateway: RunningGateway, line: str, word: str) -> None:
    before = [execution.exec_id for execution, _ in executions(gateway)]
    with pytest.raises(FaultError, match=re.escape(word)):
        gateway.fault(line)
    assert [execution.exec_id for execution, _ in executions(gateway)] == before


def test_a_fault_that_cannot_be_had_at_its_moment_is_logged_and_the_gateway_goes_on(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.fault("after 10ms hand NOSUCH 5")
    until(lambda: "lists no NOSUCH" in caplog.text)
    gateway.fault("hand SPY 1")


def test_every_verb_is_documented() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "faults.md").read_text(encoding="utf-8")
    assert not [verb for verb in VERBS if not re.search(rf"`[^`]*\b{verb}\b", text)]
