"""Exchange rates of the past, for many moments at once.

Owns: one read of the dated rates of an account, and the table that stood at a moment. Leaves: recording and thinning
(``fx_rates``). Rule: a rate counts from when it was recorded; before the first that was recorded that one serves, and
where none ever was, the present one.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime

from portfolio.ledger.fx import Quote, Rates
from portfolio.models import FxRate


class PastRates:
    """The rates of an account by moment; called with one, it gives the table that stood then."""

    def __init__(self, present: Rates) -> None:
        self._present = present
        self._rows: dict[str, tuple[list[datetime], list[Quote]]] = {}
        self._tables: dict[tuple[int, ...], Rates] = {}
        rows = FxRate.objects.filter(base=present.base).order_by("currency", "at")
        for currency, at, worth, source in rows.values_list("currency", "at", "worth", "source"):
            moments, quotes = self._rows.setdefault(currency, ([], []))
            moments.append(at)
            quotes.append(Quote(worth, at, source))

    def __call__(self, moment: datetime) -> Rates:
        """Return the table of a moment."""
        places = tuple(max(0, bisect_right(moments, moment) - 1) for moments, _ in self._rows.values())
        if places not in self._tables:
            quotes = dict(self._present.quotes)
            for place, (currency, (_, known)) in zip(places, self._rows.items(), strict=True):
                quotes[currency] = known[place]
            self._tables[places] = Rates.of_quotes(self._present.base, quotes)
        return self._tables[places]
