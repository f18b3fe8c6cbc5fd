"""What commands share: ArcticDB's errors as one clear line, and progress on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from django.core.management.base import CommandError

from portfolio.arctic.lock import ArcticBusyError
from strategies.exceptions import MatsError

BUSY = 3


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn our errors into the command's: exit code 3 while another process writes, 1 otherwise."""
    try:
        yield
    except ArcticBusyError as error:
        raise CommandError(
            f"{error.message} If that is the engine, it syncs by itself within a second; stop it to run this command.",
            returncode=BUSY,
        ) from error
    except MatsError as error:
        raise CommandError(error.message) from error


@contextmanager
def progress_line(out: TextIO) -> Iterator[Callable[[str, int], None]]:
    """Give a callback that shows counts in place on a terminal, and nothing in a log; the line is gone at the end."""
    with text_line(out) as show_text:

        def show(what: str, count: int) -> None:
            show_text(f"{what} {count:,}")

        yield show


@contextmanager
def text_line(out: TextIO) -> Iterator[Callable[[str], None]]:
    """Give a callback that shows a text in place on a terminal, and nothing in a log; the line is gone at the end."""
    terminal = out.isatty()

    def show(text: str) -> None:
        if terminal:
            out.write(f"\r{text}\x1b[K")
            out.flush()

    try:
        yield show
    finally:
        if terminal:
            out.write("\r\x1b[K")
            out.flush()
