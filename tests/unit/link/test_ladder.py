"""Every word in every state, and a year of nights on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from trading.engine.ladder import (
    ACTIONS,
    OF_CODE,
    Action,
    Link,
    LinkState,
    Word,
    concern,
    hear,
    pass_time,
    started,
)
from trading.engine.resets import LEAD, ResetKind, ResetRule, Seen, Window, hold_at, parse_reset, window_at, windows
from trading.ib import codes

NOON = datetime(2026, 12, 15, 17, tzinfo=UTC)
NIGHT = Window(ResetKind.NIGHTLY, NOON - timedelta(minutes=5), NOON + timedelta(minutes=85))
FARM = "Market data farm connection is broken:usfarm"
S = LinkState


def link_in(state: LinkState) -> Link:
    """Return a link that came to a state at noon."""
    up = hear(started(NOON), Word.LINE_UP, "", NOON, None)
    return {
        S.CONNECTED: lambda: up,
        S.DEGRADED: lambda: hear(up, Word.FARM_DOWN, FARM, NOON, None),
        S.UPSTREAM_LOST: lambda: hear(up, Word.UPSTREAM_LOST, "lost", NOON, None),
        S.DOWN: lambda: hear(up, Word.LINE_LOST, "closed", NOON, None),
        S.RESET: lambda: hear(up, Word.LINE_LOST, "closed", NOON, NIGHT),
        S.NEEDS_HUMAN: lambda: pass_time(hear(up, Word.LINE_LOST, "", NOON, None), NOON + timedelta(hours=1), None),
    }[state]()


# one letter a word, in the order of Word: line up, lost, a try failed, refused; upstream lost, back empty, back kept;
# farm down, farm up; port moved
SHORT = {"C": S.CONNECTED, "G": S.DEGRADED, "U": S.UPSTREAM_LOST, "D": S.DOWN, "R": S.RESET, "N": S.NEEDS_HUMAN}
TABLE = {
    S.CONNECTED: "CDDN UCC GC N",
    S.DEGRADED: "CDDN UGG GC N",
    S.UPSTREAM_LOST: "CDDN UCC UU N",
    S.DOWN: "CDDN DDD DD N",
    S.RESET: "CDDN DDD DD N",  # heard after the window has ended
    S.NEEDS_HUMAN: "CNNN NNN NN N",
}


@pytest.mark.parametrize(
    ("state", "word", "expected"),
    [
        (state, word, SHORT[letter])
        for state, row in TABLE.items()
        for word, letter in zip(Word, row.replace(" ", ""), strict=True)
    ],
)
def test_every_word_in_every_state(state: LinkState, word: Word, expected: LinkState) -> None:
    before = link_in(state)
    assert before.state is state
    after = hear(before, word, FARM if word in (Word.FARM_DOWN, Word.FARM_UP) else "why", NOON, None)
    assert after.state is expected


@pytest.mark.parametrize("word", [Word.LINE_LOST, Word.NOT_CONNECTED, Word.UPSTREAM_LOST])
def test_inside_of_a_reset_every_loss_is_a_quiet_wait(word: Word) -> None:
    link = hear(link_in(S.CONNECTED), word, "", NOON, NIGHT)
    assert link.state is S.RESET
    assert concern(link, NOON + timedelta(minutes=80)) is None


def test_the_table_covers_every_state_and_every_word_has_its_actions() -> None:
    assert set(TABLE) == set(LinkState)
    assert set(ACTIONS) == set(Word)
    assert set(OF_CODE) <= set(codes.CODES)


def test_upstream_lost_again_and_again_is_one_outage() -> None:
    link = link_in(S.UPSTREAM_LOST)
    for second in range(4, 240, 4):
        link = hear(link, Word.UPSTREAM_LOST, "lost", NOON + timedelta(seconds=second), None)
    assert (link.state, link.unusable_since) == (S.UPSTREAM_LOST, NOON)


def test_1101_resubscribes_and_both_returns_ask_for_a_look() -> None:
    assert ACTIONS[OF_CODE[1101]] == {Action.RESUBSCRIBE, Action.RECONCILE}
    assert ACTIONS[OF_CODE[1102]] == {Action.RECONCILE}
    assert Action.SHUT in ACTIONS[OF_CODE[1100]]


def test_one_farm_that_returns_leaves_the_other_down() -> None:
    link = hear(link_in(S.DEGRADED), Word.FARM_DOWN, "HMDS data farm connection is broken:ushmds", NOON, None)
    link = hear(link, Word.FARM_UP, "Market data farm connection is OK:usfarm", NOON, None)
    assert (link.state, link.farms_down) == (S.DEGRADED, ("ushmds",))


def test_dormant_farms_are_harmless() -> None:
    link = hear(link_in(S.DEGRADED), OF_CODE[2108], "Market data farm connection is inactive:usfarm", NOON, None)
    assert link.state is S.CONNECTED


def test_down_outside_of_a_reset_needs_a_human_after_its_patience() -> None:
    link = link_in(S.DOWN)
    assert pass_time(link, NOON + timedelta(minutes=14), None).state is S.DOWN
    assert pass_time(link, NOON + timedelta(minutes=15), None).state is S.NEEDS_HUMAN


def test_leaving_the_window_still_down_escalates_at_once() -> None:
    link = link_in(S.RESET)
    inside = pass_time(link, NIGHT.ends - timedelta(seconds=1), NIGHT)
    assert (inside.state, pass_time(inside, NIGHT.ends, None).state) == (S.RESET, S.NEEDS_HUMAN)


def test_a_line_lost_just_before_the_window_ends_gets_a_grace() -> None:
    lost = NIGHT.ends - timedelta(seconds=10)
    link = hear(link_in(S.CONNECTED), Word.LINE_LOST, "", lost, NIGHT)
    assert pass_time(link, NIGHT.ends, None).state is S.DOWN
    assert pass_time(link, lost + timedelta(minutes=5), None).state is S.NEEDS_HUMAN


def test_a_reset_does_not_excuse_what_needed_a_human_before() -> None:
    assert pass_time(link_in(S.NEEDS_HUMAN), NOON, NIGHT).state is S.NEEDS_HUMAN


def test_a_link_that_comes_and_goes_is_told_once_and_until_it_is_calm() -> None:
    link, told = link_in(S.CONNECTED), []
    for minute in range(10):  # up for ten seconds of each minute
        now = NOON + timedelta(minutes=minute)
        link = pass_time(hear(link, Word.LINE_LOST, "", now, None), now + timedelta(seconds=50), None)
        link = hear(link, Word.LINE_UP, "", now + timedelta(seconds=50), None)
        link = pass_time(link, now + timedelta(seconds=59), None)
        told.append(concern(link, now + timedelta(seconds=59)) is not None)
    assert told == [False] + [True] * 9
    assert concern(pass_time(link, NOON + timedelta(minutes=10, seconds=30), None), NOON) is None


# a year


@dataclass
class Year:
    """One gateway through a year of resets; the engine looks once every ten seconds while something happens."""

    rules: list[ResetRule]
    link: Link
    seen: Seen = field(default_factory=Seen)
    concerns: list[tuple[datetime, str]] = field(default_factory=list)
    sent_while_unsafe: int = 0

    def look(self, now: datetime) -> None:
        self.link = pass_time(self.link, now, window_at(self.rules, now))
        told = concern(self.link, now)
        if told is not None:
            self.concerns.append((now, told.severity))

    def say(self, word: Word, now: datetime) -> None:
        was_usable = self.link.is_usable
        self.link = hear(self.link, word, "", now, window_at(self.rules, now))
        if self.link.is_usable and not was_usable:
            self.seen = Seen(now, self.seen.reconciled_at)

    def may_send(self, now: datetime) -> bool:
        reconciled = self.seen.reconciled_at
        is_compared = reconciled is not None and reconciled >= (self.seen.recovered_at or reconciled)
        return self.link.is_usable and is_compared and hold_at(self.rules, self.seen, now) is None


def days_of_2026() -> Iterator[datetime]:
    day = datetime(2026, 1, 1, 12, tzinfo=UTC)
    while day.year == 2026:
        yield day
        day += timedelta(days=1)


def rules() -> list[ResetRule]:
    made = [
        parse_reset("00:15-01:45", ResetKind.NIGHTLY, "X"),
        parse_reset("SUN 01:00-01:45", ResetKind.WEEKLY, "X"),
    ]
    return [rule for rule in made if rule is not None]


def test_a_year_of_nights_is_quiet_and_no_order_passes_before_the_look_after_each_reset() -> None:
    """365 nights, among them 52 Sundays and both days with another hour: somebody logs in within the window."""
    rng = random.Random(7)
    year = Year(
        rules(),
        hear(started(datetime(2026, 1, 1, tzinfo=UTC)), Word.LINE_UP, "", datetime(2026, 1, 1, tzinfo=UTC), None),
    )
    year.look(datetime(2026, 1, 1, 0, 1, tzinfo=UTC))  # the start is calm by now
    nights = sundays = 0
    for day in days_of_2026():
        [window] = _windows_of(year.rules, day)
        nights, sundays = nights + 1, sundays + (window.kind is ResetKind.WEEKLY)
        length = (window.ends - window.begins).total_seconds()
        down_at = window.begins + timedelta(seconds=rng.uniform(0, length * 0.6))
        up_at = down_at + timedelta(seconds=rng.uniform(20, length * 0.35))
        looked_at = up_at + timedelta(seconds=rng.uniform(1, 20))
        year.seen = Seen(year.seen.recovered_at, window.begins - timedelta(hours=1))
        assert year.may_send(window.begins - LEAD - timedelta(seconds=1))
        for moment in (window.begins - LEAD, window.begins, down_at - timedelta(seconds=1)):
            assert not year.may_send(moment), moment
        year.say(Word.UPSTREAM_LOST, down_at)
        year.say(Word.LINE_LOST, down_at + timedelta(seconds=4))
        for moment in _steps(down_at + timedelta(seconds=4), up_at):
            year.say(Word.NOT_CONNECTED, moment)
            year.look(moment)
            assert year.link.state is LinkState.RESET
            assert not year.may_send(moment)
        year.say(Word.LINE_UP, up_at)
        assert not year.may_send(looked_at)
        year.seen = Seen(year.seen.recovered_at, looked_at)
        assert year.may_send(looked_at)
        for seconds in range(0, 45, 5):  # as the heartbeat does: the link is watched for half a minute
            year.look(up_at + timedelta(seconds=seconds))
        assert year.may_send(window.ends)
    assert (nights, sundays, year.concerns) == (365, 52, [])


def test_a_year_of_sundays_without_a_login_needs_a_human_every_time_and_once() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    year = Year(rules(), hear(started(start), Word.LINE_UP, "", start, None))
    sundays = 0
    for day in days_of_2026():
        [window] = _windows_of(year.rules, day)
        if window.kind is not ResetKind.WEEKLY:
            continue
        sundays += 1
        year.say(Word.LINE_LOST, window.begins + timedelta(minutes=45))
        year.concerns.clear()
        for moment in _steps(window.begins + timedelta(minutes=46), window.ends + timedelta(hours=4), step_s=60):
            year.say(Word.NOT_CONNECTED, moment)
            year.look(moment)
            assert (year.link.state is LinkState.NEEDS_HUMAN) is (moment >= window.ends)
        assert {severity for _, severity in year.concerns} == {"critical"}
        assert year.concerns[0][0] - window.ends < timedelta(minutes=1)
        told = concern(year.link, window.ends)
        assert told is not None
        assert "Sunday" in told.text
        year.say(Word.LINE_UP, window.ends + timedelta(hours=5))
        year.look(window.ends + timedelta(hours=6))
        year.look(window.ends + timedelta(hours=7))
        assert concern(year.link, window.ends + timedelta(hours=7)) is None
    assert sundays == 52


def _windows_of(all_rules: list[ResetRule], day: datetime) -> list[Window]:
    return windows(all_rules, day - timedelta(hours=12), day)


def _steps(since: datetime, until: datetime, step_s: float = 15) -> Iterator[datetime]:
    while since < until:
        yield since
        since += timedelta(seconds=step_s)
