"""Watches the link to IB: hears what connection and gateway say, tells gate, pages and people.

Owns: the present ``Link``, when it last recovered and was last compared, its one alert.
Leaves: the rules (``ladder``, ``resets``), the socket (``trading.ib``), what a loss shuts (``session``).
Rule: time passes on the heartbeat's thread, so that a blocked master cannot hide that the link is down. Thread-safe.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from trading.engine import ladder, resets
from trading.engine.ladder import Concern, Link, LinkState, Word
from trading.engine.resets import Hold, ResetRule, Seen

logger = logging.getLogger(__name__)


class LinkWatch:
    """The link of one engine.

    ``tell`` gets what a person should read, None when it is over; ``tell_hold`` why new orders wait, empty when they do
    not.
    """

    def __init__(
        self,
        rules: Sequence[ResetRule] = (),
        *,
        patience_s: float = ladder.PATIENCE.total_seconds(),
        tell: Callable[[Concern | None], None] = lambda _: None,
        tell_hold: Callable[[str], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.rules: Sequence[ResetRule] = tuple(rules)
        self._patience = timedelta(seconds=patience_s)
        self._tell = tell
        self._tell_hold = tell_hold
        self._hold_told: bool | None = None  # at the start an alert may stand from before
        self.now = now
        self._lock = threading.Lock()
        self._link = ladder.started(now())
        self._was_up = False
        self._seen = Seen()
        self._since = now()
        self._told: Concern | None = None
        self._has_told = False

    @property
    def link(self) -> Link:
        """Return the facts as they are."""
        with self._lock:
            return self._link

    @property
    def state(self) -> LinkState:
        """Return the present state."""
        return self.link.state

    def hear(self, word: Word, detail: str = "") -> frozenset[ladder.Action]:
        """Take a word in; return what has to be done."""
        now = self.now()
        with self._lock:
            before = self._link
            self._link = ladder.hear(before, word, detail, now, resets.window_at(self.rules, now))
            is_back = self._link.is_usable and not before.is_usable and self._was_up
            if is_back and resets.hold_at(self.rules, self._seen, now) is not None:
                self._seen = replace(self._seen, recovered_at=now)  # of several losses the first ends the reset
            self._was_up = self._was_up or self._link.is_usable
            self._note(before, now)
        self._speak(now)
        return ladder.ACTIONS[word]

    def hear_code(self, code: int, text: str) -> frozenset[ladder.Action]:
        """Take one of IB's system codes in; others change nothing."""
        word = ladder.OF_CODE.get(code)
        return frozenset() if word is None else self.hear(word, text)

    def compared(self, begun_at: datetime) -> None:
        """Take note that the books agreed with IB in a look that began then."""
        with self._lock:
            self._seen = replace(self._seen, reconciled_at=begun_at)

    def tick(self) -> bool:
        """Let time pass; tell whether a reset ended without a look, which is then due."""
        now = self.now()
        with self._lock:
            before = self._link
            self._link = ladder.pass_time(before, now, resets.window_at(self.rules, now), self._patience)
            self._note(before, now)
            seen = self._seen
        self._speak(now)
        hold = resets.hold_at(self.rules, seen, now)
        if (hold is not None) is not self._hold_told:
            self._hold_told = hold is not None
            self._tell_hold("" if hold is None else hold.text)
        return hold is not None and hold.window.ends <= now

    def hold(self) -> Hold | None:
        """Return what makes new orders wait for a scheduled reset; asked at every order."""
        if not self.rules:
            return None
        with self._lock:
            seen = self._seen
        return resets.hold_at(self.rules, seen, self.now())

    def _note(self, before: Link, now: datetime) -> None:
        if before.state is not self._link.state:
            self._since = now
            log = logger.error if self._link.state is LinkState.NEEDS_HUMAN else logger.info
            log("link state=%s was=%s reason=%s", self._link.state, before.state, self._link.words)

    def _speak(self, now: datetime) -> None:
        """Tell a concern when it changes in what a person reads first; the reason may change with every try."""
        with self._lock:
            concern, told = ladder.concern(self._link, now), self._told
            is_news = not self._has_told or _heading(concern) != _heading(told)
            self._told, self._has_told = concern, True
        if is_news:
            self._tell(concern)

    def status(self) -> dict[str, Any]:
        """Describe the link for the heartbeat row. Times ISO 8601 UTC."""
        now = self.now()
        with self._lock:
            link, since, seen = self._link, self._since, self._seen
        coming, hold = resets.next_window(self.rules, now), resets.hold_at(self.rules, seen, now)
        return {
            "state": str(link.state),
            "since": _iso(since),
            "message": link.words,
            "farms_down": list(link.farms_down),
            "reset": None
            if coming is None
            else {"kind": str(coming.kind), "begins": _iso(coming.begins), "ends": _iso(coming.ends)},
            "hold": None if hold is None else hold.text,
            "reconciled_at": None if seen.reconciled_at is None else _iso(seen.reconciled_at),
        }


def _heading(concern: Concern | None) -> tuple[str, str] | None:
    return None if concern is None else (concern.severity, concern.title)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
