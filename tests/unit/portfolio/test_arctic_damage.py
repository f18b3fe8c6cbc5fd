"""Files that were cut off, emptied or lost: said clearly, never mapped, mended from the ledger."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from portfolio.arctic import client as client_module
from portfolio.arctic.client import ArcticClient, get_ac
from portfolio.arctic.current import portfolio_rows, settings_frame
from portfolio.arctic.health import DATA, ArcticDamagedError, damage_of, put_damaged_aside
from portfolio.arctic.lmdb_pages import PAGE, Meta, last_referred_page, newest_meta
from portfolio.arctic.projections import Projector
from portfolio.arctic.space import StoreSpace
from portfolio.models import Account, Break, BrokerHolding
from portfolio.services import ensure_account, fold_batch, record_account_values, record_marks
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, fee, fill, owner_of
from tests.unit.portfolio.test_arctic_rebuild import assert_same, frames

LAST_PAGE_AT = 136  # in a meta page
REREAD = """
import sys
from portfolio.arctic.client import get_ac, ArcticDamagedError
try:
    get_ac(sys.argv[1]).read("DU1000001", "fills/ALPHA")
except ArcticDamagedError as error:
    print(error.message)
"""


@pytest.fixture
def folder(arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two fills in it; the settings name it."""
    monkeypatch.setattr(settings, "MATS", replace(settings.MATS, arctic_uri=arctic.uri))
    ensure_account(ACCOUNT, "USD")
    Strategy.objects.create(symbol="ALPHA")
    fold_batch(ACCOUNT, [fill(1), fee(1), fill(2)], owner_of, NOW)
    projector = Projector(client=arctic)
    projector.flush_all()
    projector.sync_strategies()
    projector.close()
    assert arctic.folder is not None
    return arctic.folder


def forget(arctic: ArcticClient) -> None:
    """Have the next call open the store anew, as a new process would."""
    arctic._libraries.clear()
    client_module._clients.pop((os.getpid(), arctic.uri))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def scribble(path: Path) -> None:
    path.write_bytes(b"no database" * 5_000)


@pytest.mark.django_db
@pytest.mark.parametrize("damage", [cut, empty, scribble])
@pytest.mark.parametrize("library", [ACCOUNT, "_arctic_cfg", "general"])
def test_damaged_file_is_named_and_rebuilt(arctic: ArcticClient, folder: Path, damage: object, library: str) -> None:
    before = frames(arctic)
    uri = arctic.uri
    forget(arctic)
    del arctic
    copy = folder.with_name("copy")  # LMDB still maps the file in this process: the damage is done to a copy
    shutil.copytree(folder, copy)
    moved = uri.replace(str(folder), str(copy))
    damage(copy / library / DATA)  # type: ignore[operator]  # one of the functions above
    with pytest.raises(ArcticDamagedError) as caught:
        get_ac(moved)
    assert str(copy / library / DATA) in caught.value.message
    assert "rebuild_arctic --all" in caught.value.message
    settings.MATS = replace(settings.MATS, arctic_uri=moved)
    out = io.StringIO()
    call_command("rebuild_arctic", "--all", stdout=out, stderr=out)
    assert "put aside" in out.getvalue()
    assert (copy.with_name("copy.damaged")).is_dir()
    assert_same(before, frames(get_ac(moved)))
    call_command("verify_ledger", stdout=out, stderr=out)


@pytest.mark.django_db
def test_reader_process_gets_a_clear_error_instead_of_a_bus_error(arctic: ArcticClient, folder: Path) -> None:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    cut(copy / ACCOUNT / DATA)
    uri = arctic.uri.replace(str(folder), str(copy))
    done = subprocess.run(
        [sys.executable, "-c", "import django; django.setup()\n" + REREAD, uri],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "MATS_HOME": str(folder.parent / "home")},
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "was cut off" in done.stdout


@pytest.mark.django_db
def test_store_that_is_gone_altogether_is_written_again(arctic: ArcticClient, folder: Path) -> None:
    before = frames(arctic)
    settings.MATS = replace(settings.MATS, arctic_uri=arctic.uri.replace(str(folder), str(folder.with_name("new"))))
    call_command("rebuild_arctic", "--all", stdout=io.StringIO())
    assert_same(before, frames(get_ac()))


@pytest.mark.django_db
def test_verify_exits_with_2_when_the_store_cannot_be_read(
    arctic: ArcticClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    cut(copy / ACCOUNT / DATA)
    uri = arctic.uri.replace(str(folder), str(copy))
    monkeypatch.setattr(settings, "MATS", replace(settings.MATS, arctic_uri=uri))
    with pytest.raises(CommandError) as caught:
        call_command("verify_ledger", stdout=io.StringIO(), stderr=io.StringIO())
    assert caught.value.returncode == 2


def test_whole_files_are_left_where_they_are(arctic: ArcticClient) -> None:
    arctic.library("general").write("x", pd.DataFrame({"a": [1.0]}))
    assert arctic.folder is not None
    assert put_damaged_aside(arctic.folder, datetime.now(UTC)) == []
    assert damage_of(arctic.folder / "general") == ""
    assert damage_of(arctic.folder / "nothing") == ""


def test_space_warns_of_a_full_map_and_of_fast_growth(tmp_path: Path) -> None:
    now = [0.0]
    space = StoreSpace(clock=lambda: now[0])
    data = tmp_path / "DU1" / DATA
    data.parent.mkdir()
    data.touch()
    uri = f"lmdb://{tmp_path}?map_size=10GB"
    space.measure(uri)
    assert space.figures() == {"size_mb": 0.0, "used": 0.0, "growth_mb_h": None, "alert": ""}
    os.truncate(data, 2_000_000_000)  # sparse
    space.measure(uri)
    assert space.figures()["size_mb"] == 0.0, "measured again before its time"
    now[0] = 60.0
    space.measure(uri)
    assert "MB an hour" in space.figures()["alert"]
    os.truncate(data, 9_000_000_000)
    now[0] = 120.0
    space.measure(uri)
    assert "DU1 fills 90%" in space.figures()["alert"]


@pytest.mark.django_db
def test_portfolio_rows_add_up_to_what_ib_holds(arctic: ArcticClient) -> None:
    account = ensure_account(ACCOUNT, "USD")
    fold_batch(ACCOUNT, [fill(1, 100, 50)], owner_of, NOW)
    record_marks({265598: Decimal(52)}, NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", "10000", "USD")], NOW)
    BrokerHolding.objects.create(account=account, instrument_id=265598, quantity=130, average_cost=50)
    Break.objects.create(account=account, instrument_id=265598, ib_quantity=130, ledger_quantity=100, opened_at=NOW)
    rows = {row["strategy"]: row for row in portfolio_rows(Account.objects.get()) if row["row_type"] == "POSITION"}
    assert {name: row["position"] for name, row in rows.items()} == {"ALPHA": 100, "Discretionary": 30}
    assert rows["Discretionary"]["unexplained"] == 30
    assert rows["ALPHA"]["% of nav"] == 52
    assert rows["ALPHA"]["pnl %"] == 4
    assert rows["ALPHA"]["fx_rate"] == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("held", "cost", "average"),
    [
        (130, 60, 90),  # (130 × 60 − 100 × 51) ÷ 30
        (60, 100, None),  # what is left would have cost less than nothing
        (0, None, None),  # the broker holds nothing and says no cost
    ],
)
def test_what_the_rest_cost_is_the_broker_less_the_strategies_or_unknown(
    arctic: ArcticClient, held: int, cost: int | None, average: int | None
) -> None:
    account = ensure_account(ACCOUNT, "USD")
    fold_batch(ACCOUNT, [fill(1, 100, 51), fill(2, 10, 70, owner="")], owner_of, NOW)
    record_marks({265598: Decimal(52)}, NOW)
    if cost is not None:
        BrokerHolding.objects.create(account=account, instrument_id=265598, quantity=held, average_cost=cost)
    Break.objects.create(account=account, instrument_id=265598, ib_quantity=held, ledger_quantity=110, opened_at=NOW)
    rows = {row["strategy"]: row for row in portfolio_rows(Account.objects.get()) if row["row_type"] == "POSITION"}
    rest = rows["Discretionary"]
    assert rest["position"] == held - 100
    assert rest["average_cost"] == average
    assert (rest["pnl %"] is None) is (average is None)
    assert rows["ALPHA"]["average_cost"] == 51


@pytest.mark.django_db
def test_current_tables_are_written_when_they_change(arctic: ArcticClient) -> None:
    ensure_account(ACCOUNT, "USD")
    Account.objects.update(opened_at=NOW)
    fold_batch(ACCOUNT, [fill(1, 100, 50)], owner_of, NOW)
    projector = Projector(client=arctic)
    assert projector.write_current() == 2
    assert projector.write_current() == 0
    record_marks({265598: Decimal(52)}, NOW)
    assert projector.write_current() == 1
    assert arctic.read(ACCOUNT, "portfolio").data["market_price"].iloc[0] == 52.0
    projector.close()


def test_settings_table_holds_text_and_no_secret() -> None:
    table = settings_frame()
    assert table.loc["ib_port", "Value"] == str(settings.MATS.ib_port)
    assert {type(value) for value in table["Value"]} == {str}
    assert not [key for key in table.index if "secret" in key or "token" in key or "password" in key or "uri" in key]


@pytest.mark.django_db
def test_file_that_ends_after_the_last_page_it_refers_to_is_whole(folder: Path, tmp_path: Path) -> None:
    """LMDB never writes a page that the transaction which took it gave back: it may count more than the file has."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for library in (path.parent for path in copy.rglob(DATA)):
        _, last = counted(library)
        count_more(library / DATA, last + 3)
        os.truncate(library / DATA, (last + 1) * PAGE)
        assert damage_of(library) == ""
        os.truncate(library / DATA, last * PAGE)
        assert damage_of(library).startswith("was cut off")


def count_more(path: Path, last_page: int) -> None:
    """Have both records say that so many pages are in use."""
    with path.open("r+b") as handle:
        for page in (0, PAGE):
            handle.seek(page + LAST_PAGE_AT)
            handle.write(last_page.to_bytes(8, "little"))


def test_every_page_of_a_store_of_many_sizes_is_found(arctic: ArcticClient) -> None:
    library = arctic.library("general")
    assert arctic.folder is not None
    for number in range(120):
        library.write(f"table{number}", pd.DataFrame({"value": [float(number)] * (1 + number % 40 * 50)}))
        assert damage_of(arctic.folder / "general") == ""
    meta, last = counted(arctic.folder / "general")
    size = (arctic.folder / "general" / DATA).stat().st_size
    assert 0 <= meta.last_page - last < 20, "a tree was not followed"
    assert last < size // PAGE


def counted(library: Path) -> tuple[Meta, int]:
    """The record that holds of a library's file, and the last page that it refers to."""
    with (library / DATA).open("rb") as handle:
        meta = newest_meta(handle.fileno())
        assert meta is not None
        return meta, last_referred_page(handle.fileno(), meta)
