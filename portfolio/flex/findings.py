"""What comparing a statement with the books yields: findings, and what would settle them. Pure.

Rule: a finding that MATS can settle by itself carries the plan of how; one that it cannot is left open for a person.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from portfolio.flex.rows import TradeRow

Details = dict[str, object]


@dataclass(frozen=True, slots=True)
class Plan:
    """An adjustment that would settle a finding; ``propose`` leaves the decision to an operator."""

    kind: str  # portfolio.models.AdjustmentKind
    details: Details
    key: str
    effective_at: datetime
    reason: str
    propose: bool = False


@dataclass(slots=True)
class Finding:
    """One line that the books do not have as it stands in the statement. Identity: kind and key."""

    kind: str
    key: str
    text: str
    details: Details = field(default_factory=dict)
    plan: Plan | None = None  # book or propose this
    execution: TradeRow | None = None  # fold this
    commission: tuple[Decimal, str] | None = None  # fill this in for the execution named by ``key``


@dataclass(slots=True)
class Comparison:
    """The outcome of comparing one kind of row: how many agree, how many are none of ours, and the findings."""

    matched: int = 0
    before_opening: int = 0
    findings: list[Finding] = field(default_factory=list)
