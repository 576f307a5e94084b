"""What the model is to see of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui.protocol.messages import Attachment, ChatMessage, Part, Source, Text, Thought, ToolResult
from glmtui.session.attached_file import quote_file

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation
    from glmtui.protocol.models import ModelInfo
    from glmtui.settings.settings import Settings


class PromptBuilder:
    """Writes conversations for the model: the system prompt first, attachments in full."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def build(self, conversation: Conversation, info: ModelInfo | None) -> tuple[ChatMessage, ...]:
        """Return the messages to send to the model `info`, which sees text alone.

        Raises:
            UserError: the content of an attachment is gone.
        """
        messages = [
            ChatMessage(message.role, tuple(self._parts(conversation, message.parts)))
            for message in conversation.messages_for_model()
        ]
        system = str(
            self._settings.effective("generation.system_prompt", conversation.settings) or ""
        ).strip()
        supported = info is not None and info.supports_system
        if supported and system and not (messages and messages[0].role == "system"):
            messages.insert(0, ChatMessage.of("system", system))
        return tuple(messages)

    def _parts(self, conversation: Conversation, parts: tuple[Part, ...]) -> list[Part]:
        """Expand what belongs to a message and is not text yet: files behind the words, then sources."""
        own: list[Part] = [part for part in parts if isinstance(part, Text | Thought | ToolResult)]
        texts = [part.text for part in own if isinstance(part, Text)]
        more = [
            quote_file(part.name, conversation.attachments.text(part))
            for part in parts
            if isinstance(part, Attachment)
        ]
        more += [f"[{part.number}] {part.title}\n{part.text}" for part in parts if isinstance(part, Source)]
        if not more:
            return own
        written = "".join(texts)
        return [
            *(part for part in own if not isinstance(part, Text)),
            Text("\n\n".join([*([written] if written.strip() else []), *more])),
        ]
