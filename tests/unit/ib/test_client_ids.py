"""Client ids: lowest free, given back, refused when the gateway's budget is used up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.exceptions import StrategyError
from trading.ib.client_ids import ClientIdPool


def test_lowest_free_id_is_given_and_given_again_after_release() -> None:
    pool = ClientIdPool(32)
    assert [pool.acquire() for _ in range(3)] == [1, 2, 3]
    pool.release(2)
    assert pool.next_client_id == 2
    assert pool.acquire() == 2


def test_budget_leaves_two_clients_for_the_engine() -> None:
    pool = ClientIdPool(4)
    assert [pool.acquire(), pool.acquire()] == [1, 2]
    assert pool.next_client_id is None
    with pytest.raises(StrategyError) as caught:
        pool.acquire()
    assert caught.value.code == "client_limit"


def test_never_reaches_the_queues_own_id() -> None:
    pool = ClientIdPool(500)
    assert [pool.acquire() for _ in range(98)][-1] == 98
    with pytest.raises(StrategyError):
        pool.acquire()


def test_held_id_is_not_given_but_does_not_use_up_the_budget() -> None:
    pool = ClientIdPool(4)
    pool.hold(pool.acquire())
    assert [pool.acquire(), pool.acquire()] == [2, 3]
    pool.release(1)
    assert pool.in_use == frozenset({2, 3})


@given(st.lists(st.integers(min_value=0, max_value=9), max_size=60))
def test_no_id_is_handed_out_twice(steps: list[int]) -> None:
    pool, out = ClientIdPool(8), set[int]()
    for step in steps:
        if step < 5 and len(out) < 6:
            number = pool.acquire()
            assert number not in out
            out.add(number)
        elif out:
            gone = sorted(out)[step % len(out)]
            out.remove(gone)
            pool.release(gone)
    assert pool.in_use == out
