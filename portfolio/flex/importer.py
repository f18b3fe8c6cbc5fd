"""Import one Flex file into the books: compare, settle what can be settled, keep the rest as open findings.

Owns: the order of things and what is recorded. Rule: each finding is a savepoint: a bad row loses nothing but itself.
Executions may be folded before in slices, each a transaction of its own (``prepare``, ``fold_slice``), so that live
fills need not wait for ten thousand of them; what is left, and everything that depends on holdings, is one transaction
at the end. A crash leaves whole slices and no record of the file: imported again, it finds the rest.
The same file twice is known by its digest; an overlapping one by execution and transaction ids.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from portfolio.bulk import insert_rows
from portfolio.facts import FoldResult
from portfolio.flex import store
from portfolio.flex.corporate import corporate_findings, option_findings
from portfolio.flex.ending import ending_findings
from portfolio.flex.events import cash_findings
from portfolio.flex.findings import Comparison, Details, Finding
from portfolio.flex.known import known_books
from portfolio.flex.match import compare_trades
from portfolio.flex.parse import parse_flex
from portfolio.flex.report import FlexReport, ReportLine
from portfolio.flex.rows import FlexFile
from portfolio.flex.settle import Outcome, Settler
from portfolio.fold import OwnerOf
from portfolio.models import Account, Adjustment, AdjustmentState, FindingState, FlexFinding, FlexStatement
from strategies.events import FillSnapshot
from strategies.exceptions import ConflictError, NotFoundError
from strategies.models import DISCRETIONARY, Strategy
from strategies.ordering import take_turn

logger = logging.getLogger(__name__)

Source = str | Path | bytes
_FINDING = ("statement_id", "kind", "key", "text", "details", "state", "resolution")


@dataclass(slots=True)
class Prepared:
    """A file that was read and compared; ``foldable`` are its executions and commissions that the books lack."""

    file: FlexFile
    digest: str
    foldable: list[Finding] = field(default_factory=list)
    folded: list[tuple[Finding, Outcome]] = field(default_factory=list)  # in slices, and committed

    def slices(self, size: int) -> Iterator[list[Finding]]:
        """Cut what is to be folded; nothing when it is one slice at most, which the import takes itself."""
        starts = range(0, len(self.foldable), size) if len(self.foldable) > size else range(0)
        return (self.foldable[start : start + size] for start in starts)


def prepare(source: Source, *, account_id: str) -> Prepared:
    """Read and keep a file and compare its executions with the books as they stand; books nothing, on any thread.

    Raises: as ``import_statement``.
    """
    data = store.read(source)
    prepared = Prepared(parse_flex(data, account_id), store.keep(data))
    account = _opened(account_id)
    if not FlexStatement.objects.filter(sha256=prepared.digest).exists():
        trades = compare_trades(prepared.file.statements, known_books(prepared.file, account))
        prepared.foldable = [one for one in trades.findings if _is_foldable(one)]
    return prepared


def fold_slice(
    prepared: Prepared,
    part: Sequence[Finding],
    *,
    actor: str,
    now: datetime,
    owner_of: OwnerOf | None = None,
) -> tuple[FoldResult, list[tuple[Finding, Outcome]]]:
    """Fold some of the missing executions and commissions; what came by another way meanwhile is known by its id.

    Note the outcomes in ``prepared.folded`` once the transaction is committed.
    """
    with transaction.atomic():
        take_turn()
        owner = owner_of or owner_by_reference()
        settler = Settler(prepared.file.account_id, prepared.file, actor, owner, now)
        outcomes = [
            (finding, outcome)
            for finding, outcome in zip(part, settler.fold(part), strict=True)
            if outcome.settled  # the others are tried again, and told, by the import
        ]
        return settler.changes, outcomes


def import_statement(
    source: Source | Prepared, *, account_id: str, actor: str, now: datetime, owner_of: OwnerOf | None = None
) -> FlexReport:
    """Import a file (a kept one by its SHA-256, any by its path, or bytes) inside the caller's transaction.

    ``owner_of`` tells whose a missing execution is; without it the strategy that its order reference names.
    Raises: ConfigError when the file is refused as a whole; NotFoundError for an unknown file or account;
    ConflictError while the account's books are not opened.
    """
    if not isinstance(source, Prepared):
        data = store.read(source)
        source = Prepared(parse_flex(data, account_id), store.keep(data))
    file, digest = source.file, source.digest
    with transaction.atomic():
        take_turn()
        account = _opened(account_id)
        _close_decided(account)
        report = _report(file, digest)
        before = FlexStatement.objects.filter(sha256=digest).first()
        if before is not None:
            return _repeat(report, before)
        settler = Settler(account_id, file, actor, owner_of or owner_by_reference(), now)
        _settle(file, account, settler, report, source.folded)
        _record(report, file, account, actor, now)
    logger.info("flex statement imported account=%s sha256=%s open=%d", account_id, digest, len(report.open_findings))
    return report


def check_statement(source: Source, *, account_id: str) -> FlexReport:
    """Compare a file with the books and book nothing; cash and positions are those of the books as they stand.

    Raises: as ``import_statement``.
    """
    data = store.read(source)
    file = parse_flex(data, account_id)
    account = _opened(account_id)
    report = _report(file, hashlib.sha256(data).hexdigest())
    counts: Counter[str] = Counter()
    for finding in _compare(file, account, counts) + ending_findings(file, account):
        known = finding.plan is not None and Adjustment.objects.filter(key=finding.plan.key).exists()
        counts["known" if known else "open"] += 1
        if not known:
            text = _would(finding)
            report.findings.append(ReportLine(finding.kind, finding.key, finding.text, "open", text, finding.details))
    report.counts = dict(counts)
    return report


def owner_by_reference() -> OwnerOf:
    """Return the rule that gives an execution to the strategy that its order reference names, else to Discretionary."""
    symbols = frozenset(Strategy.objects.values_list("symbol", flat=True))

    def owner_of(fill: FillSnapshot) -> str:
        named = fill.order_ref.partition("/")[0]
        return named if named in symbols else DISCRETIONARY

    return owner_of


def _opened(account_id: str) -> Account:
    account = Account.objects.filter(account_id=account_id).first()
    if account is None:
        raise NotFoundError(f"There are no books of account {account_id}.", account=account_id)
    if account.opened_at is None:
        raise ConflictError(
            f"The books of {account_id} are not opened yet; connect the engine once, then import.", code="not_opened"
        )
    return account


def _report(file: FlexFile, digest: str) -> FlexReport:
    passed: Counter[str] = Counter()
    for statement in file.statements:
        passed.update(statement.passed_over)
    return FlexReport(digest, file.account_id, file.query_name, file.from_date, file.to_date, passed_over=dict(passed))


def _compare(file: FlexFile, account: Account, counts: Counter[str]) -> list[Finding]:
    """Return all findings but those of cash and positions at the end."""
    trades = compare_trades(file.statements, known_books(file, account))
    executions = {row.trade_id: row.exec_id for one in file.statements for row in one.trades if row.trade_id}
    parts: list[Comparison] = [
        trades,
        cash_findings(file.statements, account.opened_at, {key: name for key, name in executions.items() if name}),
        option_findings(file.statements, account.opened_at),
        corporate_findings(file.statements, account.opened_at),
    ]
    counts["trades"] = sum(len(one.trades) for one in file.statements)
    counts["matched"] = trades.matched
    counts["before_opening"] = sum(part.before_opening for part in parts)
    unreadable = [
        Finding(
            "unreadable",
            f"{bad.section}:{bad.name or bad.number}",
            f"Row {bad.number} of {bad.section} cannot be read: {bad.text}.",
            {"section": bad.section, "row": bad.number, "name": bad.name},
        )
        for one in file.statements
        for bad in one.bad
    ]
    return [finding for part in parts for finding in part.findings] + unreadable


def _is_foldable(finding: Finding) -> bool:
    return finding.execution is not None or finding.commission is not None


def _settle(
    file: FlexFile,
    account: Account,
    settler: Settler,
    report: FlexReport,
    folded: Sequence[tuple[Finding, Outcome]],
) -> None:
    counts: Counter[str] = Counter()
    findings = _compare(file, account, counts)
    counts["matched"] -= sum(finding.execution is not None for finding, _ in folded)
    _add_lines(report, counts, folded)
    # Executions first: fees are of them, and dividends and options go by who holds what.
    foldable = [one for one in findings if _is_foldable(one)]
    _add_lines(report, counts, zip(foldable, settler.fold(foldable), strict=True))
    others = [one for one in findings if not _is_foldable(one)]
    _add_lines(report, counts, ((one, settler.adjust(one)) for one in others))
    _add_lines(report, counts, ((one, settler.adjust(one)) for one in ending_findings(file, account)))
    report.counts = dict(counts)
    report.changes, report.bookings = settler.changes, settler.bookings


def _add_lines(report: FlexReport, counts: Counter[str], outcomes: Iterable[tuple[Finding, Outcome]]) -> None:
    for finding, outcome in outcomes:
        counts[outcome.name] += 1
        if outcome.known:
            continue
        state = FindingState.RESOLVED if outcome.settled else FindingState.OPEN
        details: Details = {**finding.details, **({"adjustment": outcome.adjustment} if outcome.adjustment else {})}
        report.findings.append(ReportLine(finding.kind, finding.key, finding.text, str(state), outcome.text, details))


def _record(report: FlexReport, file: FlexFile, account: Account, actor: str, now: datetime) -> None:
    statement = FlexStatement.objects.create(
        account=account,
        sha256=report.sha256,
        query_name=file.query_name,
        from_date=file.from_date,
        to_date=file.to_date,
        generated_at=file.generated_at,
        imported_at=now,
        actor=actor,
        counts={**report.counts, "passed_over": report.passed_over},
    )
    report.statement_id = statement.pk
    rows: dict[tuple[str, str], tuple[object, ...]] = {}
    for line in report.findings:
        kind, key = line.kind[:24], line.key[:90]
        while (kind, key) in rows:  # two rows that IB gave the same name
            stem, _, number = key.rpartition("~")
            key = f"{stem}~{int(number) + 1}" if stem and number.isdigit() else f"{key}~2"
        details = json.dumps(line.details, cls=DjangoJSONEncoder)
        rows[kind, key] = (statement.pk, kind, key, line.text[:400], details, line.state, line.resolution[:400])
    insert_rows(FlexFinding, _FINDING, rows.values())


def _repeat(report: FlexReport, before: FlexStatement) -> FlexReport:
    report.statement_id, report.repeated = before.pk, True
    report.counts = {name: value for name, value in before.counts.items() if isinstance(value, int)}
    report.findings = [
        ReportLine(row.kind, row.key, row.text, row.state, row.resolution, row.details)
        for row in before.findings.order_by("id")
    ]
    return report


def _close_decided(account: Account) -> None:
    """Close the findings whose proposal was decided since."""
    waiting = FlexFinding.objects.filter(
        statement__account=account, state=FindingState.OPEN, details__has_key="adjustment"
    )
    for row in waiting:
        key = row.details["adjustment"]
        decided = Adjustment.objects.filter(key=key).exclude(state=AdjustmentState.PROPOSED).first()
        if decided is not None and row.resolution.startswith("Proposed"):
            row.state, row.resolution = FindingState.RESOLVED, f"{key} is {decided.state}."
            row.save(update_fields=["state", "resolution"])


def _would(finding: Finding) -> str:
    if finding.execution is not None:
        return "An import would book the execution."
    if finding.commission is not None:
        return "An import would fill in the commission."
    if finding.plan is None:
        return ""
    return f"An import would {'propose' if finding.plan.propose else 'book'} a {finding.plan.kind}."
