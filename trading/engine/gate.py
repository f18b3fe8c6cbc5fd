"""The gate before every new order: shut until the books are known to agree with the broker.

Rule: cancels never pass here; an instrument whose positions differ from the broker's stays locked by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from strategies.exceptions import OrderDeniedError
from trading.engine.resets import Hold

NOT_CONNECTED = "not_connected"
NOT_RECONCILED = "not_reconciled"
ENGINE_STOPPING = "engine_stopping"
LEDGER_TROUBLE = "ledger_trouble"
INSTRUMENT_LOCKED = "instrument_locked"
RESET_PENDING = "reset_pending"
HALTED = "halted"
ACCOUNT = ""

_REASONS = {
    NOT_CONNECTED: "The engine has no connection to the gateway.",
    NOT_RECONCILED: "The books are being compared with the broker; orders wait until they agree.",
    ENGINE_STOPPING: "The engine is stopping; it takes no new orders.",
    LEDGER_TROUBLE: "The ledger cannot be written; orders wait until it can.",
}


class Gate:
    """Whether new orders may be sent. Thread-safe; starts shut.

    ``is_halted`` looks at what halts trading from outside, ``reset_hold`` at a scheduled reset, before every order.
    Stopping is for good. Ledger trouble shuts the gate beside whatever the connection says, and ends on its own.
    """

    def __init__(self, is_halted: Callable[[], bool] | None = None) -> None:
        self._lock = threading.Lock()
        self._is_halted = is_halted
        self._halted: Mapping[str, str] = {}
        self._reason = NOT_CONNECTED
        self._ledger_trouble = False
        self._locked: frozenset[int] = frozenset()
        self._opened = threading.Event()
        self.reset_hold: Callable[[], Hold | None] = lambda: None

    @property
    def is_open(self) -> bool:
        """Tell whether orders pass, locked instruments aside."""
        return self._opened.is_set()

    @property
    def reason(self) -> str:
        """Return the code of what shuts the gate; empty while it is open."""
        with self._lock:
            shut = LEDGER_TROUBLE if self._ledger_trouble and not self._reason else self._reason
        return shut or (RESET_PENDING if self.reset_hold() is not None else "")

    def open(self) -> None:
        """Let orders pass, unless the engine is stopping."""
        with self._lock:
            if self._reason != ENGINE_STOPPING:
                self._reason = ""
            self._update()

    def shut(self, reason: str) -> None:
        """Refuse orders with one of this module's codes."""
        with self._lock:
            if self._reason != ENGINE_STOPPING:
                self._reason = reason
            self._update()

    def set_ledger_trouble(self, trouble: bool) -> None:
        """Take note whether the ledger can be written."""
        with self._lock:
            self._ledger_trouble = trouble
            self._update()

    def lock_instruments(self, con_ids: Iterable[int]) -> None:
        """Replace the set of instruments whose positions differ from the broker's."""
        self._locked = frozenset(con_ids)

    @property
    def locked_instruments(self) -> frozenset[int]:
        """Return the contract ids that take no orders."""
        return self._locked

    def wait_open(self, timeout_s: float) -> bool:
        """Block until the gate opens or the time is over; tell whether it is open."""
        return self._opened.wait(timeout_s)

    def set_halted(self, owners: Mapping[str, str]) -> None:
        """Replace who is halted, with the reasons; the empty owner is the account."""
        with self._lock:
            self._halted = dict(owners)

    def add_halted(self, owner: str, reason: str) -> None:
        """Halt one more."""
        with self._lock:
            self._halted = {**self._halted, owner: reason}

    @property
    def halted(self) -> Mapping[str, str]:
        """Return who is halted, with the reasons."""
        return self._halted

    def check_halt(self, owner: str = "") -> None:
        """Let an owner's order pass unless it or the account is halted.

        Raises: OrderDeniedError (halted).
        """
        if self._is_halted is not None and self._is_halted():
            raise OrderDeniedError("Trading is halted: the file HALT is there.", code=HALTED)
        halted = self._halted
        for name in (ACCOUNT, owner):
            if name in halted:
                who = name or "Trading"
                raise OrderDeniedError(f"{who} is halted: {halted[name]}", code=HALTED, owner=name)

    def check(self, con_id: int, owner: str = "", *, closing: bool = False) -> None:
        """Let a new order in this instrument pass; ``closing`` is the kill switch's own, which a halt does not stop.

        Raises: OrderDeniedError with the code of what stands against it.
        """
        if not closing:
            self.check_halt(owner)
        if not self._opened.is_set():
            reason = self.reason
            reason = reason if reason in _REASONS else NOT_RECONCILED  # it opened meanwhile
            raise OrderDeniedError(_REASONS[reason], code=reason)
        hold = None if closing else self.reset_hold()
        if hold is not None:
            raise OrderDeniedError(hold.text, code=RESET_PENDING, retry_after_s=hold.retry_after_s)
        if con_id in self._locked:
            raise OrderDeniedError(
                f"Instrument {con_id} is locked: the broker's position differs from the ledger's.",
                code=INSTRUMENT_LOCKED,
                con_id=con_id,
            )

    def _update(self) -> None:
        if self._reason or self._ledger_trouble:
            self._opened.clear()
        else:
            self._opened.set()
