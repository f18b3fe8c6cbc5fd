"""Parameters written into the database past every form: the strategy does not start, and every page still opens."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from strategies.exceptions import ConfigError
from strategies.loader import load_strategy_class
from strategies.models import Strategy
from strategies.services import effective_params, save_strategy

pytestmark = pytest.mark.django_db
ADDRESSES = [
    "/",
    "/strategies/ALPHA/",
    "/api/strategies",
    "/api/strategies/ALPHA/details",
    "/admin/strategies/strategy/",
]


@pytest.fixture
def client() -> Client:
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    return browser


@pytest.mark.parametrize("junk", [[1, 2], "text", 42])
def test_parameters_that_are_no_object_stop_the_start_and_no_page(client: Client, junk: Any) -> None:
    row = save_strategy({"symbol": "ALPHA", "filename": "ma_cross.py"}, None)
    Strategy.objects.update(params=junk)
    row.refresh_from_db()
    with pytest.raises(ConfigError, match="not an object") as caught:
        effective_params(row, load_strategy_class(row.filename))
    assert caught.value.code == "bad_params"
    change = f"/admin/strategies/strategy/{row.pk}/change/"
    assert {address: client.get(address).status_code for address in [*ADDRESSES, change]} == dict.fromkeys(
        [*ADDRESSES, change], 200
    )
