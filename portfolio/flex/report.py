"""What an import did, for the page, the API and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from portfolio.facts import Booking, FoldResult
from portfolio.flex.findings import Details


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One finding and what became of it."""

    kind: str
    key: str
    text: str
    state: str  # open or resolved
    resolution: str
    details: Details


@dataclass(slots=True)
class FlexReport:
    """The outcome of one file. ``changes`` is what folding and booking changed, the latest word on each figure."""

    sha256: str
    account_id: str
    query_name: str
    from_date: date
    to_date: date
    statement_id: int | None = None  # None: only looked at
    repeated: bool = False  # read before: nothing was done
    counts: dict[str, int] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)
    findings: list[ReportLine] = field(default_factory=list)
    changes: FoldResult = field(default_factory=FoldResult)
    bookings: list[Booking] = field(default_factory=list)  # booked or proposed

    @property
    def open_findings(self) -> list[ReportLine]:
        """Those that wait for a person."""
        return [one for one in self.findings if one.state == "open"]

    @property
    def summary(self) -> str:
        """One sentence."""
        span = f"{self.account_id} {self.from_date} to {self.to_date}"
        if self.repeated:
            return f"The statement of {span} was read before; nothing was done."
        counts = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in self.counts.items() if value)
        return f"Statement of {span}: {counts or 'nothing in it'}."

    def as_json(self) -> dict[str, Any]:
        """Return what an acknowledgement carries: counts and the open findings, not the resolved ones."""
        return {
            "statement": self.statement_id,
            "sha256": self.sha256,
            "account": self.account_id,
            "from_date": self.from_date.isoformat(),
            "to_date": self.to_date.isoformat(),
            "repeated": self.repeated,
            "summary": self.summary,
            "counts": self.counts,
            "passed_over": self.passed_over,
            "open": [{"kind": one.kind, "key": one.key, "text": one.text} for one in self.open_findings[:100]],
        }
