"""The official client on its own threads, with its callbacks collected and waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.order import Order
from ibapi.wrapper import EWrapper

DEADLINE_S = 15.0


class Official(EWrapper, EClient):  # type: ignore[misc]  # ibapi has no types
    """Unmodified ibapi; ``heard`` holds (callback, arguments) in order."""

    def __init__(self) -> None:
        EWrapper.__init__(self)
        EClient.__init__(self, self)
        self.heard: list[tuple[str, tuple[Any, ...]]] = []
        self._news = threading.Condition()

    def _keep(self, name: str, *arguments: Any) -> None:
        with self._news:
            self.heard.append((name, arguments))
            self._news.notify_all()

    def wait(self, name: str, wanted: Callable[..., bool] = lambda *_: True) -> tuple[Any, ...]:
        """The arguments of the first callback ``name`` that is wanted; fails after the deadline."""
        ends = time.monotonic() + DEADLINE_S
        with self._news:
            while True:
                for kind, arguments in self.heard:
                    if kind == name and wanted(*arguments):
                        return arguments
                if not self._news.wait(ends - time.monotonic()):
                    raise AssertionError(f"no {name} as wanted among {[kind for kind, _ in self.heard]}")

    def all(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every callback ``name`` so far."""
        with self._news:
            return [arguments for kind, arguments in self.heard if kind == name]


def _keeper(name: str) -> Callable[..., None]:
    def keep(self: Official, *arguments: Any) -> None:
        self._keep(name, *arguments)

    return keep


for _name in (
    "nextValidId", "managedAccounts", "error", "currentTime", "contractDetails", "contractDetailsEnd", "openOrder",
    "orderStatus", "openOrderEnd", "execDetails", "execDetailsEnd", "commissionReport", "position", "positionEnd",
    "tickPrice", "tickSize", "tickSnapshotEnd", "historicalData", "historicalDataEnd", "accountSummary",
    "accountSummaryEnd", "updateAccountValue", "updatePortfolio", "accountDownloadEnd", "connectionClosed",
    "symbolSamples", "marketRule", "headTimestamp", "completedOrder", "completedOrdersEnd", "pnl", "pnlSingle",
    "securityDefinitionOptionParameterEnd", "realtimeBar", "marketDataType", "tickReqParams",
    "securityDefinitionOptionParameter", "tickOptionComputation", "tickByTickAllLast", "tickByTickBidAsk",
    "tickByTickMidPoint", "historicalTicks", "historicalTicksBidAsk", "historicalTicksLast", "histogramData",
    "scannerParameters", "scannerData", "scannerDataEnd", "newsProviders",
    "orderBound",
):  # fmt: skip
    setattr(Official, _name, _keeper(_name))


@contextmanager
def official_client(port: int, client_id: int, expect: str = "nextValidId") -> Iterator[Official]:
    """An official client that has heard ``expect``: its first order id, unless it is to be refused."""
    client = Official()
    client.connect("127.0.0.1", port, client_id)
    thread = threading.Thread(target=client.run, name=f"ibapi-{client_id}", daemon=True)
    thread.start()
    try:
        client.wait(expect)
        yield client
    finally:
        client.disconnect()
        thread.join(DEADLINE_S)


def stock(symbol: str = "AAPL") -> Contract:
    """A US stock in the official client's words."""
    contract = Contract()
    contract.symbol, contract.secType, contract.exchange, contract.currency = symbol, "STK", "SMART", "USD"
    return contract


def official_order(action: str, quantity: int, kind: str, price: float | None = None) -> Order:
    """An order without the two defaults of ibapi 9.81 that TWS refuses."""
    order = Order()
    order.action, order.totalQuantity, order.orderType = action, quantity, kind
    order.eTradeOnly = order.firmQuoteOnly = False
    if price is not None:
        order.lmtPrice = price
    return order
