"""The three roles: viewer reads; operator starts, stops, halts, edits strategies, sessions, scanners; admin manages
access, risk and calendars.

Rule: the groups belong to MATS; ``migrate`` restores exactly these rights. Other cuts of rights: make another group.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"
_BOOKS = Q(content_type__app_label__in=["strategies", "portfolio", "trading"])
_VIEW = _BOOKS & Q(codename__startswith="view_")
_STRATEGY = Q(content_type__app_label="strategies", content_type__model="strategy")
_OPERATE = Q(content_type__app_label="trading", codename__in=["operate", "run_work"])
_SESSIONS = Q(
    content_type__app_label="trading",
    content_type__model__in=["sessionconfig", "scannerconfig"],  # the right run_session among them
) & ~Q(codename__startswith="view_")
_RISK = Q(
    content_type__app_label="trading",
    content_type__model__in=["risklimit", "riskoverride", "risklock"],
) & ~Q(codename__startswith="view_")
_CALENDAR = Q(content_type__app_label="trading", content_type__model__in=["markethours", "holiday"])
_ACCESS = Q(content_type__app_label="auth", content_type__model__in=["user", "group"]) | Q(
    content_type__app_label="mats_site"
)
RIGHTS = {
    VIEWER: _VIEW,
    OPERATOR: _VIEW | _STRATEGY | _OPERATE | _SESSIONS,
    # the books stay read-only for everyone
    ADMIN: _VIEW | _STRATEGY | _OPERATE | _SESSIONS | _RISK | _CALENDAR | _ACCESS,
}


def ensure_roles(using: str = "default", **_: Any) -> None:
    """Make the groups and give them exactly their rights; runs after every migrate."""
    for name, rights in RIGHTS.items():
        group, _created = Group.objects.using(using).get_or_create(name=name)
        group.permissions.set(Permission.objects.using(using).filter(rights))
