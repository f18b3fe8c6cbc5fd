"""The ledger's tables: whose money it is.

Rule: executions and movements are immutable; positions and cash are their fold and can be rebuilt from them.
Owner columns hold a strategy symbol or ``Discretionary`` as text, so that no deletion can touch the books.
Single writer: ``portfolio.services``, called by the engine's message thread inside one transaction per batch.
"""

from portfolio.models.accounts import (
    Account,
    AccountValue,
    FormerTicker,
    Instrument,
)
from portfolio.models.breaks import (
    Break,
    BreakKind,
    BreakState,
    BrokerHolding,
)
from portfolio.models.journal import (
    Adjustment,
    AdjustmentKind,
    AdjustmentState,
    CashBalance,
    Execution,
    Movement,
    MovementKind,
    ParkedReport,
    ParkedState,
    PendingCommission,
    Position,
)
from portfolio.models.marks import (
    EquitySnapshot,
    FxRate,
    HourlySnapshot,
    Mark,
)
from portfolio.models.stores import (
    ArcticParcel,
    FindingState,
    FlexFinding,
    FlexStatement,
    ProjectionCursor,
)

__all__ = [
    "Account",
    "AccountValue",
    "Adjustment",
    "AdjustmentKind",
    "AdjustmentState",
    "ArcticParcel",
    "Break",
    "BreakKind",
    "BreakState",
    "BrokerHolding",
    "CashBalance",
    "EquitySnapshot",
    "Execution",
    "FindingState",
    "FlexFinding",
    "FlexStatement",
    "FormerTicker",
    "FxRate",
    "HourlySnapshot",
    "Instrument",
    "Mark",
    "Movement",
    "MovementKind",
    "ParkedReport",
    "ParkedState",
    "PendingCommission",
    "Position",
    "ProjectionCursor",
]
