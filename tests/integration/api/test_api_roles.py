"""The three groups: exactly their rights, given again by every migrate."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command

SESSIONS = {"trading.run_session"} | {
    f"trading.{deed}_{model}" for deed in ("add", "change", "delete") for model in ("sessionconfig", "scannerconfig")
}


def rights(group: str) -> set[str]:
    """Return the group's rights as app.codename."""
    found = Group.objects.get(name=group).permissions.values_list("content_type__app_label", "codename")
    return {f"{app}.{codename}" for app, codename in found}


def test_each_role_adds_to_the_one_below(db: None) -> None:
    viewer, operator, admin = rights("viewer"), rights("operator"), rights("admin")
    assert viewer < operator < admin
    assert operator - viewer == {
        "trading.operate",
        "trading.run_work",
        "strategies.add_strategy",
        "strategies.change_strategy",
        "strategies.delete_strategy",
        *SESSIONS,
    }
    assert {"mats_site.change_apikey", "auth.change_user"} <= admin - operator


@pytest.mark.parametrize("group", ["viewer", "operator", "admin"])
def test_no_role_edits_the_books(db: None, group: str) -> None:
    books = {right for right in rights(group) if right.split(".")[0] in {"portfolio", "trading"}}
    managed = ("risklimit", "riskoverride", "risklock", "manage_risk", "markethours", "holiday")
    risk = {right for right in books if right.endswith(managed)}
    assert {right for right in books - risk if ".view_" not in right} <= {
        "trading.operate",
        "trading.run_work",
        *SESSIONS,
    }
    assert group == "admin" or {right for right in risk if ".view_" not in right} == set()


def test_migrate_gives_the_roles_their_rights_again(db: None) -> None:
    before = rights("viewer")
    viewer = Group.objects.get(name="viewer")
    viewer.permissions.set(Permission.objects.filter(codename="operate"))
    Group.objects.get(name="operator").delete()
    call_command("migrate", verbosity=0)
    assert rights("viewer") == before
    assert "trading.operate" in rights("operator")
