"""Histories come out byte for byte the same, however they were cut into batches, interrupted or compacted."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from django.db import transaction

from portfolio.adjustments import book_adjustment, undo_adjustment
from portfolio.arctic import writer as writer_module
from portfolio.arctic.client import ArcticClient, ArcticUnavailableError
from portfolio.arctic.projections import Projector
from portfolio.arctic.records import SCHEMAS, target_of
from portfolio.assignments import assign_execution
from portfolio.models import Execution, FormerTicker, FxRate, HourlySnapshot, Movement, ProjectionCursor
from portfolio.services import allocate_strategy, ensure_account, ensure_instruments, fold_batch
from portfolio.verification.stores import verify_stores
from strategies.exceptions import MatsError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db
OWNERS = ("ALPHA", "BETA", "Discretionary")
BY: dict[str, Any] = {"actor": "tester", "source": "cli", "reason": "test"}


@pytest.fixture(autouse=True)
def _account() -> None:
    ensure_account(ACCOUNT, "USD")
    for symbol in ("ALPHA", "BETA"):
        Strategy.objects.create(symbol=symbol)
        allocate_strategy(ACCOUNT, symbol, Decimal(100_000), "USD", NOW)


class Book:
    """Makes one random step of a life of the books at a time."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.number = 0
        self.at = NOW

    def step(self) -> None:
        self.at += timedelta(minutes=self.dice.randint(1, 50))
        with transaction.atomic():
            self.dice.choice(
                (self._fills, self._fills, self._correct, self._event, self._assign, self._hour, self._rate)
            )()

    def _fills(self) -> None:
        items: list[object] = []
        for _ in range(self.dice.randint(1, 4)):
            self.number += 1
            size = self.dice.choice((-1, 1)) * self.dice.randint(1, 50)
            price = f"{self.dice.uniform(1, 90):.2f}"
            items += [fill(self.number, size, price, owner=self.dice.choice(OWNERS)), fee(self.number, "1.25")]
        fold_batch(ACCOUNT, items, owner_of, self.at)  # type: ignore[arg-type]  # snapshots

    def _correct(self) -> None:
        if self.number:
            number = self.dice.randint(1, self.number)
            row = Execution.objects.filter(superseded=False, exec_id__contains=f".{number:08x}.").get()
            size = row.quantity + (1 if row.quantity > 0 else -1)
            owner = row.order_ref.partition("/")[0]
            changed = fill(number, str(size), "33.3", revision=row.revision + 1, owner=owner)
            fold_batch(ACCOUNT, [changed], owner_of, self.at)

    def _event(self) -> None:
        events: list[tuple[str, dict[str, Any]]] = [
            ("deposit", {"owner": "ALPHA", "currency": "USD", "amount": "500"}),
            ("transfer_cash", {"from": "ALPHA", "to": "BETA", "currency": "USD", "amount": "12.5"}),
            ("interest", {"currency": "USD", "amount": "-3.21"}),
            ("dividend", {"con_id": 265598, "currency": "USD", "amount": "10.01"}),
            ("split", {"con_id": 265598, "numerator": 3, "denominator": 2}),
        ]
        kind, details = self.dice.choice(events)
        try:
            booked = book_adjustment(ACCOUNT, kind, details, now=self.at, **BY)
            if self.dice.random() < 0.3:
                undo_adjustment(booked.adjustment_id, now=self.at, **BY)
        except MatsError:
            return  # the contract is not known yet, or a later booking forbids the undo

    def _assign(self) -> None:
        row = Execution.objects.filter(superseded=False, owner="Discretionary").order_by("id").first()
        if row is not None:
            part = None if self.dice.random() < 0.5 or abs(row.quantity) < 2 else Decimal(1)
            try:
                assign_execution(ACCOUNT, row.exec_id, "BETA", quantity=part, now=self.at, **BY)
            except MatsError:
                return  # nothing of it is left there

    def _hour(self) -> None:
        hour = self.at.replace(minute=0, second=0, microsecond=0)
        snapshot(hour, "ALPHA", "1000.5")
        snapshot(hour, "", "2000")

    def _rate(self) -> None:
        FxRate.objects.create(base="USD", currency="EUR", worth=Decimal("1.1"), source="account", at=self.at)


def snapshot(hour: datetime, owner: str, equity: str | None) -> None:
    lines = [
        {"row_type": "POSITION", "con_id": 265598, "symbol": "AAPL", "asset_class": "STK", "exchange": "NASDAQ",
         "currency": "USD", "multiplier": "1", "quantity": "10", "avg_cost": "50", "realized_pnl": "3", "mark": "51"},
        {"row_type": "CASH", "currency": "USD", "quantity": "490.5"},
    ]  # fmt: skip
    newest = Movement.objects.order_by("-id").first()
    HourlySnapshot.objects.get_or_create(
        account_id=ACCOUNT,
        owner=owner,
        hour=hour,
        defaults={
            "taken_at": hour,
            "last_movement": newest.pk if newest else 0,
            "currency": "USD",
            "equity": None if equity is None else Decimal(equity),
            "cash": Decimal("490.5"),
            "realized_pnl": Decimal(3),
            "unrealized_pnl": Decimal(10),
            "positions": lines if owner else [],
            "figures": {} if owner else {"available_funds": "100", "buying_power": "400"},
        },
    )


def frames(client: ArcticClient) -> dict[str, pd.DataFrame]:
    return {
        symbol: client.read(ACCOUNT, symbol).data
        for symbol in client.list_symbols(ACCOUNT)
        if target_of(f"{ACCOUNT}:{symbol}") is not None
    }


def assert_same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    assert list(left) == list(right)
    for symbol, frame in left.items():
        pd.testing.assert_frame_equal(frame, right[symbol], check_freq=False)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_random_books_rebuild_byte_for_byte(arctic: ArcticClient, seed: int) -> None:
    book = Book(seed)
    for _ in range(40):
        book.step()
        if book.dice.random() < 0.6:  # flushed in cuts of their own, by projectors that come and go
            projector = Projector(client=arctic, batch_rows=book.dice.choice((1, 3, 17, 500)))
            projector.flush_all()
            projector.close()
    projector = Projector(client=arctic)
    projector.flush_all()
    before = frames(arctic)
    assert {target.schema_name for name in before if (target := target_of(f"{ACCOUNT}:{name}"))} <= set(SCHEMAS)
    assert len(before["positions/ALPHA"]) > 10
    assert verify_stores(arctic).findings == []
    assert verify_stores(arctic).behind == []
    projector.rebuild()
    assert_same(before, frames(arctic))
    projector.close()


def test_crash_between_two_symbols_leaves_the_same_histories(
    arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Book(9)
    for _ in range(30):
        book.step()
    whole = Projector(client=arctic)
    real, calls = whole.writer.append, 0
    with monkeypatch.context() as patch:

        def fail_later(*given: object) -> int:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise ArcticUnavailableError("killed")
            return real(*given)  # type: ignore[arg-type]  # passed through

        patch.setattr(whole.writer, "append", fail_later)
        with pytest.raises(ArcticUnavailableError):
            whole.flush_all()
    whole.close()
    ProjectionCursor.objects.all().delete()
    again = Projector(client=arctic, batch_rows=7)
    again.flush_all()
    before = frames(arctic)
    again.rebuild()
    assert_same(before, frames(arctic))
    again.close()


def test_compaction_at_close_changes_no_byte(arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "COMPACT_AT_CLOSE", 3)
    projector = Projector(client=arctic)
    for number in range(1, 9):
        fold_batch(ACCOUNT, [fill(number)], owner_of, NOW)
        projector.flush()
    before = frames(arctic)
    projector.close()
    assert len(arctic.library(ACCOUNT).list_versions("fills/ALPHA")) == 1
    assert_same(before, frames(arctic))


def test_renamed_contract_keeps_the_ticker_of_its_time(arctic: ArcticClient) -> None:
    projector = Projector(client=arctic)
    fold_batch(ACCOUNT, [fill(1)], owner_of, NOW)
    projector.flush()
    ensure_instruments([contract(symbol="APPL")])
    fold_batch(ACCOUNT, [fill(2, of=contract(symbol="APPL"))], owner_of, NOW)
    ensure_instruments([contract(symbol="APLE")])
    projector.flush()
    assert FormerTicker.objects.count() == 2
    before = frames(arctic)
    assert list(before["fills/ALPHA"]["symbol"]) == ["AAPL", "APPL"]
    projector.rebuild()
    assert list(frames(arctic)["fills/ALPHA"]["symbol"]) == ["AAPL", "APPL"]
    projector.close()


def test_only_movements_on_an_execution_are_fills(arctic: ArcticClient) -> None:
    fold_batch(ACCOUNT, [fill(1, 10, owner="Discretionary"), fee(1)], owner_of, NOW)
    assign_execution(ACCOUNT, Execution.objects.get().exec_id, "BETA", now=NOW, **BY)
    book_adjustment(
        ACCOUNT, "dividend", {"con_id": 265598, "currency": "USD", "amount": "7"}, now=NOW + timedelta(hours=1), **BY
    )
    Projector(client=arctic).flush_all()
    found = frames(arctic)
    away, own = found["fills/Discretionary"], found["fills/BETA"]
    assert away["quantity"].sum() == 0
    assert own["quantity"].sum() == 10
    assert set(own["kind"]) == {"assignment"}
    assert (own["adjustment"] != "").all()
    assert "dividend" in set(found["positions/BETA"]["kind"])
    assert "dividend" not in set(own["kind"])


def test_hours_become_strategy_account_and_portfolio_rows(arctic: ArcticClient) -> None:
    hour = datetime(2026, 3, 2, 16, tzinfo=UTC)
    snapshot(hour, "ALPHA", None)
    snapshot(hour, "", "2000")
    Projector(client=arctic).flush_all()
    found = frames(arctic)
    rows = found["strategy_ALPHA"]
    assert list(rows["row_type"]) == ["POSITION", "CASH", "EQUITY"]
    assert rows["quantity"].isna().tolist() == [False, False, True]
    assert rows["avg_cost"].tolist()[1:] == [1.0, 1.0]
    assert rows["asset_class"].tolist()[1:] == ["CASH", "EQUITY"]
    assert rows.index[0] == pd.Timestamp(hour)
    assert set(rows["timestamp"]) == {pd.Timestamp("2026-03-02 16:00")}
    assert found["account_summary"].iloc[0][["equity", "available_funds", "pnl"]].tolist() == [2000.0, 100.0, 13.0]
    assert list(found["portfolio_history"]["market_value"]) == [510.0, 490.5]


def test_first_rate_of_an_hour_is_kept_and_survives_thinning(arctic: ArcticClient) -> None:
    projector = Projector(client=arctic, batch_rows=2)
    for minute in (1, 20, 59, 61, 90):
        at = NOW + timedelta(minutes=minute)
        FxRate.objects.create(base="USD", currency="EUR", worth=Decimal("1.25"), source="account", at=at)
        projector.flush_all()
    before = frames(arctic)["fx_rates"]
    assert list(before["fx_rate"]) == [0.8, 0.8]
    FxRate.objects.filter(at__gt=NOW + timedelta(minutes=2), at__lt=NOW + timedelta(minutes=60)).delete()
    projector.rebuild()
    pd.testing.assert_frame_equal(frames(arctic)["fx_rates"], before)
    projector.close()


def test_symbol_of_an_older_shape_is_written_anew(arctic: ArcticClient) -> None:
    projector = Projector(client=arctic)
    fold_batch(ACCOUNT, [fill(1)], owner_of, NOW)
    projector.flush()
    projector.close()
    item = arctic.read(ACCOUNT, "fills/ALPHA")
    old = item.data.drop(columns=["adjustment"])
    arctic.library(ACCOUNT).write("fills/ALPHA", old, metadata={**item.metadata, "shape": "old"})
    fold_batch(ACCOUNT, [fill(2)], owner_of, NOW)
    again = Projector(client=arctic)
    again.flush_all()
    again.close()
    assert list(frames(arctic)["fills/ALPHA"]["adjustment"]) == ["", ""]
    assert verify_stores(arctic).findings == []


def test_library_that_was_emptied_under_a_running_projector_gets_its_past_back(arctic: ArcticClient) -> None:
    projector = Projector(client=arctic)
    fold_batch(ACCOUNT, [fill(1)], owner_of, NOW)
    projector.flush()
    arctic.library(ACCOUNT)._nvs.version_store.clear()
    fold_batch(ACCOUNT, [fill(2)], owner_of, NOW)
    projector.flush()
    assert len(frames(arctic)["fills/ALPHA"]) == 2
    projector.close()
