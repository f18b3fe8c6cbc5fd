"""A bare ib_async client in a process of its own: says «ready», receives fills, prints by how many MB it grew."""

from __future__ import annotations

import asyncio
import os
import sys

from ib_async import IB, StartupFetchNONE

from tests.performance.figures import anon_mb
from tests.performance.floors import GROWTH_CLIENT


async def _grow(port: int, count: int) -> float:
    import trading.ib  # noqa: F401 - the same constant-time texts as the engine's, else it would not end

    ib = IB()
    await ib.connectAsync("127.0.0.1", port, clientId=GROWTH_CLIENT, fetchFields=StartupFetchNONE)
    before = anon_mb(os.getpid())
    print("ready", flush=True)
    async with asyncio.timeout(600):
        while len(ib.wrapper.fills) < count:
            await asyncio.sleep(0.05)
    return anon_mb(os.getpid()) - before


if __name__ == "__main__":
    print(asyncio.run(_grow(int(sys.argv[1]), int(sys.argv[2]))), flush=True)
