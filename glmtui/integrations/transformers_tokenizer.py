"""The tokenizers written here behind transformers' own interface: `AutoTokenizer` without remote code.

>>> tokenizer = transformers.AutoTokenizer.from_pretrained("/path/to/chatglm3-6b")
>>> ids = tokenizer.apply_chat_template([{"role": "user", "content": "你好"}], return_tensors="pt")

As everywhere in glmtui, nothing that is said becomes a control token: those come from
`build_inputs_with_special_tokens` and `apply_chat_template` alone. The text of the latter has marks that no
other text has (`glmtui.models.tokenizers.prompt_text`), so it encodes to the very same prompt.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizer
from transformers.utils.chat_template_utils import get_json_schema

from glmtui.errors import BadValueError, UnavailableError
from glmtui.hub.model_dir import TOKENIZER_FILES
from glmtui.integrations.options import refuse
from glmtui.models.chat_formats.formats import Dialogue, chat_format
from glmtui.models.tokenizers.chatglm import ChatGLM2Tokenizer, load_tokenizer
from glmtui.models.tokenizers.chatglm import ChatGLMTokenizer as Pieces
from glmtui.models.tokenizers.glm4 import GLM4Tokenizer
from glmtui.models.tokenizers.prompt_text import PromptPart, from_text, to_text, without_marks
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.phrases import _

_FILES = (*sorted(set(TOKENIZER_FILES.values())), "config.json", "tokenizer_config.json")


_REFUSED = ("documents", "chat_template", "return_assistant_tokens_mask", "tokenizer_kwargs")
"""Options of `apply_chat_template`; all others that are not known here are variables for a template."""

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
        parts = from_text(text, self.raw.special_ids)
        return [self._names[number] for number in self.raw.encode_parts(parts)]

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, self._ids[str(self.unk_token)])

    def _convert_id_to_token(self, index: int) -> str:
        return self._names[index] if 0 <= index < len(self._names) else ""

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        return self._decode([self._convert_token_to_id(token) for token in tokens])

    def _decode(
        self,
        token_ids: int | Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **_options: Any,
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else [int(token) for token in token_ids]
        special, stream = set(self.all_special_ids), self.raw.stream()
        text = ""
        for token in ids:
            if token not in special:
                text += stream.push(token)
            elif not skip_special_tokens:
                text += stream.finish() + self._convert_id_to_token(token)
                stream = self.raw.stream(goes_on=True)  # only the space before all of the text goes
        text += stream.finish()
        return self.clean_up_tokenization(text) if clean_up_tokenization_spaces else text

    def _add_tokens(self, new_tokens: Sequence[Any], special_tokens: bool = False) -> int:
        """Take note of tokens that are there.

        Raises:
            UnavailableError: one is not. What is encoded is what the model's own file knows.
        """
        for token in new_tokens:
            if str(token) not in self._ids:
                raise UnavailableError(_("This tokenizer takes no new tokens: {name}").format(name=token))
        return int(super()._add_tokens(new_tokens, special_tokens))

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return a prompt, or a prompt and its answer with the token that ends it.

        Ids that have control tokens are a prompt already.
        """
        answer = [] if token_ids_1 is None else [*token_ids_1, self.raw.eos_id]
        if not self._controls.isdisjoint(token_ids_0):
            return [*token_ids_0, *answer]
        if isinstance(self.raw, Pieces):
            return [*token_ids_0, self.raw.gmask_id, self.raw.bos_id, *answer]
        return [*(self.raw.special_ids[name] for name in self.raw.prefix), *token_ids_0, *answer]

    @cached_property
    def _controls(self) -> frozenset[int]:
        return frozenset(self.raw.special_ids.values())

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def get_special_tokens_mask(
        self,
        token_ids_0: list[int],
        token_ids_1: list[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        built = self.build_inputs_with_special_tokens(token_ids_0, token_ids_1)
        ids = token_ids_0 if already_has_special_tokens else built
        special = set(self.all_special_ids)
        return [int(token in special) for token in ids]

    def save_pretrained(self, save_directory: Any, *args: Any, **options: Any) -> tuple[str, ...]:
        """Write the tokenizer's files, with a name that tells the family where nothing else in them does."""
        written: tuple[str, ...] = super().save_pretrained(save_directory, *args, **options)
        file = Path(save_directory) / "tokenizer_config.json"
        settings = json.loads(file.read_text(encoding="utf-8"))
        settings["name_or_path"] = f"{self.raw.family}-6b"
        file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return written

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        target = Path(save_directory) / f"{filename_prefix + '-' if filename_prefix else ''}{self._file.name}"
        if target.absolute() != self._file.absolute():
            shutil.copyfile(self._file, target)
        return (str(target),)

    # --- conversations ---

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        tools: Sequence[Any] | None = None,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool | str = False,
        tokenize: bool = True,
        padding: bool | str = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = True,
        **options: Any,
    ) -> Any:
        """Write messages, or several conversations of them, as the model was trained to read them.

        There is no template, and variables for one are ignored. An ``assistant`` message at the end is one
        that the model is to go on with.

        Args:
            conversation: ``{"role": …, "content": …}`` each; a ``tool`` is ChatGLM's ``observation``.
            tools: what the model may call (ChatGLM3, GLM-4): JSON schemas, or functions with docstrings.
            add_generation_prompt: end with what asks the model for an answer; unlike elsewhere it does by
                default. ChatGLM-6B's ``[gMASK]`` and ``<sop>`` are there either way.
            continue_final_message: the text ends where the last message does.
            tokenize: False returns text, which this tokenizer encodes to the same ids, with special tokens
                added or not: it has noncharacters around its control tokens, and what is said has none.
            padding: see `transformers.PreTrainedTokenizerBase.pad`.
            truncation: leave out what is over `max_length`.
            max_length: in tokens; None is the tokenizer's `model_max_length`.
            return_tensors: ``pt`` for tensors.
            return_dict: False returns the ids alone.
            options: of transformers' own method that have no meaning here are refused.

        Raises:
            BadValueError: these are no messages.
            UnavailableError: the model was not trained to call tools, or an option is not supported.
        """
        refuse({name: options.get(name) for name in _REFUSED})
        batched = bool(conversation) and not isinstance(conversation[0], Mapping)
        conversations = conversation if batched else [conversation]
        asks = add_generation_prompt and not continue_final_message
        batch = [self._parts(each, tools or (), asks=asks) for each in conversations]
        if not tokenize:
            texts = [to_text(parts) for parts in batch]
            return texts if batched else texts[0]
        ids = [self.raw.encode_parts(parts) for parts in batch]
        if truncation:
            limit = min(max_length or self.model_max_length, max(map(len, ids), default=0))
            ids = [each[:limit] if self.truncation_side == "right" else each[-limit:] for each in ids]
        many = batched or return_tensors is not None
        encoded = self.pad(
            {"input_ids": ids if many else ids[0]},
            padding=padding,
            max_length=max_length,
            return_tensors=return_tensors,
        )
        return encoded if return_dict else encoded["input_ids"]

    def _parts(self, messages: Sequence[Any], tools: Sequence[Any], *, asks: bool) -> list[PromptPart]:
        if not messages or isinstance(messages, str):
            raise BadValueError(_("A conversation is a list of messages, at least one."))
        said = [self._message(each) for each in messages]
        if tools:
            system = "\n".join(each.text for each in said if each.role == "system")
            schemas = [get_json_schema(tool) if callable(tool) else tool for tool in tools]
            said = [*self.format.offer(schemas, system), *(each for each in said if each.role != "system")]
        return self.format.parts(Dialogue.of(said), asks=asks)

    def _message(self, message: Any) -> ChatMessage:
        """Read a message as transformers' templates are given them.

        Raises:
            BadValueError: it is none, or holds more than text.
        """
        known = {"system": "system", "user": "user", "assistant": "assistant"} | dict.fromkeys(
            ("tool", "observation"), "tool"
        )
        if not isinstance(message, Mapping) or message.get("role") not in known:
            raise BadValueError(
                _("A message has a role, one of {roles}, and a content.").format(roles=", ".join(known))
            )
        role: Any = known[message["role"]]
        text = _text_of(message.get("content"))
        for call in message.get("tool_calls") or ():
            text += self.format.call(*_call_of(call))
        if metadata := message.get("metadata"):
            text = f"{metadata}\n{text}"
        return ChatMessage.of(role, without_marks(text))


def _text_of(content: Any) -> str:
    """Return the text of a message's content: a string, or parts of the type ``text``."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise BadValueError(_("The content of a message must be text."))
    return "".join(map(str, texts))


def _call_of(call: Any) -> tuple[str, Mapping[str, Any]]:
    """Return name and arguments of a tool call as OpenAI writes it; the arguments may be JSON."""
    function = call.get("function", call) if isinstance(call, Mapping) else call
    try:
        arguments = function["arguments"]
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        return str(function["name"]), dict(arguments)
    except (KeyError, TypeError, ValueError) as error:
        raise BadValueError(_("A tool call has a name and arguments.")) from error


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
