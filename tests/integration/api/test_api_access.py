"""Every route of the OpenAPI schema against every kind of caller; a new route is in here without being listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection, transaction

from mats_site.api import api as ninja_api
from mats_site.services import create_api_key
from tests.integration.api.conftest import Api, error_of

SAMPLES = {
    "filename": "ma_cross.py",
    "symbol": "AAA",
    "library": "univ",
    "job_id": "7",
    "strategy": "AAA",
    "client_id": "3",
    "order_ref": "AAA/01J",
    "command_id": str(UUID(int=7)),
    "con_id": "265598",
    "adjustment_id": "7",
    "statement_id": "7",
    "parked_id": "7",
    "break_id": "7",
    "alert_id": "7",
    "finding_id": "7",
    "limit_id": "7",
    "override_id": "7",
    "lock_id": "7",
    "run_id": "7",
    "name": "day",
}
METHODS = ("get", "post", "put", "patch", "delete")


def _operations() -> dict[tuple[str, str], Any]:
    found = {}
    for path, operations in ninja_api.get_openapi_schema(path_prefix="")["paths"].items():
        filled = path
        for name, value in SAMPLES.items():
            filled = filled.replace("{" + name + "}", value)
        assert "{" not in filled, f"give a sample for the parameter of {path}"
        found.update({(method, filled): operations[method] for method in METHODS if method in operations})
    return found


OPERATIONS = _operations()
ROUTES = list(OPERATIONS)
READS = [path for method, path in ROUTES if method == "get"]
WRITES = [(method, path) for method, path in ROUTES if method != "get"]


def test_schema_holds_every_group_of_routes() -> None:
    groups = {path.split("/")[1] for _method, path in ROUTES}
    assert groups == {
        "strategies",
        "portfolio",
        "connection",
        "trade",
        "engine",
        "commands",
        "market",
        "scanner",
        "sessions",
        "risk",
        "alerts",
        "arctic",
        "audit",
        "data",
        "backtest",
    }
    assert len(READS) >= 15
    assert len(WRITES) >= 11


def every(routes: list[tuple[str, str]], check: Callable[[str, str], object]) -> None:
    """Check every route, each from the same database, and tell of all that fail; a test for each would take minutes."""
    wrong = []
    for method, path in routes:
        cache.clear()  # the limit on wrong keys is another test's
        with transaction.atomic():
            try:
                check(method, path)
            except AssertionError as error:
                wrong.append(f"{method.upper()} {path}: {error}")
            transaction.set_rollback(True)
    assert not wrong, "\n".join(wrong)


def refuses_with(api: Api, status: int, code: str) -> Callable[[str, str], None]:
    """Return the check that a route answers that caller so."""

    def check(method: str, path: str) -> None:
        said = error_of(api.send(method, path), status)["code"]
        assert said == code, said

    return check


def test_nobody_gets_in_without_login(anonymous: Api) -> None:
    def check(method: str, path: str) -> None:
        response = anonymous.send(method, path)
        assert error_of(response, 401)["code"] == "unauthenticated"
        assert response["WWW-Authenticate"].startswith("Bearer")

    every(ROUTES, check)


def test_made_up_key_gets_nowhere(db: None) -> None:
    nobody = Api(key="mats_" + "1" * 16 + "_" + "2" * 64)
    every(ROUTES, lambda method, path: error_of(nobody.send(method, path), 401))


def test_viewer_may_not_write(reader: Api) -> None:
    every(WRITES, refuses_with(reader, 403, "not_operator"))


def test_viewers_key_may_not_write(viewer: User) -> None:
    every(WRITES, refuses_with(Api(key=create_api_key(viewer, "read")[1]), 403, "read_only_key"))


def test_operators_read_only_key_may_not_write(operator: User) -> None:
    every(WRITES, refuses_with(Api(key=create_api_key(operator, "read")[1]), 403, "read_only_key"))


def test_session_without_csrf_may_not_write(operator: User) -> None:
    every(WRITES, refuses_with(Api(user=operator, csrf=False), 403, "csrf_failed"))


def test_operator_is_let_through_to_every_write(operator: User) -> None:
    def check(method: str, path: str) -> None:
        response = Api(user=operator).send(method, path)
        assert response.status_code in {404, 422, 503}, response.content  # no such thing, no body, no engine
        error_of(response, response.status_code)

    every(WRITES, check)


def test_viewer_may_read(reader: Api) -> None:
    def check(method: str, path: str) -> None:
        status = reader.send(method, path).status_code
        assert status in {200, 404, 422}, status

    every([("get", path) for path in READS], check)


def test_wrong_method_is_a_json_405_that_names_the_right_one(api: Api) -> None:
    def check(method: str, path: str) -> None:
        response = api.send(method, path)
        assert error_of(response, 405)["code"] == "method_not_allowed"
        allowed = {method.upper() for method, address in ROUTES if address == path}
        assert set(response["Allow"].split(", ")) == allowed

    every([("delete", path) for path in READS], check)


@pytest.mark.parametrize("path", ["", "/", "/nothing", "/strategies/", "/strategies/AAA", "/docs/x", "/commands/7"])
def test_unknown_address_is_a_json_404(anonymous: Api, path: str) -> None:
    response = anonymous.get(path)
    if path == "":
        assert response.status_code == 301
    else:
        assert error_of(response, 404)["code"] == "not_found"


def test_superuser_needs_no_group(db: None) -> None:
    boss = User.objects.create_superuser("boss", password="correct horse 7")
    assert error_of(Api(user=boss).post("/strategies/stop-all"), 503)["code"] == "engine_down"


@pytest.mark.parametrize(("path", "status"), [("/docs", 302), ("/openapi.json", 401)])
def test_documentation_is_for_known_callers(anonymous: Api, reader: Api, path: str, status: int) -> None:
    refused = anonymous.get(path)
    assert refused.status_code == status
    if status == 302:
        assert "next=/api/docs" in refused["Location"]
    assert reader.get(path).status_code == 200


def test_documentation_page_fits_the_content_security_policy(reader: Api) -> None:
    response = reader.get("/docs")
    page = response.content.decode()
    assert "script-src 'self'" in response["Content-Security-Policy"]
    assert "http://" not in page
    assert "https://" not in page
    for tag in page.split("<script")[1:]:
        opening, rest = tag.split(">", 1)
        assert "src=" in opening or 'type="application/json"' in opening, f"inline script: {rest[:80]}"


def test_schema_names_the_error_shape_for_every_operation(reader: Api) -> None:
    schema = reader.get("/openapi.json").json()
    assert set(schema["components"]["schemas"]["ErrorOut"]["properties"]) == {"error"}
    for operations in schema["paths"].values():
        for operation in operations.values():
            content = operation["responses"]["default"]["content"]["application/json"]
            assert content["schema"]["$ref"].rsplit("/", 1)[1] == "ErrorOut"
            assert operation["security"]


def test_reading_changes_no_row(reader: Api) -> None:
    def rows() -> dict[str, list[tuple[object, ...]]]:
        with connection.cursor() as cursor:
            tables = connection.introspection.table_names(cursor)
            found = {}
            for table in tables:
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 - names from the schema
                found[table] = cursor.fetchall()
        return found

    before = rows()
    for path in READS:
        reader.get(path)
    assert rows() == before
