"""ChatGLM-6B, ChatGLM2-6B and ChatGLM3-6B for transformers: thin wrappers around the networks written here.

>>> import glmtui
>>> glmtui.register()
>>> model = transformers.AutoModelForCausalLM.from_pretrained("/path/to/chatglm-6b")   # no remote code

The modules, their names and the forward pass are the networks' own; every sequence of a batch has its own
`KVCache`. For inference: there are no gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
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

from glmtui.engine.prefill import read_batch
from glmtui.errors import UserError
from glmtui.hub.model_dir import is_v2
from glmtui.models.base import KVCache
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.models.chatglm2 import ChatGLM2, ChatGLM2Config
from glmtui.protocol.phrases import _

_CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
"""What transformers calls the cache: it was renamed in 5.24."""


class ChatGLMSettings(PretrainedConfig):  # type: ignore[misc]
    """A ``config.json`` of ChatGLM-6B, or of any ChatGLM: `from_dict` tells them apart."""

    model_type = "chatglm"
    attribute_map = {"num_hidden_layers": "num_layers"}  # noqa: RUF012 (as transformers wants it)
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

    tied = False


class Caches:
    """Keys and values of a batch: those of every sequence for itself."""

    is_compileable = False

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


class _ForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """What both architectures have in common."""

    config_class: Any = ChatGLMSettings
    main_input_name = "input_ids"
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

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> dict[str, Any]:
        """Return what `forward` is to be given: only the tokens that the cache does not have."""
        caches = options.get(_CACHE)
        new = input_ids[:, caches.length :] if caches is not None else input_ids
        use_cache = options.get("use_cache", True)
        return {"input_ids": new, "attention_mask": attention_mask, _CACHE: caches, "use_cache": use_cache}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
        **options: Any,
    ) -> Any:
        """Return the logits of a batch.

        Args:
            input_ids: ``[batch, n]``, after what the cache has.
            attention_mask: ``[batch, tokens]``, 0 where a sequence is padded; positions do not count that.
            use_cache: return the cache, to go on from.
            logits_to_keep: 1 computes those of the last token only.
            return_dict: False returns a tuple.
            options: the cache; the rest is ignored.

        Returns:
            logits ``[batch, n or 1, vocab]`` in float32; those of padding are zeros.
        """
        network, (batch, n) = self._network[0], input_ids.shape
        caches = options.get("cache") or options.get("past_key_values")
        if caches is None:
            caches = Caches([network.new_cache() for _row in range(batch)])
        real = torch.ones_like(input_ids, dtype=torch.bool)
        if attention_mask is not None:
            real = attention_mask[:, -n:].to(input_ids.device).bool()
        last_only = logits_to_keep == 1 and bool(real[:, -1].all())
        logits = torch.zeros(batch, 1 if last_only else n, network.config.vocab_size, device=input_ids.device)
        rows = [each[kept] for each, kept in zip(input_ids, real, strict=True)]
        found = read_batch(network, rows, caches.sequences, last_only=last_only)
        for row, logits_of in enumerate(found):
            place = slice(None) if last_only else real[row].to(logits.device)
            logits[row, place] = logits_of.to(logits.device)
        caches.length += n
        output = CausalLMOutputWithPast(logits=logits)
        if use_cache is not False:
            output[_CACHE] = caches
        return output if return_dict is not False else output.to_tuple()


class ChatGLMForCausalLM(_ForCausalLM):
    """ChatGLM-6B. A prompt ends with ``[gMASK]`` and ``<sop>``; pad it on the left."""

    _tied_weights_keys = {"lm_head.weight": "transformer.word_embeddings.weight"}  # noqa: RUF012

    @staticmethod
    def build(config: Any) -> ChatGLM:
        return ChatGLM(ChatGLMConfig.from_dict(config.to_dict()))

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


def register() -> None:
    """Let transformers' `AutoConfig`, `AutoModel…` and `AutoTokenizer` know the type ``chatglm``."""
    from glmtui.integrations.transformers_tokenizer import ChatGLMTokenizer

    AutoConfig.register("chatglm", ChatGLMSettings, exist_ok=True)
    for auto in (AutoModel, AutoModelForCausalLM):
        auto.register(ChatGLMSettings, ChatGLMForCausalLM, exist_ok=True)
        auto.register(ChatGLM2Settings, ChatGLM2ForCausalLM, exist_ok=True)
    for settings in (ChatGLMSettings, ChatGLM2Settings):
        AutoTokenizer.register(settings, tokenizer_class=ChatGLMTokenizer, exist_ok=True)
