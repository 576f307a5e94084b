"""What the argument of a command could be: offered while it is typed, and in the palette."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from glmtui import paths
from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.session.slash.command import Completer, Offer
from glmtui.session.themes import titles

if TYPE_CHECKING:
    from glmtui.session.chat_session import ChatSession


MOST_FILES = 200


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether something is a folder; what cannot be looked at, as a link to itself, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def choices(*names: str) -> Completer:
    """Complete from a few fixed words."""
    return lambda _session, typed: [Offer(name) for name in names if name.startswith(typed)]


def setting(key: str) -> Completer:
    """Complete with the choices of a setting."""

    def complete(_session: ChatSession, typed: str) -> Sequence[Offer]:
        from glmtui.settings.settings import BY_KEY

        return [Offer(choice) for choice in BY_KEY[key].choices if choice.startswith(typed)]

    return complete


def commands(session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with the names of commands."""
    return [Offer(c.name, _(c.help)) for c in session.commands if c.name.startswith(typed.lstrip("/"))]


def settings(_session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with the names of settings, then with their choices; also behind ``here``."""
    from glmtui.settings.settings import BY_KEY, SCHEMA

    here = typed.startswith("here ")
    head, rest = ("here ", typed[5:]) if here else ("", typed)
    key, space, value = rest.partition(" ")
    if not space:
        word = [Offer("here ", _("only in this conversation"))] if "here".startswith(typed) else []
        rows = [setting for setting in SCHEMA if setting.per_conversation or not here]
        return [*word, *(Offer(f"{head}{s.key} ", _(s.title)) for s in rows if key in s.key)]
    found = BY_KEY.get(key)
    if found is None:
        return []
    values = (*(("true", "false") if found.kind == "bool" else found.choices), "default")
    return [Offer(f"{head}{key} {choice}") for choice in values if choice.startswith(value)]


def presets(session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with the presets and what can be done with them."""
    known = session.settings.presets
    if typed.startswith("delete "):
        return [
            Offer(f"delete {name}")
            for name in known
            if not session.settings.is_shipped(name) and name.startswith(typed.removeprefix("delete "))
        ]
    verbs = [Offer("save ", _("keep the present values under a name")), Offer("delete ", _("forget one"))]
    titles = {name: tell(session.settings.preset_title(name)) for name in known}
    offers = [*(Offer(name, title if title != name else "") for name, title in titles.items()), *verbs]
    return [offer for offer in offers if offer.text.startswith(typed)]


def themes(_session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with the names of themes."""
    return [
        Offer(name, _(title))
        for name, title in titles().items()
        if typed.lower() in name or typed.lower() in title.lower()
    ]


def files(_session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with files and folders."""
    return list(_entries(typed, folders_only=False))


def pictures(_session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with pictures, and with the folders they may be in."""
    from glmtui.images import SUFFIXES

    none = [Offer("none", _("no picture"))] if typed and "none".startswith(typed) else []
    found = _entries(typed, folders_only=False)
    return [*none, *(offer for offer in found if offer.text.lower().endswith(("/", *SUFFIXES)))]


def models(session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with the built-in model, the models on this machine, and folders."""
    offers = [Offer("nano", _("the small built-in model"))]
    found = session.models.models
    if found is None:
        session.models.refresh()  # it is there at the next key
    else:
        here = (entry for entry in found.entries if entry.place != "absent")
        offers += [Offer(entry.source, entry.format) for entry in here if entry.source]
    fitting = [offer for offer in offers if typed.lower() in offer.text.lower()]
    return [*fitting, *_entries(typed, folders_only=True)]


def folders(_session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with folders."""
    return list(_entries(typed, folders_only=True))


def _entries(typed: str, *, folders_only: bool) -> Iterable[Offer]:
    head, _separator, start = typed.rpartition("/")
    try:
        folder = paths.typed(head or ("/" if typed.startswith("/") else "."))
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: (not is_folder(entry), entry.name.lower()))
    except (OSError, UserError):
        return
    shown = 0
    for entry in found:
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start.startswith(".")):
            continue
        shown_as_folder = is_folder(entry)
        if folders_only and not shown_as_folder:
            continue
        prefix = typed[: len(typed) - len(start)]
        yield Offer(f"{prefix}{entry.name}{'/' if shown_as_folder else ''}")
        shown += 1
        if shown >= MOST_FILES:
            return
