"""Carry faults out on a running gateway: rules to the wire, sockets closed or silenced, the venue told to do things.

Owns: what each verb does, faults that wait for a moment, what is refused or silent at present.
Leaves: the language (``faults``), frames (``faults_wire``), who may ask (``faults_control``).
Rule: all on the gateway's loop. A fault that cannot be had raises FaultError and changes nothing.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from . import faults
from .faults import ALL, Fault, FaultError, Moment, Planned
from .faults_wire import Rule, WireFaults
from .hours import NEW_YORK
from .model import ExecutionFilter, RequestError, VenueEvent
from .stepping import EVERY_S

if TYPE_CHECKING:
    from .server import GatewayServer

logger = logging.getLogger(__name__)

KEPT = 1_000  # faults that happened, for status
IB_TEXTS = {
    100: "Max rate of messages per second has been exceeded:max=50 rec=138 (1)",
    201: "Order rejected - reason:The exchange refused the order.",
    202: "Order Canceled - reason:",
    1100: "Connectivity between IB and Trader Workstation has been lost.",
    1101: "Connectivity between IB and Trader Workstation has been restored - data lost.",
    1102: "Connectivity between IB and Trader Workstation has been restored - data maintained.",
    1300: "TWS socket port has been reset and this connection is being dropped.",
    2103: "Market data farm connection is broken:usfarm",
    2104: "Market data farm connection is OK:usfarm",
    2105: "HMDS data farm connection is broken:ushmds",
    2106: "HMDS data farm connection is OK:ushmds",
    2107: "HMDS data farm connection is inactive but should be available upon demand.ushmds",
    2108: "Market data farm connection is inactive but should be available upon demand.usfarm",
    2110: "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
    10197: "No market data during competing live session",
    10225: "Bust event occurred, current subscription is deactivated. Please resubscribe real-time bars immediately.",
}
_ORDER_REPORTS = ("execDetails", "commissionReport", "orderStatus", "openOrder")
_STATUS = {
    "drop_status": "lose orderStatus",
    "dup_status": "dup 1 orderStatus",
    "exec_before_status": "swap orderStatus with=execDetails",
}


class TroubledVenue(Protocol):
    """What a venue must be able to do by itself for the faults that are no matter of the wire."""

    def search(self, pattern: str) -> Sequence[Any]: ...
    def executions(self, filter_: ExecutionFilter) -> Sequence[tuple[Any, Any]]: ...
    def advance(self, now: datetime) -> list[VenueEvent]: ...
    def trade_by_hand(self, con_id: int, quantity: Decimal, price: Decimal | None = None) -> list[VenueEvent]: ...
    def move_position(self, con_id: int, quantity: Decimal) -> list[VenueEvent]: ...
    def book_cash(self, currency: str, amount: Decimal) -> list[VenueEvent]: ...
    def correct(
        self, exec_id: str, *, quantity: Decimal | None = None, price: Decimal | None = None
    ) -> list[VenueEvent]: ...
    def withhold_commissions(self, withhold: bool) -> None: ...
    def forget_executions(self) -> None: ...
    def roll_back_ids(self, by: int) -> None: ...
    def reject_working(self, order_ref: str | None, code: int, text: str) -> list[VenueEvent]: ...
    def fill_order(
        self, order_ref: str | None, quantity: Decimal, price: Decimal | None = None
    ) -> list[VenueEvent]: ...
    def inject_fills(
        self,
        con_id: int,
        n: int,
        order_ref: str,
        client_id: int,
        qty: Decimal | int = 1,
        price: Decimal | None = None,
        action: str = "BUY",
    ) -> list[VenueEvent]: ...


@dataclass(slots=True)
class _Waiting:
    """A fault that waits for a moment of time; ``due_at`` in the venue's time where it is a time of day."""

    planned: Planned
    due_s: float | None = None
    due_at: datetime | None = None


class FaultDesk:
    """All trouble of one gateway. Units: seconds of a monotonic clock unless a name says otherwise."""

    def __init__(self, server: GatewayServer, seed: int = 0) -> None:
        self.wire = WireFaults(seed)
        self.done: list[str] = []
        self._server = server
        self._random = random.Random(seed)  # noqa: S311 - repeatable trouble, no secret
        self._waiting: list[_Waiting] = []
        self._refuse_until = 0.0
        self._silent_until = 0.0
        self._squatters: dict[int, float | None] = {}
        self._doers: dict[str, Callable[[Fault], str | None]] = {
            name.removeprefix("_do_"): getattr(self, name) for name in dir(self) if name.startswith("_do_")
        }

    # asking for trouble

    def arm(self, planned: Iterable[Planned]) -> None:
        """Take faults on: those without a moment happen now."""
        for each in planned:
            self.plan(each)

    def ask(self, line: str) -> str:
        """Read one line and carry it out or plan it; return what came of it in words.

        Raises: FaultError when the line is no fault or cannot be had now.
        """
        return self.plan(faults.parse(line))

    def plan(self, planned: Planned) -> str:
        """Carry a fault out, or keep it for its moment."""
        moment = planned.moment
        if moment.is_now:
            return self.do(planned.fault)
        if moment.message is not None:
            rule = Rule(
                planned.fault, moment.message, 1, skip=moment.nth - 1, triggers=planned.fault, line=planned.text
            )
            self.wire.add(rule)
        else:
            self._waiting.append(self._wait(planned))
        return f"planned: {planned.text}"

    def do(self, fault: Fault) -> str:
        """Carry a fault out now."""
        doer = self._doers.get(fault.verb, self._arm_rule)
        try:
            answer = doer(fault)
        except RequestError as error:
            raise FaultError(f"{fault.verb}: {error.text}") from error
        except (AttributeError, NotImplementedError) as error:
            raise FaultError(f"{fault.verb}: this venue cannot do that ({error}).") from error
        self.done = [*self.done[-KEPT:], fault.text]
        if fault.verb not in ("status", "clear", "step"):
            logger.warning("fault %s", fault.text)
        self._server.flush()
        return answer or f"done: {fault.text}"

    # what the server asks

    def tick(self, now_s: float) -> None:
        """Do what is due; let go of what is over."""
        self.wire.sweep(now_s)
        self._squatters = {each: end for each, end in self._squatters.items() if end is None or now_s < end}
        self._server.hub.context.squatted = frozenset(self._squatters)
        if not self._waiting:
            return
        now = self._server.hub.context.now()
        due = [each for each in self._waiting if _is_due(each, now_s, now)]
        for each in due:
            self._waiting.remove(each)
            if each.planned.moment.daily:
                self._waiting.append(self._wait(each.planned))
            self._try(each.planned.fault)

    def run_triggered(self) -> None:
        """Do what waited for a message that has come."""
        for fault in self.wire.take_triggered():
            self._try(fault)

    def refuses(self, now_s: float) -> bool:
        """Tell whether new sockets are closed at once."""
        return now_s < self._refuse_until

    def silences(self, now_s: float) -> bool:
        """Tell whether new sockets are silent."""
        return now_s < self._silent_until

    def _try(self, fault: Fault) -> None:
        try:
            self.do(fault)
        except FaultError as error:
            logger.error("fault not carried out text=%r reason=%s", fault.text, error.message)  # noqa: TRY400 - one line

    def _wait(self, planned: Planned) -> _Waiting:
        moment: Moment = planned.moment
        if moment.at is None:
            return _Waiting(planned, due_s=time.monotonic() + moment.after_s)
        now = self._server.hub.context.now().astimezone(NEW_YORK)
        due = datetime.combine(now.date(), moment.at, NEW_YORK)
        if due <= now:
            due = datetime.combine(now.date() + timedelta(days=1), moment.at, NEW_YORK)
        return _Waiting(planned, due_at=due)

    # the wire

    def _arm_rule(self, fault: Fault) -> str:
        length = fault.get("for")
        self.wire.add(
            Rule(
                fault,
                fault.get("message"),
                fault.get("count", 1),
                skip=fault.get("skip", 0),
                client=fault.get("client"),
                chance=fault.get("p", 1.0),
                until_s=None if length is None else time.monotonic() + length,
                partner=fault.get("with"),
            )
        )
        return f"in force: {fault.text}"

    def _arm_as(self, line: str, fault: Fault, **values: Any) -> str:
        meant = faults.parse(line).fault
        given = {key: value for key, value in fault.values.items() if key in ("client", "count")}
        return self._arm_rule(replace(meant, values={"count": ALL, **meant.values, **given, **values}, text=fault.text))

    def _do_drop_status(self, fault: Fault) -> str:
        return self._arm_as(_STATUS[fault.verb], fault)

    _do_dup_status = _do_exec_before_status = _do_drop_status

    def _do_commission_delay(self, fault: Fault) -> str:
        return self._arm_as("lag 0 commissionReport", fault, seconds=fault.get("seconds"))

    # sockets

    def _do_hole(self, fault: Fault) -> str:
        peers = self._server.peers_of(fault.get("client"))
        for peer in peers:
            peer.silence()
        if "for" in fault.values:
            self._silent_until = time.monotonic() + fault.get("for")
        return f"{len(peers)} sockets are silent"

    def _do_drop(self, fault: Fault) -> str:
        peers = self._server.peers_of(fault.get("client"))
        for peer in peers:
            peer.drop("a fault dropped it")
        return f"{len(peers)} sockets dropped"

    def _do_junk(self, fault: Fault) -> str:
        kind, size = fault.get("kind"), fault.get("size", 64)
        peers = self._server.peers_of(fault.get("client"))
        for peer in peers:
            peer.write_raw(junk(kind, size, self._random))
        return f"junk sent to {len(peers)} sockets"

    def _do_refuse(self, fault: Fault) -> None:
        self._refuse_until = time.monotonic() + fault.get("seconds")

    def _do_squat(self, fault: Fault) -> None:
        length = fault.get("for")
        self._squatters[fault.get("client")] = None if length is None else time.monotonic() + length
        self._server.hub.context.squatted = frozenset(self._squatters)

    def _do_reboot(self, fault: Fault) -> str:
        back = fault.get("ids", 0)
        if back:
            self._venue.roll_back_ids(back)
        self._refuse_until = time.monotonic() + fault.get("down", 0.0)
        peers = self._server.peers_of(None)
        for peer in peers:
            peer.drop("the gateway restarts")
        return f"{len(peers)} sockets closed, ids back by {back}"

    _do_restart = _do_reboot

    # what IB says

    def _do_say(self, fault: Fault) -> str:
        code = fault.get("code")
        text = fault.get("text") or IB_TEXTS.get(code, f"Error {code}")
        told = 0
        for session in list(self._server.hub.context.sessions.values()):
            if fault.get("client") in (None, session.client_id):
                session.error(fault.get("id", -1), code, text)
                told += 1
        return f"{code} told to {told} clients"

    def _do_outage(self, fault: Fault) -> None:
        length = fault.get("seconds")
        if fault.get("fills", "told") != "told":
            verb = "lose" if fault.get("fills") == "lost" else f"lag {length}"
            for message in _ORDER_REPORTS:
                self._arm_rule(faults.parse(f"{verb} {message} count=all for={length}").fault)
        if fault.get("back") == "1101" or fault.get("data") == "dead":
            for session in self._server.hub.context.sessions.values():
                session.forget_market_data()
        for code in (1100, 2103, 2105):
            self.do(faults.parse(f"say {code}").fault)
        for code in (2104, 2106, fault.get("back", "1102")):
            self.plan(faults.parse(f"after {length} say {code}"))

    # what the broker does by itself

    @property
    def _venue(self) -> TroubledVenue:
        venue: Any = self._server.venue
        return venue  # type: ignore[no-any-return]  # a venue that lacks a method is told by ``do``

    def _con_id(self, symbol: str) -> int:
        found = [row for row in self._venue.search(symbol) if row.contract.symbol == symbol.upper()]
        if not found:
            raise FaultError(f"The venue lists no {symbol}.")
        return int(found[0].contract.con_id)

    def _tell(self, events: Sequence[VenueEvent]) -> None:
        self._server.publish(events)

    def _begin(self) -> None:
        """The venue must have looked at the market once before it trades by itself."""
        context = self._server.hub.context
        self._tell(self._venue.advance(context.now()))

    def _do_hand(self, fault: Fault) -> None:
        self._begin()
        con_id = self._con_id(fault.get("symbol"))
        self._tell(self._venue.trade_by_hand(con_id, fault.get("quantity"), fault.get("price")))

    def _do_offfill(self, fault: Fault) -> str:
        self._begin()
        symbol, quantity = fault.get("symbol"), fault.get("quantity")
        con_id = self._con_id(symbol)
        made = [e for e, _ in self._venue.executions(ExecutionFilter()) if e.contract.con_id == con_id and e.order_ref]
        order_ref = fault.get("ref", made[-1].order_ref if made else "")
        client_id = fault.get("client", made[-1].client_id if made else 0)
        self._venue.inject_fills(
            con_id, 1, order_ref, client_id, abs(quantity), fault.get("price"), "BUY" if quantity > 0 else "SELL"
        )
        return f"{quantity} {symbol} filled for client {client_id}, reference {order_ref or 'none'}, nobody told"

    def _do_fix(self, fault: Fault) -> str:
        known = [execution.exec_id for execution, _ in self._venue.executions(ExecutionFilter())]
        exec_id = fault.get("exec_id", known[-1] if known else None)
        if exec_id is None:
            raise FaultError("There is no execution to correct.")
        events = self._venue.correct(exec_id, quantity=fault.get("quantity"), price=fault.get("price"))
        if fault.get("told", "yes") == "yes":
            self._tell(events)
        return f"{exec_id} corrected"

    def _do_withhold(self, fault: Fault) -> None:
        self._venue.withhold_commissions(fault.get("state") == "on")

    def _do_reject(self, fault: Fault) -> None:
        code = fault.get("code", 201)
        self._tell(self._venue.reject_working(fault.get("ref"), code, IB_TEXTS.get(code, f"Error {code}")))

    def _do_fill(self, fault: Fault) -> None:
        self._tell(self._venue.fill_order(fault.get("ref"), fault.get("quantity"), fault.get("price")))

    def _do_move(self, fault: Fault) -> None:
        self._begin()
        self._tell(self._venue.move_position(self._con_id(fault.get("symbol")), fault.get("quantity")))

    def _do_cash(self, fault: Fault) -> None:
        self._tell(self._venue.book_cash(fault.get("currency").upper(), fault.get("amount")))

    def _do_forget(self, fault: Fault) -> None:
        self._venue.forget_executions()

    # the market

    def _do_step(self, fault: Fault) -> str:
        return self._server.stepper.begin(fault.get("count", 1), fault.get("every", EVERY_S))

    # housekeeping

    def _do_clear(self, fault: Fault) -> str:
        ended = len(self.wire.rules) + len(self._waiting)
        self.wire.clear()
        self._waiting.clear()
        self._refuse_until = self._silent_until = 0.0
        self._squatters.clear()
        self._server.hub.context.squatted = frozenset()
        return f"{ended} faults ended"

    def _do_status(self, fault: Fault) -> str:
        lines = [f"in force: {rule.text}" for rule in self.wire.rules]
        lines += [f"waiting: {each.planned.text}" for each in self._waiting]
        lines += [f"happened: {text} ({times} times)" for text, times in self.wire.fired.items()]
        return "\n".join(lines) or "no faults"


def junk(kind: str, size: int, chance: random.Random) -> bytes:
    """Return bytes that no gateway should send: a frame of nonsense, an absurd length, anything at all."""
    noise = chance.randbytes(size)
    if kind == "bytes":
        return noise
    if kind == "length":
        return (0x7FFF_FFFF).to_bytes(4, "big") + noise
    fields = [chance.choice(list(faults.TOLD)).encode(), *noise.split(b"\0")]
    payload = b"\0".join(fields) + b"\0"
    return len(payload).to_bytes(4, "big") + payload


def _is_due(waiting: _Waiting, now_s: float, now: datetime) -> bool:
    if waiting.due_s is not None:
        return now_s >= waiting.due_s
    return waiting.due_at is not None and now >= waiting.due_at
