"""Prove positions and cash from the journal."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portfolio.management.commands._arctic import progress_line
from portfolio.verification import verify_ledger


class Command(BaseCommand):
    """Compare what is kept with the sum of what happened."""

    help = "Check that positions, cash and executions equal the sum of their movements; exits with 1 on a difference."

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify, list every difference, fail when there is one."""
        with progress_line(sys.stderr) as progress:
            found = verify_ledger(progress)
        self.stdout.write(
            f"{found.movements:,} movements, {found.executions:,} executions, "
            f"{found.positions:,} positions, {found.balances:,} balances checked."
        )
        for finding in found.findings:
            self.stderr.write(str(finding))
        if found.findings:
            raise CommandError(f"{len(found.findings)} figures differ from the journal.")
        self.stdout.write(self.style.SUCCESS("The books agree with their journal."))
