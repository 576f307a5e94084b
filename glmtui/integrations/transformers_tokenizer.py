"""The tokenizers written here behind transformers' own interface: `AutoTokenizer` without remote code.

>>> tokenizer = transformers.AutoTokenizer.from_pretrained("/path/to/chatglm3-6b")
>>> ids = tokenizer.apply_chat_template([{"role": "user", "content": "你好"}], return_tensors="pt")

As everywhere in glmtui, no text becomes a control token: those come from `build_inputs_with_special_tokens`
and `apply_chat_template` alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizer

from glmtui.hub.model_dir import TOKENIZER_FILES
from glmtui.models.chat_formats.formats import Dialogue, chat_format
from glmtui.models.tokenizers.chatglm import ChatGLM2Tokenizer, load_tokenizer
from glmtui.models.tokenizers.chatglm import ChatGLMTokenizer as Pieces
from glmtui.models.tokenizers.glm4 import GLM4Tokenizer
from glmtui.protocol.messages import ChatMessage

_FILES = (*sorted(set(TOKENIZER_FILES.values())), "config.json", "tokenizer_config.json")


_Base: Any = PreTrainedTokenizer  # whose methods take many more options than mean something here


class ChatGLMTokenizer(_Base):  # type: ignore[misc]
    """The tokenizer of any ChatGLM; made by `from_pretrained`. Its name is the published one."""

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 (as transformers wants it)
    padding_side = "left"

    def __init__(self, raw: Pieces | ChatGLM2Tokenizer | GLM4Tokenizer, file: Path, **options: Any) -> None:
        self.raw, self._file = raw, file
        self.format = chat_format(raw)
        options |= _special_tokens(raw)
        if isinstance(raw, Pieces):
            options["num_image_tokens"] = raw.offset  # read again by `load_tokenizer`
        super().__init__(**options)

    @classmethod
    def from_pretrained(cls, source: Any, *args: Any, **options: Any) -> ChatGLMTokenizer:
        """Read the tokenizer of a folder or of a model on the hub.

        Raises:
            UserError: a file is missing, damaged, or does not belong to the model.
        """
        folder = Path(source)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            known = ("revision", "token", "cache_dir", "local_files_only", "force_download")
            chosen = {name: options[name] for name in known if options.get(name) is not None}
            folder = Path(snapshot_download(str(source), allow_patterns=list(_FILES), **chosen))
        raw: Any = load_tokenizer(folder)
        return cls(raw, folder / TOKENIZER_FILES[raw.family], name_or_path=str(source))

    # --- what transformers asks of a vocabulary ---

    @cached_property
    def _names(self) -> Sequence[str]:
        return self.raw.names()

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self._names)}

    @property
    def vocab_size(self) -> int:
        return self.raw.vocab_size

    def get_vocab(self) -> dict[str, int]:
        return dict(self._ids)

    def tokenize(self, text: str, **_options: Any) -> list[str]:
        return [self._names[number] for number in self.raw.encode_text(text)]

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, self._ids[str(self.unk_token)])

    def _convert_id_to_token(self, index: int) -> str:
        return self._names[index] if 0 <= index < len(self._names) else ""

    def _decode(
        self, token_ids: int | Sequence[int], skip_special_tokens: bool = False, **_options: Any
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else [int(token) for token in token_ids]
        special, stream = set(self.all_special_ids), self.raw.stream()
        text = ""
        for token in ids:
            if token in special:
                text += stream.finish() + ("" if skip_special_tokens else self._convert_id_to_token(token))
            else:
                text += stream.push(token)
        return text + stream.finish()

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return a prompt, or a prompt and its answer with the token that ends it."""
        answer = [] if token_ids_1 is None else [*token_ids_1, self.raw.eos_id]
        if isinstance(self.raw, Pieces):
            return [*token_ids_0, self.raw.gmask_id, self.raw.bos_id, *answer]
        return [*self.raw.prefix_ids, *token_ids_0, *answer]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        target = Path(save_directory) / f"{filename_prefix + '-' if filename_prefix else ''}{self._file.name}"
        if target.absolute() != self._file.absolute():
            shutil.copyfile(self._file, target)
        return (str(target),)

    # --- conversations ---

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        tokenize: bool = True,
        padding: bool | str = False,
        return_tensors: str | None = None,
        return_dict: bool = True,
        **_options: Any,
    ) -> Any:
        """Write messages, or several conversations of them, as the model was trained to read them.

        There is no template. It is always the model's turn to speak, or to go on with an ``assistant``
        message at the end.

        Args:
            conversation: ``{"role": …, "content": …}`` each; a ``tool`` is ChatGLM's ``observation``.
            tools: what the model may call (ChatGLM3, GLM-4).
            tokenize: False returns text.
            padding: see `transformers.PreTrainedTokenizerBase.pad`.
            return_tensors: ``pt`` for tensors.
            return_dict: False returns the ids alone.

        Raises:
            UserError: the model was not trained to call tools.
        """
        batched = bool(conversation) and not isinstance(conversation[0], Mapping)
        batch = [self._write(each, tools or ()) for each in (conversation if batched else [conversation])]
        if not tokenize:
            texts = [self.decode(ids) for ids in batch]
            return texts if batched else texts[0]
        many = batched or return_tensors is not None
        encoded = self.pad(
            {"input_ids": batch if many else batch[0]}, padding=padding, return_tensors=return_tensors
        )
        return encoded if return_dict else encoded["input_ids"]

    def _write(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        said = [ChatMessage.of(each["role"], str(each["content"])) for each in messages]
        if tools:
            system = "\n".join(each.text for each in said if each.role == "system")
            said = [*self.format.offer(tools, system), *(each for each in said if each.role != "system")]
        return self.format.write(Dialogue.of(said))


def _special_tokens(raw: Pieces | ChatGLM2Tokenizer | GLM4Tokenizer) -> dict[str, Any]:
    """Return the published names of what is no text."""
    if isinstance(raw, Pieces):
        return {
            "bos_token": "<sop>",
            "eos_token": "<eop>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": "[MASK]",
            "extra_special_tokens": ["[gMASK]"],
        }
    extra = [name for name in raw.special_ids if name != "<|endoftext|>"]
    if isinstance(raw, GLM4Tokenizer):
        end = "<|endoftext|>"
        return {"eos_token": end, "pad_token": end, "unk_token": end, "extra_special_tokens": extra}
    return {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<unk>",
        "unk_token": "<unk>",
        "extra_special_tokens": extra,
    }
