"""When an alert goes to a channel, and what never shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from strategies.exceptions import ConfigError
from trading.alert_rules import (
    Channel,
    QuietHours,
    Record,
    Rules,
    Standing,
    failed,
    has_room,
    is_due,
    parse_channels,
    parse_quiet,
    succeeded,
)

NOW = datetime(2026, 12, 15, 12, tzinfo=UTC)
PHONE = Channel("phone", "warning", "tgram://123456:token-secret/9876543")
WARNING, CRITICAL = Standing("warning", NOW), Standing("critical", NOW)
RULES = Rules()


UNSENT = Record()


def due(alert: Standing, record: Record = UNSENT, rules: Rules = RULES, after: timedelta = timedelta(0)) -> bool:
    return is_due(alert, PHONE, record, rules, NOW + after)


def test_an_alert_that_stands_is_sent_once() -> None:
    assert due(WARNING)
    assert not due(WARNING, succeeded("warning", "It broke", NOW), after=timedelta(days=3))


def test_below_the_threshold_nothing_is_sent() -> None:
    assert not due(Standing("info", NOW))


def test_it_is_sent_again_when_it_escalates_and_not_when_it_eases() -> None:
    assert due(CRITICAL, succeeded("warning", "It broke", NOW))
    assert not due(WARNING, succeeded("critical", "It broke", NOW), after=timedelta(days=1))


def test_critical_repeats_until_somebody_acknowledges() -> None:
    sent = succeeded("critical", "It broke", NOW)
    assert not due(CRITICAL, sent, after=timedelta(hours=3))
    assert due(CRITICAL, sent, after=timedelta(hours=4))
    assert not due(replace(CRITICAL, is_acknowledged=True), sent, after=timedelta(hours=4))


def test_failures_are_tried_again_ever_more_slowly_but_for_ever() -> None:
    record, waits = Record(), []
    at = NOW
    for _ in range(9):
        record = failed(record, "no route", at)
        wait = next(s for s in range(400) if is_due(WARNING, PHONE, record, RULES, at + timedelta(seconds=s)))
        waits.append(wait)
        at += timedelta(seconds=wait)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_quiet_hours_hold_what_is_not_critical_until_they_end() -> None:
    rules = Rules(quiet=parse_quiet("22:00-07:00 Europe/Zurich", "X"))
    night = datetime(2026, 12, 15, 22, tzinfo=UTC)  # 23:00 in Zurich
    assert not is_due(WARNING, PHONE, Record(), rules, night)
    assert is_due(CRITICAL, PHONE, Record(), rules, night)
    assert is_due(WARNING, PHONE, Record(), rules, datetime(2026, 12, 16, 6, tzinfo=UTC))


def test_no_quiet_hours_are_never_quiet() -> None:
    assert not QuietHours().covers(NOW)
    assert not parse_quiet("", "X").covers(NOW)


def test_a_channel_takes_so_many_an_hour_and_critical_ones_still_find_room() -> None:
    rules = Rules(per_hour=3)
    sent = [NOW - timedelta(minutes=minute) for minute in (1, 2, 3)]
    assert not has_room(sent, "warning", rules, NOW)
    assert has_room(sent, "critical", rules, NOW)
    assert not has_room(sent * 2, "critical", rules, NOW)
    assert has_room(sent, "warning", rules, NOW + timedelta(minutes=58))


def test_a_record_survives_its_row() -> None:
    for record in (
        Record(),
        succeeded("critical", "It broke", NOW),
        failed(succeeded("warning", "It broke", NOW), "refused", NOW),
    ):
        assert Record.from_json(record.as_json()) == record


def test_channels_have_thresholds_and_names() -> None:
    urls = ["critical,phone=tgram://123456:secret/9", "mailto://me:pass@example.org", "info=json://127.0.0.1:9/x"]
    found = parse_channels(urls, "MATS_ALERT_URLS")
    assert [(one.name, one.threshold) for one in found] == [
        ("phone", "critical"),
        ("mailto-2", "warning"),
        ("json-3", "info"),
    ]


@pytest.mark.parametrize("words", [["tgram-secret"], ["urgent=json://secret"], ["info,a=json://x", "info,a=json://y"]])
def test_a_channel_that_cannot_be_read_is_told_without_its_address(words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_channels(words, "MATS_ALERT_URLS")
    assert "secret" not in caught.value.message


def test_no_part_of_an_address_is_shown() -> None:
    text = "POST to https://api/bot123456:token-secret/send for 9876543 failed"
    shown = PHONE.redact(text)
    assert not any(part in shown for part in ("123456", "token-secret", "9876543"))
    assert "secret" not in repr(PHONE)
