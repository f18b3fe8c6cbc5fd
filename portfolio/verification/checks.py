"""What a check of the books at rest says, and where apps above this one add theirs.

Owns: the value and the registry. Rule: a check reads, writes nothing, and names every difference in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

SHOWN = 50  # findings of one check; a store that is wholly wrong must not fill a disk
Progress = Callable[[str, int], object]


class Outcome(StrEnum):
    """How a check ended."""

    HOLDS = "holds"
    FAILS = "fails"
    SKIPPED = "skipped"
    UNREADABLE = "unreadable"


@dataclass(slots=True)
class Check:
    """One invariant: how many things were looked at, and what is wrong."""

    name: str
    title: str
    checked: int = 0
    findings: list[str] = field(default_factory=list)
    found: int = 0
    note: str = ""
    unreadable: bool = False

    def fail(self, text: str) -> None:
        """Note a difference; of very many the first ones are kept and all are counted."""
        self.found += 1
        if len(self.findings) < SHOWN:
            self.findings.append(text)

    @property
    def outcome(self) -> Outcome:
        """How it ended: nothing to look at and a note is a check that was left out."""
        if self.unreadable:
            return Outcome.UNREADABLE
        if self.found:
            return Outcome.FAILS
        return Outcome.SKIPPED if self.note and not self.checked else Outcome.HOLDS


Checker = Callable[[Progress | None], Check]
_registered: dict[str, Checker] = {}


def register_check(name: str, checker: Checker) -> None:
    """Add a check of an app above this one; the same name again replaces it."""
    _registered[name] = checker


def registered_checks() -> list[Checker]:
    """Return the added checks by name."""
    return [_registered[name] for name in sorted(_registered)]
