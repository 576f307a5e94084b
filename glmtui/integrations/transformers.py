"""ChatGLM-6B, ChatGLM2-6B and ChatGLM3-6B for transformers: thin wrappers around the networks written here.

>>> import glmtui
>>> glmtui.register()
>>> model = transformers.AutoModelForCausalLM.from_pretrained("/path/to/chatglm-6b")   # no remote code

The modules, their names and the forward pass are the networks' own; every sequence of a batch has its own
`KVCache`. What transformers offers is right or is refused: labels give a loss, and training a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.generation.utils import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from glmtui.errors import BadValueError, UserError
from glmtui.hub.model_dir import is_v2
from glmtui.integrations.options import refuse, unsupported
from glmtui.integrations.rows import Row, batched, read_rows, run_rows
from glmtui.models.base import KVCache
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.models.chatglm2 import ChatGLM2, ChatGLM2Config
from glmtui.protocol.phrases import _

_CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
"""What transformers calls the cache: it was renamed in 5.24."""
_LOSS_OPTIONS = frozenset({"num_items_in_batch", "shift_labels", "ignore_index"})
"""What `transformers.loss.loss_utils.ForCausalLMLoss` takes besides; its trainer gives the first."""


class ChatGLMSettings(PretrainedConfig):  # type: ignore[misc]
    """A ``config.json`` of ChatGLM-6B, or of any ChatGLM: `from_dict` tells them apart."""

    model_type = "chatglm"
    attribute_map = {  # noqa: RUF012 (as transformers wants it)
        "num_hidden_layers": "num_layers",
        "max_position_embeddings": "max_sequence_length",
    }
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # noqa: RUF012
    tied = True
    """Whether the output layer is the embedding where the file does not say; so it is in ChatGLM-6B."""

    def __init__(self, **settings: Any) -> None:
        settings.pop("auto_map", None)  # names of the published code, which is not used
        settings.setdefault("tie_word_embeddings", self.tied)
        super().__init__(**settings)

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], **options: Any) -> Any:
        """Read a ``config.json`` as the class of its architecture."""
        kind = ChatGLM2Settings if is_v2(config_dict) else ChatGLMSettings
        read: Any = PretrainedConfig.from_dict.__func__  # type: ignore[attr-defined]
        return read(kind, dict(config_dict), **options)


class ChatGLM2Settings(ChatGLMSettings):
    """A ``config.json`` of ChatGLM2-6B, ChatGLM3-6B or CodeGeeX2-6B."""

    attribute_map = {  # noqa: RUF012
        "num_hidden_layers": "num_layers",
        "max_position_embeddings": "seq_length",
        "vocab_size": "padded_vocab_size",
    }
    tied = False


class Caches:
    """Keys and values of a batch: those of every sequence for itself."""

    is_compileable = False
    is_croppable = True
    is_linear = (False,)

    def __init__(self, sequences: list[KVCache]) -> None:
        self.sequences = sequences
        self.length = 0
        """Tokens, with the padding."""

    def get_seq_length(self, _layer_idx: int = 0) -> int:
        """Return how many tokens there are, with the padding."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on with the sequences `beam_idx`; what two beams go on from is copied."""
        taken: set[int] = set()
        chosen = []
        for index in beam_idx.tolist():
            chosen.append(self.sequences[index].copy() if index in taken else self.sequences[index])
            taken.add(index)
        self.sequences = chosen

    def crop(self, count: int) -> None:
        """Keep the first `count` tokens, or take so many off the end where it is negative."""
        gone = -count if count <= 0 else max(self.length - count, 0)
        for sequence in self.sequences:
            sequence.truncate(sequence.length - gone)
        self.length -= gone

    def activate_past_recording(self) -> None:
        """Nothing is needed to `crop`."""


class _ForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """What both architectures have in common."""

    config_class: Any = ChatGLMSettings
    main_input_name = "input_ids"
    _takes_embeds = True
    _no_split_modules = ["Block", "PrefixEncoder"]  # noqa: RUF012 (as transformers wants it)
    _keys_to_ignore_on_load_unexpected = [r"inv_freq$"]  # noqa: RUF012

    def __init__(self, config: Any, network: Any = None) -> None:
        super().__init__(config)
        for module in network.modules() if network is not None else ():
            module._is_hf_initialized = True  # it has its weights
        network = self.build(config) if network is None else network
        self._network = (network,)  # in a tuple: its modules are registered once, under their published names
        for name, module in network.named_children():
            self.add_module(name, module)
        network._modules = self._modules  # what is put in the place of one of them, is so in both
        self.post_init()

    @staticmethod
    def build(config: Any) -> ChatGLM | ChatGLM2:
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, source: Any, *args: Any, **options: Any) -> Any:
        """Load a folder; one with the published int8 or int4 weights through `glmtui.load`, on the CPU."""
        config = options.get("config")
        if not getattr(config, "quantization_bit", 0):
            return super().from_pretrained(source, *args, **options)
        import glmtui

        dtype = options.get("dtype") or options.get("torch_dtype") or torch.float32
        dtype = torch.float32 if dtype == "auto" else dtype
        model = cls(config, glmtui.load(str(source), device="cpu", dtype=dtype).network)
        return model.eval()

    def save_pretrained(self, save_directory: Any, *args: Any, **options: Any) -> None:
        """Write the model in the published layout, as safetensors.

        Raises:
            UserError: it is quantised, and would not be in the published layout.
        """
        if getattr(self.config, "quantization_bit", 0):
            raise UserError(
                _("A quantised model cannot be saved by transformers. Run `glmtui quantize` on the folder.")
            )
        super().save_pretrained(save_directory, *args, **options)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # it makes its own

    def get_input_embeddings(self) -> Any:
        transformer = self._network[0].transformer
        return getattr(transformer, "embedding", transformer).word_embeddings

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *_more: Any, **_options: Any) -> Any:
        """Return the embedding, if it has so many rows.

        Raises:
            UnavailableError: it has not. No tokenizer here takes new tokens.
        """
        if new_num_tokens not in (None, self._network[0].config.vocab_size):
            raise unsupported("resize_token_embeddings")
        return self.get_input_embeddings()

    def generate(self, *args: Any, **options: Any) -> Any:
        """Generate as every model of transformers does, assisted by another one too."""
        chosen = options.get("generation_config") or self.generation_config
        looks_up = options.get("prompt_lookup_num_tokens", chosen.prompt_lookup_num_tokens)
        if (options.get("assistant_model") is not None or looks_up) and options.get(_CACHE) is None:
            options[_CACHE] = self._new_caches(1)  # assisted generation is for one sequence, and wants it now
        return super().generate(*args, **options)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: Caches | None = None,
        past_key_values: Caches | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return what `forward` is to be given: only the tokens that the cache does not have.

        By the name of its `kwargs` transformers knows that what `forward` takes is no mistake.
        """
        caches = past_key_values if cache is None else cache
        new = input_ids[:, caches.length :] if caches is not None else input_ids
        passed = ("logits_to_keep", "output_hidden_states", "output_attentions")
        return {
            "input_ids": new,
            "attention_mask": attention_mask,
            _CACHE: caches,
            "use_cache": kwargs.get("use_cache", True),
            **{name: kwargs[name] for name in passed if name in kwargs},
        }

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        cache: Caches | None = None,
        past_key_values: Caches | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        **options: Any,
    ) -> Any:
        """Return the logits of a batch.

        There is a gradient in training mode and where `labels` are given, if gradients are enabled; then no
        cache is returned.

        Args:
            input_ids: ``[batch, n]``, after what the cache has.
            attention_mask: ``[batch, tokens]``, 0 where a sequence is padded; positions do not count that.
            inputs_embeds: ``[batch, n, hidden]`` in place of ids; ChatGLM-6B has to see the ids.
            labels: ``[batch, n]``, the ids again, -100 where a token does not count: each is predicted from
                those before it.
            cache: what an earlier call returned, to go on from.
            past_key_values: the same, as transformers called it before 5.24.
            use_cache: return the cache.
            output_hidden_states: return what each layer is given, and what the last norm returns.
            logits_to_keep: how many of the last tokens' logits are wanted, or which; 0: all. A single one is
                that of a sequence's last token, whichever side is padded.
            return_dict: False returns a tuple.
            options: ``position_ids`` as the model itself counts them, and what
                `transformers.loss.loss_utils.ForCausalLMLoss` takes. Others are refused.

        Returns:
            logits ``[batch, n, vocab]`` in float32; those of padding are zeros.

        Raises:
            BadValueError: shapes or ids do not fit.
            UnavailableError: an option is not supported.
        """
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise BadValueError(_("Give either input_ids or inputs_embeds."))
        position_ids = options.pop("position_ids", None)
        if inputs_embeds is not None and not self._takes_embeds:
            raise unsupported("inputs_embeds")
        caches = past_key_values if cache is None else cache
        refuse({name: value for name, value in options.items() if name not in _LOSS_OPTIONS})
        trains = torch.is_grad_enabled() and (self.training or labels is not None or given.requires_grad)
        if caches is None:
            caches = self._new_caches(len(given))
        elif not isinstance(caches, Caches) or (trains and caches.length):
            raise unsupported(_CACHE)
        rows = self._rows(given, attention_mask, caches)
        if position_ids is not None:
            _check_positions(position_ids, rows)
        last_only = isinstance(logits_to_keep, int) and logits_to_keep == 1 and labels is None
        if trains or output_hidden_states or inputs_embeds is not None:
            run_rows(self._network[0], rows, trains=trains)
        else:
            read_rows(self._network[0], rows, last_only=last_only)
        caches.length += given.shape[1]
        logits = batched([row.last() if last_only else row.spread(row.logits) for row in rows])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1], **options)
        if not isinstance(logits_to_keep, int):
            logits = logits[:, logits_to_keep]
        elif logits_to_keep:
            logits = logits[:, -logits_to_keep:]
        output = CausalLMOutputWithPast(
            loss=loss, logits=logits
        )  # as a tuple it is in the order of what follows
        use_cache = getattr(self.config, "use_cache", True) if use_cache is None else use_cache
        if use_cache and not trains:
            output[_CACHE] = caches
        if output_hidden_states:
            layers = zip(*([row.spread(x) for x in row.hidden] for row in rows), strict=True)
            output["hidden_states"] = tuple(map(batched, layers))
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def _new_caches(self, count: int) -> Caches:
        return Caches([self._network[0].new_cache() for _row in range(count)])

    def _rows(self, given: Tensor, attention_mask: Tensor | None, caches: Caches) -> list[Row]:
        """Take apart a batch of ids ``[batch, n]`` or of embedded ones ``[batch, n, hidden]``.

        Raises:
            BadValueError: shapes or ids do not fit.
        """
        last = self._network[0].config.vocab_size - 1
        embedded = given.is_floating_point()
        if given.ndim != 2 + embedded or not given.numel() or len(given) != len(caches.sequences):
            raise BadValueError(_("A batch has rows of token ids, as many as its cache, each at least one."))
        if not embedded and not 0 <= int(given.min()) <= int(given.max()) <= last:
            raise BadValueError(
                _("A prompt is a row of token ids from 0 to {last}, at least one.").format(last=last)
            )
        shape = given.shape[:2]
        real = torch.ones(shape, dtype=torch.bool, device=given.device)
        if attention_mask is not None:
            if attention_mask.shape not in (shape, (shape[0], caches.length + shape[1])):
                raise BadValueError(
                    _("An attention_mask has a row for each sequence, a column for each token.")
                )
            real = attention_mask[:, -shape[1] :].to(given.device).bool()
        rows = []
        for each, kept, cache in zip(given, real, caches.sequences, strict=True):
            tokens = each[kept]
            ids = tokens.new_zeros(len(tokens), dtype=torch.long) if embedded else tokens
            opening = ids[:0] if cache.length else self._opening(ids)
            row = Row(kept, cache, torch.cat((opening, ids)), tokens if embedded else None, len(opening))
            if not len(ids) and not cache.length:
                raise BadValueError(_("A sequence is nothing but padding."))
            rows.append(row)
        return rows

    def _opening(self, ids: Tensor) -> Tensor:
        """Return what has to come before a new sequence `ids` ``[n]``, and is not there."""
        return ids[:0]


class ChatGLMForCausalLM(_ForCausalLM):
    """ChatGLM-6B. A prompt ends with ``[gMASK]`` and ``<sop>``; pad it on the left.

    Ids without ``<sop>`` are read as the beginning of an answer, with ``[gMASK]`` and ``<sop>`` before it:
    so every token is predicted from those before it alone, in the place that answers had in training. (As a
    prompt they would see each other in both directions, and an evaluation what it is to predict.)
    """

    _tied_weights_keys = {"lm_head.weight": "transformer.word_embeddings.weight"}  # noqa: RUF012
    _takes_embeds = False  # the ids say where the prompt ends

    @staticmethod
    def build(config: Any) -> ChatGLM:
        return ChatGLM(ChatGLMConfig.from_dict(config.to_dict()))

    def _opening(self, ids: Tensor) -> Tensor:
        config = self._network[0].config
        gmask, sop = config.gmask_token_id, config.bos_token_id
        found = ids.tolist()
        if sop not in found:
            return ids.new_tensor([gmask, sop])
        answer = found[found.index(sop) + 1 :]
        if gmask in answer and answer[answer.index(gmask) + 1 :] in ([], [sop]):
            raise BadValueError(
                _(
                    "These ids have a prompt's end, [gMASK] and <sop>, twice. Encode what follows a prompt "
                    "without special tokens: with lm-evaluation-harness, give add_bos_token=False or "
                    "--apply_chat_template."
                )
            )
        return ids[:0]

    def get_output_embeddings(self) -> Any:
        return self.lm_head


class ChatGLM2ForCausalLM(_ForCausalLM):
    """ChatGLM2-6B, ChatGLM3-6B and CodeGeeX2-6B; pad prompts on the left."""

    config_class = ChatGLM2Settings
    _tied_weights_keys = {  # noqa: RUF012
        "transformer.output_layer.weight": "transformer.embedding.word_embeddings.weight"
    }

    @staticmethod
    def build(config: Any) -> ChatGLM2:
        return ChatGLM2(ChatGLM2Config.from_dict(config.to_dict()))

    def get_output_embeddings(self) -> Any:
        return self._network[0].transformer.output_layer


def _check_positions(position_ids: Tensor, rows: Sequence[Row]) -> None:
    """Raise UnavailableError where `position_ids` ``[batch, ..., n]`` are not the model's own."""
    for given, row in zip(position_ids, rows, strict=False):
        own = row.positions
        if given.shape[-1] != len(row.real) or not torch.equal(given[..., row.real].expand_as(own), own):
            raise unsupported("position_ids")


def register() -> None:
    """Let transformers' `AutoConfig`, `AutoModel…` and `AutoTokenizer` know the type ``chatglm``."""
    from glmtui.integrations.transformers_tokenizer import ChatGLMTokenizer

    AutoConfig.register("chatglm", ChatGLMSettings, exist_ok=True)
    for auto in (AutoModel, AutoModelForCausalLM):
        auto.register(ChatGLMSettings, ChatGLMForCausalLM, exist_ok=True)
        auto.register(ChatGLM2Settings, ChatGLM2ForCausalLM, exist_ok=True)
    for settings in (ChatGLMSettings, ChatGLM2Settings):
        AutoTokenizer.register(settings, tokenizer_class=ChatGLMTokenizer, exist_ok=True)
