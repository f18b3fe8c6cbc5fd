"""Marks whose prices stopped while their market was open."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("portfolio", "0004_units_without_a_trade")]

    operations = [
        migrations.AddField(
            model_name="mark",
            name="silent_since",
            field=models.DateTimeField(
                help_text="UTC; since when no price comes although the market is open: then the mark does not stand.",
                null=True,
            ),
        ),
    ]
