"""How newer GLMs want a conversation to be written: as the chat template in their folder says."""

from __future__ import annotations

import re
from collections.abc import Sequence

from glmtui.models.chat_formats import thoughts
from glmtui.models.chat_formats.formats import CachedConversation, ChatFormat, Completion, Dialogue, Prompt
from glmtui.models.chat_formats.responses import ResponseStream
from glmtui.models.tokenizers.chatglm import Tokenizer
from glmtui.models.tokenizers.glm_hf import GLMStream, GLMTokenizer
from glmtui.models.tokenizers.prompt_text import PromptPart
from glmtui.protocol.messages import ChatMessage, thought_of

_OBSERVATION = re.compile(r"""['"]observation['"]""")


class Template(ChatFormat):
    """Messages through the folder's chat template. What was thought about earlier questions is left out."""

    supports_system = True

    def __init__(self, tokenizer: GLMTokenizer) -> None:
        super().__init__(tokenizer)
        self._glm = tokenizer
        # GLM-4.5 calls what a tool said a message of the role "tool", GLM-4 "observation".
        self._tool_role = "observation" if _OBSERVATION.search(tokenizer.template) else "tool"
        asked = tokenizer.render([{"role": "user", "content": "?"}], asks=True)
        self._opening = thoughts.OPEN if asked.rstrip().endswith(thoughts.OPEN) else ""
        """What the prompt already holds of the answer: GLM-Z1 is made to think."""
        self.thinks = thoughts.OPEN in tokenizer.template

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The end token, and the roles that would speak next."""
        names = ("<|user|>", "<|observation|>", "<|endoftext|>")
        found = [self._glm.special_ids[name] for name in names if name in self._glm.special_ids]
        return (self._glm.eos_id, *found)

    def parts(self, dialogue: Dialogue, *, asks: bool = True) -> list[PromptPart]:
        messages = [message for each in (*dialogue.rounds, dialogue.last) for message in each.messages]
        begun = ""
        if messages and messages[-1].role == "assistant" and dialogue.last.messages:
            begun = messages.pop().text
        prompt = self._glm.render(self._messages(dialogue.system, messages), asks=asks or bool(begun))
        return [*self._glm.rendered(prompt), begun.removeprefix(self._opening)]

    def direct(self, text: str) -> str:
        """Close the thought that the prompt has opened."""
        return f"{self._opening}\n{thoughts.CLOSE}\n\n{text}" if self._opening else text

    def stream_response(self, after: str = "") -> ResponseStream:
        return ResponseStream(punctuation=False, dates=False, after=after, opening=self._opening)

    def stream_tokens(self, after: str = "") -> GLMStream:
        return self._glm.stream()

    def _continue(self, messages: Sequence[ChatMessage], cached: CachedConversation) -> Prompt | None:
        """Add what the template writes behind the last answer, if it repeats that as it was generated."""
        if not cached.continued_by(messages) or messages[-1].role == "assistant":
            return None
        *before, answer = cached.messages
        asked = self._render(before, asks=True)
        answered = self._render(cached.messages, asks=False)
        continued = self._render(messages, asks=True)
        if answered != asked + self._glm.shield(answer.text) or not continued.startswith(answered):
            return None
        added = self._glm.encode_parts(self._glm.rendered(continued[len(answered) :]))
        return Prompt(cached.ids + added, cached.dropped_rounds)

    def _render(self, messages: Sequence[ChatMessage], *, asks: bool) -> str:
        system = "\n".join(message.text for message in messages if message.role == "system")
        spoken = [message for message in messages if message.role != "system"]
        return self._glm.render(self._messages(system, spoken), asks=asks)

    def _messages(self, system: str, messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
        shield = self._glm.shield
        written = [{"role": "system", "content": shield(system)}] if system else []
        for message in messages:
            role = self._tool_role if message.role == "tool" else message.role
            written.append({"role": role, "content": shield(message.text)})
            if thought := thought_of(message.parts):
                written[-1]["reasoning_content"] = shield(thought)
        return written


def template_format(tokenizer: Tokenizer) -> ChatFormat:
    """Return how the model of `tokenizer` is talked to; one without a template goes on with a text."""
    if isinstance(tokenizer, GLMTokenizer) and tokenizer.template:
        return Template(tokenizer)
    return Completion(tokenizer)
