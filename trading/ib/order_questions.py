"""Where the orders of one connection stand, asked of IB once for all who share the connection.

Owns: the round of questions (open orders, the client's executions, completed ones where something is unclear), one at
a time. Leaves: when to ask (``brokers.order_book``), what follows from the answers (capture → ledger and tickets).
Rule: whoever asks while a round is under way gets a whole one after it. A round that IB does not answer concludes
nothing. Same loop only.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable

from ib_async import IB

from strategies.exceptions import MatsError, TransientError
from trading.ib.capture import Capture
from trading.ib.requests import ask_in_turn

logger = logging.getLogger(__name__)

ANSWER_S = 15.0
_ATTRIBUTE = "mats_order_questions"


class OrderQuestions:
    """The questions of one connection. ``unclear`` asks each who shares it which orders it has not seen end."""

    def __init__(self, ib: IB) -> None:
        self.unclear: list[Callable[[], set[str]]] = []
        self._ib = ib
        self._asking: asyncio.Task[None] | None = None
        self._again = False
        setattr(ib.wrapper, _ATTRIBUTE, self)

    @classmethod
    def of(cls, ib: IB) -> OrderQuestions:
        """Return the connection's questions; make them on first use."""
        known: OrderQuestions | None = getattr(ib.wrapper, _ATTRIBUTE, None)
        return cls(ib) if known is None else known

    def soon(self) -> None:
        """Ask as soon as possible; returns at once."""
        if self._asking is not None and not self._asking.done():
            self._again = True
            return
        # In nobody's context: the tasks of a strategy are ended with it, and its neighbours wait for the same answers.
        self._asking = contextvars.Context().run(asyncio.get_running_loop().create_task, self._until_quiet())

    async def _until_quiet(self) -> None:
        while True:
            self._again = False
            try:
                await self.round()
            except MatsError as error:
                logger.warning("orders not asked for client_id=%s reason=%s", self._ib.client.clientId, error.message)
            if not self._again:
                return

    async def round(self) -> None:
        """Ask IB where this client's orders stand; answers reach ledger and tickets like everything else.

        Raises: TransientError when IB does not answer; then nothing is concluded.
        """
        capture = Capture.of(self._ib)
        if capture is None:
            raise TransientError("This connection is not captured; its answers would be lost.", code="not_captured")
        await ask_in_turn(self._ib, self._ib.reqOpenOrdersAsync, "open orders", timeout_s=ANSWER_S)
        await capture.replay_executions(ANSWER_S, client_id=self._ib.client.clientId)
        unclear = set[str]().union(*(tell() for tell in self.unclear))
        if not unclear:
            return
        completed = await ask_in_turn(
            self._ib, lambda: self._ib.reqCompletedOrdersAsync(True), "completed orders", timeout_s=ANSWER_S
        )
        for trade in completed:
            if trade.order.orderRef in unclear:
                capture.take_completed(trade)
