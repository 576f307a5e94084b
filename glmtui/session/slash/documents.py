"""The commands ``/docs``, ``/web`` and ``/tools``; their help in `registry` says what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmtui.errors import UserError
from glmtui.protocol.phrases import _
from glmtui.session.context import COLLECTION
from glmtui.session.slash.command import Offer
from glmtui.session.slash.completers import files
from glmtui.settings.schema import BY_KEY

if TYPE_CHECKING:
    from glmtui.retrieval.collections import Collection
    from glmtui.session.chat_session import ChatSession

VERBS = ("add", "use", "update", "follow", "remove")
NONE = ("none", "off", "无")


async def docs(session: ChatSession, argument: str) -> None:
    """Do one of `VERBS` with a collection; without one, list them."""
    from glmtui.retrieval import collections

    verb, _space, rest = argument.partition(" ")
    rest = rest.strip()
    used = session.context.collection(session.conversation)
    if not argument:
        await session.ui.show("documents")
    elif verb == "add" and rest:
        name = used if used in collections.names() else collections.free_name(rest)
        collection = collections.add(name, rest)
        if name != used:
            use(session, name)
        outcome = await session.documents.update(collection)
        if name != used and outcome is not None and outcome.errors and not outcome.read:
            collections.remove(name)  # there is nothing in it
            session.preferences.set_here(BY_KEY[COLLECTION], used or None)
    elif verb == "use" and rest:
        if rest.lower() in NONE:
            session.preferences.set_here(BY_KEY[COLLECTION], None)
            session.ui.say(_("Answers of this conversation rest on no documents."))
            return
        collection = collections.find(rest)
        use(session, collection.found_by)
        if not collection.kept or collection.follows:
            await session.documents.update(collection)
    elif verb == "update":
        await session.documents.update(collections.find(rest or used) if rest or used else _no_collection())
    elif verb == "follow" and rest in ("on", "off"):
        collection = collections.follow(used, rest == "on") if used else _no_collection()
        said = (
            _("{name} follows its folders: what changed is read before each answer.")
            if collection.follows
            else _("{name} follows its folders no longer: /docs update reads what changed.")
        )
        session.ui.say(said.format(name=collection.name))
    elif verb == "remove" and rest:
        await _remove(session, rest, used)
    else:
        raise UserError(_("Write what to do and with what, for example: /docs add ~/handbook"))


def use(session: ChatSession, name: str) -> None:
    """Let the open conversation be answered from a collection."""
    session.preferences.set_here(BY_KEY[COLLECTION], name)
    session.ui.say(_("Answers of this conversation rest on {name} now.").format(name=name))


async def _remove(session: ChatSession, what: str, used: str) -> None:
    from glmtui.retrieval import collections

    if what in collections.names():
        await asyncio.to_thread(collections.remove, what)
        if what == used:
            session.preferences.set_here(BY_KEY[COLLECTION], None)
        session.ui.say(_("The collection {name} is removed; its documents stay.").format(name=what))
    elif used:
        await session.documents.update(collections.take_out(used, what))
    else:
        collections.get(what)  # says what there is


def _no_collection() -> Collection:
    raise UserError(_("No collection is in use. /docs use NAME chooses one, /docs add FOLDER makes one."))


def offers(session: ChatSession, typed: str) -> Sequence[Offer]:
    """Complete with what can be done, then with collections or files."""
    from glmtui.retrieval import collections

    verb, space, rest = typed.partition(" ")
    if not space:
        return [Offer(f"{each} ") for each in VERBS if each.startswith(verb)]
    if verb == "add":
        return [Offer(f"add {offer.text}") for offer in files(session, rest)]
    if verb == "follow":
        return [Offer(f"follow {each}") for each in ("on", "off") if each.startswith(rest)]
    known = [*collections.names(), *(["none"] if verb == "use" else [])]
    return [Offer(f"{verb} {name}") for name in known if name.startswith(rest)] if verb in VERBS else []


async def web(session: ChatSession, argument: str) -> None:
    """Show the query, which can be changed, then send it and the question."""
    if session.settings["web.provider"] == "none":
        raise UserError(
            _(
                "The web is off. Choose who is asked, for example: /set web.provider searxng (then its "
                "address: /set web.url)"
            )
        )
    query = await session.ui.ask(_("This is sent to the search"), session.written.query or argument)
    if query and query.strip():
        await session.send(argument, web=query.strip())


async def tools(session: ChatSession, argument: str) -> None:
    """The servers are started, as for an answer."""
    found = [*session.context.tools(session.conversation, ""), *await session.tool_servers.tools()]
    for each in found:
        about = each.tool.description.partition("\n")[0]
        session.ui.say(f"{each.tool.name}: {about}" if about else each.tool.name)
    if not found:
        session.ui.say(
            _(
                "There are no tools. /docs use NAME lets models search documents, web.provider the web, and "
                "[mcp.NAME] in {path} names MCP servers."
            ).format(path=session.settings.path)
        )
    elif session.state.info is not None and not session.calls_tools:
        session.ui.say(_("This model calls no tools: it gets sources before the question."))
