"""Frames that another process hands over: written once, in order, by who holds the store."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from portfolio.arctic import parcel_files
from portfolio.arctic.client import ArcticClient, ArcticUnavailableError
from portfolio.arctic.market_data import Bar, append_bars
from portfolio.arctic.parcels import JOIN, MARK, check_address, drain, prune, submit, wait_written
from portfolio.arctic.writer import ArcticWriter
from portfolio.models import Account, ArcticParcel
from portfolio.models.stores import ParcelState
from strategies.exceptions import ConfigError, ConflictError, TransientError
from tests.unit.portfolio.builders import ACCOUNT

pytestmark = pytest.mark.django_db(transaction=True)
START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, settings: Any) -> None:
    import dataclasses

    settings.MATS = dataclasses.replace(settings.MATS, mats_home=tmp_path)


@pytest.fixture
def writer(arctic: ArcticClient) -> ArcticWriter:
    return ArcticWriter(client=arctic)


def bars(count: int, first: int = 0, close: float = 1.0) -> pd.DataFrame:
    index = pd.date_range(START + timedelta(minutes=first), periods=count, freq="1min", name="ts").as_unit("ns")
    return pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), close), index=index)


def sent(frame: pd.DataFrame | None, mode: str = "append", **metadata: Any) -> ArcticParcel:
    return submit("market_data", "AAPL_1_min", frame, mode=mode, metadata=metadata, source="test")


def joined(frame: pd.DataFrame, after: int) -> ArcticParcel:
    return submit("market_data", "AAPL_1_min", frame, mode="append", metadata={JOIN: after}, source="test")


def files(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "parcels").iterdir())


def test_parcels_are_written_in_the_order_in_which_they_were_handed_over(
    arctic: ArcticClient, writer: ArcticWriter, tmp_path: Path
) -> None:
    first, second = sent(bars(3), symbol="AAPL"), sent(bars(2, first=3))
    assert len(files(tmp_path)) == 2
    done = drain(writer)
    assert (done.written, done.rows, done.failed) == (2, 5, [])
    assert (wait_written(first, 0), wait_written(second, 0)) == (0, 1)
    assert len(arctic.read("market_data", "AAPL_1_min").data) == 5
    assert arctic.metadata("market_data", "AAPL_1_min")["symbol"] == "AAPL"
    assert files(tmp_path) == []


def test_frame_comes_out_as_it_went_in(arctic: ArcticClient, writer: ArcticWriter) -> None:
    table = pd.DataFrame({"Symbol": ["A", "Ü"], "n": [1, 2], "x": [1.5, float("nan")], "ok": [True, False]})
    submit("univ", "small", table, mode="write", source="test")
    drain(writer)
    pd.testing.assert_frame_equal(arctic.read("univ", "small").data, table)


def test_update_replaces_only_its_own_range(arctic: ArcticClient, writer: ArcticWriter) -> None:
    sent(bars(10, close=1.0))
    sent(bars(2, first=4, close=2.0), "update")
    drain(writer)
    closes = list(arctic.read("market_data", "AAPL_1_min").data["close"])
    assert closes == [1.0] * 4 + [2.0] * 2 + [1.0] * 4


def test_update_before_the_first_row_keeps_the_last_start(arctic: ArcticClient, writer: ArcticWriter) -> None:
    sent(bars(3, first=10))
    sent(bars(3), "update")
    drain(writer)
    assert len(arctic.read("market_data", "AAPL_1_min").data) == 6
    last = arctic.metadata("market_data", "AAPL_1_min")["last"]
    assert pd.Timestamp(last, tz="UTC") == START + timedelta(minutes=12)


def test_overlapping_append_fails_and_the_next_one_goes_on(
    arctic: ArcticClient, writer: ArcticWriter, tmp_path: Path
) -> None:
    told: list[ArcticParcel] = []
    sent(bars(3))
    bad, good = sent(bars(3, first=1)), sent(bars(1, first=3))
    done = drain(writer, told.append)
    assert (done.written, done.failed, told) == (2, [bad], [bad])
    with pytest.raises(ConflictError, match="nothing is written twice"):
        wait_written(bad, 0)
    assert wait_written(good, 0) == 1
    assert len(arctic.read("market_data", "AAPL_1_min").data) == 4
    assert files(tmp_path) == [f"{bad.pk}.parquet"]  # for who wants to look


def test_joining_append_leaves_out_what_is_there(arctic: ArcticClient, writer: ArcticWriter) -> None:
    sent(bars(3))
    joined(bars(5), 0)
    drain(writer)
    assert len(arctic.read("market_data", "AAPL_1_min").data) == 5


def test_joining_append_that_would_leave_a_hole_is_refused(arctic: ArcticClient, writer: ArcticWriter) -> None:
    sent(bars(3))
    late = joined(bars(2, first=9), int(pd.Timestamp(START + timedelta(minutes=8)).value))
    assert drain(writer).failed == [late]
    assert len(arctic.read("market_data", "AAPL_1_min").data) == 3


def test_parcel_whose_writer_died_before_the_row_is_not_written_again(
    arctic: ArcticClient, writer: ArcticWriter
) -> None:
    parcel = sent(bars(3))
    drain(writer)
    frame = bars(3)
    ArcticParcel.objects.filter(pk=parcel.pk).update(state=ParcelState.WAITING, version=None)
    parcel_files.take_name(parcel_files.write_aside(frame), parcel.pk)
    assert drain(writer).written == 1
    assert wait_written(parcel, 0) == 0
    assert len(arctic.read("market_data", "AAPL_1_min").data) == 3


def test_recorder_that_writes_in_between_keeps_the_mark(arctic: ArcticClient, writer: ArcticWriter) -> None:
    parcel = sent(bars(3))
    drain(writer)
    append_bars(writer, "AAPL", "1_min", [Bar(START + timedelta(minutes=3), 1, 1, 1, 1, 1)])
    assert arctic.metadata("market_data", "AAPL_1_min")[MARK] == parcel.metadata[MARK]


def test_new_ledger_with_old_keys_is_no_reason_to_leave_a_parcel_out(
    arctic: ArcticClient, writer: ArcticWriter
) -> None:
    sent(bars(3))
    drain(writer)
    ArcticParcel.objects.all().delete()
    again = sent(bars(2, first=3))
    ArcticParcel.objects.filter(pk=again.pk).update(id=1)
    parcel_files.path_of(again.pk).rename(parcel_files.path_of(1))
    assert drain(writer).written == 1
    assert len(arctic.read("market_data", "AAPL_1_min").data) == 5


def test_lost_and_damaged_files_fail_with_the_reason(writer: ArcticWriter) -> None:
    lost, damaged = sent(bars(1)), sent(bars(1, first=1))
    parcel_files.path_of(lost.pk).unlink()
    parcel_files.path_of(damaged.pk).write_bytes(b"PAR1 no")
    assert {row.pk for row in drain(writer).failed} == {lost.pk, damaged.pk}
    with pytest.raises(ConflictError, match="is gone"):
        wait_written(lost, 0)
    with pytest.raises(ConflictError, match="cannot be read"):
        wait_written(damaged, 0)


def test_frame_that_does_not_fit_its_table_fails_and_the_store_is_not_blamed(
    arctic: ArcticClient, writer: ArcticWriter
) -> None:
    sent(bars(2))
    other = bars(2, first=2).assign(close=["a", "b"])
    submit("market_data", "AAPL_1_min", other, mode="append", source="test")
    good = submit("univ", "x", pd.DataFrame({"Symbol": ["A"]}), mode="write", source="test")
    done = drain(writer)
    assert len(done.failed) == 1
    assert wait_written(good, 0) == 0


def test_store_that_is_away_keeps_parcels_waiting(writer: ArcticWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    parcel = sent(bars(2))
    monkeypatch.setattr("portfolio.arctic.writer.check_room", _no_room)
    with pytest.raises(ArcticUnavailableError):
        drain(writer)
    parcel.refresh_from_db()
    assert parcel.state == ParcelState.WAITING
    monkeypatch.undo()
    assert drain(writer).written == 1


def _no_room(_: str) -> None:
    raise ArcticUnavailableError("The disk is full.")


def test_full_disk_refuses_a_parcel_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(total=10**9, used=10**9, free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(TransientError, match="1 MB free") as caught:
        sent(bars(2))
    assert caught.value.code == "disk_full"
    assert files(tmp_path) == []
    assert not ArcticParcel.objects.exists()


def test_failing_write_of_the_file_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("portfolio.arctic.parcel_files.os.fsync", broken)
    with pytest.raises(TransientError):
        sent(bars(2))
    assert files(tmp_path) == []
    assert not ArcticParcel.objects.exists()


def test_oversized_frame_is_refused_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcel_files, "MOST_BYTES", 100)
    with pytest.raises(ConfigError) as caught:
        sent(bars(10))
    assert caught.value.code == "frame_too_large"


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.tz_localize(None),
        lambda frame: frame.tz_convert("America/New_York"),
        lambda frame: frame[::-1],
        lambda frame: pd.concat([frame, frame.iloc[-1:]]),
        lambda frame: frame.iloc[:0],
        lambda frame: frame.assign(close=None),
        lambda frame: frame.assign(close=frame["close"].astype("category")),
    ],
    ids=["naive", "other zone", "unsorted", "double", "empty", "none", "category"],
)
def test_frames_that_arcticdb_would_refuse_or_bend_are_refused_at_once(change: Any) -> None:
    with pytest.raises(ConfigError):
        sent(change(bars(3)))
    assert not ArcticParcel.objects.exists()


@pytest.mark.parametrize("library", ["general", ACCOUNT])
def test_ledgers_libraries_are_protected(library: str) -> None:
    Account.objects.create(account_id=ACCOUNT)
    for mode, frame in (("write", bars(1)), ("delete", None)):
        with pytest.raises(ConflictError) as caught:
            submit(library, "x", frame, mode=mode, source="test")
        assert caught.value.code == "protected_library"


@pytest.mark.parametrize(
    ("library", "symbol"),
    [
        ("../x", "a"),
        ("a/b", "c"),
        ("", "a"),
        ("a.b", "c"),
        ("lib", "../x"),
        ("lib", "a*"),
        ("lib", "a\n"),
        ("lib", "a..b"),
    ],
)
def test_names_that_could_be_paths_are_refused(library: str, symbol: str) -> None:
    with pytest.raises(ConfigError):
        check_address(library, symbol)


def test_symbols_and_libraries_are_deleted_in_their_turn(arctic: ArcticClient, writer: ArcticWriter) -> None:
    sent(bars(2))
    submit("univ", "x", pd.DataFrame({"Symbol": ["A"]}), mode="write", source="test")
    submit("market_data", "AAPL_1_min", None, mode="delete", source="test")
    submit("univ", "", None, mode="delete", source="test")
    sent(bars(1, first=7))
    assert drain(writer).failed == []
    assert len(arctic.read("market_data", "AAPL_1_min").data) == 1
    assert arctic.list_symbols("univ") == []


def test_old_rows_and_stray_files_go(writer: ArcticWriter, tmp_path: Path) -> None:
    kept, done = sent(bars(1)), sent(bars(1, first=1))
    drain(writer)
    ArcticParcel.objects.filter(pk=done.pk).update(ended_at=datetime.now(UTC) - timedelta(days=31))
    stray = tmp_path / "parcels" / "999.parquet"
    stray.write_bytes(b"x")
    waiting = sent(bars(1, first=2))
    later = datetime.now(UTC) + timedelta(hours=2)
    assert prune(later) == 1
    assert files(tmp_path) == [f"{waiting.pk}.parquet"]
    assert ArcticParcel.objects.filter(pk=kept.pk).exists()
