"""Whose margin the account's margin is."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trading", "0005_sessions_and_work")]

    operations = [
        migrations.CreateModel(
            name="MarginReading",
            fields=[
                (
                    "account_id",
                    models.CharField(help_text="IB account.", max_length=32, primary_key=True, serialize=False),
                ),
                ("currency", models.CharField(help_text="Base currency, of every figure.", max_length=3)),
                ("at", models.DateTimeField(help_text="When it was read, UTC.")),
                (
                    "initial",
                    models.DecimalField(decimal_places=10, help_text="IB's InitMarginReq.", max_digits=28, null=True),
                ),
                (
                    "maintenance",
                    models.DecimalField(decimal_places=10, help_text="IB's MaintMarginReq.", max_digits=28, null=True),
                ),
                ("owners", models.JSONField(default=list, help_text="Of each owner: owner, initial, maintenance.")),
                (
                    "contracts",
                    models.JSONField(
                        default=list,
                        help_text="What closing each would release: con_id, symbol, quantity, initial, maintenance.",
                    ),
                ),
                (
                    "problem",
                    models.CharField(
                        blank=True, help_text="Why a part is not known, or the last try failed.", max_length=400
                    ),
                ),
            ],
        ),
    ]
