"""What the slash commands do. Each gets the app and what was written after its name.

A `UserError` raised here is shown in the transcript.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glmtui import paths
from glmtui.errors import UserError
from glmtui.i18n import _, listing, ngettext, tell
from glmtui.reasoning import answer_of
from glmtui.session import own_settings
from glmtui.session.stats import model_title
from glmtui.settings.settings import BY_KEY, named

if TYPE_CHECKING:
    from glmtui.session.ui import Front

BUILT_IN = ("nano", "builtin", "built-in", "default", "内置")
"""Names of the model that ships with glmtui."""


# --- help ---


async def show_help(app: Front, argument: str) -> None:
    """Show all commands, or one."""
    from glmtui.session.slash import registry as commands

    name = argument.lstrip("/").lower()
    if not name:
        app.show_help("commands")
    elif command := commands.BY_NAME.get(name):
        app.say_markdown(f"`{command.usage}`\n\n{_(command.help)}")
    else:
        raise UserError(commands.unknown(name))


async def show_keys(app: Front, _argument: str) -> None:
    """Show all keys, to bind them elsewhere."""
    await app.show_keys()


async def stats(app: Front, _argument: str) -> None:
    """Show the model, memory, speed and the conversation."""
    from glmtui.session import stats as figures

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


async def queue(app: Front, argument: str) -> None:
    """Show what waits, or send, edit or cancel some of it; messages are numbered from 1."""
    controller = app.controller
    verb, _space, typed = argument.partition(" ")
    if not controller.waiting:
        raise UserError(_("No message waits in this conversation."))
    if not argument:
        app.show_queue()
    elif verb == "send" and not typed.strip():
        await controller.send_waiting()
    else:
        number = int(typed) - 1 if typed.strip().isdecimal() else -1
        if verb not in ("send", "edit", "cancel") or not 0 <= number < len(controller.waiting):
            raise UserError(_("Write what to do and with which, for example: /queue cancel 1"))
        if verb == "send":
            await controller.send_waiting(number)
        elif verb == "cancel":
            controller.drop(number)
            app.say(_("Cancelled. /undo brings it back."))
        elif text := controller.unqueue(number):
            controller.view.restore(text)


async def undo(app: Front, _argument: str) -> None:
    """Take back the last deletion."""
    app.say(await app.controller.undo() or _("Nothing was deleted."))
    app.controller.view.conversation_changed()


async def copy(app: Front, argument: str) -> None:
    """Copy the last answer or its last block of code."""
    answers = [m for m in app.controller.conversation.branch() if m.role == "assistant" and m.text]
    if not answers:
        raise UserError(_("There is no answer to copy yet."))
    text = answer_of(answers[-1].text)
    if argument:
        from glmtui.text.markdown import code_blocks

        blocks = code_blocks(text)
        if not blocks:
            raise UserError(_("The last answer has no block of code."))
        text = blocks[-1]
    app.copy(text)


# --- the model ---


async def model(app: Front, argument: str) -> None:
    """Load another model; without a name, show which there are."""
    if argument:
        await app.change_setting("model.source", None if argument.lower() in BUILT_IN else argument)
    elif app.full_screen is not None:
        app.show_models()
    else:
        name = model_title(app.controller.status.info) if app.controller.status.info else _("none")
        raise UserError(
            _("The model is {name}. Another one: /model FOLDER, or /model nano").format(name=name)
        )


async def models(app: Front, _argument: str) -> None:
    """Show the models there are."""
    app.show_models()


async def device(app: Front, argument: str) -> None:
    """Run the model elsewhere."""
    await app.change_setting("model.device", argument)


async def gpus(app: Front, argument: str) -> None:
    """Spread the model over several GPUs."""
    await app.type_setting("model.gpus", argument)


async def quant(app: Front, argument: str) -> None:
    """Change the bits per weight."""
    await app.change_setting("model.quant", argument.lower().removeprefix("int") or None)


async def ptuning(app: Front, argument: str) -> None:
    """Put a P-tuning checkpoint on top of the model, or take it away."""
    await app.change_setting("model.ptuning", None if argument.lower() == "none" else argument)


async def threads(app: Front, argument: str) -> None:
    """Change the number of CPU threads."""
    await app.type_setting("model.threads", argument)


async def system(app: Front, argument: str) -> None:
    """Set the system prompt of this conversation; an empty one is that of all conversations again."""
    setting = BY_KEY["generation.system_prompt"]
    text: str | None = argument
    if not text:
        present = app.settings.effective(setting.key, own_settings.own(app))
        text = await app.ask(_("System prompt of this conversation"), str(present or ""))
    if text is None:
        return
    if not text.strip() or text.strip().lower() == "default":
        own_settings.reset_here(app, setting)
        app.say(_("This conversation has the same system prompt as all others."))
        return
    own_settings.change_here(app, setting, text)
    info = app.controller.status.info
    if info and not info.supports_system:
        app.say(
            _("Saved. {name} has no system prompt: only later models see it.").format(name=model_title(info))
        )
    else:
        app.say(_("This conversation has its own system prompt now."))


# --- settings ---


async def set_value(app: Front, argument: str) -> None:
    """Change any setting, in all conversations or (``here``) in this one."""
    words, here = argument.split(None, 1), False
    if words and words[0] == "here":
        words, here = words[1].split(None, 1) if len(words) == 2 else [], True
    if len(words) != 2:
        raise UserError(_("Write a name and a value, for example: /set temperature 0.7"))
    setting, value = named(words[0]), words[1].strip()
    if not here:
        await app.type_setting(setting.key, value)
        app.say(f"{setting.key} = {value}")
    elif value.lower() == "default":
        own_settings.reset_here(app, setting)
        app.say(_("{key} is the same here as in all conversations.").format(key=setting.key))
    else:
        own_settings.change_here(app, setting, setting.parse(value))
        app.say(_("{key} = {value} in this conversation").format(key=setting.key, value=value))


async def preset(app: Front, argument: str) -> None:
    """Use, save or delete a preset; without a name, choose one."""
    verb, _space, name = argument.partition(" ")
    if not argument:
        await app.show_presets()
    elif verb == "save":
        save_preset(app, name)
    elif verb == "delete" and name.strip():
        _delete_preset(app, name.strip())
    else:
        use_preset(app, argument)
        app.say(_("The preset {name} is in use.").format(name=tell(app.settings.preset_title(argument))))


def use_preset(app: Front, name: str) -> None:
    """Use the values kept under a name."""
    app.settings.apply_preset(name)
    app.settings_changed()


def save_preset(app: Front, name: str) -> None:
    """Keep the present values under a name."""
    app.settings.save_preset(name)
    app.settings_changed()
    app.say(_("The preset {name} is saved.").format(name=name.strip()))


def _delete_preset(app: Front, name: str) -> None:
    app.settings.delete_preset(name)
    app.settings_changed()
    app.say(_("The preset {name} is deleted.").format(name=name))


async def theme(app: Front, argument: str) -> None:
    """Change the theme; without a name, show which there are."""
    if not argument:
        await app.show_themes()
    elif argument in app.theme_titles:
        await app.change_setting("ui.theme", argument)
        if app.full_screen is None:
            app.say(_("The full screen will have the theme {name}.").format(name=argument))
    else:
        names = listing(app.theme_titles)
        raise UserError(
            _("There is no theme {name!r}. There are: {names}.").format(name=argument, names=names)
        )


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
    await app.desk.pin(app.controller.conversation.id)


async def delete(app: Front, _argument: str) -> None:
    """Move the conversation to the trash."""
    conversation = app.controller.conversation
    if conversation.path is None:
        raise UserError(_("This conversation is empty: there is nothing to delete."))
    await app.desk.trash(conversation.id)


async def trash(app: Front, argument: str) -> None:
    """Show the trash, or bring the conversation with this number in it back."""
    if not argument:
        await app.show_trash()
        return
    trashed = app.library.trashed()
    if not argument.isdecimal() or not 0 < int(argument) <= len(trashed):
        raise UserError(_("There is no number {number} in the list.").format(number=argument))
    await app.desk.restore(trashed[int(argument) - 1].id)


async def save(app: Front, argument: str) -> None:
    """Save a copy."""
    path = _file(argument, "/save notes.jsonl")
    path = path if path.suffix else path.with_suffix(".jsonl")
    app.library.save_as(app.controller.conversation, path)
    app.say(_("Saved as {path}").format(path=path))


async def load(app: Front, argument: str) -> None:
    """Open a conversation from a file."""
    if not argument:
        raise UserError(_("Which file? For example: {example}").format(example="/load notes.jsonl"))
    await app.desk.open_file(app.locate(argument))


async def export(app: Front, argument: str) -> None:
    """Write the conversation in another format."""
    from glmtui.chat import export as formats

    kind, _space, name = argument.partition(" ")
    conversation = app.controller.conversation
    if not conversation.messages:
        raise UserError(_("This conversation is empty: there is nothing to export."))
    text = formats.export(conversation, kind)
    path = paths.typed(name.strip()) if name.strip() else formats.free_path(conversation, kind)
    await app.write_file(path, text)


async def import_file(app: Front, argument: str) -> None:
    """Bring in conversations of other programs."""
    from glmtui.chat.import_ import import_file as bring_in

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
    return paths.typed(argument)
