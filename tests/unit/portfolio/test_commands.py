"""The commands of the books: what they say and how they exit."""

from __future__ import annotations

import fcntl
import io
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from django.core.management import CommandError, call_command
from django.db.models import Model

from portfolio.arctic import client as client_module
from portfolio.arctic import writer as writer_module
from portfolio.arctic.client import ArcticClient
from portfolio.arctic.lock import writer_lock
from portfolio.management.commands import import_strategies
from portfolio.management.commands._arctic import progress_line
from portfolio.models import CashBalance, Execution, Movement, Position
from portfolio.services import ensure_account, fold_batch
from portfolio.verification import stores
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, fee, fill, owner_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _store(arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "get_ac", lambda: arctic)
    monkeypatch.setattr(import_strategies, "get_ac", lambda: arctic)
    monkeypatch.setattr(stores, "get_ac", lambda: arctic)


@pytest.fixture
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    fold_batch(ACCOUNT, [fill(1, 100, 50), fee(1), fill(2, -40, 55)], owner_of, NOW)


def run(name: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out, stderr=out)
    return out.getvalue()


@pytest.mark.usefixtures("_books")
def test_sync_appends_once_and_gives_the_lock_back(arctic: ArcticClient) -> None:
    assert "9 rows appended to 2 symbols" in run("sync_arctic")
    assert "0 rows appended" in run("sync_arctic")
    assert not writer_lock(arctic).held


@pytest.mark.usefixtures("_books")
def test_sync_beside_a_writer_says_who_writes_and_exits_with_3(arctic: ArcticClient) -> None:
    with writer_lock(arctic).path.open("a+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("4711")
        other.flush()
        with pytest.raises(CommandError) as caught:
            run("sync_arctic")
    assert caught.value.returncode == 3
    assert "4711" in str(caught.value)
    assert "engine" in str(caught.value)


def test_sync_into_a_folder_that_cannot_be_made_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    uri = f"lmdb://{tmp_path / 'file' / 'arctic'}"
    monkeypatch.setattr(writer_module, "get_ac", lambda: client_module.get_ac(uri))
    with pytest.raises(CommandError, match="file/arctic"):
        run("sync_arctic")


@pytest.mark.usefixtures("_books")
def test_rebuild_needs_names_or_all(arctic: ArcticClient) -> None:
    run("sync_arctic")
    with pytest.raises(CommandError):
        run("rebuild_arctic")
    assert "fills/ALPHA  3 rows" in run("rebuild_arctic", f"{ACCOUNT}:fills/ALPHA")
    assert "positions/ALPHA  6 rows" in run("rebuild_arctic", "--all")
    with pytest.raises(CommandError, match="nothing was written"):
        run("rebuild_arctic", f"{ACCOUNT}:fills/NOBODY")


@pytest.mark.usefixtures("_books")
def test_verify_agrees_with_honest_books() -> None:
    Strategy.objects.create(symbol="ALPHA")
    run("sync_arctic")
    assert "agree" in run("verify_ledger")


@pytest.mark.usefixtures("_books")
@pytest.mark.parametrize(
    ("model", "change", "word"),
    [
        (CashBalance, {"amount": Decimal(1)}, "cash of ALPHA in USD"),
        (CashBalance, {"realized_apart": Decimal(-1)}, "realised apart from positions of ALPHA in USD"),
        (Position, {"quantity": Decimal(61)}, "quantity of ALPHA in AAPL"),
        (Position, {"realized_pnl": Decimal(0)}, "realised P&L of ALPHA"),
        (Position, {"cost_basis": Decimal(2999)}, "cost basis of ALPHA"),
        (Execution, {"quantity": Decimal(1)}, "execution 0000e0d5"),
    ],
)
def test_verify_names_what_was_tampered_with(model: type[Model], change: dict[str, Decimal], word: str) -> None:
    model._default_manager.update(**change)
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("verify_ledger", stdout=out, stderr=out)
    assert word in out.getvalue()


@pytest.mark.usefixtures("_books")
def test_verify_notices_a_lost_movement() -> None:
    Movement.objects.filter(kind="commission").delete()
    with pytest.raises(CommandError):
        run("verify_ledger")


def write_table(arctic: ArcticClient, **columns: list[object]) -> None:
    arctic.library("general").write("strategies", pd.DataFrame(columns))


def test_import_makes_strategies_from_an_old_table(arctic: ArcticClient) -> None:
    write_table(
        arctic,
        strategy_symbol=["TQQQ"],
        filename=["tqqq_strategy.py"],
        parameters=['{"a": 1}'],
        active=["True"],
        target_weight=[0.3],
    )
    assert "TQQQ: would be created" in run("import_strategies", "--dry-run")
    assert not Strategy.objects.exists()
    assert "TQQQ: created" in run("import_strategies")
    row = Strategy.objects.get()
    assert (row.filename, row.params, row.active, row.target_weight) == (
        "tqqq_strategy.py",
        {"a": 1},
        True,
        Decimal("0.3"),
    )


def test_import_leaves_existing_strategies_alone_unless_told(arctic: ArcticClient) -> None:
    Strategy.objects.create(symbol="TQQQ", filename="mine.py")
    write_table(arctic, strategy_symbol=["TQQQ"], filename=["theirs.py"])
    assert "left alone" in run("import_strategies")
    assert Strategy.objects.get().filename == "mine.py"
    assert "changed" in run("import_strategies", "--update")
    assert Strategy.objects.get().filename == "theirs.py"


def test_import_reports_a_bad_row_and_keeps_the_good_ones(arctic: ArcticClient) -> None:
    write_table(arctic, strategy_symbol=["../x", "GOOD"], filename=["a.py", "a.py"])
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 of 2"):
        call_command("import_strategies", stdout=out, stderr=out)
    assert "../x:" in out.getvalue()
    assert list(Strategy.objects.values_list("symbol", flat=True)) == ["GOOD"]


def test_import_without_a_table_says_so() -> None:
    with pytest.raises(CommandError, match="no table general/strategies"):
        run("import_strategies")


def test_progress_shows_on_a_terminal_only() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, log = Terminal(), io.StringIO()
    for out in (terminal, log):
        with progress_line(out) as show:
            show("rows", 5000)
    assert "rows 5,000" in terminal.getvalue()
    assert log.getvalue() == ""
