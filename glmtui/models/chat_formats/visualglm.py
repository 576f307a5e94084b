"""How VisualGLM-6B wants a conversation about a picture to be written."""

from __future__ import annotations

import re
from collections.abc import Sequence

from glmtui.models.chat_formats.formats import Dialogue, Rounds, images_of
from glmtui.models.tokenizers.chatglm import VisualGLMTokenizer
from glmtui.models.tokenizers.prompt_text import Control, PromptPart
from glmtui.protocol.messages import Image

BEFORE, BEHIND = "<img>", "</img>"
_CHINESE = re.compile("[\u3400-\u9fff]")


class VisualRounds(Rounds):
    """Rounds without numbers, the first one too; the picture stands once, before them all.

    It was trained with questions about one picture, so what was said about another one is left out. A
    conversation in English has English marks: with Chinese ones the answers mix both languages.
    """

    sees_images = True
    _tokenizer: VisualGLMTokenizer

    def relevant(self, dialogue: Dialogue) -> Dialogue:
        """Begin with the round that shows the newest picture, where another one was shown before."""
        if len({image.sha256 for image in dialogue.images}) < 2:
            return dialogue
        shown = [
            [image.sha256 for each in one.messages for image in images_of(each)] for one in dialogue.rounds
        ]
        newest, kept = dialogue.images[-1].sha256, 0
        for count, digests in enumerate(reversed(shown), start=1):
            if any(each != newest for each in digests):
                break
            kept = count if digests else kept
        return dialogue.newest(kept)

    def parts(self, dialogue: Dialogue, *, asks: bool = True) -> list[PromptPart]:
        dialogue = self.relevant(dialogue)
        text, answer = self.build_prompt(dialogue), dialogue.last.answer
        if not asks and not answer:
            text = text[: text.rindex("\n")]
        before: list[PromptPart] = []
        if dialogue.images:
            filler = Control(self._tokenizer.FILLER)
            before, text = [BEFORE, *[filler] * self._tokenizer.image_length], BEHIND + text
        return [*before, *self._tokenizer.prompt(text), *([answer] if answer else [])]

    def place_images(self, dialogue: Dialogue, ids: Sequence[int]) -> tuple[tuple[int, Image], ...]:
        before = self._tokenizer.encode_text(BEFORE)
        return tuple((len(before), image) for image in dialogue.images[-1:])

    @classmethod
    def build_prompt(cls, dialogue: Dialogue) -> str:
        said = [each.question + each.answer for each in dialogue.rounds]
        chinese = _CHINESE.search("".join([*said, dialogue.question]))
        asks, answers = ("问：", "答：") if chinese else ("Q:", "A:")
        rounds = [f"{asks}{each.question}\n{answers}{each.answer}\n" for each in dialogue.rounds]
        return "".join([*rounds, f"{asks}{dialogue.question}\n{answers}"])
