"""Alerts: one open line for each trouble, however often it is reported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from strategies.exceptions import NotFoundError
from trading.alerts import Trouble, acknowledge, clear_alert, clear_alerts, raise_alert, raise_alerts
from trading.models import Alert, EngineEvent

pytestmark = pytest.mark.django_db
T0 = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)


def events() -> list[dict[str, Any]]:
    """Return the payloads of all alert events."""
    return [event.payload for event in EngineEvent.objects.filter(kind="alert").order_by("id")]


def test_an_alert_raised_again_is_the_same_one_counted() -> None:
    first = raise_alert("break:1", "warning", "AAPL differs", now=T0)
    again = raise_alert("break:1", "warning", "AAPL differs", now=T0 + timedelta(seconds=30))
    assert again.pk == first.pk
    assert (again.times, again.opened_at, again.last_at) == (2, T0, T0 + timedelta(seconds=30))
    assert len(events()) == 1  # repeating the same words tells the pages nothing


def test_new_words_reach_the_pages() -> None:
    raise_alert("break:1", "warning", "AAPL differs by 1", now=T0)
    raise_alert("break:1", "warning", "AAPL differs by 2", now=T0)
    assert [payload["title"] for payload in events()] == ["AAPL differs by 1", "AAPL differs by 2"]


def test_a_cleared_alert_is_over_and_the_next_one_is_new() -> None:
    first = raise_alert("k", "info", "t", now=T0)
    assert clear_alert("k", now=T0)
    assert not clear_alert("k", now=T0)
    second = raise_alert("k", "info", "t", now=T0)
    assert second.pk != first.pk
    assert [bool(payload["cleared_at"]) for payload in events()] == [False, True, False]


def test_acknowledging_notes_the_first_person_and_leaves_it_open() -> None:
    alert = raise_alert("k", "info", "t", now=T0)
    acknowledge(alert.pk, "ann", T0)
    assert acknowledge(alert.pk, "bob", T0).acknowledged_by == "ann"
    assert Alert.objects.get().cleared_at is None
    assert len(events()) == 2


def test_what_got_worse_counts_as_not_seen() -> None:
    alert = raise_alert("k", "warning", "t", now=T0)
    acknowledge(alert.pk, "ann", T0)
    assert raise_alert("k", "warning", "t", now=T0).acknowledged_by == "ann"
    worse = raise_alert("k", "critical", "t", now=T0)
    assert (worse.acknowledged_by, worse.acknowledged_at) == ("", None)


def test_an_unknown_alert_and_an_unknown_severity_are_refused() -> None:
    with pytest.raises(NotFoundError):
        acknowledge(77, "ann", T0)
    with pytest.raises(ValueError, match="loud"):
        raise_alert("k", "loud", "t")


def test_many_raised_and_cleared_at_once_are_as_if_one_by_one() -> None:
    raise_alert("a", "warning", "t", now=T0)
    acknowledge(raise_alert("b", "warning", "t", now=T0).pk, "ann", T0)
    later = T0 + timedelta(seconds=30)
    before = len(events())
    raise_alerts([Trouble("a", "warning", "t"), Trouble("b", "critical", "t"), Trouble("c", "info", "t", "x")], later)
    rows = {row.key: row for row in Alert.objects.all()}
    assert [(rows[key].times, rows[key].last_at) for key in "abc"] == [(2, later), (2, later), (1, later)]
    assert (rows["b"].acknowledged_by, rows["b"].acknowledged_at) == ("", None)  # it got worse
    assert [payload["key"] for payload in events()[before:]] == ["c", "b"]  # the same words tell the pages nothing
    clear_alerts(["a", "c", "never raised"], later)
    assert set(Alert.objects.filter(cleared_at=None).values_list("key", flat=True)) == {"b"}
    assert [bool(payload["cleared_at"]) for payload in events()[before + 2 :]] == [True, True]
