"""An answer that is being made."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from glmtui.chat.conversation import Conversation, Message, State
from glmtui.session.model_link import SpeedMeter
from glmtui.session.view import AnswerHandle, Saving

if TYPE_CHECKING:
    from glmtui.protocol.events import Stats, Tokens


@dataclass
class Answer:
    """An answer that is being made."""

    conversation: Conversation
    message_id: str
    request_id: int
    text: str
    """All of it so far."""
    saved: int
    """How many of its characters the file has."""
    checkpoint: float
    """`time.monotonic` of the last write."""
    since: float
    handle: AnswerHandle | None = None
    speed: SpeedMeter = field(default_factory=SpeedMeter)

    CHECKPOINT_SECONDS: ClassVar[float] = 1.0

    def add(self, event: Tokens, saving: Saving) -> None:
        """Take in new text: show it, and write it to the file at most once a second."""
        self.text += event.text
        self.speed.add(event.count)
        if self.handle and event.text:
            self.handle.append(event.text)
        now = time.monotonic()
        if now - self.checkpoint >= self.CHECKPOINT_SECONDS and len(self.text) > self.saved:
            self.checkpoint = now
            with saving():
                self.conversation.extend(self.message_id, self.text[self.saved :])
            self.saved = len(self.text)

    def finish(self, saving: Saving, state: State, stats: Stats | None, error: str) -> Message:
        """Write the final text with what is known about it; return the message.

        Where an answer is gone on with, its tokens are those of all parts, its speed is the last one's.
        """
        meta: dict[str, Any] = {"error": error} if error else {}
        if stats:
            before = self.conversation.messages[self.message_id].meta.get("tokens")
            meta["tokens"] = stats.answer_tokens + (before if isinstance(before, int) else 0)
            meta["prompt_tokens"] = stats.prompt_tokens
            if stats.answer_tokens:
                meta["tokens_per_second"] = round(stats.tokens_per_second, 1)
        with saving():
            self.conversation.finish(self.message_id, self.text, state, meta)
        return self.conversation.messages[self.message_id]
