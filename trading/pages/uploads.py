"""Take an uploaded Flex statement; it is kept under MATS_HOME, from where the engine reads it."""

from __future__ import annotations

from django.core.files.uploadedfile import UploadedFile

from portfolio.flex import store
from portfolio.flex.parse import LARGEST_FILE
from strategies.exceptions import ConfigError


def keep(uploaded: object) -> str:
    """Keep the file; return its SHA-256.

    Raises: ConfigError when there is no file, or it is empty, too large or no XML.
    """
    if not isinstance(uploaded, UploadedFile) or not uploaded.size:
        raise _refused("Choose the XML file of a Flex statement.")
    if uploaded.size > LARGEST_FILE:
        raise _refused(f"The file has more than {LARGEST_FILE // 1024 // 1024} MB; ask IB for a shorter period.")
    content = uploaded.read()
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise _refused("That is no XML. In the Flex query choose the format XML.")
    return store.keep(content)


def _refused(message: str) -> ConfigError:
    return ConfigError(message, code="bad_file", errors={"statement": message})
