"""The line breaks at any byte of any message that an engine hears in a day of trading: the books stay exact.

CI cuts at a sample that ``MATS_CUT_SEED`` chooses; ``make prove`` at every byte.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.engine.harness import Rig, until
from tests.e2e.faults.truth import assert_books_hold, assert_sent_once, fault, figure, started
from trading.gateway.session import Session

pytestmark = pytest.mark.e2e
SEED = int(os.environ.get("MATS_CUT_SEED", "7"))
SHARES = 2_500  # one is filled for each cut; more than the account is worth may not be ordered
SAMPLE = int(os.environ.get("MATS_CUTS", "25"))
CUTS_BY_CHECK = 50  # between two looks at every invariant, which read the whole journal

MASTER, STRATEGY = 0, 1
ON_FILL = ("execDetails", "orderStatus", "openOrder", "commissionReport")
ON_LOGIN = ("greeting", "managedAccounts", "nextValidId")
ON_CHECK = (
    "accountValue", "portfolioValue", "accountTime", "accountDownloadEnd", "position", "positionEnd",
    "execDetailsEnd", "openOrderEnd", "completedOrder", "completedOrdersEnd",
)  # fmt: skip
PLACES = [
    *((message, client) for message in ON_FILL for client in (MASTER, STRATEGY)),
    *((message, client) for message in ("error", "managedAccounts", "nextValidId") for client in (MASTER, STRATEGY)),
    ("greeting", MASTER),
    *((message, MASTER) for message in ON_CHECK),
]


@dataclass
class Breaker:
    """An engine with a strategy whose order is filled share by share, and a line that is cut again and again."""

    rig: Rig
    engine: Any
    strategy: Any
    ref: str
    lengths: dict[str, int] = field(default_factory=dict)
    cuts: int = 0

    def watch(self) -> None:
        """Learn how long a frame is when it is cut."""
        wire: Any = self.rig.gateway.server.faults.wire
        apply: Callable[..., bool] = wire._apply

        def noting(rule: Any, key: int, frame: bytes, *rest: Any) -> bool:
            if rule.fault.verb == "cut":
                self.lengths[rule.message.name] = len(frame)
            return apply(rule, key, frame, *rest)

        wire._apply = noting

    def cut(self, message: str, client: int, byte: int) -> None:
        """Cut once at a byte of the next such message, cause it, wait until all lines are back."""
        before = self._session(client)
        line = f"cut {byte} {message}" if message == "greeting" else f"cut {byte} {message} client={client}"
        fired = self.rig.gateway.fired(line)
        fault(self.rig, line)
        self._provoke(message, client)
        until(lambda: self.rig.gateway.fired(line) > fired, 30.0, f"{message} came")
        self._fill()  # while the line is away
        until(lambda: (now := self._session(client)) is not None and now is not before, 30.0, "the client came back")
        until(lambda: self.engine.gate.is_open and self.strategy.is_connected, 30.0, "orders may flow")
        self.rig.assert_books_equal_broker()
        self.cuts += 1
        if self.cuts % CUTS_BY_CHECK == 0:
            assert_books_hold(self.rig, self.engine)

    def _fill(self) -> None:
        fault(self.rig, f"fill 1 ref={self.ref} price=1")

    def _session(self, client: int) -> Session | None:
        found: Session | None = figure(self.rig, lambda gateway: gateway.server.hub.context.sessions.get(client))
        return found

    def _provoke(self, message: str, client: int) -> None:
        if message in ON_FILL:
            self._fill()
        elif message in ON_LOGIN:
            fault(self.rig, f"drop client={client}")
        elif message == "error":
            fault(self.rig, f"say 2104 client={client}")
        elif client == MASTER:
            self.engine.session.request_check()


@pytest.fixture
def breaker(rig: Rig) -> Breaker:
    """One engine for many cuts."""
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    assert alpha.client_id == STRATEGY
    rig.trade(alpha, "SPY", 1)  # so that there is a completed order to tell of
    made = Breaker(rig, engine, alpha, rig.place(alpha, "SPY", SHARES, 1.0).order_ref)
    made.watch()
    return made


def test_books_are_exact_wherever_the_line_breaks(breaker: Breaker) -> None:
    chance = random.Random(SEED)
    places = chance.sample(PLACES, min(SAMPLE, len(PLACES)))
    cuts = [(message, client, chance.choice((0, 3, 4, chance.randrange(200)))) for message, client in places]
    print(f"MATS_CUT_SEED={SEED} MATS_CUTS={SAMPLE}: {cuts}")
    for message, client, byte in cuts:
        breaker.cut(message, client, byte)
    assert_books_hold(breaker.rig, breaker.engine)
    assert_sent_once(breaker.rig)


@pytest.mark.proof
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("message", "client"), PLACES)
def test_books_are_exact_after_a_cut_at_every_byte(breaker: Breaker, message: str, client: int) -> None:
    byte = 0
    while byte <= breaker.lengths.get(message, 0):
        breaker.cut(message, client, byte)
        byte += 1
    assert byte > 4
    assert_books_hold(breaker.rig, breaker.engine)
    assert_sent_once(breaker.rig)
    print(f"{message} to client {client}: {byte} cuts")
