"""The engine's side of its orders: what the trade manager asks of it, and the watch over working orders.

Owns: which strategies' loops were passed by, notes on orders that wait for nothing, the watch's thread.
Leaves: the parts that it uses (``core``), the rules (``trading.orders``).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import TimeoutError as NotInTimeError
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

from django.db import DatabaseError

from strategies.exceptions import MatsError
from trading.engine.handlers import Folding
from trading.engine.jobs import Periodic
from trading.engine.message_queue import MessageQueue
from trading.engine.session import MasterSession
from trading.engine.watch import LOOK_EVERY_S, OrderWatch
from trading.orders import services as orders

NOTE_WAIT_S = 0.05


class OrderSide:
    """A part of ``EngineCore``. Thread-safe."""

    account_id: str
    message_queue: MessageQueue
    session: MasterSession
    folding: Folding
    _rates: Periodic

    def _begin_order_side(self) -> Periodic:
        """Make the watch; return its thread, not started."""
        self._passing = threading.Lock()
        self._currencies_seen: frozenset[str] = frozenset()
        self._passed_by: frozenset[int] = frozenset()  # their loops hang, and the master hears for them
        self.watch = OrderWatch(cast(Any, self))
        self._watching = Periodic("orders", LOOK_EVERY_S, self._watch_orders)
        self.folding.on_positions = self._positions_moved
        self.folding.on_currencies = self._currencies_moved
        return self._watching

    def log(self, strategy_symbol: str, text: str, level: str = "info") -> None:
        """Write a line for a strategy's page and into the log."""
        raise NotImplementedError

    def note_orders(self, order_refs: Sequence[str], text: str) -> None:
        """Put what is about to be done with orders on record, as far as that takes no time: cancels never wait."""
        job = self.message_queue.submit(lambda: orders.note_orders(order_refs, text, datetime.now(UTC)), "note_orders")
        with suppress(NotInTimeError, MatsError, DatabaseError):
            job.result(NOTE_WAIT_S)

    def pass_by(self, strategy: Any) -> None:
        """Have the master's copy speak for a strategy whose loop hangs, until it gives a sign of life."""
        with self._passing:
            self._passed_by |= {int(strategy.client_id)}
        self.session.strategy_line_changed()
        self.log(strategy.symbol, "Its loop does not answer; the engine acts for it.", "error")

    def speaks_for_itself(self, client_id: int) -> bool:
        """Tell whether a client's own connection may be trusted to bring its orders."""
        return client_id not in self._passed_by

    def answers_again(self, client_id: int) -> None:
        """Take note that a loop lives, or that its client id was given back."""
        if client_id in self._passed_by:
            with self._passing:
                self._passed_by -= {client_id}

    def _watch_orders(self) -> None:
        """Look at working orders, once it is known which account they are of."""
        if self.account_id and self.session.connected:
            self.watch.look()

    def _currencies_moved(self, currencies: frozenset[str]) -> None:
        """Ask at once for the rate of a currency that moves for the first time: the next order is measured by it."""
        if not currencies <= self._currencies_seen:
            self._currencies_seen |= currencies
            self._rates.wake()

    def _positions_moved(self) -> None:
        if self.watch.guards_something:
            self._watching.wake()
