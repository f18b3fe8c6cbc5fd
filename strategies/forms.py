"""The form of a strategy: a file chosen from the folders, parameters checked by the file itself.

Rule: showing the form runs only code that an earlier save has validated (same SHA-256); saving runs the chosen file.
A file that cannot be loaded refuses a new choice, but never the edit of a row that already has it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django import forms
from django_jsonform.widgets import JSONFormWidget

from strategies import services
from strategies.exceptions import ConfigError, LoadError
from strategies.loader import LoadedStrategy, file_sha256, list_strategy_files, load_strategy_class
from strategies.models import Strategy
from strategies.params import as_object
from strategies.params_form import emptied, form_schema, form_values

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Strategy]
else:
    ModelForm = forms.ModelForm  # Django's class is generic in its stubs alone

_TEXT = {"rows": 16, "cols": 80, "spellcheck": "false", "class": "vLargeTextField"}


class ParamsField(forms.JSONField):
    """A JSON object, written readably."""

    def prepare_value(self, value: Any) -> Any:
        """Indent what is shown; what was typed and is not JSON comes back as typed."""
        shown = super().prepare_value(value)
        return shown if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


class StrategyForm(ModelForm):
    """Every field of the row that an operator may edit."""

    filename = forms.ChoiceField(
        label="File", help_text="Python file inside a registered strategy folder; its parameters appear once saved."
    )
    params = ParamsField(
        label="Parameters", required=False, help_text="Checked against the file. Empty means the file's own."
    )
    seen_revision = forms.IntegerField(required=False, widget=forms.HiddenInput)
    override = forms.CharField(
        required=False,
        max_length=400,
        label="Let it pass a limit",
        help_text="Only where a higher weight, or activating it, would break a limit of the account: why it may. "
        "Administrators; the audit trail keeps it.",
    )
    refused_growth = ""  # why a limit of the account refuses what was posted

    class Meta:
        model = Strategy
        fields = (
            "symbol",
            "name",
            "description",
            "color",
            "filename",
            "active",
            "min_weight",
            "target_weight",
            "max_weight",
            "currency",
            "params",
            "restart_policy",
            "max_restarts_per_hour",
            "connection",
        )
        widgets = {
            "color": forms.TextInput({"placeholder": "#4dabf7", "size": 8}),
            "description": forms.Textarea({"rows": 3}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params_errors: dict[str, str] = {}
        if "filename" not in self.fields:  # shown read-only: nothing to choose, nothing to run
            return
        self._offer_files()
        self._offer_params()
        self.fields["seen_revision"].initial = self.instance.revision

    def _offer_files(self) -> None:
        names = [path.name for path in list_strategy_files()]
        choices = [("", "—"), *((name, name) for name in dict.fromkeys(names))]
        present = self.instance.filename
        if present and present not in names:
            choices.append((present, f"{present} (missing)"))
        field = self.fields["filename"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - tells the type checker what stands above
        field.choices = choices

    def _offer_params(self) -> None:
        loaded = self._validated_file()
        field = self.fields["params"]
        if loaded is None or loaded.params_model is None:
            field.widget = forms.Textarea(_TEXT)
            shown = self.instance.params or (loaded.params if loaded else {})
            self.initial["params"] = as_object(shown)
        else:
            field.widget = JSONFormWidget(schema=form_schema(loaded.params_model))
            self.initial["params"] = form_values({**loaded.params, **as_object(self.instance.params)})
        self.offered_params = dict(self.initial["params"])

    def _validated_file(self) -> LoadedStrategy | None:
        """Return the row's file if its bytes are those that a save has validated."""
        strategy = self.instance
        try:
            if strategy.pk and strategy.code_hash and file_sha256(strategy.filename) == strategy.code_hash:
                return load_strategy_class(strategy.filename)
        except LoadError:
            return None  # the list and the messages tell why
        return None

    def clean_params(self) -> dict[str, Any]:
        """Refuse anything but an object; nothing means the file's own parameters."""
        given = self.cleaned_data["params"]
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise forms.ValidationError('Write an object: {"name": value}.')
        params: dict[str, Any] = given
        widget = self.fields["params"].widget
        if isinstance(widget, JSONFormWidget):
            params = emptied(widget.get_schema(), params)
        if "filename" in self.changed_data and params == self.offered_params:
            return {}  # untouched values of the former file say nothing about the new one
        return params

    def clean(self) -> dict[str, Any] | None:
        """Refuse to overwrite what someone else saved after this form was opened."""
        seen = self.cleaned_data.get("seen_revision")
        now = Strategy.objects.filter(pk=self.instance.pk).values_list("revision", flat=True).first()
        if seen is not None and now is not None and seen != now:
            raise forms.ValidationError(
                "This strategy was changed after you opened the form. Open it again, so that no change is lost.",
                code="stale",
            )
        if self.refused_growth:
            field = "target_weight" if "target_weight" in self.changed_data else "active"
            self.add_error(field, self.refused_growth)
        return super().clean()

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # fills and validates the instance; the stubs do not know it
        if "filename" in self.cleaned_data and not self.errors:
            self._check_file()

    def _check_file(self) -> None:
        loaded = services.validate_strategy(self.instance)
        if loaded is None and ("filename" in self.changed_data or not self.instance.pk):
            self.add_error("filename", self.instance.load_error)
            return
        if "connection" not in self.changed_data:
            services.share_by_default(self.instance)
        try:
            self.instance.params = services.checked_params(self.instance, loaded)
        except ConfigError as error:
            self.params_errors = dict(error.fields["errors"])
            self.add_error("params", [f"{name}: {text}" for name, text in self.params_errors.items()])
            widget = self.fields["params"].widget
            if isinstance(widget, JSONFormWidget):
                widget.add_error({name: [text] for name, text in self.params_errors.items()})
