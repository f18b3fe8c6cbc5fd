"""The research store and the data catalogue over the API: reading, asking for ingests, deleting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import pytest
from django.contrib.auth.models import User

from mats_site.services import create_api_key
from portfolio.arctic.client import ArcticClient, get_ac
from portfolio.models import Account
from strategies.models import AuditEntry
from tests.integration.api.conftest import Api, error_of
from trading.market.ingest_store import store_bars
from trading.market.universe import store_universe
from trading.work_models import Job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def store(settings: Any, tmp_path: Path) -> ArcticClient:
    """A store with two days of bars, with a hole, and a universe."""
    uri = f"lmdb://{tmp_path / 'arctic'}?map_size=128MB"
    settings.MATS = dataclasses.replace(settings.MATS, mats_home=tmp_path, arctic_uri=uri)
    minutes = pd.date_range("2024-11-25T14:30Z", periods=390, freq="1min", name="ts").as_unit("ns")
    both = [*minutes, *(minutes + pd.Timedelta(days=1))]
    index = pd.DatetimeIndex(both, name="ts").as_unit("ns").delete([5, 6, 400])
    frame = pd.DataFrame(
        {name: range(1, len(index) + 1) for name in ("open", "high", "low", "close", "volume")}, index=index
    )
    store_bars("AAPL", "1_min", frame.astype("float64"), {"use_rth": True}, source="test")
    table = pd.DataFrame(
        {"Symbol": ["AAPL", "MSFT", "BRK B"], "Sector": ["Tech", "Tech", "Other"], "Cap": [3.0, 2.0, None]}
    )
    store_universe("univ", "big", table, source="test")
    return get_ac()


@pytest.fixture
def root(db: None) -> Api:
    """A superuser's key."""
    user = User.objects.create_superuser("root", password="correct horse 7")
    return Api(key=create_api_key(user, "tests", can_write=True)[1])


def send(caller: Api, method: str, path: str, **query: Any) -> Any:
    return caller.send(method, f"{path}?{urlencode(query)}")


def test_libraries_symbols_and_rows_are_read(store: ArcticClient, reader: Api) -> None:
    libraries = {row["library"]: row for row in reader.get("/arctic/libraries").json()["items"]}
    assert libraries["univ"] == {"library": "univ", "symbols": 1, "protected": False}
    assert reader.get("/arctic/symbols", library="market_data").json()["items"] == ["AAPL_1_min"]
    page = reader.get("/arctic/read", library="market_data", symbol="AAPL_1_min", limit=2, offset=1).json()
    assert page["columns"] == ["ts", "open", "high", "low", "close", "volume"]
    assert page["rows"][0] == ["2024-11-25T14:31:00Z", 2.0, 2.0, 2.0, 2.0, 2.0]
    assert (page["total"], page["offset"]) == (777, 1)


@pytest.mark.parametrize(
    ("filters", "sort", "symbols"),
    [
        (["Sector:eq:Tech"], "", ["AAPL", "MSFT"]),
        (["Sector:ne:Tech"], "", ["BRK B"]),
        (["Cap:gte:2"], "-Cap", ["AAPL", "MSFT"]),
        (["Cap:gt:2"], "", ["AAPL"]),
        (["Cap:lt:3"], "", ["MSFT"]),
        (["Cap:lte:3", "Symbol:startswith:ms"], "", ["MSFT"]),
        (["Symbol:contains:k b"], "", ["BRK B"]),
        (["Symbol:endswith:PL"], "", ["AAPL"]),
        (["Symbol:eq:a:b"], "", []),
        ([], "-Symbol", ["MSFT", "BRK B", "AAPL"]),
    ],
)
def test_rows_are_filtered_and_sorted(
    store: ArcticClient, reader: Api, filters: list[str], sort: str, symbols: list[str]
) -> None:
    page = reader.get("/arctic/read", library="univ", symbol="big", filter=filters, sort=sort).json()
    assert [row[0] for row in page["rows"]] == symbols
    assert page["total"] == len(symbols)


def test_times_bound_and_filter_the_index(store: ArcticClient, reader: Api) -> None:
    given = {"library": "market_data", "symbol": "AAPL_1_min"}
    page = reader.get("/arctic/read", **given, start="2024-11-26T00:00:00Z", end="2024-11-26T14:32:00Z").json()
    assert page["total"] == 3
    page = reader.get("/arctic/read", **given, filter=["ts:gte:2024-11-26T20:58:00"], sort="-ts").json()
    assert [row[0] for row in page["rows"]] == ["2024-11-26T20:59:00Z", "2024-11-26T20:58:00Z"]


@pytest.mark.parametrize(
    "query",
    [
        {"library": "../etc", "symbol": "passwd"},
        {"library": "nowhere", "symbol": "x"},
        {"library": "univ", "symbol": "../market_data/AAPL_1_min"},
        {"library": "univ", "symbol": "none"},
    ],
)
def test_names_that_are_not_there_make_nothing(
    store: ArcticClient, reader: Api, tmp_path: Path, query: dict[str, str]
) -> None:
    before = sorted(path.name for path in (tmp_path / "arctic").iterdir())
    error_of(reader.get("/arctic/read", **query), 404)
    assert sorted(path.name for path in (tmp_path / "arctic").iterdir()) == before


@pytest.mark.parametrize(
    "query",
    [
        {"filter": ["Sector"]},
        {"filter": ["Sector:like:T"]},
        {"filter": ["Nothing:eq:1"]},
        {"filter": ["Cap:gt:much"]},
        {"sort": "Nothing"},
        {"limit": 10_001},
        {"limit": 0},
        {"start": "2024-01-01T00:00:00"},
    ],
)
def test_questions_that_cannot_be_answered_are_refused(store: ArcticClient, reader: Api, query: dict[str, Any]) -> None:
    error_of(reader.get("/arctic/read", library="univ", symbol="big", **query), 422)


def test_catalogue_tells_how_whole_a_series_is(store: ArcticClient, reader: Api) -> None:
    rows = {row["symbol"]: row for row in reader.get("/data/series").json()["items"]}
    assert (rows["AAPL_1_min"]["missing"], rows["AAPL_1_min"]["gaps"]) == (3, 2)
    assert rows["big"]["coverage"] is None
    found = reader.get("/data/series/market_data/AAPL_1_min").json()
    assert found["first_gaps"][0] == {"first": "2024-11-25T14:35:00Z", "last": "2024-11-25T14:36:00Z", "bars": 2}
    assert found["coverage"] == pytest.approx(100 * 777 / 780)
    assert found["size_bytes"] > 0
    error_of(reader.get("/data/series/market_data/NONE"), 404)
    assert [row["symbol"] for row in reader.get("/data/series", q="aapl").json()["items"]] == ["AAPL_1_min"]


def test_ingest_is_queued_for_the_worker_by_whom_it_is_allowed(store: ArcticClient, api: Api, reader: Api) -> None:
    body = {"symbols": ["AAPL"], "timeframe": "1m", "start": "2024-01-02"}
    error_of(reader.post("/data/ingest", body), 403)
    answer = api.post("/data/ingest", body)
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["state"], job["args"]) == ("ingest", "queued", body)
    assert AuditEntry.objects.filter(action="job.asked").exists()
    assert reader.get(f"/data/ingest/{job['id']}").json()["state"] == "queued"
    assert api.post(f"/data/ingest/{job['id']}/cancel").json()["state"] == "cancelled"
    error_of(api.post(f"/data/ingest/{job['id']}/cancel"), 409)
    error_of(api.post("/data/ingest/999/cancel"), 404)


def test_gaps_of_every_series_are_asked_for_without_naming_any(store: ArcticClient, api: Api) -> None:
    answer = api.post("/data/ingest", {"fill_gaps": True})
    assert answer.status_code == 202
    assert Job.objects.get().args == {"fill_gaps": True}


@pytest.mark.parametrize(
    "body",
    [
        {"symbols": ["AAPL"], "timeframe": "7m"},
        {"symbols": ["../x"], "timeframe": "1m"},
        {"source": "file", "file": "../../etc/passwd"},
        {"source": "file", "path": "/etc/passwd"},
        {"symbols": ["AAPL"], "timeframe": "1m", "path": "/etc/passwd"},
        {"symbols": ["AAPL"], "fill_gaps": True, "currency": "EUR"},
        {"symbols": ["AAPL"], "timeframe": "1m", "ask_again": True},
    ],
)
def test_ingest_that_cannot_be_makes_no_job(store: ArcticClient, api: Api, body: dict[str, Any]) -> None:
    error_of(api.post("/data/ingest", body), 422)
    assert not Job.objects.exists()


def test_only_a_superuser_who_types_the_name_deletes(store: ArcticClient, api: Api, root: Api) -> None:
    named = {"library": "univ", "symbol": "big"}
    error_of(send(api, "delete", "/arctic/delete_symbol", **named, confirm="univ/big"), 403)
    assert (
        error_of(send(root, "delete", "/arctic/delete_symbol", **named, confirm="big"), 422)["code"] == "not_confirmed"
    )
    assert store.has_symbol("univ", "big")
    assert send(root, "delete", "/arctic/delete_symbol", **named, confirm="univ/big").json()["done"] is True
    assert not store.has_symbol("univ", "big")
    assert AuditEntry.objects.filter(action="arctic.deleted", subject="univ/big").exists()
    answer = send(root, "delete", "/arctic/delete_library", library="market_data", confirm="market_data")
    assert answer.json()["done"] is True
    assert store.list_symbols("market_data") == []
    assert [row["symbols"] for row in root.get("/arctic/libraries").json()["items"]] == [0, 0]


def test_libraries_of_the_ledger_are_protected(store: ArcticClient, root: Api) -> None:
    Account.objects.create(account_id="DU1000001")
    store.library("DU1000001").write("portfolio", pd.DataFrame({"x": [1]}))
    store.library("general").write("strategies", pd.DataFrame({"x": [1]}))
    for library, symbol in (("DU1000001", "portfolio"), ("general", "strategies")):
        given = {"library": library, "symbol": symbol, "confirm": f"{library}/{symbol}"}
        assert error_of(send(root, "delete", "/arctic/delete_symbol", **given), 409)["code"] == "protected_library"
        answer = send(root, "delete", "/arctic/delete_library", library=library, confirm=library)
        assert error_of(answer, 409)["code"] == "protected_library"
        assert store.has_symbol(library, symbol)


def test_store_that_is_away_is_said_in_words(reader: Api, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    settings.MATS = dataclasses.replace(settings.MATS, arctic_uri=f"lmdb://{tmp_path / 'file' / 'x'}?map_size=64MB")
    assert error_of(reader.get("/data/series"), 503)["code"] == "arctic_unavailable"


def test_viewer_needs_only_to_be_signed_in(store: ArcticClient, make_user: Callable[[str, str], User]) -> None:
    assert Api(user=make_user("vic", "viewer")).get("/arctic/libraries").status_code == 200
