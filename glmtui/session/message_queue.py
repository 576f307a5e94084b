"""What waits for its turn: messages behind the running answer, and an answer until the model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from glmtui.chat.conversation import Conversation


@dataclass(eq=False)
class Waiting:
    """A message that is sent when the answer before it is complete."""

    conversation: Conversation
    text: str
    edits: str | None = None
    """Id of the message whose new version it is."""
    held: bool = False
    """It is not sent before the person says so: the answer before it was stopped, or the program was left."""


@dataclass(frozen=True)
class Wanted:
    """An answer that is made as soon as the model is there."""

    conversation: Conversation
    message_id: str
    """The message to answer, or the answer to go on with."""
    continued: bool = False


class Queue:
    """The waiting messages of all conversations, in the order they are sent.

    A person sees those of one conversation; `number` counts these alone, from 0, and from the end below it.
    """

    def __init__(self) -> None:
        self._items: list[Waiting] = []

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._items)

    def of(self, conversation: Conversation) -> list[Waiting]:
        """Return what waits in a conversation."""
        return [item for item in self._items if item.conversation.id == conversation.id]

    def add(self, item: Waiting, number: int | None = None) -> None:
        """Put a message at the end, or before the one with this number in its conversation."""
        mine = self.of(item.conversation)
        if number is None or not 0 <= number < len(mine):
            self._items.append(item)
        else:
            self._items.insert(self._items.index(mine[number]), item)

    def take(self, conversation: Conversation, number: int = -1) -> Waiting | None:
        """Take a message out; None where there is none of this number."""
        mine = self.of(conversation)
        if not -len(mine) <= number < len(mine):
            return None
        self._items.remove(mine[number])
        return mine[number]

    def move(self, conversation: Conversation, number: int, by: int) -> int:
        """Change places with the message `by` places further; return the number it has then."""
        mine, other = self.of(conversation), number + by
        if not (0 <= number < len(mine) and 0 <= other < len(mine)):
            return number
        first, second = self._items.index(mine[number]), self._items.index(mine[other])
        self._items[first], self._items[second] = self._items[second], self._items[first]
        return other

    def hold(self) -> None:
        """Let nothing be sent until a person says so."""
        for item in self._items:
            item.held = True

    def release(self, items: Iterable[Waiting]) -> None:
        """Let these be sent, before all others."""
        released = list(items)
        for item in released:
            item.held = False
        self._items = released + [item for item in self._items if item not in released]

    def next(self) -> Waiting | None:
        """Take out what is sent next."""
        item = next((item for item in self._items if not item.held), None)
        if item is not None:
            self._items.remove(item)
        return item


class Wish:
    """Something a person asked for that ends in an answer."""

    def __init__(self) -> None:
        self._stopped = False

    def stop(self) -> None:
        """Let no answer be made."""
        self._stopped = True

    def stopped(self) -> bool:
        """Whether no answer is wanted any more."""
        return self._stopped


class Wishes:
    """What is on its way to the model; a stop holds from the moment it was asked for."""

    def __init__(self) -> None:
        self._open: list[Wish] = []

    def __bool__(self) -> bool:
        return bool(self._open)

    @contextmanager
    def one(self) -> Iterator[Wish]:
        """Be on the way until the model has it."""
        wish = Wish()
        self._open.append(wish)
        try:
            yield wish
        finally:
            self._open.remove(wish)

    def stop(self) -> None:
        """Stop all that is on its way."""
        for wish in self._open:
            wish.stop()
