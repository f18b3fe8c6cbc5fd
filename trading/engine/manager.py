"""StrategyManager: the engine with the interface of the seeds.

Owns: the public methods, in the words of the seeds and their older names. Leaves: the parts and their
wiring (``core``).
Rule: methods that return a bool answer whether it was done; the reason is in the log and on the strategy's page.
Async methods may be awaited on any loop; they run the engine's blocking work in a worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from types import ModuleType
from typing import Any

from ib_async import Fill, Trade

from strategies.events import FillSnapshot, QueueMessage, StatusSnapshot, TradeSnapshot
from strategies.exceptions import MatsError, NotFoundError
from strategies.loader import list_strategy_files, load_strategy_class
from strategies.models import Strategy
from strategies.services import effective_params, store_params
from trading.engine import commands
from trading.engine.core import EngineCore
from trading.engine.supervisor import ENDED, find_strategy
from trading.ib import mapping
from trading.ib.client_ids import ClientIdPool
from trading.ib.requests import ask

logger = logging.getLogger(__name__)

ANSWER_S = 10.0


class StrategyManager(EngineCore):
    """The orchestrator: one IB account, several strategies. Thread-safe."""

    _loaded: tuple[ModuleType, ...] = ()

    # -- attributes of the seeds

    @property
    def ib_client(self) -> Any:
        """Return the master's IB object (client 0); None before the engine started."""
        return self.session.connection.ib if self.session.connection is not None else None

    @property
    def message_queue_ib_client(self) -> Any:
        """Return the message thread's IB object (client 99); None before it first connected."""
        return self.companion.ib

    @property
    def lib(self) -> Any:
        """Return ArcticDB's ``general`` library.

        Raises: ArcticUnavailableError.
        """
        return self.ac.library("general")

    @property
    def strategies(self) -> list[ModuleType]:
        """Return the modules that ``load_strategies`` loaded last."""
        return list(self._loaded)

    @property
    def strategy_threads(self) -> list[threading.Thread]:
        """Return the threads of the strategies that have not ended."""
        threads = [strategy._thread for strategy in self.active_strategies.values()]
        return [thread for thread in threads if thread is not None]

    @property
    def strategy_loops(self) -> dict[int, asyncio.AbstractEventLoop]:
        """Return the event loops of the strategies that have not ended, by client id."""
        loops = {strategy.client_id: strategy._loop for strategy in self.active_strategies.values()}
        return {client_id: loop for client_id, loop in loops.items() if loop is not None}

    @property
    def pool(self) -> ClientIdPool:
        """Return the client ids of strategies."""
        return self.lines.pool

    @property
    def next_client_id(self) -> int | None:
        """Return the client id that the next strategy would get; None when all are used."""
        return self.pool.next_client_id

    @property
    def client_id(self) -> int:
        """Return the master's client id."""
        return 0

    clientId = client_id  # noqa: N815 - the seeds' name

    @property
    def data_manager(self) -> EngineCore:
        """Return what offers ``get_data_from_arctic``, for files of the oldest template."""
        return self

    def get_data_from_arctic(self, library: str, symbol: str) -> Any:
        """Return a frame from ArcticDB.

        Raises: NotFoundError when there is none; ArcticUnavailableError.
        """
        if not self.ac.has_symbol(library, symbol):
            raise NotFoundError(f"ArcticDB has no {library}/{symbol}.", library=library, symbol=symbol)
        return self.ac.read(library, symbol).data

    # -- lifecycle

    def start_strategy(self, symbol: str) -> bool:
        """Start a strategy's thread; False, with the reason on its page, when it cannot be started."""
        try:
            commands.begin(self, symbol)
        except MatsError as error:
            self._refused("start", symbol, error)
            return False
        return True

    def stop_strategy(self, symbol: str) -> bool:
        """Stop a strategy and wait until its thread ended; False when it does not run or does not stop."""
        try:
            runner = self.supervisor.stop(symbol, self.settings.stop_timeout_s, self.stop_grace_s)
        except MatsError as error:
            self._refused("stop", symbol, error)
            return False
        return runner.state in ENDED

    def start_all_strategies(self) -> dict[str, bool]:
        """Start all active strategies; tell of each whether it was started."""
        symbols = Strategy.objects.filter(active=True).values_list("symbol", flat=True)
        return {symbol: self.start_strategy(symbol) for symbol in symbols}

    def stop_all_strategies(self) -> dict[str, bool]:
        """Stop all running strategies in parallel; tell of each whether its thread ended."""
        return self.supervisor.stop_all(self.settings.stop_timeout_s, self.stop_grace_s)

    start_all = start_all_strategies
    stop_all = stop_all_strategies

    def load_strategies(self) -> list[ModuleType]:
        """Load the files of all active strategies and start none; a file that cannot be used is told on its page."""
        found = []
        for symbol, filename in Strategy.objects.filter(active=True).values_list("symbol", "filename"):
            try:
                found.append(load_strategy_class(filename).module)
            except MatsError as error:
                self._refused("load", symbol, error)
        self._loaded = tuple(found)
        return found

    def _refused(self, what: str, symbol: str, error: MatsError) -> None:
        self.log(symbol, f"Cannot {what} {symbol}: {error.message}", "warning")

    # -- metadata

    def _get_strategy_filename(self, symbol: str) -> str:
        row = Strategy.objects.filter(symbol__iexact=symbol).first()
        return row.filename if row is not None else ""

    def list_strategy_files(self) -> list[str]:
        """Return the names of the files that strategies can be made of."""
        return [path.name for path in list_strategy_files()]

    def load_strategy_class(self, filename: str) -> Any:
        """Load a file of the registered folders and return its class.

        Raises: LoadError naming file and reason.
        """
        return load_strategy_class(filename).cls

    def load_strategy_params(self, symbol: str, module: ModuleType | None = None) -> dict[str, Any]:
        """Return a strategy's parameters: the row's, else the file's, which are then stored in the row.

        Raises: NotFoundError, LoadError, ConfigError (bad_params).
        """
        row = find_strategy(symbol)
        loaded = load_strategy_class(row.filename)
        if not row.params and loaded.params:
            row = store_params(row.symbol, loaded.params, source="file")
        return effective_params(row, loaded)

    def apply_params(self, row: Strategy) -> bool:
        """Hand a row's parameters to its running strategy; tell whether there were new ones for it.

        Raises: ConfigError (bad_params), LoadError.
        """
        runner = self.supervisor.runner(row.symbol)
        strategy = runner.strategy
        if strategy is None or runner.state in ENDED or strategy.params_revision == row.params_revision:
            return False  # nothing runs, or it was started with these
        strategy.update_params(effective_params(row, load_strategy_class(row.filename)))
        strategy.params_revision = row.params_revision
        self.log(row.symbol, f"Parameters of revision {row.params_revision} applied.")
        return True

    def sync_strategies(self) -> int:
        """Mirror the strategy table to ArcticDB; return how many rows it holds."""
        return self.projection.sync_strategies()

    # -- status

    def get_strategy_status(self) -> dict[str, Any]:
        """Return ``active_count``, ``next_client_id`` and every known strategy's status."""
        return {
            "active_count": len(self.supervisor.alive()),
            "next_client_id": self.next_client_id,
            "strategies": {
                runner.symbol: {
                    **(runner.strategy.get_status() if runner.strategy is not None else {}),
                    "symbol": runner.symbol,
                    "state": str(runner.state),
                    "client_id": runner.client_id,
                    "is_connected": runner.connected,
                    "message": runner.message,
                    "restarts": runner.restarts,
                }
                for runner in self.supervisor.runners()
            },
        }

    async def get_connection_status(self) -> dict[str, Any]:
        """Return master_connection, message_queue_connection and strategy_connections as they are now."""
        rows = self.connection_rows()
        nobody = {"connected": False, "host": self.settings.ib_host, "port": self.settings.ib_port, "message": ""}
        found = {row["client_id"]: row for row in rows if row["role"] != "strategy"}
        return {
            "master_connection": found.get(0, {"client_id": 0, **nobody}),
            "message_queue_connection": found.get(99, {"client_id": 99, **nobody}),
            "strategy_connections": [
                {**row, "strategy_name": row["name"], "symbol": row["name"]}
                for row in rows
                if row["role"] == "strategy"
            ]
            + [
                {**row, "name": member, "strategy_name": member, "symbol": member}
                for row in rows
                for member in row.get("members", ())
            ],
        }

    # -- connections

    async def connect_to_ib(self) -> bool:
        """Let the master connect; tell whether it is connected and the books agree."""
        self.session.connect()
        return await asyncio.to_thread(self.gate.wait_open, commands.START_WAIT_S)

    async def disconnect(self) -> None:
        """Disconnect the master and stay so until ``connect_to_ib``."""
        self.session.disconnect()

    async def disconnect_client(self, client_id: int) -> dict[str, Any]:
        """Disconnect the master (0), or stop the strategy that uses the id.

        Raises: ConflictError for 99; NotFoundError when nobody uses it.
        """
        return await asyncio.to_thread(commands.disconnect_client, self, {"client_id": client_id})

    async def disconnect_all(self) -> dict[str, bool]:
        """Stop all strategies, then disconnect the master."""
        ended = await asyncio.to_thread(self.stop_all_strategies)
        self.session.disconnect()
        return ended

    async def test_connection(self) -> dict[str, Any]:
        """Ask the gateway for its time; return it and how long the answer took.

        Raises: TransientError when it does not answer.
        """
        return await asyncio.to_thread(self.session.run, self._ask_time, ANSWER_S)

    async def _ask_time(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        moment = await ask(self.ib_client.reqCurrentTimeAsync(), "the time", timeout_s=ANSWER_S)
        return {"connected": True, "server_time": moment.isoformat(), "round_trip_ms": (loop.time() - asked) * 1000}

    # -- the queue's handlers, for callers that hold one message

    async def notify_order_placement_async(self, strategy_symbol: str, trade: Trade | TradeSnapshot) -> None:
        """Record an order; returns when it is committed."""
        await self._book({"type": "order", "strategy": strategy_symbol, "trade": _trade(trade)})

    async def handle_fill_event_async(
        self, strategy_symbol: str, trade: Trade | TradeSnapshot | None, fill: Fill | FillSnapshot
    ) -> None:
        """Book a fill; returns when it is committed. A fill that is known changes nothing."""
        await self._book(_fill_message(strategy_symbol, trade, fill))

    async def handle_status_change_async(
        self, strategy_symbol: str, trade: Trade | TradeSnapshot, status: StatusSnapshot
    ) -> None:
        """Record a status; returns when it is committed. IB's «Pending…» words are no evidence and are skipped."""
        if not status.status.startswith("Pending"):
            await self._book(
                {"type": "status_change", "strategy": strategy_symbol, "trade": _trade(trade), "status": status}
            )

    async def _book(self, message: QueueMessage) -> None:
        self.message_queue.put(message)
        # Jobs follow the messages before them: when this one is settled, the message is committed.
        await asyncio.wrap_future(self.message_queue.submit(lambda: None, "barrier"))

    def handle_message(self, message: QueueMessage) -> None:
        """Put a message into the queue and wait until it is committed. Blocks its thread."""
        self.message_queue.put(message)
        self.process_messages()

    def process_messages(self, timeout_s: float = ANSWER_S) -> None:
        """Wait until everything that is in the queue now is committed. Blocks its thread."""
        self.message_queue.submit(lambda: None, "barrier").result(timeout_s)

    def notify_order_placement(self, strategy_symbol: str, trade: Trade | TradeSnapshot) -> None:
        """Record an order and wait. Blocks its thread."""
        self.handle_message({"type": "order", "strategy": strategy_symbol, "trade": _trade(trade)})

    def handle_fill_event(
        self, strategy_symbol: str, trade: Trade | TradeSnapshot | None, fill: Fill | FillSnapshot
    ) -> None:
        """Book a fill and wait. Blocks its thread."""
        self.handle_message(_fill_message(strategy_symbol, trade, fill))

    def _queue_add_log(self, message: str, strategy_symbol: str = "") -> None:
        self.log(strategy_symbol, message)


def _trade(trade: Trade | TradeSnapshot) -> TradeSnapshot:
    return trade if isinstance(trade, TradeSnapshot) else mapping.trade_snapshot(trade)


def _fill_message(strategy_symbol: str, trade: Trade | TradeSnapshot | None, fill: Fill | FillSnapshot) -> QueueMessage:
    snapshot = fill if isinstance(fill, FillSnapshot) else mapping.fill_snapshot(fill)
    told = None if trade is None else _trade(trade)
    return {"type": "fill", "strategy": strategy_symbol, "trade": told, "fill": snapshot}
