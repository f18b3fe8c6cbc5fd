"""Everything that people decided about risk, read at once into memory. Immutable: a change makes a new one.

Owns: reading the rows, and what holds for an owner in a contract. Leaves: noticing changes (``risk_desk``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from strategies.models import Strategy
from trading.orders.facts import Standing
from trading.orders.limits import LimitBook, LimitRow
from trading.orders.trading_state import Override, OverrideAction, TradingState, combined, strictest
from trading.risk_models import RiskLimit, RiskLock, RiskOverride, RiskRevision, TradingControl

ACCOUNT = ""


@dataclass(frozen=True, slots=True)
class State:
    """A trading state with its reason."""

    state: TradingState
    reason: str
    since: datetime
    enabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Decisions:
    """All rows of one revision."""

    revision: int = 0
    limits: LimitBook = field(default_factory=LimitBook)
    states: dict[str, State] = field(default_factory=dict)
    overrides: Sequence[tuple[str, int, Override]] = ()
    locks: Sequence[tuple[str, int, datetime | None, str]] = ()
    max_weights: dict[str, Decimal] = field(default_factory=dict)

    def state_of(self, owner: str) -> TradingState:
        """Return what the account and the owner together may send."""
        return strictest(self.states[name].state for name in {ACCOUNT, owner} if name in self.states)

    def standing(self, owner: str, con_id: int, now: datetime) -> Standing:
        """Return what holds for an owner in a contract."""
        state = self.state_of(owner)
        reasons = [
            f"{name or 'account'}: {one.reason}"
            for name, one in self.states.items()
            if name in (ACCOUNT, owner) and one.state is state and state is not TradingState.ACTIVE
        ]
        overrides = [one for name, contract, one in self.overrides if name in ("", owner) and contract in (0, con_id)]
        locks = [
            text
            for name, contract, until, text in self.locks
            if name in ("", owner) and contract in (0, con_id) and (until is None or now < until)
        ]
        return Standing(
            state=state,
            state_reason="; ".join(reasons),
            override=combined(overrides),
            lock="; ".join(locks),
            allow_list=self.limits.allow_list(owner),
            max_weight=self.max_weights.get(owner),
        )


def read_revision() -> int:
    """Return the number that grows with every change."""
    return RiskRevision.objects.filter(name="risk").values_list("revision", flat=True).first() or 0


def read_decisions() -> Decisions:
    """Return everything as it stands; the revision is read first, so that a change meanwhile is read again."""
    revision = read_revision()
    limits = RiskLimit.objects.values_list("name", "value", "strategy", "con_id")
    return Decisions(
        revision=revision,
        limits=LimitBook(LimitRow(*row) for row in limits),
        states={
            row.owner: State(TradingState(row.state), row.reason, row.since, row.enabled_at)
            for row in TradingControl.objects.all()
        },
        overrides=[
            (row.strategy, row.con_id, Override(OverrideAction(row.action), row.multiplier))
            for row in RiskOverride.objects.all()
        ],
        locks=[(row.strategy, row.con_id, row.until, row.reason) for row in RiskLock.objects.filter(released_at=None)],
        max_weights=dict(Strategy.objects.values_list("symbol", "max_weight")),
    )
