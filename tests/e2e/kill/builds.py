"""Engines that differ from the one that is shipped: faster clocks for the proof, and broken ones that it must catch.

Each function is called in a forked engine before it starts; see ``tests.support.engine_zygote``.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

DAY_ZONE = "MATS_PROOF_DAY_ZONE"


def noon_zone(now: datetime) -> str:
    """Return a zone in which it is about noon, so that no midnight comes while a proof runs.

    >>> noon_zone(datetime(2026, 3, 2, 15, 30, tzinfo=UTC)), noon_zone(datetime(2026, 3, 2, 3, 59, tzinfo=UTC))
    ('Etc/GMT+3', 'Etc/GMT-9')
    """
    return f"Etc/GMT{now.astimezone(UTC).hour - 12:+d}"  # POSIX: the sign says what to add to reach UTC


def quick() -> None:
    """Compare cash after a third of a second of calm, let an hour last a second, and the day end far from now."""
    from portfolio import causes, hourly
    from trading.engine import core, session
    from trading.engine.cash_check import CheckTimes
    from trading.orders import recovery

    def second_of(moment: datetime) -> datetime:
        return moment.astimezone(UTC).replace(microsecond=0)

    changed: list[tuple[Any, str, Any]] = [
        (hourly, "HOUR", timedelta(seconds=1)),
        (hourly, "hour_of", second_of),
        (core, "LOOK_EVERY_S", 0.25),
        (
            session,
            "CheckTimes",
            functools.partial(CheckTimes, compare_every_s=0.5, look_pause_s=0.05, quiet_s=0.3),
        ),
        (causes, "NEW_YORK", ZoneInfo(os.environ[DAY_ZONE])),
        (recovery, "_NEW_YORK", ZoneInfo(os.environ[DAY_ZONE])),
    ]
    for module, name, value in changed:
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, value)


def split_commit() -> None:
    """Break the build: executions are committed before the movements, positions and cash that they make."""
    from django.db import connection

    from portfolio.books import Books

    write = Books._write_executions

    def broken(self: Books) -> None:
        had_news = bool(self._new)
        write(self)
        if had_news and not any(connection.savepoint_ids):
            connection.connection.execute("COMMIT")
            connection.connection.execute("BEGIN IMMEDIATE")

    setattr(Books, "_write_executions", broken)  # noqa: B010 - a plain assignment would not pass the type checker


def blind_append() -> None:
    """Break the build: what ArcticDB holds already is not asked for, so that a crash after an append doubles it."""
    from portfolio.arctic.projections import Projector
    from portfolio.models import ProjectionCursor

    tip_of = Projector._tip

    def broken(self: Projector, target: Any) -> Any:
        if target.key not in self._tips:
            known = ProjectionCursor.objects.filter(symbol=target.key).values_list("last_seq", flat=True).first()
            self._tips[target.key] = replace(tip_of(self, target), seq=known or 0)
        return self._tips[target.key]

    setattr(Projector, "_tip", broken)  # noqa: B010 - a plain assignment would not pass the type checker
