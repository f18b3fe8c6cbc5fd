"""All checks of the books in one pass: journal, invariants, ArcticDB.

Owns: which run, in one state of the database, and the exit code. Leaves: the checks themselves.
Rule: a check that cannot read its store fails as unreadable and the others go on; nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import DatabaseError, connection

from portfolio.arctic.registry import registered_engine_holder
from portfolio.verification.checks import Check, Checker, Outcome, Progress, registered_checks
from portfolio.verification.invariants import CHECKS, NOT_AT_REST, QUICK
from portfolio.verification.journal import verify_ledger
from strategies.exceptions import MatsError

DIFFERS, UNREADABLE = 1, 2


@dataclass(frozen=True, slots=True)
class Report:
    """Every check, in the order of its name."""

    checks: list[Check]

    @property
    def exit_code(self) -> int:
        """0 all hold, 1 something differs, 2 a store could not be read."""
        outcomes = {check.outcome for check in self.checks}
        return UNREADABLE if Outcome.UNREADABLE in outcomes else DIFFERS if Outcome.FAILS in outcomes else 0


def verify_all(progress: Progress | None = None, *, quick: bool = False, arctic: bool = True) -> Report:
    """Run every check; ``quick`` leaves out what reads the whole journal, ``arctic`` False the other store."""
    checkers: list[Checker] = [*(QUICK if quick else (journal_holds, *CHECKS)), *registered_checks()]
    if arctic:
        checkers.append(watermarks_agree if quick else stores_agree)
    with one_state():
        checks = [_run(checker, progress) for checker in checkers]
    checks += [Check(name, title, note="not checkable at rest") for name, title in NOT_AT_REST.items()]
    return Report(sorted(checks, key=lambda check: (int("".join(filter(str.isdigit, check.name))), check.name)))


def journal_holds(progress: Progress | None) -> Check:
    """I17: positions and cash are the fold of their movements."""
    check = Check("I17", "Positions, cash and executions are the fold of their movements")
    found = verify_ledger(progress)
    check.checked = found.movements
    check.note = f"{found.executions:,} executions, {found.positions:,} positions, {found.balances:,} balances"
    for finding in found.findings:
        check.fail(str(finding))
    return check


def stores_agree(progress: Progress | None) -> Check:
    """I8: every history row in ArcticDB is the one that the ledger makes."""
    from portfolio.verification.stores import verify_stores  # pandas and ArcticDB take a second to load

    report = verify_stores(progress=progress)
    check = Check("I8", "ArcticDB holds what the ledger makes", checked=report.rows)
    for finding in report.findings:
        check.fail(str(finding))
    _tell_behind(check, [str(one) for one in report.behind])
    return check


def watermarks_agree(progress: Progress | None) -> Check:
    """I8, quickly: every symbol in ArcticDB reaches as far as it was written."""
    from portfolio.verification.stores import verify_watermarks  # pandas and ArcticDB take a second to load

    report = verify_watermarks()
    check = Check("I8", "ArcticDB's symbols reach as far as they were written", checked=len(report.symbols))
    for finding in report.findings:
        check.fail(str(finding))
    return check


def _tell_behind(check: Check, behind: list[str]) -> None:
    """What is not projected yet is the engine's business while one runs, else a difference."""
    if registered_engine_holder():
        check.note = f"{len(behind)} symbols are behind a running engine" if behind else ""
        return
    for text in behind:
        check.fail(text)


def _run(checker: Checker, progress: Progress | None) -> Check:
    try:
        return checker(progress)
    except (MatsError, DatabaseError, OSError) as error:
        name = "I8" if checker in (stores_agree, watermarks_agree) else "I0"
        text = error.message if isinstance(error, MatsError) else str(error)
        return Check(name, "A store could not be read", note=text, unreadable=True)


@contextmanager
def one_state() -> Iterator[None]:
    """Read everything from one state of the database while the engine goes on writing.

    Not ``atomic``: on SQLite that would be an IMMEDIATE transaction, which keeps the engine from writing.
    """
    if connection.in_atomic_block:
        yield
        return
    isolation = " ISOLATION LEVEL REPEATABLE READ READ ONLY" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN" + isolation)
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")
