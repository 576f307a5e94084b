"""Every key of the app in one table: the bindings, the F1 help, the hints under the composer and the README.

A binding's id (``chat.stop``) is what a person writes into the ``[keys]`` table of ``config.toml`` to bind
it elsewhere: ``"chat.stop" = "escape,ctrl+g"``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from glmtui.i18n import N_, _, sentences

Scope = Literal[
    "app", "composer", "queue", "transcript", "history", "settings", "models", "documents", "tune"
]

SCOPES: Mapping[Scope, str] = {
    "app": N_("Everywhere"),
    "composer": N_("Composer"),
    "queue": N_("Waiting messages"),
    "transcript": N_("Transcript"),
    "history": N_("History pane"),
    "settings": N_("Settings pane"),
    "models": N_("List of models"),
    "documents": N_("List of documents"),
    "tune": N_("Teaching the model"),
}
"""Where keys work, in the order the help lists them."""


@dataclass(frozen=True, slots=True)
class Key:
    """One action that keys are bound to."""

    id: str
    scope: Scope
    keys: str
    """As Textual names them, comma-separated."""
    action: str
    help: str
    """English msgid."""
    hint: str = ""
    """English msgid of the one or two words under the composer; empty: not shown there."""
    priority: bool = False
    """Taken before the focused widget sees it."""


KEYS: tuple[Key, ...] = (
    Key("app.help", "app", "f1", "help", N_("Help for where you are"), N_("help")),
    Key("app.palette", "app", "ctrl+p", "command_palette", N_("All commands, by name"), N_("commands")),
    Key("chat.new", "app", "ctrl+n", "run('new')", N_("New conversation"), N_("new")),
    Key("chat.stop", "app", "escape", "stop",
        N_("Stop the answer, keep what came; else back to the composer"), N_("stop")),
    Key("chat.regenerate", "app", "ctrl+r", "run('regenerate')", N_("Answer the last message again")),
    Key("chat.unqueue", "app", "alt+up", "unqueue", N_("Take the last waiting message back to edit it")),
    Key("app.queue", "app", "f7,alt+q", "screen.queue",
        N_("The waiting messages: change, move, cancel, send"), priority=True),
    Key("app.history", "app", "ctrl+b,f2", "run('history')", N_("Show or hide the conversations"),
        N_("history")),
    Key("app.search", "app", "ctrl+o", "run('search')", N_("Find a conversation"), priority=True),
    Key("app.settings", "app", "f3", "run('settings')", N_("Show or hide the settings"), N_("settings")),
    Key("app.theme", "app", "f4", "run('theme')", N_("Choose a theme, with preview")),
    Key("app.models", "app", "f5", "run('models')", N_("The models there are, to load or download")),
    Key("app.next_pane", "app", "f6", "screen.next_pane", N_("Next pane"), priority=True),
    Key("chat.page_up", "app", "pageup", "screen.page(-1)", N_("Read the conversation a page up")),
    Key("chat.page_down", "app", "pagedown", "screen.page(1)", N_("Read the conversation a page down")),
    Key("chat.end", "app", "ctrl+end", "screen.to_end", N_("The end of the conversation, and stay there")),
    Key("app.interrupt", "app", "ctrl+c", "interrupt", N_("Stop the answer; twice: quit")),
    Key("app.quit", "app", "ctrl+q", "quit", N_("Quit"), N_("quit"), priority=True),
    Key("composer.enter", "composer", "enter", "enter", N_("Send (or new line: setting “send_key”)")),
    Key("composer.other_enter", "composer", "ctrl+j,shift+enter,alt+enter,ctrl+enter", "other_enter",
        N_("New line (or send)"), N_("new line")),
    Key("composer.older", "composer", "alt+p", "older", N_("Earlier prompt; also ↑ on the first line")),
    Key("composer.newer", "composer", "alt+n", "newer", N_("Later prompt; also ↓ on the last line")),
    Key("composer.search", "composer", "ctrl+up,alt+r", "search_history", N_("Search the earlier prompts")),
    Key("composer.editor", "composer", "ctrl+g", "edit_outside",
        N_("Write in your own editor ($VISUAL or $EDITOR)")),
    Key("composer.expand", "composer", "alt+e", "expand", N_("Show folded pastes and files in full")),
    Key("queue.edit", "queue", "enter,e", "act('edit')", N_("Take it back to edit it"), N_("edit")),
    Key("queue.send", "queue", "s", "act('send')", N_("Send it next, even if it is on hold"), N_("send")),
    Key("queue.send_all", "queue", "S", "act('send_all')", N_("Send all of them, one after the other")),
    Key("queue.cancel", "queue", "delete,d,x", "act('cancel')", N_("Cancel it"), N_("cancel")),
    Key("queue.undo", "queue", "u,ctrl+z", "app.run('undo')", N_("Bring back what was deleted last")),
    Key("queue.earlier", "queue", "shift+up,K", "move(-1)", N_("Send it earlier"), N_("earlier")),
    Key("queue.later", "queue", "shift+down,J", "move(1)", N_("Send it later"), N_("later")),
    Key("queue.down", "queue", "down,j", "go(1)", N_("Down")),
    Key("queue.up", "queue", "up,k", "go(-1)", N_("Up")),
    Key("queue.back", "queue", "escape", "back", N_("Back to the composer"), N_("back")),
    Key("transcript.next", "transcript", "j,down", "choose(1)", N_("Next message"), N_("next")),
    Key("transcript.previous", "transcript", "k,up", "choose(-1)", N_("Previous message"), N_("previous")),
    Key("transcript.page_down", "transcript", "pagedown,space", "page(1)", N_("A page down")),
    Key("transcript.page_up", "transcript", "pageup", "page(-1)", N_("A page up")),
    Key("transcript.half_down", "transcript", "ctrl+d", "page(0.5)", N_("Half a page down")),
    Key("transcript.half_up", "transcript", "ctrl+u", "page(-0.5)", N_("Half a page up")),
    Key("transcript.first", "transcript", "g,home", "first", N_("First message")),
    Key("transcript.last", "transcript", "G,end", "last", N_("The end, and stay there"), N_("end")),
    Key("transcript.copy", "transcript", "y,c", "act('copy')", N_("Copy the message, or what is selected"),
        N_("copy")),
    Key("transcript.copy_code", "transcript", "b", "act('copy_code')",
        N_("Copy the code block; again: the next one"), N_("copy code")),
    Key("transcript.quote", "transcript", "q", "act('quote')", N_("Quote it in the composer")),
    Key("transcript.edit", "transcript", "e", "act('edit')",
        N_("Edit it and send it again, as another version"), N_("edit")),
    Key("transcript.regenerate", "transcript", "r", "act('regenerate')",
        N_("Answer again, as another version")),
    Key("transcript.thought", "transcript", "t", "act('unfold')",
        N_("Open or fold thoughts, files and tools")),
    Key("transcript.continue", "transcript", "o", "act('continue')", N_("Continue a cut-off answer")),
    Key("transcript.previous_version", "transcript", "left_square_bracket,h,left", "act('previous_branch')",
        N_("Version before")),
    Key("transcript.next_version", "transcript", "right_square_bracket,l,right", "act('next_branch')",
        N_("Version after")),
    Key("transcript.links", "transcript", "x", "links", N_("Open or copy a link of the message")),
    Key("transcript.sources", "transcript", "s", "sources",
        N_("Show the passages an answer rests on, with the words marked")),
    Key("transcript.pictures", "transcript", "i", "pictures", N_("Show the pictures of the message in full")),
    Key("transcript.undo", "transcript", "u,ctrl+z", "app.run('undo')",
        N_("Bring back what was deleted last")),
    Key("transcript.delete", "transcript", "delete,d", "act('delete')", N_("Delete it and what follows")),
    Key("history.open", "history", "enter", "select", N_("Open"), N_("open")),
    Key("history.search", "history", "slash", "focus_search", N_("Search all conversations"), N_("search")),
    Key("history.new", "history", "n", "app.run('new')", N_("New conversation")),
    Key("history.rename", "history", "r", "request('rename')", N_("Rename"), N_("rename")),
    Key("history.pin", "history", "p", "request('pin')", N_("Keep it at the top, or no longer"), N_("pin")),
    Key("history.delete", "history", "delete,d", "request('delete')", N_("Move to the trash"), N_("trash")),
    Key("history.undo", "history", "u,ctrl+z", "app.run('undo')", N_("Bring back what was deleted last")),
    Key("history.filter", "history", "m", "filter", N_("Only those of one model"), N_("by model")),
    Key("history.trash", "history", "t", "trash", N_("Show the trash, or the conversations again")),
    Key("history.down", "history", "j", "cursor_down", N_("Down")),
    Key("history.up", "history", "k", "cursor_up", N_("Up")),
    Key("settings.next", "settings", "down,j", "next", N_("Next setting")),
    Key("settings.previous", "settings", "up,k", "previous", N_("Previous setting")),
    Key("settings.less", "settings", "left,h", "step(-1)", N_("Less, or the choice before")),
    Key("settings.more", "settings", "right,l", "step(1)", N_("More, or the next choice")),
    Key("settings.edit", "settings", "enter,space", "edit", N_("Type a value, or switch"), N_("change")),
    Key("settings.reset", "settings", "delete,backspace", "reset", N_("Back to the default"), N_("default")),
    Key("settings.here", "settings", "o", "here", N_("Only in this conversation, or as in all again"),
        N_("only here")),
    Key("models.use", "models", "enter", "screen.use", N_("Load it, or download it (asks first)")),
    Key("models.add", "models", "a", "screen.add", N_("Add a folder of yours")),
    Key("models.remove", "models", "delete,d", "screen.ask('remove')",
        N_("Delete it from the disk (asks first)")),
    Key("models.refresh", "models", "r", "screen.refresh", N_("Look again")),
    Key("models.back", "models", "escape", "screen.back", N_("Stop the download; else close")),
    Key("models.close", "models", "q", "screen.dismiss", N_("Close, and let a download go on")),
    Key("models.down", "models", "j", "cursor_down", N_("Down")),
    Key("models.up", "models", "k", "cursor_up", N_("Up")),
    Key("documents.use", "documents", "enter", "screen.use", N_("Answer from it, or no longer")),
    Key("documents.add", "documents", "a", "screen.add", N_("Add a file, a folder or an address")),
    Key("documents.update", "documents", "r", "screen.update", N_("Read what is new or changed")),
    Key("documents.remove", "documents", "delete,d", "screen.remove",
        N_("Remove the collection (asks first); its documents stay")),
    Key("documents.back", "documents", "escape,q", "screen.back", N_("Stop what is being read; else close")),
    Key("documents.down", "documents", "j", "cursor_down", N_("Down")),
    Key("documents.up", "documents", "k", "cursor_up", N_("Up")),
    Key("tune.change", "tune", "enter", "screen.change", N_("Change the value")),
    Key("tune.check", "tune", "c", "screen.check", N_("Read the data and say what is in them")),
    Key("tune.start", "tune", "s", "screen.start", N_("Begin to train")),
    Key("tune.stop", "tune", "x", "screen.stop", N_("End the training after this step; it is kept")),
    Key("tune.use", "tune", "u", "screen.use", N_("Put what was learned on the model")),
    Key("tune.view", "tune", "v", "screen.view", N_("The run, or what is chosen for the next")),
    Key("tune.back", "tune", "escape,q", "screen.dismiss", N_("Close, and let a run go on")),
)  # fmt: skip
BY_ID: Mapping[str, Key] = {key.id: key for key in KEYS}

_NAMES = {
    "escape": "Esc", "enter": "Enter", "slash": "/", "delete": "Del", "backspace": "Backspace",
    "up": "↑", "down": "↓", "left": "←", "right": "→", "space": "Space", "pageup": "PgUp",
    "pagedown": "PgDn", "home": "Home", "end": "End", "tab": "Tab", "left_square_bracket": "[",
    "right_square_bracket": "]", "question_mark": "?",
}  # fmt: skip


def keys_of(key: Key, overrides: Mapping[str, str]) -> list[str]:
    """Return the keys that trigger `key`, with the person's own bindings applied."""
    return [name.strip() for name in overrides.get(key.id, key.keys).split(",") if name.strip()]


def display(name: str) -> str:
    """Write a key's name as people do: ``ctrl+b`` is ``Ctrl+B``, ``escape`` is ``Esc``."""
    if len(name) == 1:
        return name
    parts = name.split("+")
    return "+".join(
        _NAMES.get(part) or (part.upper() if len(part) == 1 else part.capitalize()) for part in parts
    )


def shown(key_id: str, overrides: Mapping[str, str]) -> str:
    """Return the first key bound to `key_id`, for people."""
    names = keys_of(BY_ID[key_id], overrides)
    return display(names[0]) if names else ""


def problems(overrides: Mapping[str, str]) -> list[str]:
    """Say what is wrong with the person's own bindings: unknown ids, and keys that mean two things."""
    found = []
    for key_id in overrides:
        if key_id not in BY_ID:
            near = difflib.get_close_matches(key_id, BY_ID, n=1)
            message = _("[keys] {id} is no action.").format(id=key_id)
            if near:
                message = sentences(message, _("Did you mean {near}?").format(near=near[0]))
            found.append(message)
    for scope in SCOPES:
        found += _clashes(scope, overrides)
    return found


def _clashes(scope: Scope, overrides: Mapping[str, str]) -> Iterable[str]:
    taken: dict[str, Key] = {}
    for key in KEYS:
        if key.scope not in (scope, "app"):
            continue
        for name in keys_of(key, overrides):
            other = taken.setdefault(name, key)
            # What only the shipped table shadows (a widget's key over the app's) is meant.
            if other is not key and scope in (key.scope, other.scope) and {key.id, other.id} & set(overrides):
                yield _("{key} is bound to both {first} and {second}.").format(
                    key=display(name), first=other.id, second=key.id
                )


def markdown_table(
    overrides: Mapping[str, str] | None = None, scopes: Iterable[Scope] = (), *, names: bool = True
) -> str:
    """Return Markdown tables of all keys (or those of `scopes`), in the interface's language.

    The third column is what the settings file calls them. Without `names` the tables are for a narrow
    screen: no third column, and at most two keys each.
    """
    most = None if names else 2
    parts = []
    for scope in list(scopes) or SCOPES:
        rows = [
            f"| {' / '.join(f'`{display(name)}`' for name in keys_of(key, overrides or {})[:most])} "
            f"| {_(key.help)} |" + (f" `{key.id}` |" if names else "")
            for key in KEYS
            if key.scope == scope
        ]
        if rows:
            head = f"| {_('Key')} | {_('What it does')} |" + (f" {_('Name in settings')} |" if names else "")
            head += "\n" + "|".join(["", *[" --- "] * (3 if names else 2), ""])
            parts.append(f"### {_(SCOPES[scope])}\n\n{head}\n" + "\n".join(rows))
    return "\n\n".join(parts)
