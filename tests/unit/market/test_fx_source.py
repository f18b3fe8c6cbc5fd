"""Spot prices of pairs: what counts as a price, kinds of data, both orders, who may wait."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest
from django.db import transaction
from ib_async import IB, Contract, ContractDetails, Ticker
from ib_async.wrapper import RequestError

from portfolio.ledger.fx import Quote
from strategies.exceptions import TransientError
from trading.market.fx_source import FxSource, may_wait, quote_of, spot_quote

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
NAN = math.nan


def ticker(bid: float = NAN, ask: float = NAN, close: float = NAN, last: float = NAN, kind: int = 1) -> Ticker:
    made = Ticker()  # which takes no figures at birth
    made.bid, made.ask, made.close, made.last, made.marketDataType = bid, ask, close, last, kind
    return made


class PairsIB:
    """IB with some pairs and a ticker for each kind of market data; counts what was asked."""

    def __init__(self, tickers: dict[tuple[str, int], Ticker]) -> None:
        self.tickers = tickers
        self.kinds: list[int] = [1]
        self.asked: list[str] = []
        self.answering = asyncio.Event()
        self.answering.set()

    def isConnected(self) -> bool:
        return True

    def reqMarketDataType(self, kind: int) -> None:
        self.kinds.append(kind)

    async def reqContractDetailsAsync(self, pair: Contract) -> list[ContractDetails]:
        name = f"{pair.symbol}.{pair.currency}"
        if not any(listed == name for listed, _ in self.tickers):
            raise RequestError(1, 200, "No security definition has been found for the request")
        listed = Contract(secType="CASH", conId=7, symbol=pair.symbol, currency=pair.currency, localSymbol=name)
        return [ContractDetails(contract=listed)]

    async def reqTickersAsync(self, pair: Contract) -> list[Ticker]:
        await self.answering.wait()
        self.asked.append(pair.localSymbol)
        found = self.tickers.get((pair.localSymbol, self.kinds[-1]))
        if found is None:
            raise RequestError(1, 354, "Requested market data is not subscribed.")
        return [found]


def asked(ib: PairsIB, currency: str, base: str) -> Quote | None:
    return asyncio.run(spot_quote(cast(IB, ib), currency, base))


def test_the_middle_of_a_live_market_is_a_spot_price() -> None:
    assert quote_of(ticker(1.0, 1.1), NOW) == Quote(Decimal("1.05"), NOW, "spot", False)


@pytest.mark.parametrize("shown", [ticker(1.0, 1.1, kind=3), ticker(-1, -1, close=1.05), ticker(last=1.05, kind=4)])
def test_delayed_prices_and_the_last_close_are_flagged(shown: Ticker) -> None:
    assert quote_of(shown, NOW) == Quote(Decimal("1.05"), NOW, "delayed", True)


@pytest.mark.parametrize("value", [NAN, 0.0, -1.0, math.inf, 1.7976931348623157e308])
def test_what_is_no_price_never_becomes_a_rate(value: float) -> None:
    assert quote_of(ticker(value, value, value, value), NOW) is None


def test_pair_is_asked_the_other_way_round_when_it_is_listed_so() -> None:
    quote = asked(PairsIB({("USD.JPY", 1): ticker(149.0, 151.0)}), "JPY", "USD")
    assert quote is not None
    assert quote.worth == Decimal("0.0066666667")


def test_delayed_data_are_asked_for_when_live_ones_are_not_subscribed_and_live_is_restored() -> None:
    ib = PairsIB({("EUR.USD", 3): ticker(1.0, 1.1, kind=3)})
    quote = asked(ib, "EUR", "USD")
    assert quote is not None
    assert quote.stale
    assert ib.kinds == [1, 3, 1]


def test_live_price_leaves_the_kind_of_data_alone() -> None:
    ib = PairsIB({("EUR.USD", 1): ticker(1.0, 1.1)})
    assert asked(ib, "EUR", "USD") is not None
    assert ib.kinds == [1]


def test_pair_without_a_price_is_none_after_every_kind() -> None:
    ib = PairsIB({("EUR.USD", 1): ticker(), ("EUR.USD", 3): ticker(-1, -1)})
    assert asked(ib, "EUR", "USD") is None
    assert ib.kinds == [1, 3, 4, 1]
    assert asked(ib, "EUR", "SEK") is None


class Loop:
    """An event loop in a thread, as the master has one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def start(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(make(), self.loop)

    def call(self, work: Callable[[], Any]) -> None:
        self.loop.call_soon_threadsafe(work)


@pytest.fixture
def master() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.call(made.loop.stop)
    made.thread.join(10)
    made.loop.close()


def test_thread_that_may_wait_gets_the_price_and_the_next_asks_nobody(master: Loop) -> None:
    ib = PairsIB({("EUR.USD", 1): ticker(1.0, 1.1)})
    source = FxSource(lambda: cast(IB, ib), master.start)
    first, second = source("EUR", "USD"), source("EUR", "USD")
    assert first is not None
    assert first == second
    assert ib.asked == ["EUR.USD"]


@pytest.mark.django_db(transaction=True)
def test_transaction_is_never_kept_waiting(master: Loop) -> None:
    ib = PairsIB({("EUR.USD", 1): ticker(1.0, 1.1)})
    ib.answering.clear()
    source = FxSource(lambda: cast(IB, ib), master.start)
    with transaction.atomic():
        assert not may_wait()
        assert source("EUR", "USD") is None  # IB does not answer, and nobody waits for it
    master.call(ib.answering.set)
    assert source("EUR", "USD") is not None  # the same question, now waited for
    assert ib.asked == ["EUR.USD"]


def test_event_loop_is_never_kept_waiting(master: Loop) -> None:
    ib = PairsIB({("EUR.USD", 1): ticker(1.0, 1.1)})
    ib.answering.clear()
    source = FxSource(lambda: cast(IB, ib), master.start)

    async def asks() -> Quote | None:
        return source("EUR", "USD")

    assert asyncio.run(asks()) is None
    master.call(ib.answering.set)
    assert source("EUR", "USD") is not None


def test_without_a_connection_there_is_no_price(master: Loop) -> None:
    def stopped(make: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        raise TransientError("The master session is not running.", code="no_connection")

    assert FxSource(lambda: None, master.start)("EUR", "USD") is None
    assert FxSource(lambda: cast(IB, PairsIB({})), stopped)("EUR", "USD") is None
