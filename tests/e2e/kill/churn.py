"""What happens to the books beside the strategy's orders while engines die: at the broker and by command.

Owns: manual trades, corrections, cash at the broker, reports that cannot be booked, commands and their renewal when the
engine that took them died. Rule: a command is asked again with its own key until it is done or refused for good, as a
person would, so that each deed must be found in the books exactly once.
"""

from __future__ import annotations

import json
import random
import sqlite3
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.e2e.kill.engines import Engines
from tests.support.gateway_process import GatewayProcess

SPY, TLT, IWM = 756733, 15547841, 9579970
# Nothing was done, or nobody knows: ask again.
AGAIN = frozenset({"engine_died", "expired", "account_unknown", "books_busy", "outcome_unknown", "not_reconciled"})
# The books moved on under a request: it must be refused, never half done.
MAY_BE_REFUSED = frozenset({"assign_execution", "undo_adjustment"})
_INSERT = """
INSERT INTO trading_enginecommand (id, kind, args, idempotency_key, priority, state, epoch, user_id, source, created_at,
    expires_at, accepted_at, finished_at, result, error, error_code)
VALUES (?, ?, ?, NULL, 0, 'queued', NULL, NULL, 'api', ?, ?, NULL, NULL, NULL, '', '')
"""


@dataclass(slots=True)
class Wish:
    """A deed that is asked for until it is done."""

    kind: str
    args: dict[str, Any]
    command: str = ""
    state: str = "asked"  # done, refused
    asked: int = 0
    code: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    broker_after: Decimal = Decimal(0)  # cash that the broker books once it is done


class Churn:
    """One proof's events, drawn from one seed."""

    def __init__(self, engines: Engines, gateway: GatewayProcess, rng: random.Random) -> None:
        self.wishes: dict[str, Wish] = {}
        self.bad: dict[str, int] = {}  # exec id of a report that cannot be booked → turns until IB corrects it
        self.bad_ids: set[str] = set()
        self.done: Counter[str] = Counter()
        self._corrected: set[str] = set()
        self._assigned: set[str] = set()
        self._undone: set[str] = set()
        self._engines = engines
        self._gateway = gateway
        self._rng = rng

    def stir(self, point: str = "") -> None:
        """Let a few things happen; for a point that only some of them reach, one that reaches it."""
        if not self._is_open():
            return
        self.renew()
        if point in ("adjustment", "audit", "outcome"):
            self._deposit()
        if point == "park" and not self.bad_ids:
            self._bad_report()
        for chance, deed in (
            (0.30, self._trade_by_hand),
            (0.20, self._deposit),
            (0.10, self._dividend),
            (0.10, self._transfer),
            (0.20, self._assign),
            (0.20, self._correct),
            (0.10, self._undo),
            (0.02, self._bad_report),
        ):
            if self._rng.random() < chance:
                deed()
        self._heal()

    def settle(self) -> None:
        """Have the broker correct what cannot be booked."""
        self.bad = dict.fromkeys(self.bad, 0)
        self._heal()

    def renew(self) -> bool:
        """Take note of outcomes, ask again for what a dead engine left; tell whether nothing is open."""
        waiting = {wish.command: wish for wish in self.wishes.values() if wish.state == "asked"}
        rows = self._engines.query(
            "select id, state, error_code, error, result from trading_enginecommand where state not in"
            " ('queued', 'accepted') order by created_at desc limit 400"
        )
        for command, state, code, error, result in rows:
            wish = waiting.pop(command, None)
            if wish is None:
                continue
            if state == "done":
                wish.state, wish.result = "done", json.loads(result)
                if wish.broker_after:
                    self._gateway.book_cash("USD", wish.broker_after)
            elif code in AGAIN:
                self._ask(wish)
            else:
                assert wish.kind in MAY_BE_REFUSED, f"{wish.kind} {wish.args} was refused: {code} {error}"
                wish.state, wish.code = "refused", code
        return all(wish.state != "asked" for wish in self.wishes.values())

    def ask(self, kind: str, args: dict[str, Any], key: str = "") -> Wish:
        """Want something done; return the wish."""
        wish = self.wishes[key or uuid.uuid4().hex] = Wish(kind, args)
        self._ask(wish)
        return wish

    def _ask(self, wish: Wish) -> None:
        """Put a command into the table, as the console does."""
        wish.command, wish.asked = uuid.uuid4().hex, wish.asked + 1
        now = datetime.now(UTC)
        created, expires = (moment.strftime("%Y-%m-%d %H:%M:%S.%f") for moment in (now, now + timedelta(hours=1)))
        connection = sqlite3.connect(self._engines.database, timeout=20)
        with connection:
            connection.execute(_INSERT, (wish.command, wish.kind, json.dumps(wish.args), created, expires))
        connection.close()

    # what happens

    def _is_open(self) -> bool:
        return bool(
            self._engines.query(
                "select 1 from portfolio_account join portfolio_instrument on con_id = ? where opened_at is not null",
                (SPY,),
            )
        )

    def _cents(self) -> Decimal:
        return Decimal(self._rng.randint(1, 100_000)) / 100

    def _book(self, kind: str, details: dict[str, Any], **options: Any) -> Wish:
        self.done[kind] += 1
        key = f"{kind}-{len(self.wishes)}"
        args = {"kind": kind, "details": details, "reason": "the proof", "key": key}
        return self.ask("book_adjustment", args, key)

    def _deposit(self) -> None:
        amount = self._cents()
        self._gateway.book_cash("USD", amount)
        owner = self._rng.choice(["CHURN", "Discretionary"])
        self._book("deposit", {"owner": owner, "currency": "USD", "amount": str(amount)})

    def _dividend(self) -> None:
        amount = self._cents()
        self._gateway.book_cash("USD", amount)
        self._book("dividend", {"con_id": SPY, "currency": "USD", "amount": str(amount)})

    def _transfer(self) -> None:
        parties = ["CHURN", "Discretionary"]
        self._rng.shuffle(parties)
        details = {"from": parties[0], "to": parties[1], "currency": "USD", "amount": str(self._cents())}
        self._book("transfer_cash", details)

    def _undo(self) -> None:
        booked = [
            key
            for key, wish in self.wishes.items()
            if key.startswith("deposit-") and wish.state == "done" and key not in self._undone
        ]
        if booked:
            key = self._rng.choice(booked)
            wish = self.wishes[key]
            self._undone.add(key)
            self.done["undo"] += 1
            undo = self.ask("undo_adjustment", {"adjustment": wish.result["adjustment"], "reason": "the proof"})
            undo.broker_after = -Decimal(wish.args["details"]["amount"])

    def _trade_by_hand(self) -> None:
        self.done["by hand"] += 1
        quantity = self._rng.choice([-7, -2, 1, 4, 9])
        self._gateway.trade_by_hand(self._rng.choice([SPY, TLT]), Decimal(quantity))

    def _bad_report(self) -> None:
        """A share of nothing: such a price is no price, so the report waits until IB corrects it."""
        self.done["bad report"] += 1
        for exec_id in self._gateway.trade_by_hand(IWM, Decimal(5), Decimal(0)):
            self.bad[exec_id] = 4
            self.bad_ids.add(exec_id)

    def _heal(self) -> None:
        for exec_id, turns in list(self.bad.items()):
            self.bad[exec_id] = turns - 1
            if turns <= 0:
                del self.bad[exec_id]
                self._gateway.correct(exec_id, price=Decimal("150.25"))

    def _correct(self) -> None:
        found = self._pick("%", self._corrected)
        if found is None:
            return
        exec_id, quantity, price, ref = found
        self._corrected.add(family(exec_id))
        self.done["correction"] += 1
        larger = None if ref or self._rng.random() < 0.5 else abs(quantity) + 1
        self._gateway.correct(exec_id, quantity=larger, price=(price * Decimal("1.001")).quantize(Decimal("0.01")))

    def _assign(self) -> None:
        found = self._pick("Discretionary", self._assigned)
        if found is not None:
            self._assigned.add(family(found[0]))
            self.done["assignment"] += 1
            key = f"assign-{len(self.wishes)}"
            args = {"exec_id": found[0], "owner": "CHURN", "reason": "the proof", "key": key}
            self.ask("assign_execution", args, key)

    def _pick(self, owner: str, but: set[str]) -> tuple[str, Decimal, Decimal, str] | None:
        """Return one of the latest live executions that was not taken before: id, quantity, price, reference."""
        latest = self._engines.query(
            "select exec_id, quantity, price, order_ref from portfolio_execution where superseded = 0"
            " and instrument_id != ? and owner like ? order by id desc limit 12",
            (IWM, owner),
        )
        rows = [row for row in latest if family(row[0]) not in but]
        if not rows:
            return None
        exec_id, quantity, price, ref = self._rng.choice(rows)
        return exec_id, Decimal(str(quantity)), Decimal(str(price)), ref


def family(exec_id: str) -> str:
    """Return what the revisions of an execution share."""
    return exec_id.rpartition(".")[0]
