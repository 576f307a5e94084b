"""Every change of a setting while a session runs, and what follows from it: the only writer of settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from glmtui.errors import UserError
from glmtui.i18n import tell
from glmtui.protocol.phrases import _
from glmtui.settings.schema import BY_KEY, SCHEMA, Setting, Value
from glmtui.settings.settings import named

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation
    from glmtui.protocol.models import ModelSpec
    from glmtui.settings.settings import Settings


class Preferences:
    """Changes settings for all conversations, or for the open one alone.

    Args:
        settings: read already.
        conversation: the open one, whose own values come first.
        changed: called with the settings (by full key) that have another value now.
    """

    def __init__(
        self,
        settings: Settings,
        conversation: Callable[[], Conversation],
        changed: Callable[[frozenset[str]], None],
    ) -> None:
        self._settings = settings
        self._conversation = conversation
        self._changed = changed

    # --- for all conversations ---

    def set(self, key: str, value: object) -> None:
        """Use and save a value."""
        self._apply(lambda: self._settings.set(key, value), [key])

    def type(self, key: str, text: str) -> None:
        """Use and save what a person typed; ``default`` goes back to the default."""
        setting = named(key)
        if text.strip().lower() == "default":
            self.reset(setting.key)
        else:
            self.set(setting.key, setting.parse(text))

    def reset(self, key: str) -> None:
        """Go back to the default."""
        self._apply(lambda: self._settings.reset(key), [key])

    def bind(self, action: str, keys: str | None) -> None:
        """Bind an action to other keys; None goes back to the default."""
        self._apply(lambda: self._settings.set_key(action, keys), ["keys"])

    def use_preset(self, name: str) -> None:
        """Use and save the values kept under a name."""
        keys = self._settings.presets.get(name, ())
        self._apply(lambda: self._settings.apply_preset(name), [*keys, "presets"])

    def save_preset(self, name: str) -> None:
        """Keep the present values under a name."""
        self._apply(lambda: self._settings.save_preset(name), ["presets"])

    def delete_preset(self, name: str) -> None:
        """Forget the values kept under a name."""
        self._apply(lambda: self._settings.delete_preset(name), ["presets"])

    def put_back(self, spec: ModelSpec) -> list[str]:
        """Let the settings of the model be those of `spec` again; only their display follows from it.

        Returns:
            Those that had another value, each with the present one, for people.
        """
        values = {f"model.{field.name}": getattr(spec, field.name) for field in fields(spec)}
        different = {
            key: value for key, value in values.items() if key in BY_KEY and self._settings[key] != value
        }
        if different:
            self._settings.update(different)
        return [f"{BY_KEY[key].name} = {_typed(value)}" for key, value in different.items()]

    def of_the_model(self) -> dict[str, str]:
        """Return what is set, whichever model is loaded: values by names, for people."""
        return {
            setting.name: _typed(value)
            for setting in SCHEMA
            if setting.section == "model" and setting.name != "source"
            if (value := self._settings[setting.key]) != setting.default
        }

    def reread(self) -> bool:
        """Take in what a person edited in the file since; return whether there was something."""
        settings = self._settings
        if not settings.edited():
            return False
        before = {key: settings[key] for key in BY_KEY}
        settings.reload()
        self._changed(
            frozenset(["keys", "presets", *(key for key in BY_KEY if settings[key] != before[key])])
        )
        return True

    # --- for the open conversation ---

    def own(self) -> dict[str, Value]:
        """Return the open conversation's own values, as far as they are allowed."""
        given = self._conversation().settings
        return {
            key: self._settings.effective(key, given)
            for key, value in given.items()
            if key in BY_KEY and BY_KEY[key].per_conversation and value is not None
        }

    def set_here(self, setting: Setting, value: object) -> None:
        """Use `value` in the open conversation alone; it is kept in the conversation's file.

        Raises:
            UserError: the setting is none that a conversation has, or the value is not allowed.
        """
        if not setting.per_conversation:
            raise UserError(
                _("{key} is the same in all conversations. Write: /set {key} VALUE").format(key=setting.key)
            )
        checked = setting.check(value)
        self._configure(setting, "" if checked is None else checked)  # None would be no value of its own

    def reset_here(self, setting: Setting) -> None:
        """Let the open conversation have the same value as all others."""
        self._configure(setting, None)

    # --- in the pane: the value that is in use in the open conversation ---

    def put(self, setting: Setting, value: object) -> None:
        """Change the conversation's own value if it has one, else that of all."""
        if setting.key in self.own():
            self.set_here(setting, value)
        else:
            self.set(setting.key, value)

    def clear(self, setting: Setting) -> None:
        """Take back what `put` would change."""
        if setting.key in self.own():
            self.reset_here(setting)
        else:
            self.reset(setting.key)

    def toggle_here(self, setting: Setting) -> None:
        """Give the open conversation a value of its own, to begin with the present one, or take it away."""
        if setting.key in self.own():
            self.reset_here(setting)
        else:
            self.set_here(setting, self._settings[setting.key])

    # --- inside ---

    def _configure(self, setting: Setting, value: Value) -> None:
        self._apply(lambda: self._conversation().configure({setting.key: value}), [setting.key])

    def _apply(self, change: Callable[[], object], keys: Iterable[str]) -> None:
        """Do what changes settings; what could not be saved is in use all the same."""
        before = {key: self._settings[key] for key in keys if key in BY_KEY}
        try:
            change()
        except UserError:
            if any(self._settings[key] != value for key, value in before.items()):
                self._changed(frozenset(keys))
            raise
        self._changed(frozenset(keys))


def _typed(value: Value) -> str:
    """Return what a person types for `value`."""
    return "default" if value is None else str(value)


def problems(settings: Settings) -> list[str]:
    """Name what is wrong in the file of settings, in the interface's language."""
    from glmtui.session import keys

    return [*map(tell, settings.problems), *keys.problems(settings.keys)]
