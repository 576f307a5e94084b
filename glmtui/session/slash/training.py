"""The commands of training: ``/tune``, ``/ptuning``, ``/lora``, ``/compare``; `registry` has their help."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmtui import i18n, paths
from glmtui.errors import UserError
from glmtui.protocol.phrases import _
from glmtui.session.slash.command import Offer
from glmtui.session.slash.completers import files, folders
from glmtui.settings.schema import ADAPTERS, BY_KEY

if TYPE_CHECKING:
    from glmtui.protocol.phrases import Phrase
    from glmtui.session.chat_session import ChatSession
    from glmtui.session.slash.command import Handler

VERBS = ("check", "start", "stop")
_FILES = ("data", "out", "start_from")


async def tune(session: ChatSession, argument: str) -> None:
    """Do one of `VERBS`, or take a choice; without an argument, show them all."""
    name, _space, value = argument.partition(" ")
    tuning = session.tuning
    match name:
        case "":
            await session.ui.show("tune")
        case "check":
            from glmtui.training.data import report_lines

            report = await asyncio.to_thread(tuning.check)
            lines = "\n".join(i18n.tell(line) for line in report_lines(report))
            session.ui.say(f"```\n{lines}\n```", markdown=True)  # a table of its own, to be read in peace
        case "start":
            tuning.start()
            session.ui.say(_("The training begins. /tune shows how it goes, /tune stop ends it."))
        case "stop":
            said = _("The training ends after this step.") if tuning.stop() else _("Nothing is being taught.")
            session.ui.say(said)
        case _:
            tuning.choose(name, value.strip())
            session.ui.say(f"{name} = {value.strip()}")


def tune_offers(session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with what can be done and chosen, then with the values."""
    from glmtui.session.tuning import BY_NAME

    name, space, value = typed.partition(" ")
    if not space:
        words = [
            *(Offer(verb) for verb in VERBS),
            *(Offer(f"{c.name} ", i18n._(c.title)) for c in BY_NAME.values()),
        ]
        return [offer for offer in words if offer.text.startswith(name)]
    if name in _FILES:
        return [Offer(f"{name} {offer.text}") for offer in files(session, value)]
    choice = BY_NAME.get(name)
    choices = () if choice is None else ("true", "false") if choice.kind == "bool" else choice.choices
    return [Offer(f"{name} {each}") for each in choices if each.startswith(value)]


def put_on(key: str) -> Handler:
    """Return what puts a folder on top of the model, by its setting, or lets this conversation go without."""

    async def handler(session: ChatSession, argument: str) -> None:
        word = argument.lower()
        if word == "none":
            session.preferences.set(key, None)
            return
        if word not in ("on", "off"):
            session.preferences.set(key, paths.unquoted(argument))
            if session.preferences.own().get(ADAPTERS) is False:  # who puts something on wants to hear it
                session.preferences.reset_here(BY_KEY[ADAPTERS])
            return
        session.preferences.set_here(BY_KEY[ADAPTERS], word == "on")
        if word == "off":
            session.ui.say(_("This conversation is answered without prefix and LoRA now."))
        elif session.adapted:
            session.ui.say(_("This conversation is answered with what is on top of the model now."))
        else:
            session.ui.say(_nothing())

    return handler


def adapters(session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with folders, and with the words that `put_on` knows."""
    words = (
        Offer("none", i18n._("take it away")),
        Offer("off", i18n._("not in this conversation")),
        Offer("on", i18n._("in this conversation again")),
    )
    return [*(offer for offer in words if offer.text.startswith(typed)), *folders(session, typed)]


async def compare(session: ChatSession, argument: str) -> None:
    """Answer a question, or the last one, with and without what lies on top of the model."""
    if not session.adapted:
        raise UserError(_nothing())
    session.compare(argument)
    await session.ui.show("compare")


def _nothing() -> Phrase:
    return _("Nothing is on top of the model: /lora FOLDER or /ptuning FOLDER puts something there.")
