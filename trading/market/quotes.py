"""The latest price of every contract that the engine follows, with its age. Thread-safe.

Owns: the book. Leaves: where prices come from (``recorder``, a snapshot asked for by who wants to trade).
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from decimal import Decimal

from ib_async import IB, Contract

from strategies.exceptions import TransientError
from trading.ib.mapping import to_decimal
from trading.ib.requests import ask
from trading.orders.facts import Quote

_POLL_S = 0.02


class QuoteBook:
    """Prices by contract id. Units: ages in seconds on a monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._prices: dict[int, tuple[Decimal, float]] = {}
        self._asked: set[int] = set()

    def begin_asking(self, con_id: int) -> bool:
        """Tell whether the caller is to ask for a price; False while another one does, whose answer serves both."""
        with self._lock:
            is_first = con_id not in self._asked
            self._asked.add(con_id)
            return is_first

    def end_asking(self, con_id: int) -> None:
        """Take note that a question was answered, or will not be."""
        with self._lock:
            self._asked.discard(con_id)

    def take(self, con_id: int, price: Decimal) -> None:
        """Take a price that was just heard."""
        with self._lock:
            self._prices[con_id] = (price, self._clock())

    def get(self, con_id: int) -> Quote | None:
        """Return the latest price; None when none was ever heard."""
        with self._lock:
            found = self._prices.get(con_id)
        return None if found is None else Quote(found[0], self._clock() - found[1])

    async def wait_fresh(self, con_id: int, age_s: float, timeout_s: float) -> bool:
        """Wait until a price is younger than ``age_s``; tell whether it is."""
        deadline = self._clock() + timeout_s
        while True:
            quote = self.get(con_id)
            if quote is not None and quote.age_s <= age_s:
                return True
            if self._clock() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)


async def ask_price(ib: IB, contract: Contract, timeout_s: float) -> Decimal | None:
    """Ask IB for a snapshot of a contract's price; None when it has none now.

    Raises: TransientError when IB does not answer.
    """
    [ticker] = await ask(ib.reqTickersAsync(contract), f"price of {contract.symbol}", timeout_s=timeout_s)
    price = ticker.marketPrice()
    if math.isnan(price) or price <= 0:
        raise TransientError(f"IB has no price of {contract.symbol} now.", code="no_price")
    return to_decimal(price)
