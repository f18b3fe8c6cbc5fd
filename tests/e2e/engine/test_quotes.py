"""Contracts quoted in parts of their currency, futures and options: the books are the gateway's, to the cent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from ib_async import Contract as IbContract
from ib_async import Stock

from portfolio.models import Break, CashBalance, Execution, Mark, ParkedReport, Position
from portfolio.verification.report import verify_all
from strategies.events import ContractSnapshot
from strategies.exceptions import LedgerError
from tests.e2e.engine.harness import DISCRETIONARY, Rig, until
from tests.e2e.engine.test_derivatives import MES, call_in_the_money
from tests.e2e.engine.test_reconciliation import QUICK, compared, happen, started
from tests.unit.portfolio.builders import contract, fill
from trading.engine.broker_state import BrokerState
from trading.engine.manager import StrategyManager
from trading.engine.undescribed import PATIENCE
from trading.gateway.model import Contract
from trading.ib import magnifiers
from trading.models import Alert, EngineEvent

pytestmark = pytest.mark.e2e
CENT = Decimal("0.01")
VOD = Contract(symbol="VOD", sec_type="STK", exchange="LSE", currency="GBP")


@pytest.fixture(autouse=True)
def _nothing_described() -> None:
    """What earlier tests heard of contracts is forgotten: IB has described none to this engine."""
    magnifiers._said.clear()


def id_of(rig: Rig, what: Contract) -> int:
    """The contract's id at the gateway."""
    found: int = rig.gateway.call(lambda: rig.gateway.venue.resolve(what)[0].contract.con_id)
    return found


def call_id(rig: Rig) -> int:
    """The id of a call at the gateway."""
    found: int = rig.gateway.call(lambda: call_in_the_money(rig.gateway.venue).con_id)
    return found


def held(con_id: int, owner: str = DISCRETIONARY) -> Decimal:
    """What an owner holds of a contract."""
    row = Position.objects.filter(owner=owner, instrument_id=con_id).first()
    return row.quantity if row is not None else Decimal(0)


def trade(rig: Rig, strategy: Any, contract: IbContract, quantity: int) -> Any:
    """Trade at the market and wait for the end."""

    async def _trade() -> Any:
        ticket = await strategy.place_order(contract, quantity, algo=False)
        assert await ticket.wait_done(10.0), ticket
        return ticket

    return rig.on_loop(strategy, _trade())


def worth_at(rig: Rig, marks: dict[int, Decimal]) -> dict[int, tuple[Decimal, Decimal]]:
    """What the gateway says each holding is worth, and won, at these quoted prices."""

    def _value() -> dict[int, tuple[Decimal, Decimal]]:
        account = rig.gateway.venue._state.account
        found = {}
        for con_id, holding in account.holdings.items():
            if holding.quantity:
                value = account.value(holding, marks[con_id])
                found[con_id] = value, value - holding.quantity * holding.average_cost
        return found

    return rig.gateway.call(_value)


def assert_equal(rig: Rig) -> None:
    """Cash, positions, costs, prices, worth and profit of the books are the gateway's, to the cent."""
    until(lambda: compared(rig)["cash_breaks"] == 0, what="cash agrees")
    venue = rig.gateway.venue
    truth = rig.gateway.call(lambda: {row.contract.con_id: row for row in venue.positions(venue._begun())})
    cash = rig.gateway.call(lambda: dict(venue._state.account.cash))
    for currency, amount in cash.items():
        booked = sum(CashBalance.objects.filter(currency=currency).values_list("amount", flat=True), Decimal(0))
        assert abs(booked - amount) < CENT, currency
    rows = list(Position.objects.exclude(quantity=0).select_related("instrument"))
    assert {row.instrument_id for row in rows} == {key for key, row in truth.items() if row.quantity}
    until(lambda: Mark.objects.filter(instrument_id__in=truth).count() == len(truth), what="everything has a price")
    marks = {row.instrument_id: row.price for row in Mark.objects.filter(instrument_id__in=truth)}
    parts = {row.instrument_id: row.instrument.price_magnifier or 1 for row in rows}
    worth = worth_at(rig, {con_id: price * parts[con_id] for con_id, price in marks.items()})
    for con_id, said in truth.items():
        mine = [row for row in rows if row.instrument_id == con_id]
        multiplier = mine[0].instrument.multiplier
        assert sum((row.quantity for row in mine), Decimal(0)) == said.quantity
        assert abs(marks[con_id] * parts[con_id] / said.market_price - 1) < Decimal("0.2"), mine
        fills = Execution.objects.filter(instrument_id=con_id, superseded=False)
        fees = sum((fill.commission or Decimal(0) for fill in fills), Decimal(0))
        cost = sum((row.cost_basis for row in mine), Decimal(0))
        assert abs(cost + fees - said.quantity * said.average_cost) < CENT, mine
        average = sum((row.quantity * row.average_cost * multiplier for row in mine), Decimal(0))
        assert abs(average - cost) < CENT, mine
        value = sum((row.quantity * marks[con_id] * multiplier for row in mine), Decimal(0))
        assert abs(value - worth[con_id][0]) < CENT, mine
        assert abs(value - cost - fees - worth[con_id][1]) < CENT, mine
    assert not Break.objects.filter(state="open").exists()
    assert not ParkedReport.objects.filter(state="waiting").exists()
    assert verify_all(arctic=False).exit_code == 0


def is_measured(engine: StrategyManager, owner: str) -> bool:
    """Whether what an owner earned today is known in its own currency."""
    try:
        engine.portfolio_manager.get_daily_realized_pnl(owner)
    except LedgerError:
        return False
    return True


def test_pence_futures_and_options_are_the_gateways_to_the_cent_across_a_restart(rig: Rig) -> None:
    rig.strategy("ALPHA", weight="0.5")
    first = started(rig)
    vod, future, call = id_of(rig, VOD), id_of(rig, MES), call_id(rig)
    alpha = rig.start(first, "ALPHA")
    trade(rig, alpha, Stock("VOD", "SMART", "GBP"), 300)
    until(lambda: is_measured(first, "ALPHA"), what="the rate of a currency that moved is asked for at once")
    trade(rig, alpha, IbContract(conId=future, exchange="CME"), 1)
    happen(rig, lambda v: v.trade_by_hand(vod, Decimal(200)))
    happen(rig, lambda v: v.trade_by_hand(call, Decimal(2)))
    until(lambda: held(vod) == 200 and held(call) == 2 and held(vod, "ALPHA") == 300 and held(future, "ALPHA") == 1)
    pounds = Position.objects.get(owner="ALPHA", instrument_id=vod).average_cost
    assert pounds < 5  # not pence
    first.cleanup(1.0)
    happen(rig, lambda v: v.trade_by_hand(vod, Decimal(50)), publish=False)
    happen(rig, lambda v: v.trade_by_hand(call, Decimal(1)), publish=False)
    magnifiers._said.clear()  # another process
    second = started(rig)
    until(lambda: held(vod) == 250 and held(call) == 3, what="what was traded meanwhile")
    trade(rig, rig.start(second, "ALPHA"), Stock("VOD", "SMART", "GBP"), 10)
    until(lambda: held(vod, "ALPHA") == 310)
    assert_equal(rig)


def _bought(con_id: int, venue: Any) -> Any:
    return venue.inject_fills(con_id, 2, "", 0)


def test_the_first_fill_of_contracts_that_nobody_asked_for_is_booked_within_seconds(rig: Rig) -> None:
    started(rig, replace(QUICK, compare_every_s=60.0))
    vod, future, call = id_of(rig, VOD), id_of(rig, MES), call_id(rig)
    for con_id in (vod, future, call):
        happen(rig, partial(_bought, con_id))
    until(lambda: [held(con_id) for con_id in (vod, future, call)] == [2, 2, 2], 10.0, "all are booked")
    assert_equal(rig)
    told = EngineEvent.objects.filter(kind="log", payload__level__in=["warning", "error"])
    assert [
        row.payload["text"] for row in told if "wait" in row.payload["text"] or "parked" in row.payload["text"]
    ] == []
    assert not Alert.objects.filter(key__startswith="parked:").exists()  # IB was asked, and answered in time
    assert not Break.objects.exists()


def test_a_contract_that_ib_does_not_describe_alarms_when_its_check_is_over_and_is_booked_once_it_does(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    describe = BrokerState.describe

    async def nothing(state: BrokerState, con_ids: Iterable[int]) -> list[ContractSnapshot]:
        asked.extend(con_ids)
        return []

    with monkeypatch.context() as patched:
        engine = started(rig, replace(QUICK, compare_every_s=60.0))
        patched.setattr(BrokerState, "describe", nothing)
        future = id_of(rig, MES)
        happen(rig, partial(_bought, future))
        until(lambda: Alert.objects.filter(key__startswith="parked:fill:").exists(), 10.0, "the alarm")
        assert set(asked) == {future}
        waiting = ParkedReport.objects.values_list("code", "state", "con_id")
        assert set(waiting) == {("unknown_magnifier", "waiting", future)}
    assert BrokerState.describe is describe
    engine.session.request_check()
    until(lambda: held(future) == 2, 10.0, "it is booked")
    until(lambda: not Alert.objects.filter(cleared_at=None).exclude(key="break:cash:USD").exists(), 15.0, "none stays")


def test_an_execution_that_nobody_can_ask_about_alarms_when_it_has_waited_too_long(rig: Rig) -> None:
    engine = started(rig)
    engine.session.disconnect()
    until(lambda: not engine.session.connected, what="the line is down")
    future = contract(620, "MES", sec_type="FUT", exchange="CME", multiplier=Decimal(5), price_magnifier=None)
    heard = replace(fill(1, 1, 5000, of=future), account=engine.account_id)
    engine.message_queue.put({"type": "fill", "strategy": "", "trade": None, "fill": heard})
    engine.process_messages()
    waiting = ParkedReport.objects.get(state="waiting")
    assert not Alert.objects.filter(key__startswith="parked:").exists()
    engine.folding.undescribed._since = float("-inf")  # half a minute later
    ParkedReport.objects.update(parked_at=waiting.parked_at - PATIENCE)
    until(lambda: Alert.objects.filter(key=f"parked:{waiting.key}", cleared_at=None).exists(), 10.0, "the alarm")
