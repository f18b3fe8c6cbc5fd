"""The ring of recent events: what a cursor gets, and when it must go to the table."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.browser import seed
from trading import live
from trading.live import Entry, Ring


def entries(ids: Sequence[int], strategy: str = "") -> list[Entry]:
    return [Entry(number, strategy, json.dumps({"id": number})) for number in ids]


def ids_of(frame: live.Frame | None) -> list[int]:
    assert frame is not None
    assert frame.text is not None
    return [event["id"] for event in json.loads(frame.text)["events"]]


def test_cursor_gets_what_is_behind_it() -> None:
    ring = Ring(10)
    ring.extend(entries([11, 12, 15]))
    assert ids_of(ring.frame_after(11, "")) == [12, 15]
    assert ring.frame_after(15, "") is None
    assert ring.last == 15


def test_cursor_ahead_of_the_ring_waits() -> None:
    ring = Ring(10)
    ring.extend(entries([11]))
    assert ring.frame_after(99, "") is None


def test_cursor_older_than_the_ring_is_sent_to_the_table() -> None:
    ring = Ring(10)
    with pytest.raises(LookupError):
        ring.frame_after(9, "")


def test_ring_forgets_the_oldest_and_moves_its_floor() -> None:
    ring = Ring(0, size=10)
    ring.extend(entries(range(1, 22)))
    assert ring.floor == 11
    assert ids_of(ring.frame_after(11, "")) == list(range(12, 22))
    with pytest.raises(LookupError):
        ring.frame_after(10, "")


def test_page_of_one_strategy_gets_its_own_and_common_events() -> None:
    ring = Ring(0)
    ring.extend([*entries([1], "A"), *entries([2], "B"), *entries([3])])
    assert ids_of(ring.frame_after(0, "B")) == [2, 3]


def test_frame_of_foreign_events_moves_the_cursor_without_text() -> None:
    ring = Ring(0)
    ring.extend(entries([1, 2], "A"))
    assert ring.frame_after(0, "B") == live.Frame(None, 2)


def test_long_backlog_comes_in_frames_without_gap() -> None:
    ring = Ring(0)
    ring.extend(entries(range(1, 1_200)))
    seen: list[int] = []
    cursor = 0
    while (frame := ring.frame_after(cursor, "")) is not None:
        seen += ids_of(frame)
        cursor = frame.last
    assert seen == list(range(1, 1_200))


@pytest.mark.django_db
def test_table_rows_become_the_same_json_as_the_api_tells() -> None:
    last = seed.tell("log", {"text": 'quote " and </script> and ü', "level": "info"}, "A")
    frame = live.backfill_frame(last - 1, "")
    assert frame is not None
    assert frame.text is not None
    event = json.loads(frame.text)["events"][0]
    assert event["payload"]["text"] == 'quote " and </script> and ü'
    assert event["at"].endswith("Z")
    assert (event["id"], event["kind"], event["strategy"]) == (last, "log", "A")


@pytest.mark.django_db
def test_cursor_older_than_the_table_must_reload() -> None:
    first = seed.tell("log", {})
    for _ in range(3):
        last = seed.tell("log", {})
    seed.prune_up_to(first + 1)
    with pytest.raises(LookupError):
        live.backfill_frame(first, "")
    assert live.backfill_frame(first + 1, "") is not None
    with pytest.raises(LookupError):
        live.backfill_frame(last + 5, "")
