"""Why a strategy may not be deleted: its books.

Rule: executions, positions and cash name their owner as text and stay for ever; the row that explains them stays too.
"""

from __future__ import annotations

from portfolio.models import CashBalance, Execution, Movement, Position


def books_obstacle(symbol: str) -> str | None:
    """Return the sentence that forbids deleting the strategy, None when it owns nothing."""
    held = sum(1 for row in Position.objects.filter(owner=symbol) if row.quantity)
    if held:
        return f"It holds {held} open position{'s' if held > 1 else ''}; flatten it first."
    count = Execution.objects.filter(owner=symbol).count()
    if count:
        return f"It owns {count} execution{'s' if count > 1 else ''}, which stay in the books; deactivate it instead."
    if any(row.amount for row in CashBalance.objects.filter(owner=symbol)):
        return "It holds allocated cash; deactivate it instead."
    if Movement.objects.filter(owner=symbol).exists():
        return "The books name it: it was given cash or positions once; deactivate it instead."
    return None
