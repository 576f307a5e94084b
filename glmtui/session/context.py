"""What the model is to see of a conversation, and how many tokens that has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui.protocol.events import TokenCount
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.requests import CountTokens

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation
    from glmtui.session.model_link import ModelLink
    from glmtui.settings.settings import Settings


class Context:
    """Writes conversations for the model, and lets it count them for the status line."""

    def __init__(self, link: ModelLink, settings: Settings) -> None:
        self._link = link
        self._settings = settings
        self._draft = ""
        self._count_id: int | None = None
        self._draft_id: int | None = None

    def turns(self, conversation: Conversation) -> tuple[ChatMessage, ...]:
        """Return the messages to send, behind the system prompt where the model has one."""
        turns = list(conversation.messages_for_model())
        own = conversation.settings
        system = str(self._settings.effective("generation.system_prompt", own) or "").strip()
        info = self._link.status.info
        supported = info is not None and info.supports_system
        if supported and system and not (turns and turns[0].role == "system"):
            turns.insert(0, ChatMessage.of("system", system))
        return tuple(turns)

    def measure(self, conversation: Conversation, draft: str | None = None) -> None:
        """Ask how many tokens `conversation` has and `draft` would add; `take` brings the answers.

        None: the draft is as it was last told.
        """
        self._draft = draft = self._draft if draft is None else draft
        status = self._link.status
        info = status.info
        if status.activity != "ready" or info is None:
            return
        turns, sampling = self.turns(conversation), self._settings.sampling(conversation.settings)
        status.limit = min(sampling.max_length, info.max_length)
        self._count_id = self._count(turns) if turns else None
        self._draft_id = self._count((*turns, ChatMessage.of("user", draft))) if draft.strip() else None
        if not turns:
            status.used = 0
        if not draft.strip():
            status.draft = 0

    def take(self, event: TokenCount) -> None:
        """Note an answer, if it is one to the last question."""
        status = self._link.status
        if event.request_id == self._count_id:
            status.used = event.tokens
        elif event.request_id == self._draft_id:
            status.draft = max(event.tokens - status.used, 0)

    def _count(self, turns: tuple[ChatMessage, ...]) -> int:
        request = CountTokens(turns)
        self._link.worker.submit(request)
        return request.request_id
