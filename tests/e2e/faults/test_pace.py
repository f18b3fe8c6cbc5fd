"""IB's limit of messages, taken at its strictest: one limit for all clients together, and the gateway refuses.

The gateway counts what all clients send within any second, and answers what is too much with error 100 instead of
doing it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from ib_async import Stock

from tests.e2e.engine.harness import Rig, until
from tests.e2e.faults.truth import assert_books_hold, assert_sent_once, figure, started
from trading.gateway.testing import RunningGateway, running_gateway
from trading.models import Order
from trading.orders import inflight

pytestmark = pytest.mark.e2e
PER_S = 45  # of IB's 50
EACH = 8
TICKERS = ("SPY", "QQQ", "DIA", "TLT", "IWM")
OWN, SHARED = ("A", "B", "C"), ("S1", "S2")


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with running_gateway(
        market="synthetic", seed=7, commission_delay_s=0.02, pacing="reject", count_together=True
    ) as running:
        yield running


@pytest.fixture
def mats_settings(mats_settings: Any) -> Any:
    """Two strategies on a shared connection beside those that have their own."""
    mats_settings.MATS = dataclasses.replace(mats_settings.MATS, strategies_per_connection=2)
    return mats_settings


def members(rig: Rig, engine: Any) -> list[Any]:
    for symbol in OWN:
        rig.strategy(symbol, weight="0.05")
    for symbol in SHARED:
        rig.strategy(symbol, weight="0.05", connection="shared")
    return [rig.start(engine, symbol) for symbol in (*OWN, *SHARED)]


async def burst(strategy: Any, ticker: str) -> list[Any]:
    """Place, change and cancel as fast as it is let, with questions about data in between."""
    contract = Stock(ticker, "SMART", "USD")
    tickets = []
    for number in range(EACH):
        tickets.append(await strategy.place_order(contract, 1, "LMT", algo=False, limit=10.0 + number / 100))
    asked = [strategy.ib.reqContractDetailsAsync(Stock(name, "SMART", "USD")) for name in ("IBM", "JPM", "AMD")]
    details = asyncio.gather(*asked)
    for number, ticket in enumerate(tickets):
        await strategy.broker.modify_order(ticket.order_ref, limit=Decimal(11) + Decimal(number) / 100)
    for ticket in tickets:
        await strategy.broker.cancel_order(ticket.order_ref)
    await details
    return tickets


def burst_of_all(strategies: list[Any], timeout_s: float) -> list[Any]:
    """Have all of them at it in the same moment; return their tickets."""
    begun = [
        asyncio.run_coroutine_threadsafe(burst(one, ticker), one._loop)
        for one, ticker in zip(strategies, TICKERS, strict=True)
    ]
    return [ticket for one in begun for ticket in one.result(timeout_s)]


def pacer(rig: Rig) -> Any:
    return figure(rig, lambda gateway: gateway.server.shared_pacer)


def test_all_connections_together_stay_below_ibs_limit_and_nothing_is_refused(rig: Rig) -> None:
    engine = started(rig)
    strategies = members(rig, engine)
    held = engine.budget.figures(time.monotonic())["held"]["used"]
    began = time.monotonic()
    tickets = burst_of_all(strategies, 60.0)
    spent = time.monotonic() - began
    until(lambda: all(ticket.is_done for ticket in tickets), 30.0)
    until(lambda: not Order.objects.exclude(state="cancelled").exists(), 30.0, "every order is cancelled")
    messages = len(strategies) * (3 * EACH + 3)
    assert len(tickets) == len(strategies) * EACH
    assert spent > messages / PER_S - 1.0, "they were held back"
    assert engine.budget.figures(time.monotonic())["held"]["used"] > held
    assert pacer(rig).peak <= PER_S
    assert pacer(rig).breaks == 0
    assert_sent_once(rig)
    assert_books_hold(rig, engine)


def test_what_ib_refuses_as_too_fast_is_found_out_and_never_sent_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulator has teeth: another program that uses the limit up has MATS' messages refused."""
    monkeypatch.setattr(inflight, "ANSWERED_AFTER_S", 1.0)
    engine = started(rig)
    strategies = members(rig, engine)
    contracts = []
    for one, ticker in zip(strategies, TICKERS, strict=True):
        contracts.append(rig.on_loop(one, one.qualify(Stock(ticker, "SMART", "USD"))))
        rig.on_loop(one, one.place_order(contracts[-1], 1, "LMT", algo=False, limit=9.0))  # its price is known now
    tickets: list[Any] = []

    async def _place(strategy: Any, contract: Any) -> None:
        for number in range(EACH):
            tickets.append(await strategy.place_order(contract, 1, "LMT", algo=False, limit=10.0 + number / 100))

    pacer(rig).max_per_s = 6
    begun = [
        asyncio.run_coroutine_threadsafe(_place(one, contract), one._loop)
        for one, contract in zip(strategies, contracts, strict=True)
    ]
    for one in begun:
        one.exception(60.0)  # a session that IB ends for it ends its orders' way too
    assert pacer(rig).breaks >= 1
    pacer(rig).max_per_s = 50
    until(lambda: all(one.is_connected for one in strategies), 30.0)
    assert engine.gate.wait_open(30.0), engine.state_message
    refs = {ticket.order_ref for ticket in tickets}
    arrived = refs & figure(rig, lambda gateway: set(gateway.venue.received_order_refs))
    assert arrived < refs, "some were refused"
    unsettled = {"intent", "sent", "unknown"}
    until(lambda: not Order.objects.filter(state__in=unsettled).exists(), 45.0, "what became of each is known")
    accepted = Order.objects.filter(state="accepted", order_ref__in=refs)
    assert set(accepted.values_list("order_ref", flat=True)) == arrived
    assert_sent_once(rig)
    assert_books_hold(rig, engine)
