"""What pages and routes may do with the research store, without loading it until somebody asks.

Owns: the late import, the rights and the confirmation of a deletion, its trail. Leaves: reading (``arctic.browse``),
deleting (``arctic.parcels``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied

from portfolio.models import Account
from strategies import audit
from strategies.exceptions import ConfigError, TransientError

if TYPE_CHECKING:
    from django.contrib.auth.models import User

WAIT_S = 5.0


def libraries() -> list[dict[str, Any]]:
    """Return every library with its number of symbols, and whether it is the ledger's."""
    from portfolio.arctic.client import get_ac

    ours = {"general", *Account.objects.values_list("account_id", flat=True)}
    client = get_ac()
    return [
        {"library": name, "symbols": len(client.list_symbols(name)), "protected": name in ours}
        for name in client.list_libraries()
    ]


def symbols(library: str) -> list[str]:
    """Return a library's symbols.

    Raises: NotFoundError.
    """
    from portfolio.arctic.browse import require
    from portfolio.arctic.client import get_ac

    require(get_ac(), library)
    return get_ac().list_symbols(library)


def read_page(
    library: str,
    symbol: str,
    *,
    limit: int,
    offset: int,
    sort: str = "",
    filters: Sequence[str] = (),
    start: datetime | None = None,
    end: datetime | None = None,
) -> Any:
    """Return a page of rows (``browse.RowsPage``); filters are written ``column:op:value``.

    Raises: NotFoundError, ConfigError.
    """
    from portfolio.arctic.browse import parse_filter, read_rows
    from portfolio.arctic.client import get_ac

    wanted = [parse_filter(text) for text in filters]
    return read_rows(
        get_ac(), library, symbol, limit=limit, offset=offset, sort=sort, filters=wanted, start=start, end=end
    )


def delete_from_store(library: str, symbol: str, confirm: str, user: User, *, source: str) -> dict[str, Any]:
    """Delete a symbol, or without one a library, through the process that writes; wait some seconds for it.

    Raises: PermissionDenied for who is no superuser; ConfigError (not_confirmed); NotFoundError; ConflictError for the
    ledger's libraries.
    """
    if not user.is_superuser:
        raise PermissionDenied("Deleting from the research store needs a superuser.")
    name = f"{library}/{symbol}" if symbol else library
    if confirm != name:
        raise ConfigError(f"Type «{name}» to confirm; nothing was deleted.", code="not_confirmed")
    from portfolio.arctic.browse import require
    from portfolio.arctic.client import get_ac
    from portfolio.arctic.parcels import DELETE, check_address, deliver, submit

    require(get_ac(), library, symbol)
    check_address(library, symbol)
    audit.record("arctic.deleted", name, actor=user.get_username(), source=source, before={"name": name})
    parcel = submit(library, symbol, None, mode=DELETE, source=f"delete:{user.get_username()}")
    try:
        deliver(parcel, WAIT_S)
    except TransientError:
        return {"library": library, "symbol": symbol, "done": False, "parcel": parcel.pk}
    return {"library": library, "symbol": symbol, "done": True, "parcel": parcel.pk}
