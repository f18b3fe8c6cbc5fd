"""Cut the power at every frame of SQLite's log: what was acknowledged is there, nothing is there by half.

SIGKILL leaves what the kernel has; a power cut does not. The log of a real history is cut at every frame, inside
frames, with garbage and with the frames of an earlier life behind the cut, and under a checkpoint that was torn.
What this rests on, that an acknowledged commit was synced, is SQLite's ``synchronous=FULL``, which is checked to be in
force; that a disk keeps what it says it synced cannot be proven here.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kill.engines import ROOT
from tests.e2e.kill.wal import FRAME_HEADER, HEADER, Frame, frames, page_size_of, state_of

SEED = int(os.environ.get("MATS_KILL_SEED", "7"))
PROOF_SEED = int(os.environ.get("MATS_PROOF_SEED", "1"))
BATCHES = 6  # the fewest that hold each kind of entry, a break and its end
PROOF_BATCHES = 40
FULL = 2

pytestmark = [pytest.mark.kill, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Part:
    """Half of a history: a database, its log, the log's earlier life, and what was acknowledged when."""

    database: Path
    log: bytes
    earlier: bytes
    acknowledged: list[dict[str, Any]]

    @property
    def frames(self) -> list[Frame]:
        """The frames of the log."""
        return frames(self.log)

    def at(self, length: int) -> dict[str, Any]:
        """Return what was acknowledged last when the log was that long."""
        return [one for one in self.acknowledged if one["log"] <= length][-1]


@dataclass(frozen=True, slots=True)
class History:
    """A whole history, and how to play the rest of it."""

    environment: dict[str, str]
    parts: list[Part]
    synchronous: int

    @property
    def final(self) -> str:
        """What the books say at the end."""
        state: str = self.parts[-1].acknowledged[-1]["state"]
        return state

    def finish(self, databases: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Prove each database, play what it lacks, prove it again."""
        told: list[dict[str, Any]] = json.loads(self._run("finish", text=json.dumps(databases)))
        return told

    def record(self, folder: Path) -> None:
        """Play the history in a process that never closes its database."""
        self._run("record", str(folder))

    def _run(self, *args: str, text: str = "") -> str:
        command = [sys.executable, "-m", "tests.e2e.kill.power_history", *args]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def recorded(folder: Path, batches: int) -> History:
    """Play a history of so many batches and return what a power cut finds."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
        "MATS_HOME": str(folder),
        "DATABASE_URL": f"sqlite:///{folder / 'live.sqlite3'}",
        "MATS_LOG_LEVEL": "CRITICAL",
        "MATS_POWER_BATCHES": str(batches),
    }
    command = [sys.executable, "manage.py", "migrate", "-v0"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
    History(environment, [], 0).record(folder)
    said = json.loads((folder / "acknowledged.json").read_text())
    logs = {name: (folder / f"{name}.wal").read_bytes() for name in ("first", "second")}
    parts = [
        Part(folder / "first.sqlite3", logs["first"], b"", said["first"]),
        Part(folder / "second.sqlite3", logs["second"], logs["first"], said["second"]),
    ]
    return History(environment, parts, said["synchronous"])


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A short history."""
    return recorded(tmp_path_factory.mktemp("power"), BATCHES)


def opened(folder: Path, part: Part, log: bytes, name: str = "cut") -> tuple[Path, str, str]:
    """Open a copy with that log as after a power cut; return it, SQLite's own verdict and what the books say."""
    path = folder / f"{name}.sqlite3"
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    if path.exists():
        path.unlink()
    shutil.copy(part.database, path)
    Path(f"{path}-wal").write_bytes(log)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=OFF")
        verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
        return path, verdict, state_of(connection)
    except sqlite3.DatabaseError as error:
        return path, str(error), ""
    finally:
        connection.close()


def cuts(part: Part, rng: random.Random) -> Iterator[tuple[int, bytes]]:
    """Yield every log that a cut may leave, with the length that is sound: each frame's end, and unsound tails."""
    ends = [0, HEADER, *(frame.end for frame in part.frames)]
    whole = {0, HEADER, *(frame.end for frame in part.frames if frame.is_commit)}
    size = FRAME_HEADER + page_size_of(part.log)
    yield 0, part.log[: HEADER // 2]
    for end in ends:
        yield end, part.log[:end]
        if part.earlier and end:
            yield end, part.log[:end] + part.earlier[end:]
        if end in whole and end and end < ends[-1]:
            yield end, part.log[: end + 1]
            yield end, part.log[: end + FRAME_HEADER + rng.randrange(1, size - FRAME_HEADER)]
            yield end, part.log[:end] + rng.randbytes(3 * size)
            yield end, part.log[:end] + bytes(size)
            yield end, part.log[: end + FRAME_HEADER + 8] + rng.randbytes(size - FRAME_HEADER - 8)  # a torn page


def check_cuts(history: History, folder: Path, rng: random.Random) -> int:
    """Cut both halves everywhere; return how many cuts there were."""
    count = 0
    for part in history.parts:
        for length, log in cuts(part, rng):
            count += 1
            _, verdict, state = opened(folder, part, log)
            assert verdict == "ok", f"cut at {length} with {len(log)} bytes"
            assert state == part.at(length)["state"], f"cut at {length} with {len(log)} bytes"
    return count


def check_restarts(history: History, folder: Path, every: int = 1) -> None:
    """From every state that a cut can leave, the rest of the history leads to the same end."""
    left = []
    for part in history.parts:
        for said in part.acknowledged[1::every]:
            path, _, _ = opened(folder, part, part.log[: said["log"]], f"done-{said['done']}")
            left.append({"path": str(path), "done": said["done"]})
    for told in history.finish(left):
        assert told["before"] == [], told["done"]
        assert told["after"] == [], told["done"]
        assert told["state"] == history.final, f"restarted after batch {told['done']}"


def test_history_was_written_with_full_durability_and_each_batch_is_one_commit(history: History) -> None:
    assert history.synchronous == FULL
    for part in history.parts:
        commits = [frame.end for frame in part.frames if frame.is_commit]
        assert commits == [said["log"] for said in part.acknowledged[1:]]
        assert len({said["state"] for said in part.acknowledged}) == len(part.acknowledged)


def test_power_cut_at_every_frame_leaves_exactly_the_acknowledged_batches(history: History, tmp_path: Path) -> None:
    count = check_cuts(history, tmp_path, random.Random(SEED))
    assert count > sum(len(part.frames) for part in history.parts)


def test_history_goes_on_after_any_cut_to_the_same_books(history: History, tmp_path: Path) -> None:
    check_restarts(history, tmp_path)


def test_power_cut_in_the_middle_of_a_checkpoint_loses_nothing(history: History, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    for part in history.parts:
        size = page_size_of(part.log)
        torn = tmp_path / "torn.sqlite3"
        content = bytearray(part.database.read_bytes())
        for page in {frame.page for frame in part.frames}:
            if page > 1 and rng.random() < 0.5:  # not yet, or half written
                content[(page - 1) * size : page * size] = rng.randbytes(size)
        torn.write_bytes(content)
        damaged = Part(torn, part.log, b"", part.acknowledged)
        _, verdict, state = opened(tmp_path, damaged, part.log)
        assert (verdict, state) == ("ok", part.acknowledged[-1]["state"])
        _, verdict, _ = opened(tmp_path, damaged, b"")
        assert verdict != "ok", "without its log the database should be in ruins: the tear proves nothing"


def test_a_lost_frame_in_the_middle_is_noticed(history: History, tmp_path: Path) -> None:
    """The comparison has teeth: a log that lacks one whole batch does not pass for the whole."""
    part = history.parts[0]
    one, two = part.acknowledged[-2]["log"], part.acknowledged[-1]["log"]
    _, _, state = opened(tmp_path, part, part.log[:one] + part.log[two:])
    assert state != part.at(two)["state"]


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_power_cut_at_every_frame_of_a_long_history(tmp_path: Path) -> None:
    long = recorded(tmp_path, PROOF_BATCHES)
    count = check_cuts(long, tmp_path, random.Random(PROOF_SEED))
    check_restarts(long, tmp_path, every=8)
    sys.stderr.write(f"\npower loss: {PROOF_BATCHES} batches, {count} cuts, seed {PROOF_SEED}: nothing lost\n")
