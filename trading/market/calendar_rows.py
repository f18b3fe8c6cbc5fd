"""Market hours and holidays between the database and the clocks of this process.

Owns: reading rows, keeping every ``TimeManager`` of the process up to date after an edit. Leaves: what rows mean
(``calendars``), forms (``trading.calendar_admin``), files (``calendar_import``).
Rule: a save or delete in this process reaches its clocks at the commit; another process asks by ``refresh``, which
costs two small queries and does nothing while no row changed.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.db.models.signals import post_delete, post_save

from trading.market.calendars import US_EQUITY, HolidayOverride, HoursOverride, Overrides
from trading.market.time_manager import LIVE, TimeManager
from trading.session_models import Holiday, MarketHours

Revision = tuple[int | None, int | None]

_lock = threading.Lock()
_clocks: weakref.WeakSet[TimeManager] = weakref.WeakSet()
_seen: Revision | None = None


def connect() -> None:
    """Connect the receivers; safe to call twice."""
    for signal in (post_save, post_delete):
        for model in (MarketHours, Holiday):
            signal.connect(_on_edit, sender=model, dispatch_uid=f"trading.calendar.{model.__name__}.{id(signal)}")


def load_overrides() -> Overrides:
    """Return all rows; call it where the database may be used."""
    return Overrides(
        tuple(
            HoursOverride(
                row.group,
                row.valid_from,
                row.valid_to,
                row.regular_open,
                row.regular_close,
                row.pre_open,
                row.post_close,
            )
            for row in MarketHours.objects.order_by("group", "valid_from")
        ),
        tuple(
            HolidayOverride(row.group, row.day, row.name, row.closes_at, row.is_open)
            for row in Holiday.objects.order_by("group", "day")
        ),
    )


def make_time_manager(mode: str = LIVE, *, group: str = US_EQUITY) -> TimeManager:
    """Return a clock with the operators' calendars; later edits reach live ones."""
    made = TimeManager(mode, group=group)
    if mode == LIVE:  # a backtest keeps the calendar that it began with
        with _lock:
            _clocks.add(made)  # before the rows are read, so that an edit in between reaches it
    made.set_overrides(load_overrides())
    return made


def refresh(*, force: bool = False) -> bool:
    """Look for edits that another process made, and hand them to the clocks; tell whether there were any."""
    global _seen
    revision = _revision()
    with _lock:
        if revision == _seen and not force:
            return False
        clocks, _seen = list(_clocks), revision
    if not clocks:
        return False
    overrides = load_overrides()
    before = [clock.revision for clock in clocks]
    for clock in clocks:
        clock.set_overrides(overrides)
    return before != [clock.revision for clock in clocks]


def _revision() -> Revision:
    """Return the newest entries of both histories, which adds, edits and deletes write."""
    hours = MarketHours.history.aggregate(newest=Max("history_id"))["newest"]
    holidays = Holiday.history.aggregate(newest=Max("history_id"))["newest"]
    return hours, holidays


def _on_edit(sender: Any, **_: Any) -> None:
    transaction.on_commit(lambda: refresh(force=True), robust=True)
