"""Writers of one process take turns in order of arrival."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import OperationalError, connection, transaction

from mats_site.sqlite.turnstile import Turnstile
from strategies.models import Strategy
from strategies.services import save_strategy


def test_turns_come_in_order_of_arrival_and_none_overtakes() -> None:
    gate, order = Turnstile(), []
    assert gate.enter(0)

    def _pass(number: int) -> None:
        assert gate.enter(30)
        order.append(number)
        gate.leave()

    threads = []
    for number in range(20):
        threads.append(threading.Thread(target=_pass, args=(number,)))
        threads[-1].start()
        while len(gate._waiting) <= number:
            time.sleep(0.001)
    gate.leave()
    for thread in threads:
        thread.join(30)
    assert order == list(range(20))
    assert gate.enter(0)


def test_who_gives_up_leaves_the_queue_and_the_others_go_on() -> None:
    gate = Turnstile()
    assert gate.enter(0)
    assert not gate.enter(0.01)
    gate.leave()
    assert gate.enter(0)


@pytest.mark.django_db(transaction=True)
def test_a_hundred_threads_that_write_again_and_again_all_get_their_turn() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has many writers")
    save_strategy({"symbol": "ALPHA", "filename": "a.py"}, None)
    troubles: list[Exception] = []
    longest: list[float] = []

    def _write(number: int) -> None:
        for _ in range(3):
            start = time.monotonic()
            try:
                if number % 2:
                    with transaction.atomic():
                        row = Strategy.objects.get(symbol="ALPHA")
                        Strategy.objects.filter(pk=row.pk).update(description=f"{number}")
                else:
                    Strategy.objects.filter(symbol="ALPHA").update(description=f"{number}")
            except OperationalError as error:
                troubles.append(error)
            longest.append(time.monotonic() - start)
        connection.close()

    threads = [threading.Thread(target=_write, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not troubles
    assert len(longest) == 300


@pytest.mark.django_db(transaction=True)
def test_a_turn_ends_with_its_transaction_however_that_ends() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has many writers")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        raise ZeroDivisionError
    with transaction.atomic(), transaction.atomic():
        Strategy.objects.filter(symbol="NOBODY").delete()
    connection.close()
    done = threading.Event()

    def _write() -> None:
        with transaction.atomic():
            Strategy.objects.filter(symbol="NOBODY").delete()
        connection.close()
        done.set()

    thread = threading.Thread(target=_write)
    thread.start()
    thread.join(15)
    assert done.is_set()
