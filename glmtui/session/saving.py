"""What a person must not lose is written: what cannot be now is in memory, said once, and written later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from glmtui.errors import UserError
from glmtui.protocol.phrases import Phrase, _

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation
    from glmtui.protocol.phrases import Sayable
    from glmtui.session.events import Kind

Subject = Literal["conversation", "queue", "draft"]
RETRY_SECONDS = 2.0
"""Between two attempts to write what could not be written."""


class Saving:
    """Stands around everything that writes.

    Args:
        notice: says something to the person.
    """

    def __init__(self, notice: Callable[[Sayable, Kind], None]) -> None:
        self._notice = notice
        self._problems: dict[Subject, Phrase] = {}
        """What cannot be written, which is said once as long as it lasts."""
        self._left: list[Conversation] = []
        self._retry_at = 0.0

    @contextmanager
    def __call__(self, what: Subject = "conversation") -> Iterator[None]:
        """Around what writes `what`: say why it could not, instead of raising it."""
        try:
            yield
        except UserError as error:
            if self._problems.get(what) != error.phrase:  # one answer is written many times
                self._notice(error.phrase, "error")
            self._problems[what] = error.phrase
        else:
            self._problems.pop(what, None)

    def works(self, what: Subject) -> bool:
        """Whether all of `what` is on disk, as far as was tried."""
        return what not in self._problems

    @property
    def left(self) -> Sequence[Conversation]:
        """Conversations that are not open any more, of which not all is on disk."""
        return self._left

    def leave(self, conversation: Conversation) -> None:
        """Keep one that is open no longer until all of it is on disk."""
        if conversation.unsaved:
            self._left.append(conversation)

    def poll(self, conversation: Conversation) -> None:
        """Do `again` from time to time."""
        if time.monotonic() >= self._retry_at:
            self.again(conversation)

    def again(self, conversation: Conversation) -> None:
        """Write what could not be written of the open one and of those left, and say when all is on disk."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        unsaved = [each for each in (*self._left, conversation) if each.unsaved]
        for each in unsaved:
            with self():
                each.flush()
        self._left = [each for each in self._left if each.unsaved]
        if unsaved and not self._left and not conversation.unsaved:
            self._notice(_("What could not be saved before is saved now."), "info")
