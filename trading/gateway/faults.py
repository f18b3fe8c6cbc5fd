"""The language of faults: what a line such as ``cut 37 execDetails`` means and when it is due.

Owns: the verbs with their arguments, the names of messages, the moments, scripts with line numbers.
Leaves: frames (``faults_wire``), sockets and venue (``faults_desk``), the control port (``faults_control``).

    [MOMENT] VERB ARGUMENT… [option=value…]        # a comment
    MOMENT: after 5 · at 23:45 · daily 23:45 (New York) · when execDetails 3; without one: now
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import time
from decimal import Decimal
from enum import StrEnum
from typing import Any

from strategies.exceptions import ConfigError

ANY = "any"
ALL = -1  # a count without end
RANDOM = -1  # a byte that the seed chooses
HANDSHAKE = "greeting"

TOLD = {
    "1": "tickPrice", "2": "tickSize", "3": "orderStatus", "4": "error", "5": "openOrder", "6": "accountValue",
    "7": "portfolioValue", "8": "accountTime", "9": "nextValidId", "10": "contractDetails", "11": "execDetails",
    "15": "managedAccounts", "17": "historicalData", "45": "tickGeneric", "46": "tickString", "49": "currentTime",
    "50": "realtimeBar", "52": "contractDetailsEnd", "53": "openOrderEnd", "54": "accountDownloadEnd",
    "55": "execDetailsEnd", "57": "tickSnapshotEnd", "58": "marketDataType", "59": "commissionReport",
    "61": "position", "62": "positionEnd", "63": "accountSummary", "64": "accountSummaryEnd", "71": "positionMulti",
    "72": "positionMultiEnd", "73": "accountUpdateMulti", "74": "accountUpdateMultiEnd", "79": "symbolSamples",
    "81": "tickReqParams", "88": "headTimestamp", "90": "historicalDataUpdate", "93": "marketRule", "94": "pnl",
    "95": "pnlSingle", "100": "orderBound", "101": "completedOrder", "102": "completedOrdersEnd",
}  # fmt: skip
ASKED = {
    "1": "reqMktData", "3": "placeOrder", "4": "cancelOrder", "5": "reqOpenOrders", "6": "reqAccountUpdates",
    "7": "reqExecutions", "8": "reqIds", "9": "reqContractDetails", "15": "reqAutoOpenOrders",
    "16": "reqAllOpenOrders", "17": "reqManagedAccts", "20": "reqHistoricalData", "49": "reqCurrentTime",
    "50": "reqRealTimeBars", "58": "reqGlobalCancel", "61": "reqPositions", "62": "reqAccountSummary",
    "71": "startApi", "74": "reqPositionsMulti", "76": "reqAccountUpdatesMulti", "92": "reqPnL",
    "94": "reqPnLSingle", "99": "reqCompletedOrders",
}  # fmt: skip
_TOLD_ID = {name.lower(): number for number, name in TOLD.items()}
_ASKED_ID = {name.lower(): number for number, name in ASKED.items()}


class FaultError(ConfigError):
    """A line that is no fault, or a fault that cannot be had now."""

    def __init__(self, message: str, line: int = 0) -> None:
        where = f"Line {line}: " if line else ""
        super().__init__(where + message, code="bad_fault", line=line)


class Side(StrEnum):
    """Who sends a message."""

    TOLD = "told"
    ASKED = "asked"


@dataclass(frozen=True, slots=True)
class MessageName:
    """A kind of message; ``number`` is None for any that the gateway tells, and for its greeting."""

    name: str
    side: Side
    number: str | None


@dataclass(frozen=True, slots=True)
class Fault:
    """One trouble: a verb of VERBS with its values by name; options that were not given are absent."""

    verb: str
    values: Mapping[str, Any]
    text: str

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value or what stands for its absence."""
        return self.values.get(name, default)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a fault is due: after seconds, at a New York time (once or daily), or at the nth message of a kind."""

    after_s: float = 0.0
    at: time | None = None
    daily: bool = False
    message: MessageName | None = None
    nth: int = 1

    @property
    def is_now(self) -> bool:
        """Tell whether there is nothing to wait for."""
        return not self.after_s and self.at is None and self.message is None


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault and its moment; ``text`` is the line as it was given."""

    moment: Moment
    fault: Fault
    text: str


# values


def message_name(text: str) -> MessageName:
    """Return the message that a name or an id of the gateway's messages means.

    Raises: ValueError when there is none.
    """
    key = text.lower()
    if key in (ANY, HANDSHAKE):
        return MessageName(key, Side.TOLD, None)
    if key in _TOLD_ID:
        return MessageName(TOLD[_TOLD_ID[key]], Side.TOLD, _TOLD_ID[key])
    if key in _ASKED_ID:
        return MessageName(ASKED[_ASKED_ID[key]], Side.ASKED, _ASKED_ID[key])
    if key in TOLD:
        return MessageName(TOLD[key], Side.TOLD, key)
    raise ValueError(
        f"{text!r} is no message; known are any, {', '.join((HANDSHAKE, *TOLD.values(), *ASKED.values()))}"
    )


def seconds(text: str) -> float:
    """Return a length of time: ``5``, ``5s``, ``250ms``, ``2m``, ``4h``."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)?", text)
    if match is None:
        raise ValueError(f"{text!r} is no length of time such as 5, 250ms, 2m or 4h")
    return float(match[1]) * {"ms": 0.001, "m": 60.0, "h": 3600.0}.get(match[2] or "s", 1.0)


def number(text: str) -> int:
    """Return a whole number from 0 to a thousand million."""
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _count(text: str) -> int:
    return ALL if text == "all" else number(text)


def _byte(text: str) -> int:
    return RANDOM if text == "random" else number(text)


def _decimal(text: str) -> Decimal:
    if not re.fullmatch(r"[+-]?\d{1,15}(\.\d{1,10})?", text):
        raise ValueError(f"{text!r} is no number")
    return Decimal(text)


def _chance(text: str) -> float:
    value = float(_decimal(text))
    if not 0 < value <= 1:
        raise ValueError(f"{text!r} is no chance above 0 and at most 1")
    return value


def _clock(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time of day such as 23:45") from None


def _word(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
        return text

    return read


def _request_id(text: str) -> int:
    return -1 if text == "-1" else number(text)


# verbs


@dataclass(frozen=True, slots=True)
class Verb:
    """How a verb is read: positional arguments in order (the first ``needed`` must be there), options by name."""

    says: str
    arguments: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    needed: int = 0
    options: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    sides: tuple[Side, ...] = (Side.TOLD,)

    def usage(self, name: str) -> str:
        """Return the verb's line of help."""
        words = [
            each.upper() if place < self.needed else f"[{each.upper()}]" for place, each in enumerate(self.arguments)
        ]
        words += [f"[{each}=…]" for each in self.options]
        return " ".join([name, *words])


_WHICH = {"client": number, "count": _count, "skip": number, "p": _chance, "for": seconds}
VERBS: dict[str, Verb] = {
    "cut": Verb(
        "close the socket after that byte of the next MESSAGE; 0 is before its length, random as the seed says",
        {"byte": _byte, "message": message_name}, 2, _WHICH,
    ),
    "dup": Verb("send the next MESSAGE so many times more", {"times": number, "message": message_name}, 2, _WHICH),
    "lose": Verb(
        "leave the next MESSAGE out, or do not hear a request", {"message": message_name}, 1, _WHICH,
        (Side.TOLD, Side.ASKED),
    ),
    "swap": Verb(
        "send the next MESSAGE after the one that follows it, or after the next of another kind (with=)",
        {"message": message_name}, 1, {"with": message_name, **_WHICH},
    ),
    "lag": Verb(
        "hold the next MESSAGE or request back for so long", {"seconds": seconds, "message": message_name}, 2, _WHICH,
        (Side.TOLD, Side.ASKED),
    ),
    "drop_status": Verb("orderStatus is lost", {"count": _count}, 0, {"client": number}),
    "dup_status": Verb("orderStatus comes twice", {"count": _count}, 0, {"client": number}),
    "exec_before_status": Verb("orderStatus comes after the execution", {"count": _count}, 0, {"client": number}),
    "commission_delay": Verb("commissions are held back for so long", {"seconds": seconds}, 1, {"count": _count}),
    "withhold": Verb("report no commissions (on), or all that wait (off)", {"state": _word("on", "off")}, 1),
    "hole": Verb("half-open: sockets take bytes and say nothing", {}, 0, {"client": number, "for": seconds}),
    "drop": Verb("close sockets at once", {}, 0, {"client": number}),
    "junk": Verb(
        "send a malformed frame, a length that no message has, or random bytes",
        {"kind": _word("frame", "length", "bytes"), "size": number}, 1, {"client": number},
    ),
    "refuse": Verb("refuse logins for so long", {"seconds": seconds}, 1),
    "squat": Verb("another program holds a client id", {"client": number}, 1, {"for": seconds}),
    "reboot": Verb(
        "close every socket, start anew with order ids rolled back", {"ids": number}, 0, {"down": seconds}
    ),
    "restart": Verb("the daily restart: close every socket, come back after so long", {"down": seconds}),
    "say": Verb(
        "tell an IB code, with IB's text or another", {"code": number}, 1, {"client": number, "id": _request_id}
    ),
    "outage": Verb(
        "1100, 2103, 2105; after so long 2104, 2106 and 1102 (back=1101: data lost); reports of orders meanwhile are "
        "told, late or lost (fills=); with data=dead the data is lost although 1102 says it was kept",
        {"seconds": seconds}, 1,
        {"back": _word("1101", "1102"), "fills": _word("told", "late", "lost"), "data": _word("kept", "dead")},
    ),
    "reject": Verb("refuse a working order after all", {"code": number}, 0, {"ref": str}),
    "fill": Verb(
        "execute so much of the newest order, whatever it asked for and whether it works", {"quantity": _decimal}, 1,
        {"ref": str, "price": _decimal},
    ),
    "fix": Verb("correct an execution, by default the newest", {"exec_id": str}, 0,
                {"quantity": _decimal, "price": _decimal, "told": _word("yes", "no")}),
    "hand": Verb("a trade typed into TWS", {"symbol": str, "quantity": _decimal, "price": _decimal}, 2),
    "offfill": Verb(
        "a fill that nobody is told of", {"symbol": str, "quantity": _decimal}, 2,
        {"ref": str, "client": number, "price": _decimal},
    ),
    "move": Verb("a position changes without an execution", {"symbol": str, "quantity": _decimal}, 2),
    "cash": Verb("cash changes without an execution", {"currency": str, "amount": _decimal}, 2),
    "forget": Verb("lose the executions of the day"),
    "step": Verb(
        "let the next bars pass, one at a time; for a gateway with --clock step; 0 ends steps that are under way",
        {"count": number}, 0, {"every": seconds},
    ),
    "clear": Verb("end every fault that waits"),
    "status": Verb("list the faults that wait and those that happened"),
}  # fmt: skip
_FREE_TEXT = {"say"}
MOMENTS = ("after", "at", "daily", "when")


# lines


def parse(line: str, number_: int = 0) -> Planned:
    """Read one line.

    Raises: FaultError that names what is wrong, with the line's number unless that is 0.
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise FaultError(f"{error}.", number_) from error
    if not words:
        raise FaultError("There is no verb.", number_)
    try:
        moment, rest = _moment(words)
        return Planned(moment, _fault(rest), " ".join(words))
    except ValueError as error:
        raise FaultError(f"{error}.", number_) from error


def parse_script(text: str) -> list[Planned]:
    """Read a script; blank lines and comments are skipped.

    Raises: FaultError with the number of the first line that is wrong.
    """
    planned = []
    for place, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            planned.append(parse(line, place))
    return planned


def grammar() -> str:
    """Return the verbs, a line each, for help texts."""
    lines = [f"  {verb.usage(name)}\n      {verb.says}" for name, verb in VERBS.items()]
    return "\n".join(lines)


def _moment(words: list[str]) -> tuple[Moment, list[str]]:
    kind = words[0]
    if kind not in MOMENTS:
        return Moment(), words
    if len(words) < 3:
        raise ValueError(f"{kind!r} needs a moment and a verb after it")
    if kind == "after":
        return Moment(after_s=seconds(words[1])), words[2:]
    if kind in ("at", "daily"):
        return Moment(at=_clock(words[1]), daily=kind == "daily"), words[2:]
    message, rest, nth = message_name(words[1]), words[2:], 1
    if rest[0].isdigit():
        nth, rest = number(rest[0]), rest[1:]
    if not rest or not nth:
        raise ValueError("'when' needs a message, perhaps which one from 1 on, and a verb after it")
    return Moment(message=message, nth=nth), rest


def _fault(words: list[str]) -> Fault:
    name, verb = words[0], VERBS.get(words[0])
    if verb is None:
        raise ValueError(f"{name!r} is no verb; known are {', '.join(VERBS)}")
    given, free = _sorted(verb, words[1:], free_text=name in _FREE_TEXT)
    values: dict[str, Any] = {}
    for key, text in given.items():
        convert = verb.options.get(key) or verb.arguments[key]
        try:
            values[key] = convert(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    missing = [each for each in list(verb.arguments)[: verb.needed] if each not in values]
    if missing:
        raise ValueError(f"{name} needs {missing[0]}: {verb.usage(name)}")
    if free:
        values["text"] = " ".join(free)
    message = values.get("message")
    if isinstance(message, MessageName) and message.side not in verb.sides:
        raise ValueError(f"{name} works on what the gateway tells; {message.name} is what clients ask")
    return Fault(name, values, " ".join(words))


def _sorted(verb: Verb, words: Iterable[str], *, free_text: bool) -> tuple[dict[str, str], list[str]]:
    """Give every word its name; what is left over is free text, where the verb takes some."""
    given: dict[str, str] = {}
    free: list[str] = []
    positions = list(verb.arguments)
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in verb.options:
            given[key] = value
        elif equals and key.isidentifier() and not free_text:
            raise ValueError(f"there is no option {key!r}; known are {', '.join(verb.options) or 'none'}")
        elif positions:
            given[positions.pop(0)] = word
        elif free_text:
            free.append(word)
        else:
            raise ValueError(f"{word!r} is too much")
    return given, free
