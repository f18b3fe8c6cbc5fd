"""Exchange rates of the past as the research store keeps them, for moments that the ledger has no rates of.

Owns: reading ``fx_rates`` of an account's library. Leaves: writing it (``arctic``), the ledger's own dated rates
(``fx_rates``).
Rule: the store answers or is left aside; a rate is never missing there because of it.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from portfolio.fx_rates import FRESH_IN_PAST
from portfolio.ledger.fx import DELAYED, Quote, is_rate
from portfolio.ledger.money import exact
from strategies.exceptions import MatsError

if TYPE_CHECKING:
    from portfolio.arctic.client import ArcticClient

logger = logging.getLogger(__name__)

SYMBOL = "fx_rates"
LOOK_BACK = timedelta(days=7)  # an older rate says nothing about the moment


def archived_rates(
    account_id: str, base: str, moment: datetime, client: ArcticClient | None = None
) -> dict[str, Quote]:
    """Return the last rate of each currency in the week before a moment; empty when the store cannot be read."""
    try:
        found = _read(account_id, moment, client)
    except MatsError as error:
        logger.info("no archived exchange rates account=%s reason=%s", account_id, error.message)
        return {}
    quotes: dict[str, Quote] = {}
    for currency, against, worth, source, at in found:
        value = exact(Decimal(str(worth)))
        if against == base and is_rate(value):
            old = source == DELAYED or moment - at > FRESH_IN_PAST
            quotes[currency] = Quote(value, at, source, old)  # rows come in order of time: the last one stays
    return quotes


def _read(
    account_id: str, moment: datetime, client: ArcticClient | None
) -> list[tuple[str, str, float, str, datetime]]:
    # Loaded here and not at the top: ArcticDB brings pandas, and a process that only serves pages starts without.
    import pandas as pd

    from portfolio.arctic.client import get_ac

    store = client or get_ac()
    if not store.has_symbol(account_id, SYMBOL):
        return []
    frame = store.read(account_id, SYMBOL, date_range=(moment - LOOK_BACK, moment)).data
    stamps = [stamp.to_pydatetime() for stamp in pd.to_datetime(frame.index, utc=True)]
    columns = (frame[name] for name in ("currency", "base", "worth_in_base", "source"))
    return list(zip(*columns, stamps, strict=True))
