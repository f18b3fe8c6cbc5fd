"""How the history page of a strategy words a change: parameters one by one, not two long objects.

Leaves: recording (simple-history), the page itself (``admin``).
"""

from __future__ import annotations

import json
from typing import Any

from simple_history.template_utils import HistoricalRecordContextHelper


class ChangeWords(HistoricalRecordContextHelper):  # type: ignore[misc]  # simple-history ships no types
    """Turns recorded differences into lines."""

    def context_for_delta_changes(self, delta: Any) -> list[dict[str, Any]]:
        """Return one line per changed field, and one per changed parameter."""
        lines: list[dict[str, Any]] = []
        for change in delta.changes:
            if change.field == "params":
                lines += params_changes(change.old or {}, change.new or {})
            else:
                formatted = self.format_delta_change(change)
                lines.append({"field": formatted.field, "old": formatted.old, "new": formatted.new})
        return lines


def params_changes(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line for every parameter that came, went or changed."""
    names = dict.fromkeys([*old, *new])
    return [
        {"field": f"Parameter {name}", "old": _word(old, name), "new": _word(new, name)}
        for name in names
        if _word(old, name) != _word(new, name)
    ]


def _word(params: dict[str, Any], name: str) -> str:
    return json.dumps(params[name], ensure_ascii=False) if name in params else "–"
