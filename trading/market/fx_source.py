"""IB's spot price of a currency pair, asked on the master's connection.

Owns: both orders of a pair, the kinds of market data (live, then delayed), time limits, and how long an answer or its
absence serves. Leaves: which source is used (``portfolio.fx_cache``), who stores it (the engine).
Rule: a price is the middle of bid and ask; a delayed one or the last close is flagged, what is no number is no price.
Whoever must not wait never does: on an event loop or inside a transaction the answer so far is given and the question
goes on beside it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connection as database
from ib_async import IB, Contract, Ticker

from portfolio.fx_cache import FXCache
from portfolio.fx_rates import wanted_currencies
from portfolio.ledger.fx import CROSS, DELAYED, SPOT, Quote, is_rate
from portfolio.ledger.money import ONE, exact
from strategies.exceptions import LedgerError, MatsError, NotFoundError, TransientError
from trading.ib.mapping import to_decimal
from trading.ib.requests import ask, qualify

logger = logging.getLogger(__name__)

LIVE, DELAYED_DATA, DELAYED_FROZEN = 1, 3, 4
KEPT_S = 10.0  # an answer serves so long
MISSING_S = 60.0  # a pair without a price is not asked for again so soon
QUALIFY_S = 2.0
PRICE_S = 4.0
WAIT_S = 8.0  # what a caller waits for both orders of a pair at most
VENUE = "IDEALPRO"

Start = Callable[[Callable[[], Coroutine[Any, Any, Any]]], "Future[Any]"]


class FxSource:
    """Quotes pairs: ``source("EUR", "USD")`` is the worth of one euro in dollars. Thread-safe.

    ``connection`` gives the master's IB while it is connected; ``start`` runs a coroutine on its loop.
    """

    def __init__(self, connection: Callable[[], IB | None], start: Start) -> None:
        self._connection = connection
        self._start = start
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, str], tuple[float, Quote | None]] = {}
        self._asking: dict[tuple[str, str], Future[Quote | None]] = {}
        self._turns = asyncio.Lock()  # of the master's loop: the kind of market data is one for the whole connection

    def __call__(self, currency: str, base: str) -> Quote | None:
        """Return the worth of one unit of ``currency`` in ``base``, None while IB has no price."""
        pair = (currency, base)
        with self._lock:
            asked_at, quote = self._answers.get(pair, (float("-inf"), None))
        if time.monotonic() - asked_at < (MISSING_S if quote is None else KEPT_S):
            return quote
        asking = self._ask_once(pair)
        if asking is None or not may_wait():
            return quote
        try:
            return asking.result(WAIT_S)
        except (TimeoutError, CancelledError):
            return quote
        except MatsError as error:
            logger.info("no spot price pair=%s/%s reason=%s", currency, base, error.message)
            return quote

    def _ask_once(self, pair: tuple[str, str]) -> Future[Quote | None] | None:
        """Start the question unless it runs already; None without a connection."""
        with self._lock:
            running = self._asking.get(pair)
            if running is not None and not running.done():
                return running
            if self._connection() is None:
                return None
            try:
                future = self._start(lambda: self._ask(pair))
            except TransientError:
                return None
            self._asking[pair] = future
            return future

    # -- on the master's loop

    async def _ask(self, pair: tuple[str, str]) -> Quote | None:
        ib = self._connection()
        if ib is None:
            return None
        async with self._turns:
            quote = await spot_quote(ib, *pair)
        with self._lock:
            self._answers[pair] = (time.monotonic(), quote)
            self._asking.pop(pair, None)
        return quote


def may_wait() -> bool:
    """Tell whether the calling thread may wait: no event loop runs in it and it holds no transaction."""
    if database.in_atomic_block:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


async def spot_quote(ib: IB, currency: str, base: str) -> Quote | None:
    """Ask IB for the worth of one unit of ``currency`` in ``base``: the pair as named, else the other way round.

    Raises: TransientError when IB cannot be asked.
    """
    for symbol, against, inverted in ((currency, base, False), (base, currency, True)):
        pair = Contract(symbol=symbol, secType="CASH", exchange=VENUE, currency=against)
        try:
            listed = await qualify(ib, pair, timeout_s=QUALIFY_S)
        except NotFoundError:
            continue
        quote = await _price(ib, listed)
        if quote is not None:
            return _inverse(quote) if inverted else quote
    return None


def _inverse(quote: Quote) -> Quote | None:
    worth = exact(ONE / quote.worth)
    return Quote(worth, quote.as_of, quote.source, quote.stale) if is_rate(worth) else None


async def _price(ib: IB, pair: Contract) -> Quote | None:
    """Ask for live data, then for delayed ones; afterwards the connection is back at live ones, for all that use it."""
    changed = False
    try:
        for kind in (LIVE, DELAYED_DATA, DELAYED_FROZEN):
            if kind != LIVE:
                ib.reqMarketDataType(kind)
                changed = True
            quote = await _snapshot(ib, pair)
            if quote is not None:
                return quote
    finally:
        if changed and ib.isConnected():
            ib.reqMarketDataType(LIVE)
    return None


async def _snapshot(ib: IB, pair: Contract) -> Quote | None:
    try:
        [ticker] = await ask(ib.reqTickersAsync(pair), f"price of {pair.localSymbol}", timeout_s=PRICE_S)
    except TransientError as error:
        if error.code == "not_connected":
            raise
        return None  # not subscribed, or no answer in time: the next kind of data may have one
    return quote_of(ticker, datetime.now(UTC))


def quote_of(ticker: Ticker, now: datetime) -> Quote | None:
    """Read a quote from a ticker: the middle of a live market, else what is delayed or the last close, with a flag.

    A market that is shut has −1 as bid and ask, one that is not subscribed has NaN: neither is a price.
    """
    bid, offer = _number(ticker.bid), _number(ticker.ask)
    live = ticker.marketDataType == LIVE
    if is_rate(bid) and is_rate(offer):
        return Quote(exact((bid + offer) / 2), now, SPOT if live else DELAYED, not live)
    for value in (_number(ticker.last), _number(ticker.close)):
        if is_rate(value):
            return Quote(exact(value), now, DELAYED, True)
    return None


def _number(value: float) -> Decimal | None:
    try:
        return to_decimal(value)
    except ValueError:
        return None


def renewed_rates(account_id: str, cache: FXCache) -> dict[str, Quote]:
    """Ask for every rate that the books need and IB's account figures do not bring; return the fresh ones, to be kept.

    Blocks while IB answers.
    """
    found = {}
    for currency in wanted_currencies(account_id):
        try:
            quote = cache.refresh(currency)
        except LedgerError as error:
            logger.warning("no exchange rate currency=%s reason=%s", currency, error.message)
            continue
        if quote.source in (SPOT, CROSS, DELAYED):
            found[currency] = quote
    return found
