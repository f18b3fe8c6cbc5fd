"""Keep an uploaded Flex statement under MATS_HOME by its SHA-256; the engine reads it from there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from strategies.exceptions import ConfigError

MAX_BYTES = 64 * 1024 * 1024
FOLDER = "flex"


def folder() -> Path:
    """Return where statements are kept."""
    return Path(settings.MATS.mats_home) / FOLDER


def keep(uploaded: object) -> str:
    """Write the file if it is not there yet; return its SHA-256.

    Raises: ConfigError when there is no file, or it is empty, too large or no XML.
    """
    if not isinstance(uploaded, UploadedFile) or not uploaded.size:
        raise _refused("Choose the XML file of a Flex statement.")
    if uploaded.size > MAX_BYTES:
        raise _refused(f"The file has more than {MAX_BYTES // 1024 // 1024} MB; ask IB for a shorter period.")
    content = uploaded.read()
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise _refused("That is no XML. In the Flex query choose the format XML.")
    digest = hashlib.sha256(content).hexdigest()
    target = folder() / f"{digest}.xml"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = target.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(content)
        partial.replace(target)
    return digest


def _refused(message: str) -> ConfigError:
    return ConfigError(message, code="bad_file", errors={"statement": message})
