"""Hand bars over to ``market_data``, and tell people when one lot was refused.

Owns: which parcels bars become, the alert of a refused one. Leaves: parcels (``portfolio.arctic.parcels``), where bars
come from. Rule: nothing that is stored is replaced here unless the caller says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError

from portfolio.models import ArcticParcel
from strategies.exceptions import TransientError
from strategies.series_names import Listing
from trading.alerts import raise_alert
from trading.models import Severity

if TYPE_CHECKING:
    import pandas as pd

_REFUSED = "parcel"


def report_refused(row: ArcticParcel) -> None:
    """Open the alert of a parcel that cannot be written: one for each symbol."""
    raise_alert(
        f"{_REFUSED}:{row.library}/{row.symbol}",
        Severity.WARNING,
        f"Data for {row.library}/{row.symbol} could not be stored",
        f"{row.rows} rows from {row.source} ({row.mode}): {row.error} Nothing was changed. Hand them over again once "
        "the reason is mended, and acknowledge this.",
    )


def keep_bars(
    series: str,
    timeframe: str,
    bars: pd.DataFrame,
    use_rth: bool,
    after: datetime | None,
    of: Listing,
    source: str = "get_data",
) -> ArcticParcel:
    """Hand closed bars of a contract over that join on to the stored bar ``after``; None begins a series.

    Raises: TransientError when the database or the disk does not take them.
    """
    # The research store takes a second to import, which most processes never need.
    import pandas as pd

    from portfolio.arctic.market_data import LIBRARY, symbol_name
    from portfolio.arctic.parcels import APPEND, JOIN, submit

    join = 0 if after is None else pd.Timestamp(after).value
    said = {**of.as_metadata(), "symbol": series, "timeframe": timeframe, "use_rth": use_rth}
    # Of a new series: IB has applied the splits that came up to now.
    metadata: Mapping[str, Any] = {**said, "split_basis": f"{datetime.now(UTC):%Y-%m-%d}", JOIN: join}
    try:
        return submit(LIBRARY, symbol_name(series, timeframe), bars, mode=APPEND, metadata=metadata, source=source)
    except DatabaseError as error:
        raise TransientError(f"Bars of {series} could not be handed over: {error}", code="not_handed_over") from error
