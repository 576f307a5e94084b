"""What the slash commands do; their help in `registry` says what that is.

Each gets the session and what was written after its name. A `UserError` raised here is said to the person.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui import i18n, paths
from glmtui.errors import UserError
from glmtui.protocol.phrases import _, listing
from glmtui.session import pictures
from glmtui.session.options import BUILT_IN
from glmtui.session.stats import model_title
from glmtui.session.themes import titles
from glmtui.settings.schema import BY_KEY
from glmtui.settings.settings import named
from glmtui.text.quoting import reason_of

if TYPE_CHECKING:
    from glmtui.session.chat_session import ChatSession
    from glmtui.session.slash.command import Handler
    from glmtui.session.ui import View


NO_PICTURE = ("none", "无")


def show(view: View) -> Handler:
    """Return what shows something."""
    return lambda session, _argument: session.ui.show(view)


def put(key: str) -> Handler:
    """Return what changes a setting."""

    async def handler(session: ChatSession, argument: str) -> None:
        session.preferences.type(key, argument)

    return handler


# --- help ---


async def show_help(session: ChatSession, argument: str) -> None:
    name = argument.lstrip("/").lower()
    if not name:
        await session.ui.show("help")
    elif command := session.commands.by_name.get(name):
        session.ui.say(f"`{command.usage}`\n\n{i18n._(command.help)}", markdown=True)
    else:
        raise UserError(session.commands.unknown(name))


async def stats(session: ChatSession, _argument: str) -> None:
    from glmtui.session import stats as figures

    session.ui.say(figures.markdown(session.state, session.conversation), markdown=True)


# --- the answer ---


async def stop(session: ChatSession, _argument: str) -> None:
    if not session.stop():
        session.ui.say(_("Nothing is running."))


async def edit(session: ChatSession, _argument: str) -> None:
    users = [message for message in session.conversation.branch() if message.role == "user"]
    if not users:
        session.ui.say(_("There is no message of yours to change yet."))
        return
    session.edit(users[-1].id)


async def queue(session: ChatSession, argument: str) -> None:
    """Messages are numbered from 1."""
    verb, _space, typed = argument.partition(" ")
    if not session.queued:
        session.ui.say(_("No message waits in this conversation."))
        return
    if not argument:
        await session.ui.show("queue")
    elif verb == "send" and not typed.strip():
        await session.send_queued()
    else:
        place = _place(typed.strip(), session.queued)
        if verb not in ("send", "edit", "cancel") or place is None:
            raise UserError(_("Write what to do and with which, for example: /queue cancel 1"))
        if verb == "send":
            await session.send_queued(place)
        elif verb == "cancel":
            session.cancel_queued(place)
        else:
            session.unqueue(place)


async def copy(session: ChatSession, argument: str) -> None:
    answers = [m for m in session.conversation.branch() if m.role == "assistant" and m.text]
    if not answers:
        session.ui.say(_("There is no answer to copy yet."))
        return
    text = answers[-1].text
    if argument:
        from glmtui.text.markdown import code_blocks

        blocks = code_blocks(text)
        if not blocks:
            session.ui.say(_("The last answer has no block of code."))
            return
        text = blocks[-1]
    session.ui.copy(text)


async def image(session: ChatSession, argument: str) -> None:
    """Its name stands in the text where one is being written; elsewhere it goes with the next message."""
    if argument.lower() in NO_PICTURE and not pictures.is_picture(argument):
        taken_out = session.written.drop_pictures()
        if not taken_out:
            raise UserError(_("No picture goes with your next message."))
        session.ui.put_draft(pictures.without_mentions(session.ui.draft(), taken_out))
        session.ui.say(_("Taken out: {names}").format(names=listing(taken_out)))
        return
    found = await session.attach(argument, named=session.ui.has_keys)
    if session.ui.has_keys:
        session.ui.put_draft(f"@{found.name} {session.ui.draft().lstrip()}")
    else:
        session.ui.say(pictures.goes_along([found.name]))


# --- the model ---


async def model(session: ChatSession, argument: str) -> None:
    if argument:
        session.preferences.set("model.source", _name_or_none(argument, *BUILT_IN))
    elif session.ui.has_keys:
        await session.ui.show("models")
    else:
        name = model_title(session.state.info) if session.state.info else _("none")
        raise UserError(
            _("The model is {name}. Another one: /model FOLDER, or /model nano").format(name=name)
        )


async def quant(session: ChatSession, argument: str) -> None:
    session.preferences.set("model.quant", argument.lower().removeprefix("int") or None)


def _name_or_none(argument: str, *none: str) -> str | None:
    """Return the folder or the name on the hub that was typed, None for one of the words for none."""
    return None if argument.lower() in none else paths.unquoted(argument)


async def system(session: ChatSession, argument: str) -> None:
    setting = BY_KEY["generation.system_prompt"]
    text: str | None = argument
    if not text:
        present = session.settings.effective(setting.key, session.conversation.settings)
        text = await session.ui.ask(_("System prompt of this conversation"), str(present or ""))
    if text is None:
        return
    if not text.strip() or text.strip().lower() == "default":
        session.preferences.reset_here(setting)
        session.ui.say(_("This conversation has the same system prompt as all others."))
        return
    session.preferences.set_here(setting, text)
    info = session.state.info
    if info and not info.supports_system:
        said = _("Saved. {name} has no system prompt: only later models see it.")
        session.ui.say(said.format(name=model_title(info)))
    else:
        session.ui.say(_("This conversation has its own system prompt now."))


async def serve(session: ChatSession, argument: str) -> None:
    """A number is a port."""
    serving = session.serving
    if argument.lower() == "stop":
        stopped = serving.stop()
        session.ui.say(_("Nothing is served any longer.") if stopped else _("Nothing is served."))
        return
    if argument and not (argument.isdecimal() and 0 < int(argument) < 65536):
        raise UserError(_("Write a port from 1 to 65535, or stop: /serve 8000"))
    if argument or not serving.url:
        serving.start(int(argument) if argument else None)
    said = _("A page to chat on is at {url}, OpenAI's clients use {url}/v1. /serve stop ends it.")
    session.ui.say(said.format(url=serving.url), markdown=True)


# --- settings ---


async def set_value(session: ChatSession, argument: str) -> None:
    words, here = argument.split(None, 1), False
    if words and words[0] == "here":
        words, here = words[1].split(None, 1) if len(words) == 2 else [], True
    if len(words) != 2:
        raise UserError(_("Write a name and a value, for example: /set temperature 0.7"))
    setting, value = named(words[0]), words[1].strip()
    if not here:
        session.preferences.type(setting.key, value)
        session.ui.say(f"{setting.key} = {setting.shown(value)}")
    elif value.lower() == "default":
        session.preferences.reset_here(setting)
        session.ui.say(_("{key} is the same here as in all conversations.").format(key=setting.key))
    else:
        session.preferences.set_here(setting, setting.parse(value))
        session.ui.say(_("{key} = {value} in this conversation").format(key=setting.key, value=value))


async def preset(session: ChatSession, argument: str) -> None:
    verb, _space, name = argument.partition(" ")
    name = name.strip()
    if not argument:
        await session.ui.show("presets")
    elif verb == "save":
        session.preferences.save_preset(name)
        session.ui.say(_("The preset {name} is saved.").format(name=name))
    elif verb == "delete" and name:
        session.preferences.delete_preset(name)
        session.ui.say(_("The preset {name} is deleted.").format(name=name))
    else:
        session.preferences.use_preset(argument)
        title = session.settings.preset_title(argument)
        session.ui.say(_("The preset {name} is in use.").format(name=title))


async def theme(session: ChatSession, argument: str) -> None:
    known = titles()
    if not argument:
        await session.ui.show("themes")
    elif argument in known:
        session.preferences.set("ui.theme", argument)
        if not session.ui.has_keys:
            session.ui.say(_("The full screen will have the theme {name}.").format(name=argument))
    else:
        raise UserError(
            _("There is no theme {name!r}. There are: {names}.").format(name=argument, names=listing(known))
        )


# --- conversations ---


async def rename(session: ChatSession, argument: str) -> None:
    await session.rename(title=argument or None)


async def pin(session: ChatSession, _argument: str) -> None:
    session.pin()


async def delete(session: ChatSession, _argument: str) -> None:
    if (path := session.conversation.path) is not None:
        await session.trash(path)
    elif session.conversation.messages:
        session.ui.say(_("This conversation could not be saved, so it is only here. /new begins another."))
    else:
        session.ui.say(_("This conversation is empty: there is nothing to delete."))


async def trash(session: ChatSession, argument: str) -> None:
    if not argument:
        await session.ui.show("trash")
        return
    trashed = session.library.trashed()
    if (place := _place(argument, trashed)) is None:
        raise _no_number(argument)
    await session.restore(trashed[place].path)


async def save(session: ChatSession, argument: str) -> None:
    path = _file(argument, "/save notes.jsonl")
    path = path if path.suffix or not path.name else path.with_suffix(".jsonl")
    session.library.save_as(session.conversation, path)
    session.ui.say(_("Saved as {path}").format(path=path))


async def load(session: ChatSession, argument: str) -> None:
    """A number is one of the list that was shown last."""
    if not (argument.isdecimal() and session.numbered) or os.path.exists(argument):
        await session.open(_file(argument, "/load notes.jsonl"))
    elif (place := _place(argument, session.numbered)) is not None:
        await session.open(session.numbered[place])
    else:
        raise _no_number(argument)


async def export(session: ChatSession, argument: str) -> None:
    from glmtui.chat import export as formats

    kind, _space, name = argument.partition(" ")
    conversation = session.conversation
    if not conversation.messages:
        session.ui.say(_("This conversation is empty: there is nothing to export."))
        return
    text = formats.export(conversation, kind)
    path = paths.typed(name.strip()) if name.strip() else formats.free_path(conversation, kind)
    await write_new_file(path, text)
    session.ui.say(_("Written to {path}").format(path=path))


async def import_file(session: ChatSession, argument: str) -> None:
    await session.import_file(_file(argument, "/import conversations.json"))


async def leave(session: ChatSession, _argument: str) -> None:
    session.ui.quit()


def _file(argument: str, example: str) -> Path:
    if not argument:
        raise UserError(_("Which file? For example: {example}").format(example=example))
    return paths.typed(argument)


def _place(typed: str, shown: Sequence[object]) -> int | None:
    """Return where in a list, shown with numbers from 1, the number is that a person typed; None: nowhere."""
    if not typed.isdecimal() or len(typed.lstrip("0")) > len(str(len(shown))):
        return None
    place = int(typed.lstrip("0") or "0") - 1
    return place if 0 <= place < len(shown) else None


def _no_number(typed: str) -> UserError:
    number = typed if len(typed) <= 20 else typed[:20] + "…"
    return UserError(_("There is no number {number} in the list.").format(number=number))


async def write_new_file(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        UserError: it is there already, or it cannot be written.
    """
    try:
        await asyncio.to_thread(_write_new, path, text)
    except FileExistsError as error:
        raise UserError(_("{path} is there already. Choose another name.").format(path=path)) from error
    except OSError as error:
        raise UserError(
            _("{path} cannot be written: {error}").format(path=path, error=reason_of(error))
        ) from error


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there; nothing of it stays where not all of it can be written."""
    file = path.open("x", encoding="utf-8", errors="replace")
    try:
        with file:
            file.write(text)
    except BaseException:
        path.unlink()
        raise
