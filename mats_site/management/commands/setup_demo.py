"""``manage.py setup_demo``: what a first start needs, safe to run at every start."""

from __future__ import annotations

import argparse
import secrets
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

from mats_site.passwords import require_password_change
from strategies.exceptions import MatsError
from strategies.models import Strategy
from strategies.services import save_strategy
from trading.market.sample_data import load_sample_bars
from trading.risk_services import set_limit

DEMO_STRATEGIES: tuple[dict[str, Any], ...] = (
    {
        "symbol": "MA_CROSS",
        "name": "Moving-average cross",
        "description": "Long while the fast average of 5-second closes is above the slow one; SPY and TNA.",
        "filename": "ma_cross.py",
        "color": "#4dabf7",
        "active": True,
        "min_weight": Decimal("0.1"),
        "target_weight": Decimal("0.3"),
        "max_weight": Decimal("0.5"),
    },
    {
        "symbol": "MEAN_REV",
        "name": "Mean reversion",
        "description": "Buys and sells stretched distances from the mean of 5-second closes; SPY and TLT.",
        "filename": "mean_reversion.py",
        "color": "#f59f00",
        "active": True,
        "min_weight": Decimal("0.1"),
        "target_weight": Decimal("0.3"),
        "max_weight": Decimal("0.5"),
    },
)

# The paper gateway trades around the clock, whatever hours its contracts tell, and sixty times as fast as a market.
DEMO_LIMITS: tuple[tuple[str, str], ...] = (
    ("liquid_hours_only", "0"),
    ("orders_per_minute", "30"),
    ("orders_per_day", "10000"),
)
DEMO_REASON = "demo: the paper gateway trades around the clock, sixty times as fast as a market"


def set_demo_limits() -> None:
    """Set the limits that fit the paper gateway's clock; all others keep their defaults."""
    for name, value in DEMO_LIMITS:
        set_limit(name, Decimal(value), reason=DEMO_REASON, actor="setup_demo", source="cli")


class Command(BaseCommand):
    """First admin, sample bars, demo strategies: each only when missing."""

    help = (
        "Create the first administrator (printing a one-time password), load the sample bars and the demo strategies."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--no-demo",
            dest="demo",
            action="store_false",
            help="Only the administrator; no sample, no demo strategies.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is missing, say what was done."""
        self._first_admin()
        if options["demo"]:
            self._sample_bars()
            self._demo_strategies()

    def _first_admin(self) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        password = secrets.token_urlsafe(12)
        user = users.create_superuser("admin", password=password)
        require_password_change(user)
        self.stdout.write("\n  First administrator:  user  admin")
        self.stdout.write(f"                        one-time password  {password}")
        self.stdout.write("  It is shown only now and must be changed at the first login.\n")

    def _sample_bars(self) -> None:
        try:
            loaded = load_sample_bars()
        except MatsError as error:
            self.stderr.write(f"  Sample bars were not loaded: {error.message}")
            return
        if loaded:
            self.stdout.write(f"  Sample loaded: {sum(loaded.values()):,} minute bars of {len(loaded)} symbols.")

    def _demo_strategies(self) -> None:
        if Strategy.objects.exists():
            return
        for fields in DEMO_STRATEGIES:
            save_strategy(fields, user=None)
        set_demo_limits()
        names = ", ".join(str(fields["symbol"]) for fields in DEMO_STRATEGIES)
        self.stdout.write(f"  Demo strategies created: {names} (home {settings.MATS.mats_home}).")
