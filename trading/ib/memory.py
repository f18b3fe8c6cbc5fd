"""Let go of what ib_async keeps for ever: orders that ended, their executions, the log lines of busy orders.

A connection that lives for weeks would otherwise grow by some 4 kB with every fill. The ledger needs none of it: each
message was handed on before ib_async stored it, and whoever waits for an order holds its Trade.
Owns: what may go, and when to look. Rule: an execution goes only together with its order (a replay would append it to
``trade.fills`` a second time), an order only when it is done and its fees have come; the newest always stay.
Same loop only.
"""

from __future__ import annotations

from typing import Any

from eventkit import Event
from ib_async import IB, Trade

KEPT_TRADES = 500
KEPT_FILLS = 5_000
KEPT_LOG = 200  # lines of one order
_STEP = 500  # looked at again after so many more


class Forgetting:
    """Bounds the memory of one connection; ``look`` costs two comparisons unless something is due."""

    def __init__(self, ib: IB, *, trades: int = KEPT_TRADES, fills: int = KEPT_FILLS, log: int = KEPT_LOG) -> None:
        self.forgotten = 0
        self._wrapper: Any = ib.wrapper
        self._trades, self._fills, self._log = trades, fills, log
        self._look_at_trades = trades + _STEP
        self._look_at_fills = fills + _STEP

    def look(self) -> None:
        """Forget what is due."""
        trades, fills = self._wrapper.trades, self._wrapper.fills
        if len(trades) < self._look_at_trades and len(fills) < self._look_at_fills:
            return
        self._forget_trades(trades)
        self._forget_strangers(fills)
        # What could not go (working orders, missing fees) is not looked at again with every message.
        self._look_at_trades = max(self._trades, len(trades)) + _STEP
        self._look_at_fills = max(self._fills, len(fills)) + _STEP

    def trim_log(self, trade: Trade | None) -> None:
        """Keep the last lines of an order's log."""
        if trade is not None and len(trade.log) > 2 * self._log:
            del trade.log[: -self._log]

    def _forget_trades(self, trades: dict[Any, Trade]) -> None:
        fills = self._wrapper.fills
        spare = len(trades) - self._trades
        crowd = len(fills) - self._fills
        for key, trade in list(trades.items()):
            if spare <= 0 and crowd <= 0:
                return
            if not trade.isDone() or not all(fill.commissionReport.execId for fill in trade.fills):
                continue
            for fill in trade.fills:
                fills.pop(fill.execution.execId, None)
            crowd -= len(trade.fills)
            spare -= 1
            self._drop(key, trade)

    def _drop(self, key: Any, trade: Trade) -> None:
        wrapper = self._wrapper
        del wrapper.trades[key]
        if wrapper.permId2Trade.get(trade.order.permId) is trade:
            del wrapper.permId2Trade[trade.order.permId]
        _untie(trade)
        self.forgotten += 1

    def _forget_strangers(self, fills: dict[str, Any]) -> None:
        """Forget the oldest executions of orders that ib_async does not know (any more): replays bring them."""
        for exec_id, fill in list(fills.items())[: max(0, len(fills) - self._fills)]:
            execution = fill.execution
            known = self._wrapper.permId2Trade.get(execution.permId) or self._wrapper.trades.get(
                (execution.clientId, execution.orderId)
            )
            if known is None:
                del fills[exec_id]


def _untie(trade: Trade) -> None:
    """Cut the circle of a trade and its events, each of which keeps what it told last: the trade itself.

    Else a trade that went waits with all its fills for the collector, which looks at old objects once in a million.
    """
    for name in trade.events:
        getattr(trade, name)._value = Event.NO_VALUE
