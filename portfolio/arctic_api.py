"""Routes of the research store: what lies in ArcticDB, rows of it, and deleting what the ledger cannot make again.

Rule: a GET makes nothing; deleting needs a superuser who types the name, never touches the ledger's libraries, and goes
through the one process that writes.
"""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status

from portfolio import arctic_access
from portfolio.arctic_access import delete_from_store, read_page
from strategies.api_rules import caller
from strategies.schemas import AwareTime, Page

router = Router()

Library = Annotated[str, Field(min_length=1, max_length=80)]
Name = Annotated[str, Field(min_length=1, max_length=254)]
Confirm = Annotated[str, Field(min_length=1, max_length=340)]


class LibraryOut(Schema):
    """A library: how many symbols, and whether it mirrors the ledger and is protected."""

    library: str
    symbols: int
    protected: bool


class RowsOut(Schema):
    """Rows of a symbol; ``total`` counts what the filters leave."""

    columns: list[str]
    rows: list[list[Any]]
    total: int
    offset: int
    version: int | None


class DeletedOut(Schema):
    """What became of a deletion: ``done`` is false while the writer has not come to it."""

    library: str
    symbol: str
    done: bool
    parcel: int


@router.get("/libraries", response=Page[LibraryOut])
def libraries(request: HttpRequest) -> dict[str, Any]:
    """List the libraries."""
    return {"items": arctic_access.libraries()}


@router.get("/symbols", response=Page[str])
def symbols(request: HttpRequest, library: Library) -> dict[str, Any]:
    """List the symbols of a library."""
    return {"items": arctic_access.symbols(library)}


@router.get("/read", response=RowsOut)
def read(
    request: HttpRequest,
    library: Library,
    symbol: Name,
    limit: Annotated[int, Field(ge=1, le=10_000)] = 100,
    offset: Annotated[int, Field(ge=0, le=10**12)] = 0,
    sort: Annotated[str, Field(max_length=80)] = "",
    filter: Annotated[list[str] | None, Query()] = None,  # noqa: A002 - the name of the parameter
    start: AwareTime | None = None,
    end: AwareTime | None = None,
) -> Any:
    """Read rows; ``filter`` (repeatable) is ``column:op:value``: eq ne lt lte gt gte contains startswith endswith."""
    return read_page(library, symbol, limit=limit, offset=offset, sort=sort, filters=filter or (), start=start, end=end)


@router.delete("/delete_symbol", response={200: DeletedOut, 202: DeletedOut})
def delete_symbol(request: HttpRequest, library: Library, symbol: Name, confirm: Confirm) -> Status[dict[str, Any]]:
    """Delete a symbol with all its versions; ``confirm`` repeats ``library/symbol``."""
    return _deleted(request, library, symbol, confirm)


@router.delete("/delete_library", response={200: DeletedOut, 202: DeletedOut})
def delete_library(request: HttpRequest, library: Library, confirm: Confirm) -> Status[dict[str, Any]]:
    """Delete a library with everything in it; ``confirm`` repeats its name."""
    return _deleted(request, library, "", confirm)


def _deleted(request: HttpRequest, library: str, symbol: str, confirm: str) -> Status[dict[str, Any]]:
    asked = caller(request)
    found = delete_from_store(library, symbol, confirm, asked.user, source=asked.source)
    return Status(200 if found["done"] else 202, found)
