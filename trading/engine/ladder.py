"""The link to IB as a ladder of states. Pure.

Owns: what each of IB's words does to the link, which state follows, what the engine has to do, what a person is told.
Leaves: hearing the words (``session``), the clock and the alert's row (``link_watch``), the calendar (``resets``).
Rule: the state follows from facts (line, upstream, farms, window, patience), so that no order of words can lead to a
state that the facts contradict. A link that is down has failed its heartbeat, whatever the reason; a reset excuses it
until its window ends, and no longer.

    connected ─ degraded (a data farm is down)          orders flow once the books were compared
    upstream_lost (1100) ─ down ─ reset ─ needs_human   no new orders; late fills are still taken
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from trading.engine.resets import ResetKind, Window

PATIENCE = timedelta(minutes=15)  # outside of resets
RESET_GRACE = timedelta(minutes=5)  # for a line that went down shortly before a window ended
TELL_AFTER = timedelta(seconds=60)  # shorter trouble is told by the state alone
CALM = timedelta(seconds=30)  # a link that stays up for less still flaps


class LinkState(StrEnum):
    """Where the link stands."""

    CONNECTED = "connected"
    DEGRADED = "degraded"
    UPSTREAM_LOST = "upstream_lost"
    DOWN = "down"
    RESET = "reset"
    NEEDS_HUMAN = "needs_human"


class Word(StrEnum):
    """What was heard of the link."""

    LINE_UP = "line_up"
    LINE_LOST = "line_lost"
    NOT_CONNECTED = "not_connected"  # a try failed and may work later
    REFUSED = "refused"  # a try failed and will fail until somebody changes something
    UPSTREAM_LOST = "upstream_lost"  # 1100, 2110
    BACK_EMPTY = "back_empty"  # 1101: every subscription is gone
    BACK_KEPT = "back_kept"  # 1102
    FARM_DOWN = "farm_down"  # 2103, 2105, 2157
    FARM_UP = "farm_up"  # 2104, 2106, 2158, and the dormant 2107, 2108
    PORT_MOVED = "port_moved"  # 1300


class Action(StrEnum):
    """What the engine does at a word."""

    SHUT = "shut"
    RESUBSCRIBE = "resubscribe"
    RECONCILE = "reconcile"


OF_CODE: dict[int, Word] = {
    1100: Word.UPSTREAM_LOST,
    2110: Word.UPSTREAM_LOST,
    1101: Word.BACK_EMPTY,
    1102: Word.BACK_KEPT,
    1300: Word.PORT_MOVED,
    **dict.fromkeys((2103, 2105, 2157), Word.FARM_DOWN),
    **dict.fromkeys((2104, 2106, 2107, 2108, 2158), Word.FARM_UP),
}

ACTIONS: dict[Word, frozenset[Action]] = {
    Word.LINE_UP: frozenset({Action.RESUBSCRIBE, Action.RECONCILE}),
    Word.LINE_LOST: frozenset({Action.SHUT}),
    Word.NOT_CONNECTED: frozenset({Action.SHUT}),
    Word.REFUSED: frozenset({Action.SHUT}),
    Word.UPSTREAM_LOST: frozenset({Action.SHUT}),
    Word.BACK_EMPTY: frozenset({Action.RESUBSCRIBE, Action.RECONCILE}),
    Word.BACK_KEPT: frozenset({Action.RECONCILE}),  # kept says TWS; the books ask all the same
    Word.FARM_DOWN: frozenset(),
    Word.FARM_UP: frozenset(),
    Word.PORT_MOVED: frozenset({Action.SHUT}),
}


@dataclass(frozen=True, slots=True)
class Link:
    """The facts. Times are aware UTC.

    ``unusable_since`` is the present outage; ``trouble_since`` outlives short recoveries, ``calm_since`` ends it.
    """

    unusable_since: datetime | None
    has_line: bool = False
    has_upstream: bool = True
    farms_down: tuple[str, ...] = ()
    farms_since: datetime | None = None
    refused: str = ""
    reset: Window | None = None  # the window that excuses, or excused, this outage
    in_reset: bool = False
    is_late: bool = False
    trouble_since: datetime | None = None
    calm_since: datetime | None = None
    losses: int = 1  # since this trouble began
    words: str = ""

    @property
    def is_usable(self) -> bool:
        """Tell whether IB itself can be reached."""
        return self.has_line and self.has_upstream

    @property
    def state(self) -> LinkState:
        """Return the state that the facts mean."""
        if self.is_usable:
            return LinkState.DEGRADED if self.farms_down else LinkState.CONNECTED
        if self.is_late or self.refused:
            return LinkState.NEEDS_HUMAN
        if self.in_reset:
            return LinkState.RESET
        return LinkState.UPSTREAM_LOST if self.has_line else LinkState.DOWN


@dataclass(frozen=True, slots=True)
class Concern:
    """What a person should be told. ``severity`` is one of ``trading.models.Severity``."""

    severity: str
    title: str
    text: str


def started(now: datetime) -> Link:
    """Return the link of an engine that just started: down, without a reason yet."""
    return Link(unusable_since=now, trouble_since=now)


def hear(link: Link, word: Word, detail: str, now: datetime, window: Window | None) -> Link:
    """Return the link after a word; ``detail`` is IB's or our sentence, for farms the farm's name stands in it."""
    if word is Word.LINE_UP:
        link = replace(link, has_line=True, has_upstream=True, farms_down=(), farms_since=None, refused="", words="")
    elif word in (Word.LINE_LOST, Word.NOT_CONNECTED):
        link = replace(link, has_line=False, words=detail)
    elif word is Word.REFUSED:
        link = replace(link, has_line=False, refused=detail, words=detail)
    elif word is Word.UPSTREAM_LOST:
        link = replace(link, has_upstream=False, words=detail)
    elif word in (Word.BACK_EMPTY, Word.BACK_KEPT):
        link = replace(link, has_upstream=True, words="")
    elif word is Word.PORT_MOVED:  # TWS drops the line next; there is nobody to find at the old port
        link = replace(link, has_line=False, refused=detail, words=detail)
    else:
        link = _hear_farm(link, word, detail, now)
    return pass_time(link, now, window)


def _hear_farm(link: Link, word: Word, detail: str, now: datetime) -> Link:
    farm = detail.rpartition(":")[2].strip() or "unnamed"
    others = tuple(name for name in link.farms_down if name != farm)
    farms = tuple(sorted((*others, farm))) if word is Word.FARM_DOWN else others
    return replace(link, farms_down=farms, farms_since=(link.farms_since or now) if farms else None)


def pass_time(
    link: Link, now: datetime, window: Window | None, patience: timedelta = PATIENCE, grace: timedelta = RESET_GRACE
) -> Link:
    """Return the link at a moment; ``window`` is the reset that it lies in."""
    if link.is_usable:
        after = replace(link, unusable_since=None, reset=None, in_reset=window is not None, is_late=False)
        return _over(after) if _was_expected(link) else _calm_down(after, now)
    since = link.unusable_since or now
    is_again = link.unusable_since is None and link.trouble_since is not None
    link = replace(
        link,
        losses=link.losses + 1 if is_again else link.losses,
        unusable_since=since,
        trouble_since=link.trouble_since or since,
        calm_since=None,
        in_reset=window is not None,
    )
    if window is not None:
        return replace(link, reset=window)
    excuse = max(link.reset.ends, since + grace) if link.reset is not None else since + patience
    return replace(link, is_late=link.is_late or now >= excuse)


def _was_expected(link: Link) -> bool:
    """Tell whether the outage that ends was a reset's, with no trouble before it: such a night needs no calm."""
    if link.reset is None or link.is_late:
        return False
    return link.trouble_since is None or link.trouble_since > link.reset.begins - TELL_AFTER


def _over(link: Link) -> Link:
    return replace(link, trouble_since=None, calm_since=None, losses=1)


def _calm_down(link: Link, now: datetime) -> Link:
    if link.trouble_since is None:
        return link
    calm = link.calm_since or now
    if now - calm < CALM:
        return replace(link, calm_since=calm)
    return _over(link)


def concern(link: Link, now: datetime) -> Concern | None:
    """Return what a person should be told of the link at this moment."""
    if link.state is LinkState.NEEDS_HUMAN:
        return Concern("critical", _needs_human(link), f"{link.words} {_remedy(link)}".strip())
    if link.trouble_since is not None and link.state is not LinkState.RESET:
        if now - link.trouble_since >= TELL_AFTER:
            return Concern("warning", f"The link to IB {_how(link)}", f"{link.words} {_what_follows(link)}".strip())
        return None
    if link.state is LinkState.DEGRADED and link.farms_since is not None and now - link.farms_since >= TELL_AFTER:
        farms = ", ".join(link.farms_down)
        text = (
            "Prices or history of its markets stand still. IB restores it by itself; restart the gateway if it stays."
        )
        return Concern("warning", f"A data farm of IB is down: {farms}", text)
    return None


def _how(link: Link) -> str:
    if not link.is_usable:
        return "is down"
    return "comes and goes" if link.losses > 1 else "is back"


def _what_follows(link: Link) -> str:
    return "It is watched for half a minute." if link.is_usable else "MATS connects again by itself."


def _needs_human(link: Link) -> str:
    if link.refused:
        return "The link to IB needs a person: the connection is refused"
    if link.reset is not None:
        return f"The link to IB needs a person: still down after the {link.reset.kind} reset"
    return "The link to IB needs a person: it does not come back"


def _remedy(link: Link) -> str:
    if link.refused:
        return "MATS goes on trying."
    if link.reset is not None and link.reset.kind is ResetKind.WEEKLY:
        return (
            "IB ends every login on Sunday at 01:00 New York time: log in to TWS or the gateway. MATS goes on trying."
        )
    return "Look whether TWS or the gateway runs, is logged in, and waits for a second factor. MATS goes on trying."
