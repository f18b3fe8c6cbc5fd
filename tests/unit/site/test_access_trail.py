"""Who may do what leaves an audit entry whenever it changes."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from mats_site.models import ApiKey
from mats_site.services import create_api_key, revoke_api_keys
from strategies.models import AuditEntry

pytestmark = pytest.mark.django_db


def told() -> list[tuple[str, str]]:
    """Return action and subject of every entry."""
    return list(AuditEntry.objects.order_by("id").values_list("action", "subject"))


def test_a_users_groups_and_flags_are_told() -> None:
    ann = User.objects.create_user("ann")
    operators, viewers = Group.objects.get(name="operator"), Group.objects.get(name="viewer")
    ann.groups.add(operators)
    ann.groups.add(operators)
    viewers.user_set.add(ann)
    ann.groups.clear()
    ann.is_superuser = True
    ann.save()
    actions = [action for action, subject in told() if subject == "ann"]
    assert actions == ["user.created", "role.added", "role.added", "role.removed", "role.removed", "user.changed"]
    assert AuditEntry.objects.latest("id").before == {"is_active": True, "is_staff": False, "is_superuser": False}


def test_a_login_is_no_change_of_rights(client: Client) -> None:
    User.objects.create_user("ann", password="correct horse 7")
    before = AuditEntry.objects.count()
    assert client.login(username="ann", password="correct horse 7")
    assert AuditEntry.objects.count() == before


def test_a_change_in_the_admin_names_who_made_it(client: Client) -> None:
    root = User.objects.create_superuser("root", password="correct horse 7")
    ann = User.objects.create_user("ann")
    client.force_login(root)
    client.post(f"/admin/auth/user/{ann.pk}/delete/", {"post": "yes"})
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.subject, entry.actor, entry.source) == ("user.deleted", "ann", "root", "admin")


def test_api_keys_are_told_by_their_public_half_alone() -> None:
    ann = User.objects.create_user("ann")
    key, text = create_api_key(ann, "notebook")
    revoke_api_keys(ApiKey.objects.all(), by="root")
    assert told()[-2:] == [("api_key.created", key.public_id), ("api_key.revoked", key.public_id)]
    secret = text.rsplit("_", 1)[1]
    assert all(secret not in str(vars(entry)) for entry in AuditEntry.objects.all())
