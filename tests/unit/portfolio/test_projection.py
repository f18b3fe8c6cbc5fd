"""The projection into a real ArcticDB."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pandas as pd
import pytest

from portfolio.arctic import writer as writer_module
from portfolio.arctic.client import ArcticClient, ArcticUnavailableError
from portfolio.arctic.projections import Projector
from portfolio.arctic.schema import FILLS, ORDERS, POSITIONS
from portfolio.models import Movement, ProjectionCursor
from portfolio.services import allocate_strategy, ensure_account, fold_batch
from strategies.exceptions import StaleEpochError
from tests.unit.portfolio.builders import ACCOUNT, NOW, fee, fill, owner_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _account() -> None:
    ensure_account(ACCOUNT, "USD")


def fold(*items: object) -> None:
    fold_batch(ACCOUNT, items, owner_of, NOW)  # type: ignore[arg-type]  # snapshots


def read(client: ArcticClient, symbol: str) -> pd.DataFrame:
    data: pd.DataFrame = client.read(ACCOUNT, symbol).data
    return data


def test_every_movement_of_a_fill_becomes_one_row(arctic: ArcticClient) -> None:
    fold(fill(1, 100, 50), fee(1, "1.5"), fill(2, -40, 55, owner="BETA"))
    Projector(client=arctic).flush()
    rows = read(arctic, "fills/ALPHA")
    assert list(rows["kind"]) == ["fill", "commission"]
    assert list(rows["quantity"]) == [100.0, 0.0]
    assert rows["commission"].isna().tolist() == [True, False]
    assert rows["exec_time"].iloc[0] == pd.Timestamp("2026-03-02 15:00:01")
    assert len(read(arctic, "fills/BETA")) == 1


def test_positions_show_the_state_after_each_movement(arctic: ArcticClient) -> None:
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(10_000), "USD", NOW)
    fold(fill(1, 100, 50))
    Projector(client=arctic).flush()
    rows = read(arctic, "positions/ALPHA")
    assert list(rows["row_type"]) == ["CASH", "POSITION", "CASH"]
    assert list(rows["quantity"]) == [10_000.0, 100.0, 5_000.0]


def test_columns_and_types_are_those_of_the_schema(arctic: ArcticClient) -> None:
    fold(fill(1))
    Projector(client=arctic).flush()
    for symbol, schema in (("fills/ALPHA", FILLS), ("positions/ALPHA", POSITIONS)):
        rows = read(arctic, symbol)
        assert list(rows.columns) == list(schema)
        assert str(rows.index.dtype) == "datetime64[ns, UTC]"
        kinds = {"str": "object"}
        assert {n: str(t) for n, t in rows.dtypes.items()} == {n: kinds.get(k, k) for n, k in schema.items()}


def test_second_flush_adds_only_what_is_new(arctic: ArcticClient) -> None:
    projector = Projector(client=arctic)
    fold(fill(1))
    assert projector.flush().rows[f"{ACCOUNT}:fills/ALPHA"] == 1
    assert projector.flush().total == 0
    fold(fill(2))
    assert projector.flush().rows[f"{ACCOUNT}:fills/ALPHA"] == 1
    assert read(arctic, "fills/ALPHA")["seq"].is_monotonic_increasing


def test_rows_that_lost_only_their_cursor_are_not_doubled(arctic: ArcticClient) -> None:
    fold(fill(1), fill(2))
    Projector(client=arctic).flush()
    ProjectionCursor.objects.all().delete()
    assert Projector(client=arctic).flush().total == 0
    assert len(read(arctic, "fills/ALPHA")) == 2


def test_symbol_that_was_lost_is_filled_again(arctic: ArcticClient) -> None:
    fold(fill(1), fill(2))
    Projector(client=arctic).flush()
    arctic.library(ACCOUNT).delete("fills/ALPHA")
    Projector(client=arctic).flush()
    assert len(read(arctic, "fills/ALPHA")) == 2
    assert len(read(arctic, "positions/ALPHA")) == 4


def test_stamps_increase_although_a_batch_shares_its_time(arctic: ArcticClient) -> None:
    fold(*(fill(number) for number in range(1, 20)))
    Projector(client=arctic).flush()
    index = read(arctic, "fills/ALPHA").index
    assert index.is_monotonic_increasing
    assert index.is_unique


def test_rebuild_gives_identical_frames(arctic: ArcticClient) -> None:
    projector = Projector(client=arctic, batch_rows=3)
    for number in range(1, 12):
        fold(fill(number, 10 * number, 50 + number, owner="ALPHA" if number % 2 else "BETA"), fee(number))
        projector.flush_all()
    fold(fill(3, 5, 52, revision=2))
    projector.flush_all()
    symbols = sorted(arctic.library(ACCOUNT).list_symbols())
    before = {symbol: read(arctic, symbol) for symbol in symbols}
    projector.rebuild()
    assert sorted(arctic.library(ACCOUNT).list_symbols()) == symbols
    for symbol in symbols:
        pd.testing.assert_frame_equal(read(arctic, symbol), before[symbol])
    assert projector.flush().total == 0


def test_flush_goes_on_after_a_rebuild_of_one_symbol(arctic: ArcticClient) -> None:
    projector = Projector(client=arctic)
    fold(fill(1))
    projector.flush()
    projector.rebuild(f"{ACCOUNT}:fills/ALPHA")
    fold(fill(2))
    projector.flush()
    assert list(read(arctic, "fills/ALPHA")["quantity"]) == [100.0, 100.0]


def test_compaction_keeps_rows_and_watermark(arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "COMPACT_EVERY", 5)
    projector = Projector(client=arctic)
    for number in range(1, 14):
        fold(fill(number))
        projector.flush()
    assert len(read(arctic, "fills/ALPHA")) == 13
    assert arctic.metadata(ACCOUNT, "fills/ALPHA")["last_seq"] == Movement.objects.latest("id").pk
    assert len(arctic.library(ACCOUNT).list_versions("fills/ALPHA")) < 10


def test_stale_lease_writes_nothing(arctic: ArcticClient) -> None:
    def stale() -> None:
        raise StaleEpochError("The lease is gone.")

    fold(fill(1))
    with pytest.raises(StaleEpochError):
        Projector(stale, client=arctic).flush()
    assert not arctic.has_symbol(ACCOUNT, "fills/ALPHA")


def test_failed_append_is_retried_and_keeps_history(arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch) -> None:
    projector = Projector(client=arctic)
    fold(fill(1))
    projector.flush()
    fold(fill(2))
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> int:
            raise ArcticUnavailableError("disk gone")

        patch.setattr(projector.writer, "append", fail)
        with pytest.raises(ArcticUnavailableError):
            projector.flush()
    projector.flush()
    assert len(read(arctic, "fills/ALPHA")) == 2


def test_append_that_failed_after_its_commit_is_not_repeated(
    arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    projector = Projector(client=arctic)
    fold(fill(1))
    projector.flush()
    fold(fill(2))
    real = projector.writer.append
    with monkeypatch.context() as patch:

        def commit_then_fail(*given: object) -> int:
            real(*given)  # type: ignore[arg-type]  # passed through
            raise ArcticUnavailableError("answer lost")

        patch.setattr(projector.writer, "append", commit_then_fail)
        with pytest.raises(ArcticUnavailableError):
            projector.flush()
    projector.flush()
    assert len(read(arctic, "fills/ALPHA")) == 2
    assert len(read(arctic, "positions/ALPHA")) == 4


def test_order_events_follow_their_owner(arctic: ArcticClient) -> None:
    rows = [
        {"seq": n, "at": datetime(2026, 3, 2, 15, n, tzinfo=UTC), "account": ACCOUNT, "strategy": "ALPHA",
         "order_ref": "ALPHA/1", "state": state, "total_quantity": Decimal(5)}
        for n, state in ((1, "INTENT"), (2, "FILLED"))
    ]  # fmt: skip

    def after(seq: int, limit: int) -> list[dict[str, object]]:
        return [row for row in rows if row["seq"] > seq][:limit]  # type: ignore[operator]  # ints

    projector = Projector(client=arctic, order_rows_after=after)
    projector.flush()
    projector.flush()
    found = read(arctic, "orders/ALPHA")
    assert list(found["state"]) == ["INTENT", "FILLED"]
    assert list(found.columns) == list(ORDERS)
    assert found["limit_price"].isna().all()
