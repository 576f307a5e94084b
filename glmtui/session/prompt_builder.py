"""What the model is to see of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui.errors import UserError
from glmtui.protocol.messages import (
    Attachment,
    ChatMessage,
    Image,
    Part,
    Source,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)
from glmtui.session.attached_file import quote_file

if TYPE_CHECKING:
    from glmtui.chat.attachments import Attachments
    from glmtui.chat.conversation import Conversation
    from glmtui.protocol.models import ModelInfo
    from glmtui.settings.settings import Settings


OWN = (Text, Thought, ToolResult)
"""Parts that every model is given as they are."""
KEPT = 16
"""Contents of files that are kept in memory."""


class PromptBuilder:
    """Writes conversations for the model: the system prompt first, attachments in full."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files: dict[str, str] = {}
        """Contents by their digests."""

    def build(self, conversation: Conversation, info: ModelInfo | None) -> tuple[ChatMessage, ...]:
        """Return the messages to send to the model `info`, which sees text alone.

        The model is told of a file whose content is gone that it is not available.
        """
        attachments = conversation.attachments
        messages = [self._expanded(attachments, each) for each in conversation.messages_for_model()]
        system = str(
            self._settings.effective("generation.system_prompt", conversation.settings) or ""
        ).strip()
        supported = info is not None and info.supports_system
        if supported and system and not (messages and messages[0].role == "system"):
            messages.insert(0, ChatMessage.of("system", system))
        return tuple(messages)

    def _expanded(self, attachments: Attachments, message: ChatMessage) -> ChatMessage:
        """Write out what belongs to a message and is not text yet, behind its text."""
        own: list[Part] = [part for part in message.parts if isinstance(part, OWN)]
        if len(own) == len(message.parts):
            return message
        more = [self._written(attachments, part) for part in message.parts if not isinstance(part, OWN)]
        text = "".join(part.text for part in own if isinstance(part, Text))
        others = (part for part in own if not isinstance(part, Text))
        return ChatMessage(message.role, (*others, Text("\n\n".join(filter(str.strip, (text, *more))))))

    def _written(self, attachments: Attachments, part: Part) -> str:
        match part:
            case Attachment():
                text = self._file(attachments, part)
                return f"{part.name}: (not available)" if text is None else quote_file(part.name, text)
            case Source():
                return f"[{part.number}] {part.title}\n{part.text}"
            case Image():
                return f"(picture: {part.name or part.media_type})"
            case ToolCall():
                return f"{part.name}({part.arguments})"
            case _:
                return ""

    def _file(self, attachments: Attachments, part: Attachment) -> str | None:
        """Return the content of a file, looked at after every pause in typing; None if it is gone."""
        if part.sha256 not in self._files:
            try:
                text = attachments.text(part)
            except UserError:
                return None
            if len(self._files) >= KEPT:
                self._files.clear()
            self._files[part.sha256] = text
        return self._files[part.sha256]
