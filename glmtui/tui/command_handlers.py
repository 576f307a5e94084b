"""What the slash commands do. Each gets the app and what was written after its name.

A `UserError` raised here is shown in the transcript.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glmtui.errors import UserError
from glmtui.i18n import _, ngettext
from glmtui.tui.front import OnScreen

if TYPE_CHECKING:
    from glmtui.tui.app import GlmTui
    from glmtui.tui.front import Front

BUILT_IN = ("nano", "builtin", "built-in", "default", "内置")
"""Names of the model that ships with glmtui."""


# --- help ---


async def show_help(app: Front, argument: str) -> None:
    """Show all commands, or one."""
    from glmtui.tui import commands

    name = argument.lstrip("/").lower()
    if not name:
        app.show_help("commands")
    elif command := commands.BY_NAME.get(name):
        app.say_markdown(f"`{command.usage}`\n\n{_(command.help)}")
    else:
        raise UserError(commands.unknown(name))


@OnScreen
async def show_keys(app: GlmTui, _argument: str) -> None:
    """Show all keys."""
    app.show_help("keys")
    how = _('To change a key, write into {path}, for example: `[keys]` and below it `"chat.new" = "ctrl+t"`.')
    app.say_markdown(how.format(path=app.settings.path))


async def stats(app: Front, _argument: str) -> None:
    """Show the model, memory, speed and the conversation."""
    from glmtui.tui import stats as figures

    app.say_markdown(figures.markdown(app.controller))


# --- the answer ---


async def stop(app: Front, _argument: str) -> None:
    """Stop the answer or the load."""
    if not app.controller.stop():
        app.say(_("Nothing is running."))


async def regenerate(app: Front, _argument: str) -> None:
    """Answer again."""
    await app.controller.regenerate()


async def continue_answer(app: Front, _argument: str) -> None:
    """Go on with a cut answer."""
    await app.controller.continue_answer()


async def edit(app: Front, _argument: str) -> None:
    """Put the last message into the composer; sending it makes another version."""
    users = [message for message in app.controller.conversation.branch() if message.role == "user"]
    if not users:
        raise UserError(_("There is no message of yours to change yet."))
    app.edit(users[-1].id)


async def undo(app: Front, _argument: str) -> None:
    """Take back the last deletion."""
    app.say(await app.controller.undo() or _("Nothing was deleted."))
    app.controller.view.conversation_changed()


async def copy(app: Front, argument: str) -> None:
    """Copy the last answer or its last block of code."""
    from glmtui.tui import clipboard

    answers = [m for m in app.controller.conversation.branch() if m.role == "assistant" and m.text]
    if not answers:
        raise UserError(_("There is no answer to copy yet."))
    text = answers[-1].text
    if argument:
        blocks = clipboard.code_blocks(text)
        if not blocks:
            raise UserError(_("The last answer has no block of code."))
        text = blocks[-1]
    app.copy(text)


# --- the model ---


async def model(app: Front, argument: str) -> None:
    """Load another model."""
    if not argument:
        name = app.controller.status.info.name if app.controller.status.info else _("none")
        raise UserError(
            _("The model is {name}. Another one: /model FOLDER, or /model nano").format(name=name)
        )
    source = None if argument.lower() in BUILT_IN else argument
    await app.change_setting("model.source", source)


async def device(app: Front, argument: str) -> None:
    """Run the model elsewhere."""
    await app.change_setting("model.device", argument)


async def quant(app: Front, argument: str) -> None:
    """Change the bits per weight."""
    await app.change_setting("model.quant", argument.lower().removeprefix("int") or None)


async def threads(app: Front, argument: str) -> None:
    """Change the number of CPU threads."""
    await app.type_setting("model.threads", argument)


async def system(app: Front, argument: str) -> None:
    """Set the system prompt."""
    text = argument
    if not text:
        present = str(app.settings["generation.system_prompt"] or "")
        typed = await app.ask(_("System prompt"), present)
        if typed is None:
            return
        text = typed
    await app.change_setting("generation.system_prompt", text)
    info = app.controller.status.info
    if info and not info.supports_system:
        app.say(_("Saved. {name} has no system prompt: only later models see it.").format(name=info.name))
    else:
        app.say(_("The system prompt is saved."))


# --- settings ---


async def set_value(app: Front, argument: str) -> None:
    """Change any setting."""
    key, _space, value = argument.partition(" ")
    if not value.strip():
        raise UserError(_("Write a name and a value, for example: /set generation.temperature 0.7"))
    await app.type_setting(key, value.strip())
    app.say(f"{key} = {value.strip()}")


async def preset(app: Front, argument: str) -> None:
    """Use or save a preset."""
    verb, _space, name = argument.partition(" ")
    if verb == "save" and name.strip():
        app.settings.save_preset(name.strip())
        app.say(_("The preset {name} is saved.").format(name=name.strip()))
        return
    if argument not in app.settings.presets:
        names = ", ".join(app.settings.presets) or _("none yet")
        raise UserError(
            _("There is no preset {name!r}. There are: {names}.").format(name=argument, names=names)
        )
    app.settings.update(app.settings.presets[argument])
    app.settings_changed()
    app.say(_("The preset {name} is in use.").format(name=argument))


@OnScreen
async def theme(app: GlmTui, argument: str) -> None:
    """Change the theme, or choose one with preview."""
    if argument:
        if argument not in app.themes.files:
            names = ", ".join(app.themes.files)
            raise UserError(
                _("There is no theme {name!r}. There are: {names}.").format(name=argument, names=names)
            )
        await app.change_setting("ui.theme", argument)
        return
    from glmtui.tui.screens.themes import ThemeScreen

    await app.push_screen_wait(ThemeScreen(app.themes.files))


async def language(app: Front, argument: str) -> None:
    """Change the language of the interface."""
    await app.change_setting("ui.language", argument)


async def settings(app: Front, _argument: str) -> None:
    """Show or hide the settings."""
    await app.show_settings()


# --- conversations ---


async def new(app: Front, _argument: str) -> None:
    """Begin a new conversation."""
    await app.desk.new()


async def history(app: Front, _argument: str) -> None:
    """Show or hide the conversations."""
    await app.show_conversations()


async def search(app: Front, argument: str) -> None:
    """Search all conversations."""
    await app.search(argument)


async def rename(app: Front, argument: str) -> None:
    """Give the conversation a title."""
    conversation = app.controller.conversation
    if argument:
        conversation.rename(argument)
        app.controller.view.conversation_changed()
    else:
        await app.desk.rename(conversation.id)


async def pin(app: Front, _argument: str) -> None:
    """Pin the conversation, or unpin it."""
    conversation = app.controller.conversation
    conversation.pin(not conversation.pinned)
    app.say(_("Pinned to the top.") if conversation.pinned else _("No longer pinned."))
    app.controller.view.conversation_changed()


async def delete(app: Front, _argument: str) -> None:
    """Move the conversation to the trash."""
    conversation = app.controller.conversation
    if conversation.path is None:
        raise UserError(_("This conversation is empty: there is nothing to delete."))
    await app.desk.trash(conversation.id)


async def save(app: Front, argument: str) -> None:
    """Save a copy."""
    path = _file(argument, "/save notes.jsonl")
    path = path if path.suffix else path.with_suffix(".jsonl")
    app.library.save_as(app.controller.conversation, path)
    app.say(_("Saved as {path}").format(path=path))


async def load(app: Front, argument: str) -> None:
    """Open a conversation from a file."""
    await app.desk.open_file(_file(argument, "/load notes.jsonl"))


async def export(app: Front, argument: str) -> None:
    """Write the conversation in another format."""
    from glmtui.chat import formats

    kind, _space, name = argument.partition(" ")
    conversation = app.controller.conversation
    if not conversation.messages:
        raise UserError(_("This conversation is empty: there is nothing to export."))
    text = formats.export(conversation, kind)
    path = Path(name.strip()).expanduser() if name.strip() else formats.free_path(conversation, kind)
    await app.write_file(path, text)


async def import_file(app: Front, argument: str) -> None:
    """Bring in conversations of other programs."""
    from glmtui.chat.imports import import_file as bring_in

    imported = bring_in(_file(argument, "/import conversations.json"), app.library)
    count = len(imported)
    said = ngettext("{n} conversation came in.", "{n} conversations came in.", count).format(n=count)
    app.say(said)
    app.controller.view.conversation_changed()
    if imported:
        await app.controller.open(imported[0])


async def leave(app: Front, _argument: str) -> None:
    """Quit."""
    await app.action_quit()


def _file(argument: str, example: str) -> Path:
    if not argument:
        raise UserError(_("Which file? For example: {example}").format(example=example))
    return Path(argument).expanduser()
