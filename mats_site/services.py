"""API keys: make, verify, revoke. The one writer of ``ApiKey``.

Rule: a key is ``mats_<public>_<secret>``; only an HMAC of both halves, under a key derived from the site's secret key,
is stored, so that neither a copy of the database nor a log can be used to call the API.
"""

from __future__ import annotations

import logging
import re
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import OperationalError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from mats_site.models import ApiKey
from strategies import audit
from strategies.api_rules import OPERATE
from strategies.exceptions import ConfigError

if TYPE_CHECKING:
    from django.contrib.auth.models import User

logger = logging.getLogger(__name__)

KEY_FORM = re.compile(r"mats_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)
MAX_DAYS = 3650
LAST_USED_STEP = timedelta(minutes=1)
_NO_DIGEST = "0" * 64


def _digest(public_id: str, secret: str) -> str:
    return salted_hmac("mats_site.api_key", f"{public_id}:{secret}", algorithm="sha256").hexdigest()


def create_api_key(
    user: User, name: str, *, can_write: bool = False, expires_days: int | None = 365
) -> tuple[ApiKey, str]:
    """Make a key and return its row and the key itself, which can never be read again.

    Units: days; None means that it never expires.
    Raises: ConfigError when the name, the days or the user's rights do not allow it.
    """
    name = name.strip()
    if not 1 <= len(name) <= 80 or not name.isprintable():
        raise ConfigError("Give the key a name of 1 to 80 printable characters.", code="bad_name")
    if expires_days is not None and not 1 <= expires_days <= MAX_DAYS:
        raise ConfigError(f"A key lives 1 to {MAX_DAYS} days, not {expires_days}.", code="bad_expiry")
    if not user.is_active:
        raise ConfigError(f"User {user.get_username()} is not active.", code="inactive_user")
    if can_write and not user.has_perm(OPERATE):
        raise ConfigError(
            f"User {user.get_username()} may not operate, so a key that writes would be refused; "
            "add the user to the operator group first.",
            code="not_operator",
        )
    public_id, secret = secrets.token_hex(8), secrets.token_hex(32)
    with transaction.atomic():
        key = ApiKey.objects.create(
            public_id=public_id,
            digest=_digest(public_id, secret),
            name=name,
            user=user,
            can_write=can_write,
            expires_at=None if expires_days is None else timezone.now() + timedelta(days=expires_days),
        )
        rights = {"user": user.get_username(), "name": name, "can_write": can_write, "expires_at": key.expires_at}
        audit.record("api_key.created", public_id, actor="cli", source="cli", after=rights)
    logger.info("api_key_created public_id=%s user=%s can_write=%s", public_id, user.get_username(), can_write)
    return key, f"mats_{public_id}_{secret}"


def verify_api_key(text: str, *, now: datetime | None = None) -> ApiKey | None:
    """Return the key in force that ``text`` is, or None; takes the same time whether its public half exists or not."""
    match = KEY_FORM.fullmatch(text)
    if match is None:
        return None
    public_id, secret = match.groups()
    now = now or timezone.now()
    key = ApiKey.objects.select_related("user").filter(public_id=public_id).first()
    is_right = constant_time_compare(key.digest if key else _NO_DIGEST, _digest(public_id, secret))
    if key is None or not is_right or not is_in_force(key, now):
        return None
    _note_use(key, now)
    return key


def is_in_force(key: ApiKey, now: datetime) -> bool:
    """Tell whether the key and its user may be used at ``now``."""
    is_expired = key.expires_at is not None and key.expires_at <= now
    return key.revoked_at is None and not is_expired and key.user.is_active


def _note_use(key: ApiKey, now: datetime) -> None:
    if key.last_used_at is not None and now - key.last_used_at < LAST_USED_STEP:
        return
    try:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    except OperationalError:  # a busy database must not refuse a read for the sake of a timestamp
        logger.warning("api_key_use_not_noted public_id=%s", key.public_id)


def revoke_api_keys(keys: QuerySet[ApiKey], by: str) -> int:
    """Revoke the keys that are not yet revoked; return how many that were."""
    in_force = keys.filter(revoked_at__isnull=True)
    with transaction.atomic():
        public_ids = list(in_force.values_list("public_id", flat=True))
        count = in_force.update(revoked_at=timezone.now())
        for public_id in public_ids:
            audit.record("api_key.revoked", public_id, actor=by, source="admin")
    logger.info("api_keys_revoked public_ids=%s by=%s", ",".join(public_ids), by)
    return count
