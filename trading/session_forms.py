"""Forms of the admin for sessions and scanners: JSON edited field by field, every mistake with its place.

Leaves: validation and writing (``session_services``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django_jsonform.widgets import JSONFormWidget
from pydantic import BaseModel

from strategies.exceptions import ConfigError, LoadError, MatsError
from trading.json_forms import form_schema, from_form, to_form
from trading.market.scanners.base import check_config
from trading.market.scanners.loader import list_scanners, load_scanner
from trading.market.session_config import parse_session_config
from trading.market.session_parts import SessionConfig as SessionParts
from trading.session_models import ScannerConfig, SessionConfig
from trading.session_services import checked_session

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm  # Django's classes are generic in their stubs alone

_TEXT = {"rows": 24, "cols": 100, "spellcheck": "false", "style": "font-family: monospace"}
EXAMPLE: dict[str, Any] = {
    "mode": "live",
    "session_data_config": {
        "symbols": ["SPY"],
        "streams": ["1m", "5m"],
        "strategies": [
            {"module": "strategies.examples.simple_ma_cross", "config": {"symbols": ["SPY"], "interval": "5m"}}
        ],
    },
}


class _JsonForm(ModelForm):
    """A form with one JSON field, ``config``, that a model may give shape to."""

    shape: dict[str, Any] | None = None

    def _offer(self, model: type[BaseModel] | None, value: Any) -> None:
        """Show the field by a model's schema, or as text where there is none."""
        field = self.fields["config"]
        self.shape = None if model is None else form_schema(model)
        if self.shape is None:
            field.widget = forms.Textarea(_TEXT)
            self.initial["config"] = value
        else:
            field.widget = JSONFormWidget(schema=self.shape)
            self.initial["config"] = to_form(self.shape, value)

    def clean_config(self) -> dict[str, Any]:
        """Refuse anything but an object."""
        given = self.cleaned_data["config"]
        value = from_form(self.shape, given) if self.shape is not None else given
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise forms.ValidationError('Write an object: {"name": value}.')
        return value

    def _told(self, error: MatsError) -> None:
        """Say every mistake at the field, by its place."""
        reasons = error.fields.get("errors", {"": error.message})
        self.add_error("config", [f"{place}: {reason}" if place else str(reason) for place, reason in reasons.items()])


class SessionForm(_JsonForm):
    """A session's configuration."""

    class Meta:
        model = SessionConfig
        fields = ("name", "active", "config")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "config" not in self.fields:  # shown read-only
            return
        stored = self.instance.config if self.instance.pk else EXAMPLE
        whole = _whole_session(self.instance.name, stored)
        self._offer(None if whole is None else SessionParts, stored if whole is None else whole)
        if self.instance.pk:
            self.fields["name"].disabled = True  # runs are found by it

    def clean(self) -> dict[str, Any] | None:
        """Check it down to modules and parameters."""
        config, name = self.cleaned_data.get("config"), self.cleaned_data.get("name")
        if config is not None and name:
            config.pop("session_name", None)  # the row's own name says it
            try:
                checked_session(name, config)
            except ConfigError as error:
                self._told(error)
            if self.cleaned_data.get("active") and config.get("mode") != "live":
                self.add_error("active", "Only a live session is run by the engine.")
        return super().clean()


def _whole_session(name: str, stored: Any) -> dict[str, Any] | None:
    """Return a configuration with every default filled in; None for one that cannot be read any more."""
    try:
        given = {**stored, "session_name": name or "session"} if isinstance(stored, Mapping) else stored
        dumped: dict[str, Any] = json.loads(parse_session_config(given).model_dump_json())
    except ConfigError:
        return None
    return dumped


class ScannerForm(_JsonForm):
    """A scanner that is run by hand or by schedule."""

    module = forms.ChoiceField(help_text="A file of the shipped scanners or of your own folders.")

    class Meta:
        model = ScannerConfig
        fields = ("name", "module", "schedule", "enabled", "config")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "module" not in self.fields:
            return
        names = list_scanners()
        present = self.instance.module
        choices = [("", "—"), *((name, name) for name in names)]
        if present and present not in names:
            choices.append((present, f"{present} (missing)"))
        field = self.fields["module"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - tells the type checker what stands above
        field.choices = choices
        self._offer_params(present)

    def _offer_params(self, module: str) -> None:
        try:
            model = load_scanner(module).cls.Params if module else None
        except LoadError:
            model = None
        stored = self.instance.config if isinstance(self.instance.config, Mapping) else {}
        whole = {} if model is None else json.loads(model.model_construct().model_dump_json())
        self._offer(model, {**whole, **stored})

    def clean(self) -> dict[str, Any] | None:
        """Check the parameters against the file."""
        config, module = self.cleaned_data.get("config"), self.cleaned_data.get("module")
        if config is not None and module:
            if "module" in self.changed_data and self.instance.pk:
                config = self.cleaned_data["config"] = {"universe": config.get("universe", [])}
            try:
                check_config(load_scanner(module).cls, config)
            except LoadError as error:
                self.add_error("module", error.message)
            except ConfigError as error:
                self._told(error)
        return super().clean()
