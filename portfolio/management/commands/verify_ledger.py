"""Prove the books: journal, invariants, ArcticDB."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portfolio.management.commands._arctic import progress_line
from portfolio.verification import Check, Report, verify_all


class Command(BaseCommand):
    """Check everything that can be checked at rest."""

    help = (
        "Check that positions, cash and executions equal the sum of their movements, that the accounting invariants "
        "hold, and that ArcticDB holds what the ledger makes. Writes nothing; may run beside the engine. "
        "Exits with 1 on any difference, with 2 when a store could not be read."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How much, and how to say it."""
        parser.add_argument("--quick", action="store_true", help="leave out what reads the whole journal")
        parser.add_argument("--no-arctic", action="store_true", help="leave ArcticDB out")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify, list every difference, fail when there is one."""
        with progress_line(sys.stderr) as progress:
            report = verify_all(progress, quick=options["quick"], arctic=not options["no_arctic"])
        if options["json"]:
            self.stdout.write(json.dumps(_plain(report), indent=2))
        else:
            for check in report.checks:
                self._tell(check)
        if report.exit_code:
            total = sum(check.found for check in report.checks)
            what = f"{total} figures differ." if report.exit_code == 1 else "A store could not be read."
            raise CommandError(what, returncode=report.exit_code)
        if not options["json"]:
            self.stdout.write(self.style.SUCCESS("The books agree with their journal."))

    def _tell(self, check: Check) -> None:
        note = f" ({check.note})" if check.note else ""
        self.stdout.write(f"{check.name:4} {check.outcome:10} {check.title}: {check.checked:,} checked{note}")
        for finding in check.findings:
            self.stderr.write(f"     {finding}")
        if check.found > len(check.findings):
            self.stderr.write(f"     … and {check.found - len(check.findings):,} more")


def _plain(report: Report) -> dict[str, Any]:
    return {
        "exit_code": report.exit_code,
        "checks": [
            {
                "name": check.name,
                "title": check.title,
                "outcome": check.outcome.value,
                "checked": check.checked,
                "found": check.found,
                "findings": check.findings,
                "note": check.note,
            }
            for check in report.checks
        ],
    }
