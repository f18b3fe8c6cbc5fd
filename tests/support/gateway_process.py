"""The paper gateway in a process of its own, so that its CPU time and its crashes are not the engine's.

Shape: ``GatewayProcess(**venue_options)`` as a context manager; ``day_zone`` is the zone whose midnight ends the day of
its executions, New York's without. Every method is one request over a pipe, answered in
the gateway's own loop. The answers are the gateway's truth: tests compare the ledger with them.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

CALL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Truth:
    """What the gateway knows: executions by id, their commissions, positions by conId, sends by order reference."""

    executions: dict[str, dict[str, Any]]
    commissions: dict[str, Decimal]
    positions: dict[int, Decimal]
    cash: dict[str, Decimal]
    received: Counter[str]


def _serve(pipe: Connection, options: dict[str, Any]) -> None:
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    from trading.gateway import hours
    from trading.gateway.testing import running_gateway

    hours.NEW_YORK = ZoneInfo(options.pop("day_zone", str(hours.NEW_YORK)))
    server_options = options.pop("server", {})
    with running_gateway(**options, **server_options) as gateway:
        pipe.send(("ready", gateway.port))
        while True:
            name, args = pipe.recv()
            if name == "stop":
                pipe.send(("ok", None))
                return
            try:
                pipe.send(("ok", _ANSWERS[name](gateway, *args)))
            except Exception as error:  # noqa: BLE001 - border: the caller gets it as an error
                pipe.send(("error", repr(error)))


def _truth(gateway: Any) -> Truth:
    from datetime import UTC, datetime

    from trading.gateway.model import ExecutionFilter

    def read() -> Truth:
        executions: dict[str, dict[str, Any]] = {}
        commissions: dict[str, Decimal] = {}
        for execution, commission in gateway.venue.executions(ExecutionFilter()):
            executions[execution.exec_id] = {
                "con_id": execution.contract.con_id,
                "side": execution.side,
                "quantity": execution.quantity,
                "price": execution.price,
                "order_ref": execution.order_ref,
            }
            if commission is not None:
                commissions[execution.exec_id] = commission.amount
        now = datetime.now(UTC)
        return Truth(
            executions=executions,
            commissions=commissions,
            positions={row.contract.con_id: row.quantity for row in gateway.venue.positions(now) if row.quantity},
            cash={
                row.currency: Decimal(row.value)
                for row in gateway.venue.account_values(now)
                if row.key == "CashBalance" and row.currency != "BASE"
            },
            received=Counter(gateway.venue.received_order_refs),
        )

    truth: Truth = gateway.call(read)
    return truth


def _inject(gateway: Any, con_id: int, count: int, order_ref: str, client_id: int) -> tuple[int, list[str]]:
    """Fill one order of that client ``count`` times at once; answer publish time (monotonic ns) and the ids."""

    def push() -> tuple[int, list[str]]:
        events = gateway.venue.inject_fills(con_id, count, order_ref, client_id)
        ids = [event.execution.exec_id for event in events if hasattr(event, "execution")]
        sent = time.monotonic_ns()
        gateway.server.publish(events)
        return sent, ids

    result: tuple[int, list[str]] = gateway.call(push)
    return result


_BY_ITSELF = frozenset({"book_cash", "move_position", "trade_by_hand", "correct"})


def _happen(gateway: Any, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> list[str]:
    """Have the broker do something by itself, and tell everybody who listens; answer the ids of its executions."""
    if name not in _BY_ITSELF:
        raise ValueError(f"the broker does not do {name} by itself")

    def push() -> list[str]:
        events = getattr(gateway.venue, name)(*args, **options)
        gateway.server.publish(events)
        return [event.execution.exec_id for event in events if hasattr(event, "execution")]

    ids: list[str] = gateway.call(push)
    return ids


def _fault(gateway: Any, line: str) -> str:
    """Have trouble; answer what came of it."""
    return str(gateway.fault(line))


_ANSWERS: dict[str, Callable[..., Any]] = {"truth": _truth, "inject": _inject, "happen": _happen, "fault": _fault}


class GatewayProcess:
    """A running gateway process on a free loopback port."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.host = "127.0.0.1"
        self.port = 0

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._options), daemon=True)
        self._process.start()
        word, self.port = self._receive()
        assert word == "ready", self.port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.send(("stop", ()))
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process.pid is not None
        return self._process.pid

    def _receive(self) -> tuple[str, Any]:
        if not self._pipe.poll(CALL_TIMEOUT_S):
            raise TimeoutError("the gateway process did not answer")
        answer: tuple[str, Any] = self._pipe.recv()
        return answer

    def _call(self, name: str, *args: Any) -> Any:
        self._pipe.send((name, args))
        word, value = self._receive()
        if word == "error":
            raise RuntimeError(value)
        return value

    def truth(self) -> Truth:
        """Return everything the gateway knows."""
        answer: Truth = self._call("truth")
        return answer

    def inject(self, con_id: int, count: int, order_ref: str, client_id: int) -> tuple[int, list[str]]:
        """Fill an order of ``client_id`` ``count`` times at once; return publish time in monotonic ns and exec ids."""
        answer: tuple[int, list[str]] = self._call("inject", con_id, count, order_ref, client_id)
        return answer

    def fault(self, line: str) -> str:
        """Have trouble: one line of the language of faults."""
        return str(self._call("fault", line))

    def book_cash(self, currency: str, amount: Decimal) -> None:
        """Have the broker book a deposit, dividend or fee that no execution explains."""
        self._call("happen", "book_cash", (currency, amount), {})

    def move_position(self, con_id: int, quantity: Decimal) -> None:
        """Have a position move by ``quantity`` without an execution, as after a corporate action."""
        self._call("happen", "move_position", (con_id, quantity), {})

    def trade_by_hand(self, con_id: int, quantity: Decimal, price: Decimal | None = None) -> list[str]:
        """Have somebody trade in TWS: client 0, no reference; return the ids of the executions."""
        ids: list[str] = self._call("happen", "trade_by_hand", (con_id, quantity), {"price": price})
        return ids

    def correct(self, exec_id: str, *, quantity: Decimal | None = None, price: Decimal | None = None) -> None:
        """Have IB correct an execution."""
        self._call("happen", "correct", (exec_id,), {"quantity": quantity, "price": price})
