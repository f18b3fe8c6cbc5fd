"""The windows of a walk-forward: where parameters are searched, and where the best set then trades. Pure.

Rule: windows out of sample follow each other without gap or overlap, and none begins before its search has ended; what
was searched in is never traded by what was found there. The last one may be shorter, up to the period's end.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from strategies.exceptions import ConfigError

_LAST = timedelta(microseconds=1)


class Window(NamedTuple):
    """One step of a walk-forward. All four moments are inside of their part, aware."""

    number: int
    start: datetime
    end: datetime
    trade_start: datetime
    trade_end: datetime


def windows_of(
    start: datetime, end: datetime, *, in_sample_days: int, out_of_sample_days: int, anchored: bool, most: int
) -> list[Window]:
    """Return the windows of a period; ``anchored`` ones all begin with it, others move on.

    Units: calendar days.
    Raises: ConfigError (bad_sweep) when the period has room for none, or for more than ``most``.
    """
    inside, outside = timedelta(days=in_sample_days), timedelta(days=out_of_sample_days)
    found: list[Window] = []
    trade = start + inside
    while trade < end:
        if len(found) == most:
            raise ConfigError(
                f"There would be more than {most} windows; take longer ones.",
                code="bad_sweep",
                errors={"out_of_sample_days": f"More than {most} windows."},
            )
        began = start if anchored else trade - inside
        found.append(Window(len(found) + 1, began, trade - _LAST, trade, min(trade + outside - _LAST, end)))
        trade += outside
    if not found:
        raise ConfigError(
            f"The period has {(end - start).days + 1} days; {in_sample_days} in sample leave none to trade.",
            code="bad_sweep",
            errors={"in_sample_days": "As long as the whole period."},
        )
    return found
