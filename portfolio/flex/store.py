"""Keep Flex files: each under its own SHA-256, readable by this user alone.

Owns: the folder ``MATS_HOME/flex``. Rule: a file appears whole or not at all, and what is read back is what was kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from django.conf import settings

from portfolio.flex.parse import LARGEST_FILE
from strategies.exceptions import ConfigError, NotFoundError

_NAME = re.compile(r"[0-9a-f]{64}")


def flex_home() -> Path:
    """Return the folder of the kept files, made when missing."""
    home: Path = settings.MATS.mats_home / "flex"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def keep(data: bytes) -> str:
    """Keep a file; return its SHA-256."""
    name = hashlib.sha256(data).hexdigest()
    home = flex_home()
    path = home / f"{name}.xml"
    if path.exists() and _digest(path) == name:
        return name
    descriptor, part = tempfile.mkstemp(dir=home, suffix=".part")  # mkstemp's mode is 0600
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        Path(part).replace(path)
    except OSError:
        Path(part).unlink(missing_ok=True)
        raise
    return name


def read(source: str | Path | bytes) -> bytes:
    """Return the bytes of a kept file (by its SHA-256), of any file (by its path), or those given.

    Raises: NotFoundError when there is no such file; ConfigError when it is too large or not what its name says.
    """
    if isinstance(source, bytes):
        return source
    kept = isinstance(source, str)
    if kept and not _NAME.fullmatch(str(source)):
        raise ConfigError("A kept statement is named by its SHA-256: 64 digits and letters a–f.", code="flex_bad_name")
    path = flex_home() / f"{source}.xml" if kept else Path(source)
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise ConfigError(f"The file has {size:,} bytes, {LARGEST_FILE:,} are allowed.", code="flex_too_large")
        data = path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"{path.name} cannot be read ({error.strerror}).", code="flex_no_file") from error
    if kept and hashlib.sha256(data).hexdigest() != source:
        raise ConfigError("The kept statement was changed since; import the original file.", code="flex_changed")
    return data


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
