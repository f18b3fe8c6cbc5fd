"""Addresses of ArcticDB stores: what is filled in, what must not be shown.

Owns: the map size of LMDB, how S3 gets its credentials, the words for what goes wrong there. Pure.
Rule: credentials come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` or what else the AWS
library looks at), never from the address, which is logged and shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

from strategies.exceptions import ConfigError

DEFAULT_MAP_SIZE: Final = "20GB"
# Without them a dead endpoint holds the projector for minutes.
S3_TIMEOUTS: Final = {"S3Storage.ConnectTimeoutMs": 3_000, "S3Storage.RequestTimeoutMs": 15_000}
_LMDB = "lmdb://"
_S3 = ("s3://", "s3s://")
_SECRET = ("access", "secret", "token")
_SHOWN = 300
_HINTS = (
    (
        ("accessdenied", "invalidaccesskeyid", "signaturedoesnotmatch", "httpresponsecode:403", "permission"),
        "the credentials are refused; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights to the bucket.",
    ),
    (("nosuchbucket",), "the bucket does not exist; make it, or mend MATS_ARCTIC_URI."),
    (
        ("curlcode", "httpresponsecode:-1", "network error"),
        "the endpoint does not answer; check its host and port.",
    ),
)


def complete(uri: str) -> str:
    """Return the address as ArcticDB wants it: LMDB with a map size, S3 with the credentials of the environment.

    ArcticDB's own default reserves 400 GiB of address space for each LMDB library.

    >>> complete("lmdb:///a"), complete("s3://localhost:mats?port=9000")
    ('lmdb:///a?map_size=20GB', 's3://localhost:mats?port=9000&aws_auth=true')

    Raises: ConfigError when an S3 address carries credentials.
    """
    path, _, query = uri.partition("?")
    options = dict(parse_qsl(query))
    if uri.startswith(_LMDB):
        options.setdefault("map_size", DEFAULT_MAP_SIZE)
    elif uri.startswith(_S3):
        if any(options.get(name) for name in _SECRET):
            raise ConfigError(
                "MATS_ARCTIC_URI must not carry credentials: it is shown. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY in the environment instead.",
                setting="MATS_ARCTIC_URI",
            )
        options.setdefault("aws_auth", "true")
    else:
        return uri
    return f"{path}?{urlencode(options)}"


def folder_of(uri: str) -> Path | None:
    """Return the folder of an LMDB address, None for any other."""
    return Path(uri.removeprefix(_LMDB).partition("?")[0]) if uri.startswith(_LMDB) else None


def place_of(uri: str) -> str:
    """Return where a store is, for people: a folder, or the address without its options."""
    folder = folder_of(uri)
    return str(folder) if folder else uri.partition("?")[0]


def map_size_of(uri: str) -> int | None:
    """Return how many bytes each LMDB library may grow to, None for any other store.

    >>> map_size_of("lmdb:///a?map_size=2GB"), map_size_of("s3://h:b")
    (2000000000, None)
    """
    if not uri.startswith(_LMDB):
        return None
    text = dict(parse_qsl(uri.partition("?")[2])).get("map_size", DEFAULT_MAP_SIZE)
    found = re.fullmatch(r"(\d+)([KMGT])B", text.strip().upper())
    return int(found[1]) * 1000 ** ("KMGT".index(found[2]) + 1) if found else None


def endpoint_of(uri: str) -> tuple[str, int] | None:
    """Return host and port of an S3 store, None for any other.

    >>> endpoint_of("s3://localhost:mats?port=9000"), endpoint_of("s3s://s3.eu-west-1.amazonaws.com:mats")
    (('localhost', 9000), ('s3.eu-west-1.amazonaws.com', 443))
    """
    if not uri.startswith(_S3):
        return None
    scheme, _, rest = uri.partition("://")
    port = dict(parse_qsl(rest.partition("?")[2])).get("port", "")
    return rest.partition(":")[0], int(port) if port.isdecimal() else 443 if scheme == "s3s" else 80


def explain(text: str, uri: str) -> str:
    """Return what went wrong in words, with nothing secret in it."""
    for option, value in parse_qsl(uri.partition("?")[2]):
        if option in _SECRET and value:
            text = text.replace(value, "***")
    folded = text.lower()
    if uri.startswith(_S3):
        for marks, hint in _HINTS:
            if any(mark in folded for mark in marks):
                return f"{hint} ({text[:_SHOWN]})"
    return text[:_SHOWN]
