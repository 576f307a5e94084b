"""The settings that one conversation has for itself, kept in its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui.errors import UserError
from glmtui.i18n import _
from glmtui.settings.schema import BY_KEY, Setting, Value

if TYPE_CHECKING:
    from glmtui.session.ui import Front


def own(front: Front) -> dict[str, Value]:
    """Return the open conversation's own values, as far as they are allowed."""
    given = front.controller.conversation.settings
    return {
        key: front.settings.effective(key, given)
        for key, value in given.items()
        if key in BY_KEY and BY_KEY[key].per_conversation and value is not None
    }


def change_here(front: Front, setting: Setting, value: object) -> None:
    """Use `value` in the open conversation alone; it is kept in the conversation's file.

    Raises:
        UserError: the setting is none that a conversation has, or the value is not allowed.
    """
    if not setting.per_conversation:
        raise UserError(
            _("{key} is the same in all conversations. Write: /set {key} VALUE").format(key=setting.key)
        )
    checked = setting.check(value)
    _configure(front, setting, "" if checked is None else checked)  # None would be no value of its own


def reset_here(front: Front, setting: Setting) -> None:
    """Let the open conversation have the same value as all others."""
    _configure(front, setting, None)


def _configure(front: Front, setting: Setting, value: Value) -> None:
    front.controller.conversation.configure({setting.key: value})
    front.controller.measure()
    front.settings_changed()
