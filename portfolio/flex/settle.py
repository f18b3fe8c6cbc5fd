"""Settle one finding: fold what is missing, fill in a commission, book or propose an adjustment, or leave it open.

Rule: each finding has a savepoint of its own, so that one that the books refuse is open and the others are settled. A
key is booked once; what an operator turned down or took back stays so; what was booked by hand already, as far as
amount, currency and day can tell, is proposed instead of booked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction

from portfolio.adjustments import book_adjustment, propose_adjustment
from portfolio.facts import Booking, CashFact, FoldResult, PositionFact
from portfolio.flex.contracts import contract_of, fill_of, know_contracts
from portfolio.flex.findings import Finding, Plan
from portfolio.flex.rows import ContractRow, FlexFile
from portfolio.fold import Item, OwnerOf, fold_batch
from portfolio.models import Adjustment, AdjustmentState
from strategies.events import CommissionSnapshot, ContractSnapshot
from strategies.exceptions import MatsError

SOURCE = "flex"
_TWIN_DAYS = timedelta(days=7)
_TWIN_FIELDS = ("currency", "amount", "con_id", "exec_id")


@dataclass(slots=True)
class Outcome:
    """What became of a finding; ``known`` ones are in the books already and need no line."""

    settled: bool
    text: str
    name: str  # what it counts as
    known: bool = False
    adjustment: str = ""


@dataclass(slots=True)
class Settler:
    """Settles the findings of one file."""

    account_id: str
    file: FlexFile
    actor: str
    owner_of: OwnerOf
    now: datetime
    changes: FoldResult = field(default_factory=FoldResult)
    bookings: list[Booking] = field(default_factory=list)
    _contracts: dict[ContractRow, ContractSnapshot] = field(default_factory=dict)

    def fold(self, findings: Sequence[Finding]) -> list[Outcome]:
        """Fold missing executions and unknown commissions, together if they can be, else one by one."""
        try:
            with transaction.atomic():
                items = [item for finding in findings for item in self._items(finding)]
                result = fold_batch(self.account_id, items, self.owner_of, self.now)
        except MatsError:
            return [self._fold_one(finding) for finding in findings]
        self._add(result)
        return [_folded(finding) for finding in findings]

    def _fold_one(self, finding: Finding) -> Outcome:
        try:
            with transaction.atomic():
                result = fold_batch(self.account_id, list(self._items(finding)), self.owner_of, self.now)
        except MatsError as error:
            return Outcome(settled=False, text=error.message, name="open")
        self._add(result)
        return _folded(finding)

    def _items(self, finding: Finding) -> list[Item]:
        if finding.execution is not None:
            row = finding.execution
            if row.contract not in self._contracts:
                self._contracts[row.contract] = contract_of(row.contract)
            return [fill_of(row, self.account_id, self._contracts[row.contract])]
        if finding.commission is not None:
            return [CommissionSnapshot(finding.key, *finding.commission)]
        return []

    def _add(self, result: FoldResult) -> None:
        self.changes.new_executions += result.new_executions
        self.changes.commissions += result.commissions
        self.changes.contradictions += result.contradictions
        self._touch(result.touched_positions, result.touched_cash)

    def _touch(self, positions: Sequence[PositionFact], cash: Sequence[CashFact]) -> None:
        """Keep the latest word on each position and balance."""
        latest = {(one.strategy, one.con_id): one for one in [*self.changes.touched_positions, *positions]}
        balances = {(one.strategy, one.currency): one for one in [*self.changes.touched_cash, *cash]}
        self.changes.touched_positions = list(latest.values())
        self.changes.touched_cash = list(balances.values())

    def adjust(self, finding: Finding) -> Outcome:
        """Book or propose a finding's adjustment."""
        plan = finding.plan
        if plan is None:
            return Outcome(settled=False, text="", name="open")
        known = Adjustment.objects.filter(key=plan.key).first()
        if known is not None:
            return _known(known, plan)
        twin = self._twin(plan)
        deed = propose_adjustment if plan.propose or twin else book_adjustment
        try:
            with transaction.atomic():
                know_contracts(self.file, (plan.details.get("new_con_id"), plan.details.get("underlying_con_id")))
                booking = self._do(deed, plan)
        except MatsError as error:
            return Outcome(settled=False, text=error.message, name="open")
        self.bookings.append(booking)
        if deed is book_adjustment:
            self._touch(booking.touched_positions, booking.touched_cash)
            return Outcome(settled=True, text=booking.text, name="booked", adjustment=plan.key)
        why = f" It looks like {twin}, which was booked by hand." if twin else ""
        return Outcome(
            settled=False, text=f"Proposed; approve or reject it.{why}", name="proposed", adjustment=plan.key
        )

    def _do(self, deed: Callable[..., Booking], plan: Plan) -> Booking:
        return deed(
            self.account_id,
            plan.kind,
            plan.details,
            actor=self.actor,
            source=SOURCE,
            reason=plan.reason[:400],
            key=plan.key,
            effective_at=plan.effective_at,
            now=self.now,
        )

    def _twin(self, plan: Plan) -> str:
        """Return the key of an adjustment that a person booked and that says the same; empty when there is none."""
        near = (plan.effective_at - _TWIN_DAYS, plan.effective_at + _TWIN_DAYS)
        rows = Adjustment.objects.filter(
            account_id=self.account_id,
            kind=plan.kind,
            state=AdjustmentState.BOOKED,
            effective_at__range=near,
            undoes__isnull=True,
        )
        for row in rows.exclude(source=SOURCE):
            if _says_same(row.details, plan.details):
                return row.key
        return ""


def _known(row: Adjustment, plan: Plan) -> Outcome:
    if row.kind != plan.kind or not _says_same(row.details, plan.details):
        text = f"{row.key} is {row.state} with other content; correct it by hand."
        return Outcome(settled=False, text=text, name="open", adjustment=row.key)
    return Outcome(settled=True, text=f"{row.key} is {row.state}.", name="known", known=True, adjustment=row.key)


def _says_same(booked: object, planned: dict[str, object]) -> bool:
    if not isinstance(booked, dict):
        return False
    return all(_plain(booked.get(name)) == _plain(planned.get(name)) for name in _TWIN_FIELDS)


def _plain(value: object) -> object:
    try:
        return None if value in (None, "") else Decimal(str(value))
    except ArithmeticError:
        return value


def _folded(finding: Finding) -> Outcome:
    if finding.execution is not None:
        return Outcome(settled=True, text="The execution was booked.", name="booked")
    return Outcome(settled=True, text="The commission was filled in.", name="filled_in")
