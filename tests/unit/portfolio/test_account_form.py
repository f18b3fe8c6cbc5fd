"""What an operator sets on the account in the admin: the schedule of rebalancing and the benchmark."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from portfolio.cron import CHANGED
from portfolio.models import Account
from portfolio.services import ensure_account
from strategies.models import AuditEntry
from tests.unit.portfolio.builders import ACCOUNT

pytestmark = pytest.mark.django_db

PAGE = f"/admin/portfolio/account/{ACCOUNT}/change/"


@pytest.fixture
def operator(client: Client) -> Client:
    ensure_account(ACCOUNT, "USD")
    user = User.objects.create_user("ann", password="x", is_staff=True)
    user.groups.add(Group.objects.get(name="operator"))
    client.force_login(user)
    return client


def test_schedule_is_stored_and_audited(operator: Client) -> None:
    reply = operator.post(PAGE, {"rebalance_cron": " 30 14  * * 1-5", "benchmark": "SPY"})
    assert reply.status_code == 302
    account = Account.objects.get()
    assert (account.rebalance_cron, account.benchmark, account.base_currency) == ("30 14 * * 1-5", "SPY", "USD")
    entry = AuditEntry.objects.get(action=CHANGED)
    assert (entry.actor, entry.source, entry.subject) == ("ann", "admin", ACCOUNT)
    assert entry.after == {"rebalance_cron": "30 14 * * 1-5"}


@pytest.mark.parametrize("text", ["soon", "61 * * * *", "* * * * * *", "0 0 31 2 *", "30 14"])
def test_what_is_no_schedule_is_refused_with_an_example(operator: Client, text: str) -> None:
    reply = operator.post(PAGE, {"rebalance_cron": text, "benchmark": ""})
    assert reply.status_code == 200
    assert "30 14 * * 1-5" in reply.content.decode()
    assert Account.objects.get().rebalance_cron == ""
    assert not AuditEntry.objects.filter(action=CHANGED).exists()


def test_empty_ends_the_schedule(operator: Client) -> None:
    operator.post(PAGE, {"rebalance_cron": "0 12 * * *", "benchmark": ""})
    operator.post(PAGE, {"rebalance_cron": "", "benchmark": ""})
    assert Account.objects.get().rebalance_cron == ""
    assert AuditEntry.objects.filter(action=CHANGED).count() == 2


def test_figures_of_the_account_cannot_be_posted(operator: Client) -> None:
    operator.post(PAGE, {"rebalance_cron": "", "benchmark": "", "base_currency": "EUR", "account_id": "DU9"})
    assert [(row.account_id, row.base_currency) for row in Account.objects.all()] == [(ACCOUNT, "USD")]


def test_viewer_sees_and_changes_nothing(operator: Client) -> None:
    user = User.objects.create_user("vic", password="x", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    operator.force_login(user)
    assert operator.get(PAGE).status_code == 200
    assert operator.post(PAGE, {"rebalance_cron": "0 12 * * *", "benchmark": ""}).status_code == 403
