"""The file that halts trading without database, web or network: whoever can make a file in MATS_HOME can stop MATS.

Owns: its path and content. Rule: a file that is there halts, whatever it holds; a folder that cannot be looked into
halts too, because what is not known is no permission. Only a release removes it.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

NAME = "HALT"


@dataclass(frozen=True, slots=True)
class HaltNote:
    """Who halted, and why."""

    reason: str
    by: str
    at: str

    @property
    def text(self) -> str:
        """Return it in one line."""
        return f"{self.reason} ({self.by}, {self.at})" if self.by else self.reason


class HaltFile:
    """``$MATS_HOME/HALT``. Looking costs one ``stat``."""

    def __init__(self, home: Path) -> None:
        self.path = home / NAME
        self._name = os.fspath(self.path)

    def exists(self) -> bool:
        """Tell whether trading is halted by the file."""
        try:
            os.stat(self._name)  # noqa: PTH116 - before every order: a third of what Path.stat costs
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def write(self, reason: str, by: str) -> None:
        """Halt; a file that is there already stays as it is.

        Raises: OSError when it cannot be made.
        """
        if self.exists():
            return
        note = json.dumps({"reason": reason, "by": by, "at": datetime.now(UTC).isoformat(timespec="seconds")})
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=".halt-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
                handle.write(note)
            Path(name).replace(self.path)  # whole or not at all
        except OSError:
            with suppress(OSError):
                Path(name).unlink()
            raise

    def note(self) -> HaltNote | None:
        """Return what the file says; None when there is none."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")[:2000]
        except FileNotFoundError:
            return None
        except OSError as error:
            return HaltNote(f"{self.path} cannot be read: {error.strerror}", "", "")
        with suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict):
                return HaltNote(str(found.get("reason", "")), str(found.get("by", "")), str(found.get("at", "")))
        return HaltNote(text.strip() or f"The file {self.path.name} was made by hand.", "", "")

    def made_at(self) -> datetime | None:
        """Return when the file was made; None when there is none, the end of time when that cannot be known."""
        try:
            return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        except FileNotFoundError:
            return None
        except OSError:
            return datetime.max.replace(tzinfo=UTC)

    def remove(self) -> None:
        """Release; one that is not there is as good."""
        self.path.unlink(missing_ok=True)
