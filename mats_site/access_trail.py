"""Audit entries of who may do what: groups and flags of users, whoever changes them.

Rule: what Django writes itself (logins, password hashes) leaves no entry here; the log has the logins.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from simple_history.models import HistoricalRecords

from strategies import audit

_FLAGS = ("is_active", "is_staff", "is_superuser")


def connect() -> None:
    """Connect the receivers; safe to call twice."""
    m2m_changed.connect(on_groups_changed, sender=User.groups.through, dispatch_uid="mats_site.access_trail.groups")
    pre_save.connect(before_user_saved, sender=User, dispatch_uid="mats_site.access_trail.before")
    post_save.connect(on_user_saved, sender=User, dispatch_uid="mats_site.access_trail.after")
    post_delete.connect(on_user_deleted, sender=User, dispatch_uid="mats_site.access_trail.deleted")


def on_groups_changed(instance: Any, action: str, pk_set: set[int] | None, reverse: bool, **_: Any) -> None:
    """Record groups that a user, or users that a group, got or lost."""
    if action not in ("post_add", "post_remove", "pre_clear") or (pk_set is not None and not pk_set):
        return
    word = "added" if action == "post_add" else "removed"
    for user, group in _pairs(instance, pk_set, reverse=reverse):
        _record(f"role.{word}", user, after={"group": group})


def _pairs(instance: Any, pk_set: set[int] | None, *, reverse: bool) -> list[tuple[str, str]]:
    if reverse:
        users = instance.user_set.all() if pk_set is None else User.objects.filter(pk__in=pk_set)
        return [(user.get_username(), instance.name) for user in users]
    groups = instance.groups.all() if pk_set is None else Group.objects.filter(pk__in=pk_set)
    return [(instance.get_username(), group.name) for group in groups]


def before_user_saved(instance: User, raw: bool = False, **_: Any) -> None:
    """Remember what the user might do before this save."""
    known = None if raw else User.objects.filter(pk=instance.pk).values(*_FLAGS).first()
    instance._flags_before = dict(known) if known else None  # type: ignore[attr-defined]  # for the receiver below


def on_user_saved(instance: User, created: bool, raw: bool = False, **_: Any) -> None:
    """Record a new user, and flags that changed."""
    if raw:
        return
    after = {name: getattr(instance, name) for name in _FLAGS}
    before = getattr(instance, "_flags_before", None)
    if created or before != after:
        _record("user.created" if created else "user.changed", instance.get_username(), before=before, after=after)


def on_user_deleted(instance: User, **_: Any) -> None:
    """Record a user that is gone."""
    _record("user.deleted", instance.get_username())


def _record(action: str, subject: str, *, before: Any = None, after: Any = None) -> None:
    user = getattr(getattr(HistoricalRecords.context, "request", None), "user", None)
    name = user.get_username() if user is not None and user.is_authenticated else ""
    audit.record(action, subject, actor=name or "cli", source="admin" if name else "cli", before=before, after=after)
