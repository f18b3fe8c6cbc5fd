"""Resets by the calendar: where they lie in UTC, on ordinary nights and on the two days with another hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from strategies.exceptions import ConfigError
from trading.engine import resets
from trading.engine.resets import ResetKind, ResetRule, Seen, hold_at, next_window, parse_reset, window_at, windows


def nightly(text: str = resets.NIGHTLY_DEFAULT) -> ResetRule:
    rule = parse_reset(text, ResetKind.NIGHTLY, "X")
    assert rule is not None
    return rule


def weekly() -> ResetRule:
    rule = parse_reset(resets.WEEKLY_DEFAULT, ResetKind.WEEKLY, "X")
    assert rule is not None
    return rule


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("night", "begins", "ends"),
    [
        ("2026-07-15", "2026-07-15T04:15", "2026-07-15T05:45"),  # summer time
        ("2026-12-15", "2026-12-15T05:15", "2026-12-15T06:45"),  # winter time
        ("2026-03-08", "2026-03-08T05:15", "2026-03-08T06:45"),  # 02:00 becomes 03:00 after the window
        ("2026-11-01", "2026-11-01T04:15", "2026-11-01T06:45"),  # 01:45 comes twice: the window lasts until the second
    ],
)
def test_a_window_follows_the_wall_clock_of_its_zone(night: str, begins: str, ends: str) -> None:
    found = next_window([nightly()], utc(f"{night}T03:00"))
    assert found is not None
    assert (found.begins, found.ends) == (utc(begins), utc(ends))


def test_a_restart_before_midnight_ends_on_the_next_day() -> None:
    rule = parse_reset("23:55", ResetKind.RESTART, "X")
    assert rule is not None
    found = next_window([rule], utc("2026-12-01T12:00"))
    assert found is not None
    assert (found.begins, found.ends) == (utc("2026-12-02T04:55"), utc("2026-12-02T05:05"))


def test_a_restart_in_an_hour_that_does_not_exist_happens_once_that_day() -> None:
    rule = parse_reset("02:30", ResetKind.RESTART, "X")
    assert rule is not None
    assert len(windows([rule], utc("2026-03-08T05:00"), utc("2026-03-09T05:00"))) == 1


def test_windows_that_overlap_are_one_of_the_graver_kind() -> None:
    sunday = next_window([nightly(), weekly()], utc("2026-12-06T03:00"))
    assert sunday is not None
    assert (sunday.kind, sunday.begins) == (ResetKind.WEEKLY, utc("2026-12-06T05:15"))
    monday = next_window([nightly(), weekly()], utc("2026-12-07T03:00"))
    assert monday is not None
    assert monday.kind is ResetKind.NIGHTLY


@pytest.mark.parametrize("text", ["25:00-26:00", "0:15-1:45", "00:15-01:45 Mars/Base", "MON 00:15-01:45", "yes"])
def test_a_reset_that_cannot_be_read_names_its_setting(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_reset(text, ResetKind.NIGHTLY, "MATS_IB_RESET_WINDOW")
    assert caught.value.fields["setting"] == "MATS_IB_RESET_WINDOW"


def test_off_and_nothing_are_no_reset_and_a_zone_is_taken() -> None:
    assert parse_reset("off", ResetKind.NIGHTLY, "X") is parse_reset("", ResetKind.NIGHTLY, "X") is None
    rule = nightly("05:45-06:45 Europe/Zurich")
    assert window_at([rule], utc("2026-12-15T05:00")) is not None


BEGINS = utc("2026-12-15T05:15")


@pytest.mark.parametrize(
    ("after_s", "recovered_s", "reconciled_s", "held"),
    [
        (-61, None, -3600, False),
        (-60, None, -3600, True),  # one minute ahead
        (600, None, 300, True),  # compared inside the window, but the line never went: the reset may be still to come
        (600, 120, 60, True),  # back, not compared yet
        (600, 120, 180, False),  # back and compared
        (600, -3600, 180, True),  # the loss was before this reset
        (5400, None, 300, True),  # the window ended without a look
        (5460, None, 5401, False),  # looked after its end
        (30_000, None, None, True),  # never compared at all
    ],
)
def test_orders_wait_from_a_minute_before_until_the_look_after_the_reset(
    after_s: int, recovered_s: int | None, reconciled_s: int | None, held: bool
) -> None:
    def _at(seconds: int | None) -> datetime | None:
        return None if seconds is None else BEGINS + timedelta(seconds=seconds)

    now = BEGINS + timedelta(seconds=after_s)
    hold = hold_at([nightly()], Seen(_at(recovered_s), _at(reconciled_s)), now)
    assert (hold is not None) is held


def test_a_hold_says_when_to_try_again() -> None:
    hold = hold_at([nightly()], Seen(), BEGINS - timedelta(seconds=30))
    assert hold is not None
    assert hold.retry_after_s == 90 * 60 + 30
    assert "06:45 UTC" in hold.text
