"""Limits wide enough that a test of something else never meets one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from trading.orders.limits import SPECS, problem_with
from trading.risk_models import RiskLimit

OFF = {"allow_short": 1, "liquid_hours_only": 0, "self_cross": 0, "margin_cushion": 0, "what_if_margin": 0}


def lift_limits() -> None:
    """Set every limit of the account so wide that nothing is denied."""
    now = datetime.now(UTC)
    rows = []
    for spec in SPECS.values():
        if "account" not in spec.scopes:
            continue
        value = Decimal(OFF.get(spec.name, 100 if spec.unit == "fraction" else 1_000_000_000))
        value = Decimal(0) if spec.name == "reset_quiet_s" else value
        value = Decimal(2) if spec.name == "duplicate_window_s" else value
        value = Decimal(18) if spec.name == "active_orders" else value
        assert not problem_with(spec.name, value, "account")
        rows.append(RiskLimit(name=spec.name, value=value, reason="a test of something else", set_by="test", since=now))
    RiskLimit.objects.bulk_create(rows, ignore_conflicts=True)
