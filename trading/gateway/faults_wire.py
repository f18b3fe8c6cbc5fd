"""What happens to each frame while faults are in force: sent, cut, repeated, left out, swapped or late.

Owns: the rules in force, whom they meet, how often; frames that wait. Pure: no sockets, no clock, chance by a seed.
Leaves: writing and closing (``server``), what a rule is made of (``faults``).
Rule: the first rule that meets a frame decides; the same seed and the same frames give the same faults.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from trading.gateway.faults import ALL, ANY, HANDSHAKE, RANDOM, Fault, MessageName, Side

SWAP_S = 2.0  # a message that waits for another goes after so long in any case
_PREFIX = 4


@dataclass(slots=True)
class Rule:
    """One wire fault in force; ``left`` counts down, ALL is without end."""

    fault: Fault
    message: MessageName
    left: int
    skip: int = 0
    client: int | None = None
    chance: float = 1.0
    until_s: float | None = None
    partner: MessageName | None = None
    triggers: Fault | None = None
    line: str = ""
    fired: int = 0

    @property
    def text(self) -> str:
        """The rule as it was given."""
        return self.line or self.fault.text


@dataclass(slots=True)
class Sent:
    """What is to be written for one client, and whether its socket is to be closed after it."""

    frames: list[bytes] = field(default_factory=list)
    close: bool = False


@dataclass(slots=True)
class _Held:
    frame: bytes
    partner: MessageName | None
    until_s: float


class WireFaults:
    """The rules in force for all clients of a gateway. Units: seconds of a monotonic clock."""

    def __init__(self, seed: int = 0) -> None:
        self.rules: list[Rule] = []
        self.fired: Counter[str] = Counter()
        self.triggered: list[Fault] = []
        self._random = random.Random(seed)  # noqa: S311 - repeatable trouble, no secret
        self._late: list[tuple[float, int, int, bytes]] = []  # due, number, key, frame
        self._held: dict[int, list[_Held]] = {}
        self._numbers = count()

    @property
    def is_idle(self) -> bool:
        """Tell whether every frame passes as it is."""
        return not (self.rules or self._late or self._held)

    def add(self, rule: Rule) -> None:
        """Put a rule in force, after those that are."""
        self.rules.append(rule)

    def clear(self) -> None:
        """End every rule; frames that wait go out at the next look."""
        self.rules.clear()
        self._late = [(0.0, number, key, frame) for _, number, key, frame in self._late]
        for held in self._held.values():
            for each in held:
                each.until_s = 0.0

    def forget(self, key: int) -> None:
        """Drop what waits for a socket that is gone."""
        self._held.pop(key, None)
        self._late = [late for late in self._late if late[2] != key]
        heapq.heapify(self._late)

    # what the gateway tells

    def outgoing(self, key: int, client_id: int, frames: Iterable[bytes], now_s: float) -> Sent:
        """Decide on frames for the socket ``key``; each is whole, with its length."""
        sent = Sent(self._due(key, now_s))
        for frame in frames:
            rule = self._rule(Side.TOLD, kind_of(frame), client_id, now_s)
            if rule is None:
                self._pass(key, frame, sent)
            elif self._apply(rule, key, frame, now_s, sent):
                break
        return sent

    def _due(self, key: int, now_s: float) -> list[bytes]:
        due: list[tuple[float, int, int, bytes]] = []
        waiting: list[tuple[float, int, int, bytes]] = []
        while self._late and self._late[0][0] <= now_s:
            late = heapq.heappop(self._late)
            (due if late[2] == key else waiting).append(late)
        for late in waiting:
            heapq.heappush(self._late, late)
        held = self._held.get(key, [])
        over = [each.frame for each in held if each.until_s <= now_s]
        self._keep(key, [each for each in held if each.until_s > now_s])
        return [frame for *_, frame in due] + over

    def _keep(self, key: int, held: list[_Held]) -> None:
        if held:
            self._held[key] = held
        else:
            self._held.pop(key, None)

    def _pass(self, key: int, frame: bytes, sent: Sent) -> None:
        sent.frames.append(frame)
        held = self._held.get(key)
        if not held:
            return
        kind = kind_of(frame)
        freed = [each for each in held if each.partner is None or _is(each.partner, kind)]
        sent.frames += [each.frame for each in freed]
        self._keep(key, [each for each in held if each not in freed])

    def _apply(self, rule: Rule, key: int, frame: bytes, now_s: float, sent: Sent) -> bool:
        """Do what a rule says with a frame; return True when the socket ends with it."""
        fault = rule.fault
        if fault.verb == "cut":
            at = fault.get("byte")
            sent.frames.append(frame[: self._random.randrange(len(frame)) if at == RANDOM else at])
            sent.close = True
            return True
        if fault.verb == "dup":
            for _ in range(1 + fault.get("times")):
                self._pass(key, frame, sent)
        elif fault.verb == "lag":
            heapq.heappush(self._late, (now_s + fault.get("seconds"), next(self._numbers), key, frame))
        elif fault.verb == "swap":
            self._held.setdefault(key, []).append(_Held(frame, rule.partner, now_s + SWAP_S))
        elif fault.verb != "lose":
            self._pass(key, frame, sent)
        return False

    # what clients ask

    def incoming(self, client_id: int, message_id: str, now_s: float) -> float | None:
        """Return for how long a request is held back; 0 for not at all, None when it is not heard."""
        rule = self._rule(Side.ASKED, message_id, client_id, now_s)
        if rule is None:
            return 0.0
        return None if rule.fault.verb == "lose" else float(rule.fault.get("seconds"))

    # rules

    def _rule(self, side: Side, kind: str, client_id: int, now_s: float) -> Rule | None:
        for rule in self.rules:
            if not self._meets(rule, side, kind, client_id, now_s):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.chance < 1 and self._random.random() >= rule.chance:
                continue
            self._fire(rule)
            if rule.triggers is None:
                return rule
        return None

    def _meets(self, rule: Rule, side: Side, kind: str, client_id: int, now_s: float) -> bool:
        if rule.left == 0 or rule.message.side is not side or (rule.until_s is not None and now_s >= rule.until_s):
            return False
        return _is(rule.message, kind) and rule.client in (None, client_id)

    def _fire(self, rule: Rule) -> None:
        rule.fired += 1
        self.fired[rule.text] += 1
        if rule.left != ALL:
            rule.left -= 1
        if rule.triggers is not None:
            self.triggered.append(rule.triggers)

    def sweep(self, now_s: float) -> None:
        """Let go of rules that are over."""
        if any(_is_over(rule, now_s) for rule in self.rules):
            self.rules = [rule for rule in self.rules if not _is_over(rule, now_s)]

    def take_triggered(self) -> Sequence[Fault]:
        """Return the faults whose message came, once."""
        triggered, self.triggered = self.triggered, []
        return triggered


def kind_of(frame: bytes) -> str:
    """Return the message id of a frame; the greeting has none, its first field is the version."""
    kind = frame[_PREFIX : frame.find(0, _PREFIX)].decode("ascii", "replace")
    return HANDSHAKE if kind.isdigit() and int(kind) >= 151 else kind


def _is(message: MessageName, kind: str) -> bool:
    return message.name == ANY or kind in (message.number, message.name)


def _is_over(rule: Rule, now_s: float) -> bool:
    return rule.left == 0 or (rule.until_s is not None and now_s >= rule.until_s)
