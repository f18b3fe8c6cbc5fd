"""Reads of strategy metadata."""

from __future__ import annotations

from decimal import Decimal

from django.db.models import QuerySet, Sum

from strategies.exceptions import NotFoundError
from strategies.models import Strategy


def get_strategy(symbol: str, *, hold: bool = False) -> Strategy:
    """Return the strategy of that symbol; ``hold`` keeps other writers off its row until the transaction ends.

    Raises: NotFoundError (unknown_strategy).
    """
    rows = Strategy.objects.select_for_update() if hold else Strategy.objects.all()
    try:
        return rows.get(symbol=symbol)
    except Strategy.DoesNotExist as error:
        raise NotFoundError(f"There is no strategy {symbol!r}.", code="unknown_strategy", symbol=symbol) from error


def list_strategies(active_only: bool = False) -> QuerySet[Strategy]:
    """Return the strategies by symbol, or only those that «start all» starts."""
    rows = Strategy.objects.order_by("symbol")
    return rows.filter(active=True) if active_only else rows


def target_weight_total() -> Decimal:
    """Return Σ target_weight over all strategies; above 1 promises more than the account has."""
    total = Strategy.objects.aggregate(total=Sum("target_weight"))["total"]
    return Decimal(total or 0)
