"""SignalExecutor: what becomes of one strategy's signals, in order, one at a time.

Owns: asking the rules, taking back what stands in the way, counting and telling what was traded and what was refused.
Leaves: the rules (``signal_rules``), facts and orders (the port: the engine's over a live broker, a session's over
simulated fills).
Rule: a signal is decided on facts that were read after every earlier signal of the strategy was carried out. Protective
exits end with the position that they protect: they are taken back before an order that closes it, and made smaller
before one that closes a part of it, so that no exit ever opens a position the other way. Every refusal is told and
counted by its code.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol

from strategies.exceptions import MatsError, OrderDeniedError
from strategies.reactive import TARGET, Signal, SignalAction
from trading.market.signal_rules import Facts, Gates, Plan, plan_signal

logger = logging.getLogger(__name__)

Tell = Callable[[str, str], None]  # text, level


class OrderPort(Protocol):
    """One strategy's way to facts and orders."""

    async def facts(self, symbol: str, interval: str, gates: Gates) -> Facts:
        """Return what is known now, as one moment: orders and positions agree with each other.

        Raises: LedgerError, TransientError, OrderDeniedError while something that is needed is not known.
        """

    async def withdraw(self, symbol: str, *, exits_only: bool) -> None:
        """Take back the strategy's working orders of a symbol, or its protective exits alone; wait until they ended.

        Raises: OrderDeniedError (order_working) when one does not end in time.
        """

    async def has_exits(self, symbol: str) -> bool:
        """Tell whether protective exits of a symbol work."""

    async def shrink_exits(self, symbol: str, quantity: Decimal) -> None:
        """Have every protective exit of a symbol trade no more than that."""

    async def place(self, symbol: str, plan: Plan, signal: Signal) -> None:
        """Send the order that was planned, with its exits.

        Raises: OrderDeniedError when it was not sent.
        """


@dataclass(slots=True)
class SignalFigures:
    """What became of the signals. ``idle``: nothing was to be done; ``refused`` by code."""

    received: int = 0
    traded: int = 0
    held: int = 0
    idle: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    last_refusal: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for pages."""
        return {
            "received": self.received,
            "traded": self.traded,
            "hold": self.held,
            "idle": self.idle,
            "refused": sum(self.refused.values()),
            "refused_by_code": dict(self.refused),
            "last_refusal": self.last_refusal,
        }


class SignalExecutor:
    """Carries out the signals of one strategy. Same loop only; one ``execute`` at a time."""

    def __init__(self, name: str, port: OrderPort, gates: Gates, tell: Tell, *, allow_repeats: bool = False) -> None:
        self.name = name
        self.gates = gates
        self.allow_repeats = allow_repeats
        self.figures = SignalFigures()
        self._port, self._tell = port, tell

    async def execute(self, interval: str, signals: Sequence[Signal]) -> None:
        """Carry out what one ``on_bars`` returned; ``interval`` is that of the bars it looked at."""
        for signal in signals:
            self.figures.received += 1
            try:
                await self._execute(signal, interval)
            except MatsError as error:
                self._refused(signal, error)

    async def _execute(self, signal: Signal, interval: str) -> None:
        if signal.action is SignalAction.HOLD:
            self.figures.held += 1
            return
        wanted = await self._towards(signal, interval)
        plan = None if wanted is None else await self._plan(wanted, interval)
        if wanted is None or plan is None or not plan.quantity:
            self.figures.idle += 1
            return
        signal = wanted
        if plan.note:
            self._tell(f"{_words(signal)}: {plan.note}.", "info")
        await self._port.place(signal.symbol, plan, signal)
        self.figures.traded += 1

    async def _towards(self, signal: Signal, interval: str) -> Signal | None:
        """Return what leads to the position that a signal aims at, None when nothing does; others are as they are.

        Orders that lead elsewhere are taken back first.
        """
        aim = (signal.metadata or {}).get(TARGET)
        if aim is None:
            return signal
        facts = await self._port.facts(signal.symbol, interval, self.gates)
        if aim == facts.held + facts.buying - facts.selling:
            return None
        if facts.buying or facts.selling:
            await self._port.withdraw(signal.symbol, exits_only=False)
            facts = await self._port.facts(signal.symbol, interval, self.gates)
        change: Decimal = aim - facts.held
        if not change:
            return None
        return replace(signal, action=SignalAction.BUY if change > 0 else SignalAction.SELL, quantity=abs(change))

    async def _plan(self, signal: Signal, interval: str) -> Plan | None:
        """Return what is to be ordered once nothing stands in its way any more; None for nothing."""
        facts, plan = await self._look(signal, interval)
        if plan is None:
            return None
        if plan.cancel_working:
            await self._port.withdraw(signal.symbol, exits_only=False)
        elif await self._must_end_exits(signal.symbol, plan, facts.held):
            await self._port.withdraw(signal.symbol, exits_only=True)
        else:
            return plan
        # A fill may have come before the end of what was taken back.
        return (await self._look(signal, interval))[1]

    async def _look(self, signal: Signal, interval: str) -> tuple[Facts, Plan | None]:
        facts = await self._port.facts(signal.symbol, interval, self.gates)
        check_repeat(signal, facts, allowed=self.allow_repeats)
        return facts, plan_signal(signal, facts, self.gates)

    async def _must_end_exits(self, symbol: str, plan: Plan, held: Decimal) -> bool:
        """Tell whether exits have to end before the order; make them smaller when a part stays."""
        after = held + plan.quantity
        if not held or abs(plan.quantity) == plan.opens or not await self._port.has_exits(symbol):
            return False
        if not after or (after > 0) is not (held > 0):
            return True
        await self._port.shrink_exits(symbol, abs(after))
        return False

    def _refused(self, signal: Signal, error: MatsError) -> None:
        self.figures.refused[error.code] += 1
        self.figures.last_refusal = f"{_words(signal)}: {error.message}"
        number = sum(self.figures.refused.values())
        if "order_ref" in error.fields:  # on record as a denied order, and told by the broker
            logger.info("strategy=%s refused=%s code=%s", self.name, number, error.code, extra={"page": False})
            return
        self._tell(f"Signal refused ({number} so far): {_words(signal)}: {error.message}", "warning")


def check_repeat(signal: Signal, facts: Facts, *, allowed: bool) -> None:
    """Refuse a sized BUY or SELL while an order of the same side works; unsized ones ask for nothing then.

    Raises: OrderDeniedError (order_working).
    """
    if allowed or signal.quantity is None or signal.action not in (SignalAction.BUY, SignalAction.SELL):
        return
    working = facts.buying if signal.action is SignalAction.BUY else facts.selling
    if working:
        raise OrderDeniedError(
            f"{working:f} {signal.symbol} are being traded that way already; «allow_repeats» lets a second order work.",
            code="order_working",
        )


def _words(signal: Signal) -> str:
    quantity = "" if signal.quantity is None else f" {signal.quantity}"
    return f"{signal.action.value}{quantity} {signal.symbol}"
