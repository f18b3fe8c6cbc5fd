"""What may explain a break: facts of the books and of the broker that concern it, each with what can be done.

Owns: the list of causes that are looked for, their words and their ids. Leaves: comparing (``reconcile``), acting
(``adjustments``, ``assignments``, ``parking``).
Rule: deterministic, and no guessing: each line is a fact that was looked up; when nothing is found, that is said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from portfolio.bulk import chunks
from portfolio.ledger.money import plain
from portfolio.ledger.reconciliation import CENT, Difference, split_ratio
from portfolio.ledger.validity import UNSUPPORTED
from portfolio.models import (
    Adjustment,
    AdjustmentKind,
    AdjustmentState,
    Execution,
    Instrument,
    ParkedReport,
    ParkedState,
)
from strategies.models import DISCRETIONARY

NEW_YORK = ZoneInfo("America/New_York")
_ON_ALL = (AdjustmentKind.SPLIT, AdjustmentKind.SYMBOL_CHANGE, AdjustmentKind.EXPIRY)
_NAMED = 20  # ids in one line; the count tells the rest


@dataclass(frozen=True, slots=True)
class BrokerDay:
    """How the broker's complete replay of the day differs from the books.

    A day may have a million executions: what both sides have is counted and not kept.
    """

    executions: Mapping[str, int]  # contract by exec id, of the missing ones
    since: datetime  # executions of the books from here on must be among them
    missing: frozenset[str] = frozenset()  # the broker has them, the books do not
    unconfirmed: frozenset[str] = frozenset()  # the books have them, the broker does not


@dataclass(frozen=True, slots=True)
class Cause:
    """One fact that may explain a break."""

    kind: str
    text: str  # what was found, for a person
    action: str  # what an operator can do
    ids: list[str] = field(default_factory=list)
    count: int = 0

    def row(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"kind": self.kind, "text": self.text, "action": self.action, "ids": self.ids, "count": self.count}


UNEXPLAINED = Cause(
    "unexplained",
    "Nothing in the books and none of the broker's executions of the day explains it.",
    "Look in the broker's statement for a transfer, a corporate action or a trade of an earlier day: import the Flex "
    "statement, or book an adjustment (a receipt or delivery for units that moved without a trade).",
)


def day_start(now: datetime) -> datetime:
    """Return the last midnight in New York: since then IB reports executions."""
    local = now.astimezone(NEW_YORK)
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def of_position(
    account_id: str, con_id: int, broker: Decimal, ledger: Decimal, day: BrokerDay | None, now: datetime
) -> list[Cause]:
    """Return what may explain that the broker holds another quantity of a contract than the books."""
    return of_positions(account_id, [Difference(con_id, broker, ledger)], day, now)[con_id]


def of_positions(
    account_id: str, differences: Sequence[Difference], day: BrokerDay | None, now: datetime
) -> dict[int, list[Cause]]:
    """Return by contract what may explain each difference; as many queries for five hundred of them as for one."""
    con_ids = [one.con_id for one in differences]
    parked = _grouped(_parked_rows(con_ids))
    missing, unconfirmed = _day_rows(account_id, con_ids, day)
    by_hand = _grouped(_by_hand_rows(account_id, con_ids, now))
    proposed = _grouped(_proposed_rows(account_id, con_ids))
    strange = set(Instrument.objects.filter(con_id__in=con_ids, sec_type__in=UNSUPPORTED).values_list("pk", flat=True))
    found = {}
    for one in differences:
        con_id = one.con_id
        found[con_id] = [
            *_parked(parked[con_id]),
            *_unsupported(con_id in strange),
            *_of_day(missing[con_id], unconfirmed[con_id]),
            *_by_hand([exec_id for (exec_id,) in by_hand[con_id]]),
            *_proposals(proposed[con_id]),
            *_split(con_id, one.broker_quantity, one.ledger_quantity),
        ] or [UNEXPLAINED]
    return found


def of_cash(
    account_id: str, currency: str, difference: Decimal, tolerance: Decimal, day: BrokerDay | None
) -> list[Cause]:
    """Return what may explain that the broker has ``difference`` more cash than the books expect."""
    parked = ParkedReport.objects.filter(state=ParkedState.WAITING).order_by("id").values_list("key", "reason")
    missing, unconfirmed = _day_of_account(account_id, day)
    found = [
        *_parked(list(parked)),
        *_of_day(missing, unconfirmed),
        *_without_commission(account_id),
        *_amounts(account_id, currency, difference),
    ]
    if tolerance > CENT:
        found.append(
            Cause(
                "futures_open",
                f"Futures are held: their mark and the broker's cash may be of different moments, so up to "
                f"{plain(tolerance)} {currency} passes; this difference is larger.",
                "Compare again when the market is calm or the futures are closed.",
            )
        )
    return found or [
        Cause(
            "unexplained",
            f"No execution and no proposal explains {plain(difference)} {currency}.",
            "Look in the broker's statement for a deposit, withdrawal, dividend, interest or fee: import the Flex "
            "statement, or book it as an adjustment.",
        )
    ]


def as_json(causes: Iterable[Cause]) -> dict[str, Any]:
    """Return causes as a break keeps them: one line for a person, and the parts."""
    rows = list(causes)
    return {"text": " ".join(cause.text for cause in rows), "items": [cause.row() for cause in rows]}


Grouped = dict[int, list[tuple[Any, ...]]]


def _grouped(rows: Iterable[tuple[Any, ...]]) -> Grouped:
    """Return rows by their first column, each in its order and without it."""
    found: Grouped = defaultdict(list)
    for first, *rest in rows:
        found[first].append(tuple(rest))
    return found


def _parked_rows(con_ids: Iterable[int]) -> Iterator[tuple[Any, ...]]:
    for block in chunks(con_ids):
        rows = ParkedReport.objects.filter(con_id__in=block, state=ParkedState.WAITING).order_by("id")
        yield from rows.values_list("con_id", "key", "reason")


def _by_hand_rows(account_id: str, con_ids: Iterable[int], now: datetime) -> Iterator[tuple[Any, ...]]:
    for block in chunks(con_ids):
        rows = Execution.objects.filter(
            account_id=account_id,
            instrument_id__in=block,
            owner=DISCRETIONARY,
            order_ref="",
            superseded=False,
            executed_at__gte=day_start(now) - timedelta(hours=1),
        )
        yield from rows.order_by("id").values_list("instrument_id", "exec_id")


def _proposed_rows(account_id: str, con_ids: Iterable[int]) -> Iterator[tuple[Any, ...]]:
    for block in chunks(con_ids):
        rows = Adjustment.objects.filter(
            account_id=account_id, instrument_id__in=block, state=AdjustmentState.PROPOSED
        ).order_by("id")
        yield from rows.values_list("instrument_id", "id", "kind", "key")


def _day_rows(
    account_id: str, con_ids: Iterable[int], day: BrokerDay | None
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Return by contract the executions that the books lack, and those that the broker does not confirm."""
    missing: dict[int, list[str]] = defaultdict(list)
    unconfirmed: dict[int, list[str]] = defaultdict(list)
    if day is None:
        return missing, unconfirmed
    wanted = set(con_ids)
    for exec_id in _missing(day):
        con_id = day.executions.get(exec_id)
        if con_id in wanted:
            missing[con_id].append(exec_id)
    for con_id, exec_id in _unconfirmed_rows(account_id, day):
        if con_id in wanted:
            unconfirmed[con_id].append(exec_id)
    return missing, unconfirmed


def _day_of_account(account_id: str, day: BrokerDay | None) -> tuple[list[str], list[str]]:
    if day is None:
        return [], []
    return _missing(day), [exec_id for _, exec_id in _unconfirmed_rows(account_id, day)]


def _missing(day: BrokerDay) -> list[str]:
    if not day.missing:
        return []
    waiting = set(ParkedReport.objects.filter(state=ParkedState.WAITING).values_list("payload__exec_id", flat=True))
    return sorted(day.missing - waiting)


def _unconfirmed_rows(account_id: str, day: BrokerDay) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for block in chunks(sorted(day.unconfirmed)):
        rows = Execution.objects.filter(account_id=account_id, exec_id__in=block)
        found.extend(rows.order_by("exec_id").values_list("instrument_id", "exec_id"))
    return found


def _parked(waiting: Sequence[tuple[Any, ...]]) -> list[Cause]:
    if not waiting:
        return []
    reasons = "; ".join(sorted({reason for _, reason in waiting})[:3])
    return [
        Cause(
            "parked_report",
            f"{_many(len(waiting), 'report')} of the broker could not be booked: {reasons}",
            "Settle each: retry it when its reason is gone, or discard it.",
            [key for key, _ in waiting[:_NAMED]],
            len(waiting),
        )
    ]


def _of_day(missing: Sequence[str], unconfirmed: Sequence[str]) -> list[Cause]:
    found = []
    if missing:
        found.append(
            Cause(
                "missing_execution",
                f"The broker reports {_many(len(missing), 'execution')} that the books do not have.",
                "Reconcile once more; what stays missing comes with the Flex statement.",
                list(missing[:_NAMED]),
                len(missing),
            )
        )
    if unconfirmed:
        found.append(
            Cause(
                "unconfirmed_execution",
                f"The books have {_many(len(unconfirmed), 'execution')} of the day that the broker does not report.",
                "Compare with the broker's trade log: a gateway that was reset, or a trade that was busted. Correct it "
                "by an adjustment.",
                list(unconfirmed[:_NAMED]),
                len(unconfirmed),
            )
        )
    return found


def _unsupported(is_unsupported: bool) -> list[Cause]:
    if not is_unsupported:
        return []
    return [
        Cause(
            "unsupported_contract",
            "It is a contract for difference: no notional is exchanged and it is financed daily. These books do not "
            "keep CFDs; the position is the broker's alone, and cash will differ by its gains and its financing.",
            "Close it, or trade CFDs in another account; book its gains and financing as interest or fees.",
        )
    ]


def _by_hand(ids: list[str]) -> list[Cause]:
    if not ids:
        return []
    return [
        Cause(
            "manual_trade",
            f"{_many(len(ids), 'execution')} of the day came without a reference of MATS and went to {DISCRETIONARY}.",
            "Assign them to a strategy if they were meant for one.",
            ids[:_NAMED],
            len(ids),
        )
    ]


def _proposals(waiting: Sequence[tuple[Any, ...]]) -> list[Cause]:
    return [
        Cause(
            "proposed_adjustment",
            f"The adjustment {key} ({kind}) is proposed and not booked.",
            "Approve or reject it.",
            [str(number)],
            1,
        )
        for number, kind, key in waiting[:_NAMED]
    ]


def _split(con_id: int, broker: Decimal, ledger: Decimal) -> list[Cause]:
    ratio = split_ratio(ledger, broker)
    if ratio is None:
        return []
    numerator, denominator = ratio
    return [
        Cause(
            "split_ratio",
            f"The broker holds exactly {numerator}/{denominator} of what the books hold, as after a split of "
            f"{numerator} for {denominator}.",
            "If the company did split, book a split with these numbers.",
            [str(con_id), str(numerator), str(denominator)],
            1,
        )
    ]


def _without_commission(account_id: str) -> list[Cause]:
    rows = Execution.objects.filter(account_id=account_id, commission=None, superseded=False)
    ids = list(rows.order_by("-id").values_list("exec_id", flat=True)[: _NAMED + 1])
    if not ids:
        return []
    count = rows.count()
    return [
        Cause(
            "commission_unknown",
            f"The commission of {_many(count, 'execution')} is not known; the broker's cash may contain it.",
            "Reconcile once more; a commission that was lost comes with the Flex statement.",
            ids[:_NAMED],
            count,
        )
    ]


def _amounts(account_id: str, currency: str, difference: Decimal) -> list[Cause]:
    rows = Adjustment.objects.filter(account_id=account_id, state=AdjustmentState.PROPOSED).order_by("id")
    found = []
    for row in rows:
        amount = _amount(row.details)
        if amount is None or row.details.get("currency") != currency:
            continue
        if abs(abs(amount) - abs(difference)) <= CENT:
            found.append(
                Cause(
                    "proposed_adjustment",
                    f"The adjustment {row.key} ({row.kind}, {plain(amount)} {currency}) is proposed and not booked.",
                    "Approve or reject it.",
                    [str(row.id)],
                    1,
                )
            )
    return found[:_NAMED]


def _amount(details: Any) -> Decimal | None:
    try:
        return Decimal(details["amount"])
    except (KeyError, TypeError, ValueError, InvalidOperation):
        return None


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
