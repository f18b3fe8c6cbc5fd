"""Figures of a run: percentiles, and a table that always shows ours, the floor and their ratio."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of one series, milliseconds."""

    p50: float
    p99: float
    count: int

    @classmethod
    def of_ns(cls, values: Sequence[int]) -> Latency:
        """Fold a series of nanoseconds."""
        ordered = sorted(values)
        return cls(
            p50=statistics.median(ordered) / 1e6,
            p99=ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] / 1e6,
            count=len(ordered),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report. ``better`` says which way the ratio should go."""

    what: str
    ours: float
    unit: str
    floor_name: str
    floor: float
    aim: str = ""

    @property
    def ratio(self) -> float:
        """Ours ÷ floor."""
        return self.ours / self.floor if self.floor else float("nan")


def anon_mb(pid: int) -> float:
    """Return the memory that is a process's own, in MB: mapped pages of files are the system's to take back."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the system does not tell what memory is a process's own")


def commit() -> str:
    """Return the commit measured, marked when the tree differs from it."""

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short=10", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")


def table(rows: Sequence[Row]) -> str:
    """Return the report as a Markdown table."""
    lines = ["| what | ours | floor | ours ÷ floor | aim |", "|---|--:|--:|--:|---|"]
    for row in rows:
        ours, floor = f"{row.ours:,.2f} {row.unit}", f"{row.floor:,.2f} {row.unit} ({row.floor_name})"
        lines.append(f"| {row.what} | {ours} | {floor} | {row.ratio:.2f} | {row.aim} |")
    return "\n".join(lines)
