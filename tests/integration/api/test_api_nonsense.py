"""Nonsense from outside: always an answer below 500, in the one shape, and nothing stored."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError
from django.test import RequestFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mats_site.api import api as ninja_api
from mats_site.api_parser import MAX_BODY_BYTES, MAX_DEPTH
from strategies import exceptions
from strategies.models import Strategy
from tests.integration.api.conftest import Api, error_of
from tests.integration.api.test_api_access import OPERATIONS, READS, WRITES, every

DEEP = b'{"symbol":"AAA","params":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}"
BAD_BODIES = {
    "not json": b"{",
    "not utf-8": b"\xff\xfe{}",
    "nan": b'{"symbol":"AAA","filename":"aaa.py","params":{"a":NaN}}',
    "infinity": b'{"symbol":"AAA","filename":"aaa.py","params":{"a":-Infinity}}',
    "huge float": b'{"symbol":"AAA","filename":"aaa.py","params":{"a":1e999}}',
    "huge int": b'{"symbol":"AAA","filename":"aaa.py","params":{"a":' + b"9" * 5000 + b"}}",
    "nul": b'{"symbol":"AAA","filename":"aaa.py","description":"a\\u0000b"}',
    "nul in a name": b'{"symbol":"AAA","filename":"aaa.py","params":{"a\\u0000b":1}}',
    "surrogate": b'{"symbol":"AAA","filename":"aaa.py","description":"\\ud800"}',
    "deep": DEEP,
    "just too deep": b'{"symbol":"AAA","params":{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}}",
}
BAD_VALUES: list[Any] = [
    None,
    [],
    "text",
    7,
    {},
    {"symbol": "AAA", "filename": "../../etc/passwd"},
    {"symbol": "AAA", "filename": "/etc/passwd.py"},
    {"symbol": "AAA", "filename": "a.py\n"},
    {"symbol": "AAA'; DROP TABLE x; --", "filename": "aaa.py"},
    {"symbol": "A" * 33, "filename": "aaa.py"},
    {"symbol": "Ä", "filename": "aaa.py"},
    {"symbol": "AAA", "filename": "aaa.py", "target_weight": 1.5},
    {"symbol": "AAA", "filename": "aaa.py", "target_weight": "-0.1"},
    {"symbol": "AAA", "filename": "aaa.py", "target_weight": "1e-999999999"},
    {"symbol": "AAA", "filename": "aaa.py", "target_weight": "NaN"},
    {"symbol": "AAA", "filename": "aaa.py", "target_weight": {}},
    {"symbol": "AAA", "filename": "aaa.py", "params": "text"},
    {"symbol": "AAA", "filename": "aaa.py", "params": []},
    {"symbol": "AAA", "filename": "aaa.py", "currency": "usd"},
    {"symbol": "AAA", "filename": "aaa.py", "color": "red"},
    {"symbol": "AAA", "filename": "aaa.py", "restart_policy": "sometimes"},
    {"symbol": "AAA", "filename": "aaa.py", "max_restarts_per_hour": 10**30},
    {"symbol": "AAA", "filename": "aaa.py", "name": "x" * 81},
    {"symbol": "AAA", "filename": "aaa.py", "revision": 7},
    {"symbol": "AAA", "filename": "aaa.py", "code_hash": "x"},
]
BAD_PATH_PARTS = ["..", "%00", "%0a", "a b", "A" * 5000, "💥", "AAA%27--", "%2e%2e%2fetc", "-1", "1e9", "100", "AAA%0A"]
BAD_QUERIES = {
    "limit": ["0", "-1", "1001", "1e3", "", "x", "9" * 30],
    "cursor": ["-1", "x y", "9" * 30, "", "\x00"],
    "after": ["-1", "x", "9" * 30, ""],
    "strategy": ["..", "a b", "A" * 33, "\x00", "'"],
    "owner": ["..", "a b", "\x00"],
    "since": ["yesterday", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1e400"],
    "con_id": ["-1", "9" * 30, "x", ""],
    "kind": ["nonsense", "\x00"],
    "state": ["nonsense"],
    "filename": ["../x.py", "/etc/passwd", "x.txt", "\x00.py", "nowhere.py", "", ".py", "a/../b.py"],
    "active_only": ["perhaps"],
    "open_only": ["perhaps"],
}
NO_DB_RESET = [HealthCheck.function_scoped_fixture]


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_unusable_body_is_a_400_that_stores_nothing(api: Api, body: bytes) -> None:
    assert error_of(api.post("/strategies/save", body), 400)["code"] == "bad_json"
    assert not Strategy.objects.exists()


@pytest.mark.parametrize("value", BAD_VALUES, ids=lambda value: json.dumps(value)[:60])
def test_unusable_values_are_a_422_that_names_them_and_stores_nothing(api: Api, value: Any) -> None:
    error = error_of(api.post("/strategies/save", json.dumps(value).encode()), 422)
    assert error["fields"]["errors"]
    assert not Strategy.objects.exists()


def test_missing_body_is_a_422(api: Api) -> None:
    error_of(api.post("/strategies/save"), 422)


@pytest.mark.parametrize("path", ["/strategies/save", "/strategies/stop-all", "/nothing"])
def test_body_above_a_megabyte_is_a_413(api: Api, path: str) -> None:
    body = b'{"description": "' + b"x" * MAX_BODY_BYTES + b'"}'
    assert error_of(api.post(path, body), 413)["code"] == "too_large"


@pytest.mark.parametrize("part", BAD_PATH_PARTS)
def test_nonsense_in_the_address_is_an_answer_below_500(api: Api, part: str) -> None:
    addresses = [
        ("get", f"/strategies/{part}/details"),
        ("get", f"/portfolio/strategy/{part}"),
        ("get", f"/commands/{part}"),
        ("post", f"/strategies/{part}/start"),
        ("post", f"/strategies/{part}/delete"),
        ("post", f"/connection/ib-disconnect-client/{part}"),
        ("post", f"/trade/orders/{part}/cancel"),
    ]
    for method, address in addresses:
        response = api.send(method, address if "%" in address else quote(address))
        assert 400 <= response.status_code < 500 or response.status_code == 503, (address, response.content[:300])
        error_of(response, response.status_code)


def queries_for(path: str) -> list[dict[str, str]]:
    """Return every bad value of each name that the route knows, alone, and those of all others together."""
    known = {one["name"] for one in OPERATIONS["get", path].get("parameters", []) if one["in"] == "query"}
    alone = [{name: value} for name in BAD_QUERIES if name in known for value in BAD_QUERIES[name]]
    others = {name: values for name, values in BAD_QUERIES.items() if name not in known}
    rounds = range(max(len(values) for values in others.values()))
    return alone + [{name: values[turn % len(values)] for name, values in others.items()} for turn in rounds]


def test_nonsense_in_the_query_is_an_answer_below_500(reader: Api) -> None:
    def check(_method: str, path: str) -> None:
        for query in queries_for(path):
            response = reader.get(path, **query)
            assert response.status_code in {200, 404, 422}, (query, response.content[:300])

    every([("get", path) for path in READS], check)


def test_every_bad_query_is_one_of_some_route() -> None:
    known = {one["name"] for path in READS for one in OPERATIONS["get", path].get("parameters", [])}
    assert BAD_QUERIES.keys() <= known


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELD_NAMES = st.sampled_from(
    ["symbol", "filename", "name", "color", "active", "target_weight", "max_weight", "params", "currency", "x"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=NO_DB_RESET)
@given(body=st.dictionaries(FIELD_NAMES, JSON_VALUES, max_size=8) | JSON_VALUES)
def test_any_json_at_all_never_breaks_save(api: Api, body: Any) -> None:
    response = api.post("/strategies/save", json.dumps(body).encode())
    assert response.status_code in {200, 400, 409, 422}, (body, response.content[:500])


@settings(max_examples=100, deadline=None, suppress_health_check=NO_DB_RESET)
@given(body=st.binary(max_size=200), route=st.sampled_from(WRITES))
def test_any_bytes_at_all_never_break_a_write(api: Api, body: bytes, route: tuple[str, str]) -> None:
    response = api.send(*route, body)
    assert response.status_code in {200, 202, 400, 404, 409, 422, 503}, (route, body, response.content[:500])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (exceptions.MatsError("x"), 400),
        (exceptions.ConfigError("x"), 422),
        (exceptions.NotFoundError("x"), 404),
        (exceptions.ConflictError("x"), 409),
        (exceptions.TransientError("x"), 503),
        (exceptions.OrderRefusedError("x"), 409),
        (exceptions.OrderDeniedError("x"), 409),
        (exceptions.OrderRejectedError("x"), 422),
        (exceptions.StrategyError("x"), 409),
        (exceptions.LoadError("x"), 422),
        (exceptions.LedgerError("x"), 503),
        (exceptions.StaleEpochError("x"), 409),
        (IntegrityError("x"), 409),
        (OperationalError("database is locked"), 503),
    ],
)
def test_every_error_of_ours_has_its_status(error: Exception, status: int) -> None:
    response = ninja_api.on_exception(RequestFactory().get("/api/x"), error)
    error_of(response_like(response), status)


def test_error_fields_of_any_type_can_be_told() -> None:
    error = exceptions.ConflictError("x", values={1, 2}, path=object())
    response = ninja_api.on_exception(RequestFactory().get("/api/x"), error)
    assert response.status_code == 409


def test_bug_answers_with_a_reference_and_logs_its_traceback_there(
    operator: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("trading.queries.engine_state", broken)
    response = Api(user=operator).get("/engine/state")
    error = error_of(response, 500)
    assert "secret detail" not in response.content.decode()
    assert error["fields"]["reference"] in error["message"]
    assert error["fields"]["reference"] in caplog.text
    assert "secret detail" in caplog.text
    assert "Traceback" in caplog.text


def response_like(response: Any) -> Any:
    """Give a bare response the ``json`` that the test client's have."""
    response.json = lambda: json.loads(response.content)
    return response
