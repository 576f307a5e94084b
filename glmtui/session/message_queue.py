"""Queued messages, in memory and on disk, and what is on its way to the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from glmtui.chat.conversation import Conversation, new_message_id
from glmtui.chat.state_log import QueuedMessage as StoredMessage
from glmtui.protocol.cancellation import CancelToken
from glmtui.protocol.messages import Part, text_of

Store = Callable[[str, Sequence[StoredMessage]], None]
"""Keeps what is queued in a conversation, by its id (``""``: one without a file yet); durable on return."""


@dataclass(frozen=True, eq=False, slots=True)
class QueuedMessage:
    """A message that is sent when the answer before it is complete."""

    conversation: Conversation
    parts: tuple[Part, ...]
    edits: str | None = None
    """Id of the message whose new version it is."""
    id: str = field(default_factory=new_message_id)
    """That it has in the conversation when it is sent: what is found there is queued no more."""
    on_hold: bool = False
    """Not sent before the person says so: the answer before it was cancelled, or the program was left."""
    web: str = ""
    """What the web is asked before the answer."""

    @property
    def text(self) -> str:
        """What the person wrote."""
        return text_of(self.parts)


class MessageQueue:
    """The queued messages of all conversations, in the order they are sent. Every change is on disk at once.

    A person sees those of one conversation; `number` counts these alone, from 0, and from the end below it.
    """

    def __init__(self, store: Store = lambda _id, _items: None) -> None:
        self._items: list[QueuedMessage] = []
        self._store = store
        self._stored: set[str] = set()
        """Conversations that the disk has something of."""

    def __iter__(self) -> Iterator[QueuedMessage]:
        return iter(self._items)

    def of(self, conversation: Conversation) -> list[QueuedMessage]:
        """Return what is queued in a conversation."""
        return [item for item in self._items if item.conversation.id == conversation.id]

    def add(self, item: QueuedMessage, number: int | None = None) -> None:
        """Put a message at the end, or before the one with this number in its conversation."""
        mine = self.of(item.conversation)
        at = len(self._items)
        if number is not None and 0 <= number < len(mine):
            at = self._items.index(mine[number])
        self._set([*self._items[:at], item, *self._items[at:]])

    def remove(self, item: QueuedMessage, *, on_disk: bool = True) -> None:
        """Take a message out, if it is there: after what becomes of it is on disk, else in memory alone."""
        items = [other for other in self._items if other is not item]
        if not on_disk:
            self._items = items
        elif len(items) < len(self._items) or self._stored != {
            stored_id(each.conversation) for each in items
        }:
            self._set(items)

    def move(self, conversation: Conversation, number: int, by: int) -> int:
        """Change places with the message `by` places further; return the number it has then."""
        mine, other = self.of(conversation), number + by
        if not (0 <= number < len(mine) and 0 <= other < len(mine)):
            return number
        items = list(self._items)
        first, second = items.index(mine[number]), items.index(mine[other])
        items[first], items[second] = items[second], items[first]
        self._set(items)
        return other

    def hold(self) -> None:
        """Let nothing be sent until a person says so."""
        self._items = [replace(item, on_hold=True) for item in self._items]

    def release(self, items: Iterable[QueuedMessage]) -> None:
        """Let these be sent, before all others."""
        chosen = list(items)
        released = [replace(item, on_hold=False) for item in chosen]
        self._set(released + [item for item in self._items if item not in chosen])

    def next(self) -> QueuedMessage | None:
        """Return what is sent next."""
        return next((item for item in self._items if not item.on_hold), None)

    def _set(self, items: list[QueuedMessage]) -> None:
        self._items = items
        queued: dict[str, list[StoredMessage]] = {}
        for item in items:
            key = stored_id(item.conversation)
            queued.setdefault(key, []).append(StoredMessage(item.parts, item.edits, item.id, item.web))
        for key in (*queued, *(self._stored - queued.keys())):  # what goes elsewhere is there before it goes
            self._store(key, queued.get(key, ()))
        self._stored = set(queued)

    def knows(self, conversation: Conversation) -> bool:
        """Whether what the disk has of this conversation is this queue's own."""
        return stored_id(conversation) in self._stored


def stored_id(conversation: Conversation) -> str:
    """Return under which id drafts and queued messages are kept; a conversation without a file has none."""
    return conversation.id if conversation.path else ""


class CancelScopes:
    """What a person asked for and is on its way to the model: a cancel holds from that moment on."""

    def __init__(self) -> None:
        self._open: list[CancelToken] = []

    def __bool__(self) -> bool:
        return bool(self._open)

    @contextmanager
    def __call__(self) -> Iterator[CancelToken]:
        """While something that ends in an answer is on its way; the token is cancelled if it shall not."""
        scope = CancelToken()
        self._open.append(scope)
        try:
            yield scope
        finally:
            self._open.remove(scope)

    def cancel(self) -> None:
        """Let none of these become an answer."""
        for scope in self._open:
            scope.cancel()
