"""The library for a server's web page: its conversations lie next to the app's, in the same files."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from glmtui.chat.conversation import Conversation, Message
from glmtui.chat.library import Library
from glmtui.chat.parts import with_text, with_thought
from glmtui.errors import NotFoundError
from glmtui.protocol.messages import Part, Text, Thought
from glmtui.server.library import KeptMessage, KeptTitle

MOST = 1000
"""Conversations in the page's list, the latest of them."""


class PageLibrary:
    """Keeps to `glmtui.server.library.Library`.

    Args:
        library: the folder.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()

    def titles(self) -> list[KeptTitle]:
        """Return the list as the app has it."""
        return [KeptTitle(each.id, each.title, each.updated) for each in self._library.list()[:MOST]]

    def read(self, conversation_id: str) -> list[KeptMessage]:
        """Return questions and answers; what tools said is not for the page."""
        branch = self._library.open(self._library.find(conversation_id).path).branch()
        return [_kept(message) for message in branch if message.role in ("user", "assistant")]

    def write(self, conversation_id: str, messages: Sequence[KeptMessage], model: str) -> None:
        """Append what is new to the file, and let answers grow."""
        with self._lock:
            conversation = self._opened(conversation_id)
            meta = {"model": model} if model else {}
            last: str | None = None
            for message in messages:
                known = conversation.messages.get(message.id)
                if known is None:
                    if last is not None and conversation.is_deleted(last):  # elsewhere, but here it goes on
                        for each in messages:
                            conversation.undelete(each.id)
                    conversation.append(
                        message.role,
                        _parts(message),
                        parent=last,
                        state=message.state,
                        meta={**(meta if message.role == "assistant" else {}), **_error(message)},
                        message_id=message.id,
                    )
                elif message.role == known.role == "assistant":
                    _grow(conversation, known, message)
                last = message.id
            if last is not None and last not in [message.id for message in conversation.branch()]:
                if conversation.is_deleted(last):
                    return
                conversation.select(last)

    def remove(self, conversation_id: str) -> None:
        """Move it to the trash, from where the app restores it."""
        with self._lock:
            self._library.trash(conversation_id)

    def _opened(self, conversation_id: str) -> Conversation:
        try:
            return self._library.open(self._library.find(conversation_id).path)
        except NotFoundError:
            return Conversation(folder=self._library.folder, id_=conversation_id)


def _grow(conversation: Conversation, known: Message, message: KeptMessage) -> None:
    """Bring an answer up to what the page has of it."""
    if (known.text, known.thought, known.state) == (message.text, message.thought, message.state):
        return
    text, thought = message.text, message.thought
    grows = text.startswith(known.text) and thought.startswith(known.thought)
    if known.state == message.state == "partial" and grows:
        for now, before, is_thought in ((thought, known.thought, True), (text, known.text, False)):
            if len(now) > len(before):
                conversation.extend(known.id, now[len(before) :], thought=is_thought)
        return
    parts = with_text(with_thought(known.parts, thought), text)
    conversation.finish(known.id, parts, message.state, _error(message))


def _parts(message: KeptMessage) -> Sequence[Part]:
    thought = (Thought(message.thought),) if message.thought else ()
    return (*thought, Text(message.text))


def _error(message: KeptMessage) -> dict[str, str]:
    return {"error": message.error} if message.error else {}


def _kept(message: Message) -> KeptMessage:
    error = message.meta.get("error") if message.state == "failed" else ""
    return KeptMessage(
        message.id,
        "user" if message.role == "user" else "assistant",
        message.text,
        message.thought,
        message.state,
        error if isinstance(error, str) else "",
    )
