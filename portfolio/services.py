"""Every write to the books, by one name each.

Owns: the list. Leaves: the work to ``fold`` (fills and fees), ``adjustments`` and ``assignments`` (what is no fill),
``accounts`` (opening, allocation, IB's figures),
``snapshots`` (marks, equity) and ``reconcile`` (breaks). Rule: each is atomic, joins the caller's transaction, and may
be repeated.
"""

from portfolio.accounts import (
    allocate_strategy,
    ensure_account,
    initial_allocation,
    net_liquidation,
    open_account,
    rates_of,
    rates_within,
    record_account_values,
    without_allocation,
)
from portfolio.adjustments import (
    approve_adjustment,
    book_adjustment,
    preview_adjustment,
    propose_adjustment,
    reject_adjustment,
    undo_adjustment,
)
from portfolio.assignments import assign_execution, shares_of
from portfolio.fold import fold_batch
from portfolio.fx_rates import rates_at, record_rates
from portfolio.instruments import describe_contracts, ensure_instruments, undescribed_contracts
from portfolio.parking import discard_parked, park, parked_contracts, parked_waiting, retry_parked
from portfolio.reconcile import (
    cash_differences,
    compare_cash,
    compare_positions,
    ledger_quantities,
    moving_contracts,
    note_reconciled,
    store_holdings,
)
from portfolio.snapshots import note_silence, record_marks, take_equity_snapshot, thin_equity_snapshots
from portfolio.valuation import strategy_equity

__all__ = [
    "allocate_strategy",
    "approve_adjustment",
    "assign_execution",
    "book_adjustment",
    "cash_differences",
    "compare_cash",
    "compare_positions",
    "describe_contracts",
    "discard_parked",
    "ensure_account",
    "ensure_instruments",
    "fold_batch",
    "initial_allocation",
    "ledger_quantities",
    "moving_contracts",
    "net_liquidation",
    "note_reconciled",
    "note_silence",
    "open_account",
    "park",
    "parked_contracts",
    "parked_waiting",
    "preview_adjustment",
    "propose_adjustment",
    "rates_at",
    "rates_of",
    "rates_within",
    "record_account_values",
    "record_marks",
    "record_rates",
    "reject_adjustment",
    "retry_parked",
    "shares_of",
    "store_holdings",
    "strategy_equity",
    "take_equity_snapshot",
    "thin_equity_snapshots",
    "undescribed_contracts",
    "undo_adjustment",
    "without_allocation",
]
