"""A progress line on a terminal; nothing in a log."""

from __future__ import annotations

from typing import Any, TextIO


class ProgressLine:
    """One line that is written over; gone when its block ends."""

    def __init__(self, out: Any) -> None:
        self._out: TextIO = out

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out.isatty():
            self._out.write("\r\x1b[K", ending="")  # type: ignore[call-arg]  # Django's wrapper

    def show(self, done: float, text: str) -> None:
        """Show how far the work is, a fraction of 1."""
        if self._out.isatty():
            self._out.write(f"\r{done * 100:5.1f} %  {text}\x1b[K", ending="")  # type: ignore[call-arg]  # as above
            self._out.flush()
