"""SIGKILL the engine on every step of the fill path, again and again; then compare the books with the gateway's truth.

The gateway runs in a process of its own and keeps filling while the engine is dead; people trade by hand, IB corrects,
cash comes, operators book and assign meanwhile. After the last kill one engine starts cleanly, folds the day and stops;
nothing may be lost, doubled or sent twice. Broken engines must be caught.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.e2e.kill.books import check_whole
from tests.e2e.kill.builds import noon_zone
from tests.e2e.kill.churn import Churn
from tests.e2e.kill.engines import Engines
from tests.e2e.kill.loop import ONE_OF_EACH, kill_many, run_round, settle
from tests.support.gateway_process import GatewayProcess

KILLS = int(os.environ.get("MATS_KILLS", "10"))
SEED = int(os.environ.get("MATS_KILL_SEED", "7"))
PROOF_KILLS = int(os.environ.get("MATS_PROOF_KILLS", "10000"))
PROOF_SEED = int(os.environ.get("MATS_PROOF_SEED", "1"))
ROUND = 250  # each with a seed, a gateway and a ledger of its own: one that failed is repeated alone
ROUNDS = [
    pytest.param(PROOF_SEED + turn, min(ROUND, PROOF_KILLS - turn * ROUND), id=f"seed-{PROOF_SEED + turn}")
    for turn in range(-(-PROOF_KILLS // ROUND))
]

pytestmark = [pytest.mark.kill, pytest.mark.e2e]
Rig = tuple[Engines, GatewayProcess]
MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[MakeRig]:
    """Make a gateway and the engines of one proof; arguments are builds (see ``builds``)."""
    with ExitStack() as stack:

        def make(*builds: str) -> Rig:
            engines = Engines(tmp_path, 0, *builds)
            gateway = stack.enter_context(
                GatewayProcess(commission_delay_s=0.02, day_zone=engines.day_zone, server={"max_messages_per_s": 0})
            )
            engines.environment["MATS_IB_PORT"] = str(gateway.port)
            stack.callback(engines.close)
            engines.open()
            return engines, gateway

        yield make


def test_no_midnight_is_near_when_a_proof_starts() -> None:
    for hour in range(24):
        now = datetime(2026, 3, 2, hour, 59, tzinfo=UTC)
        assert now.astimezone(ZoneInfo(noon_zone(now))).hour == 12, hour


@pytest.mark.timeout(900)
def test_books_equal_the_gateway_after_kills_at_each_kind_of_step(make_rig: MakeRig) -> None:
    run_round(*make_rig(), KILLS, SEED, ONE_OF_EACH)


@pytest.mark.proof
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("seed", "kills"), ROUNDS)
def test_books_equal_the_gateway_after_thousands_of_kills(make_rig: MakeRig, seed: int, kills: int) -> None:
    run_round(*make_rig(), kills, seed)


@pytest.mark.timeout(600)
def test_an_engine_that_commits_in_two_steps_is_caught(make_rig: MakeRig) -> None:
    engines, gateway = make_rig("split_commit")
    churn, rng = Churn(engines, gateway, random.Random(SEED)), random.Random(SEED)
    with pytest.raises(AssertionError):
        kill_many(engines, churn, ["position", "cash"] * 10, rng)
    with pytest.raises(AssertionError):
        check_whole(engines)


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_an_engine_that_appends_to_arcticdb_without_looking_is_caught(make_rig: MakeRig) -> None:
    engines, gateway = make_rig("blind_append")
    churn, rng = Churn(engines, gateway, random.Random(SEED)), random.Random(SEED)
    kill_many(engines, churn, ["arctic"] * 4, rng)
    settle(engines, gateway, churn)
    with pytest.raises(AssertionError, match="I8"):
        engines.manage("verify_ledger")
