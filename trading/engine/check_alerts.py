"""What the checks of the books tell people: the events and alerts of breaks, executions and parked reports.

Owns: keys, severity and words of these alerts. Leaves: finding out (``portfolio``), writing them (``trading.alerts``).
Rule: every function runs inside the transaction of the fact that it tells of; what is over is cleared in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from portfolio.causes import BrokerDay
from portfolio.facts import BreakFact, Contradiction
from portfolio.ledger.money import plain
from portfolio.models import ParkedReport, ParkedState
from strategies.models import Strategy
from trading.alerts import Trouble, clear_alert, clear_alerts, raise_alert, raise_alerts
from trading.channels import OWN_ALERT
from trading.engine import events
from trading.engine.events import Event, EventKind
from trading.engine.ladder import Concern
from trading.models import Alert, Severity

EXECUTIONS = "executions:differ"
COMMISSIONS = "commissions:unknown"
STORE = "arctic:space"
LINK = "link"
RESET = "link:reset"
_PARKED = "parked:"
_SILENT = "data:silent:"
_NAMED = 10


def report_breaks(facts: Sequence[BreakFact], now: datetime) -> None:
    """Write the events of breaks that opened, changed or cleared, and their alerts."""
    events.write([Event(EventKind.BREAK, events.break_payload(fact), at=now) for fact in facts])
    clear_alerts((fact.alert_key for fact in facts if fact.state == "cleared"), now)
    raise_alerts((_trouble(fact) for fact in facts if fact.state != "cleared"), now)


def _trouble(fact: BreakFact) -> Trouble:
    is_position = fact.kind == "position"
    what = f"{fact.symbol} ({fact.con_id})" if is_position else f"Cash in {fact.currency}"
    return Trouble(
        fact.alert_key,
        Severity.CRITICAL if is_position else Severity.WARNING,
        f"{what}: IB has {plain(fact.ib_quantity)}, the books {plain(fact.ledger_quantity)}",
        _explained(fact.cause) + (" The instrument takes no orders until they agree." if is_position else ""),
    )


def report_day(day: BrokerDay, now: datetime) -> None:
    """Open or clear the alert that the books do not hold the same executions of the day as IB."""
    if not day.missing and not day.unconfirmed:
        clear_alert(EXECUTIONS, now)
        return
    parts = []
    if day.missing:
        parts.append(f"IB reports executions that the books do not have: {_ids(day.missing)}.")
    if day.unconfirmed:
        parts.append(f"The books have executions that IB does not report: {_ids(day.unconfirmed)}.")
    parts.append("Compare with the trade log of TWS; a gateway that was reset has forgotten its executions.")
    title = f"Executions of the day differ: {len(day.missing)} missing here, {len(day.unconfirmed)} unknown to IB"
    raise_alert(EXECUTIONS, Severity.CRITICAL, title, " ".join(parts), now=now)


def report_commissions(exec_ids: Sequence[str], count: int, now: datetime) -> None:
    """Open the alert that commissions do not come; clear it when none is missing."""
    if not count:
        clear_alert(COMMISSIONS, now)
        return
    raise_alert(
        COMMISSIONS,
        Severity.WARNING,
        f"The commission of {count} execution{'s' if count > 1 else ''} of the day does not come",
        f"Cash is not compared until it is known: {_ids(exec_ids)}. MATS asks IB again with every full check; what is "
        "lost for good comes with the Flex statement.",
        now=now,
    )


def report_parked(row: ParkedReport, now: datetime) -> None:
    """Open the alert of a report that could not be booked."""
    raise_alert(
        f"{_PARKED}{row.key}",
        Severity.CRITICAL,
        f"A report of IB could not be booked: {row.key}",
        f"{row.reason} It is kept whole and tried again with every full check. Retry it when its reason is gone, or "
        "discard it.",
        now=now,
    )


def report_waiting(rows: Iterable[ParkedReport], now: datetime) -> None:
    """Open the alerts of reports that wait and have none."""
    waiting = list(rows)
    if waiting:
        known = set(Alert.objects.filter(key__startswith=_PARKED, cleared_at=None).values_list("key", flat=True))
        for row in waiting:
            if f"{_PARKED}{row.key}"[:96] not in known:
                report_parked(row, now)


def report_store(words: str) -> None:
    """Open the alert that the research store is nearly full or grows beyond reason, or clear it."""
    if words:
        raise_alert(STORE, Severity.WARNING, "The research store needs room", words)
    else:
        clear_alert(STORE)


def report_link(concern: Concern | None) -> None:
    """Open the alert of the link to IB, bring it up to date, or clear it."""
    if concern is None:
        clear_alert(LINK)
    else:
        raise_alert(LINK, concern.severity, concern.title, concern.text)


def report_hold(words: str) -> None:
    """Open the alert that new orders wait for a scheduled reset, or clear it."""
    if words:
        raise_alert(RESET, Severity.INFO, "New orders wait for a scheduled reset", words)
    else:
        clear_alert(RESET)


def report_silence(whose: str, symbols: Sequence[str], since: datetime) -> None:
    """Open the alert that prices stopped although IB said that it kept them, bring it up to date, or clear it.

    ``whose`` subscriptions: a strategy's, those of a shared connection, or MATS' own, which value all positions.
    """
    key = f"{_SILENT}{whose}"
    if not symbols:
        clear_alert(key)
        return
    raise_alert(
        key,
        Severity.CRITICAL,
        f"No prices of {_ids(symbols)} on the line of {whose}",
        f"IB said at {since:%H:%M:%S} UTC that it kept the market data (1102), and nothing came since, although the "
        "market is open and it was asked for again. What is valued by these prices is flagged stale, and strategies "
        "that look at them are blind. Restart TWS or the gateway.",
        whose if Strategy.objects.filter(symbol=whose).exists() else "",
    )


def report_channel(name: str, error: str) -> None:
    """Open the alert of a channel that does not deliver, or clear it; ``error`` carries no address."""
    key = f"{OWN_ALERT}{name}"
    if not error:
        clear_alert(key)
        return
    text = f"{error} MATS goes on trying. Check MATS_ALERT_URLS and try manage.py send_test_alert."
    raise_alert(key, Severity.WARNING, f"Alerts do not reach channel {name}", text)


def report_unreadable(what: str) -> None:
    """Open the alert of a message of IB that could not be read at all; the log has its reason."""
    raise_alert(
        f"unreadable:{what}",
        Severity.CRITICAL,
        f"A message of IB could not be read: {what}",
        "IB was asked for the day's executions again. If positions or cash differ, import the Flex statement; "
        "acknowledge this when they agree.",
    )


def clear_settled(now: datetime) -> None:
    """Clear the alerts of reports that wait no more."""
    opened = Alert.objects.filter(key__startswith=_PARKED, cleared_at=None).values_list("key", flat=True)
    if not opened:
        return
    waiting = ParkedReport.objects.filter(state=ParkedState.WAITING).values_list("key", flat=True)
    for key in set(opened) - {f"{_PARKED}{one}"[:96] for one in waiting}:
        clear_alert(key, now)


def report_contradictions(found: Iterable[Contradiction], now: datetime) -> None:
    """Open an alert for each report that says something else than is booked; the books stay as they are."""
    for one in found:
        raise_alert(
            f"contradiction:{one.exec_id}",
            Severity.CRITICAL,
            f"IB repeated execution {one.exec_id} with other content",
            f"{one.text} The books keep what was booked first. Compare with the trade log of TWS; if the second word "
            "is right, book an adjustment, and acknowledge this.",
            now=now,
        )


def _explained(cause: dict[str, Any]) -> str:
    lines = [f"{item['text']} {item['action']}" for item in cause.get("items", [])]
    return " ".join(lines) or "Nothing was found that explains it."


def _ids(exec_ids: Iterable[str]) -> str:
    named = sorted(exec_ids)
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more
