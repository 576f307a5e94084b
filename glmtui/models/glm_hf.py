"""GLM-4-9B and later, through transformers' own classes: their layers, our cache, attention and loading.

A model is built without memory and keeps the names of the published state dict, so that its tensors are
placed one at a time, quantised or not, as those of the architectures written here. transformers stacks the
experts of a layer in one tensor; here each is three `nn.Linear` under its published name, which can be
quantised like any other.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glmtui.errors import BadFileError, UserError
from glmtui.hub.config import read_generation_config
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.base import LanguageModel, State
from glmtui.models.layers import CoreAttention
from glmtui.protocol.phrases import _
from glmtui.text.quoting import reason_of

ATTENTION = "glmtui"
"""What `CoreAttention` is called among transformers' attention functions."""


@dataclass(frozen=True)
class GLMConfig:
    """The sizes that the engine asks for, and the config for transformers."""

    vocab_size: int
    num_layers: int
    max_length: int
    stop_ids: tuple[int, ...]
    tie_word_embeddings: bool
    settings: Any
    """A `transformers.PreTrainedConfig`."""
    folder: Path
    """Where the files lie."""

    @classmethod
    def of(cls, folder: ModelFolder) -> GLMConfig:
        """Read a folder's ``config.json`` and ``generation_config.json``.

        Raises:
            UserError: transformers does not take the config, or is too old to know the type.
        """
        from transformers import AutoConfig

        known = {
            name: value for name, value in folder.config.items() if name not in ("model_type", "auto_map")
        }
        with taken_by_transformers(folder.path):
            settings = AutoConfig.for_model(folder.family, **known)
            text = settings.get_text_config()
            return cls(
                vocab_size=text.vocab_size,
                num_layers=text.num_hidden_layers,
                max_length=text.max_position_embeddings,
                stop_ids=_stop_ids(folder, text.eos_token_id),
                tie_word_embeddings=bool(settings.tie_word_embeddings),
                settings=settings,
                folder=folder.path,
            )


@contextmanager
def taken_by_transformers(folder: Path) -> Iterator[None]:
    """Turn whatever transformers raises over a folder's ``config.json`` into a `BadFileError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # it has no class of its own for what it does not take
        message = _("{path}: transformers does not take it: {error}")
        raise BadFileError(message.format(path=folder / "config.json", error=reason_of(error))) from error


def _stop_ids(folder: ModelFolder, default: int | list[int] | None) -> tuple[int, ...]:
    """Return the end tokens: ``generation_config.json`` knows more of them than ``config.json``."""
    found = read_generation_config(folder.path).get("eos_token_id")
    found = default if found is None else found
    return tuple(found) if isinstance(found, list) else () if found is None else (found,)


class Expert(nn.Module):
    """One expert of a layer: SwiGLU."""

    def __init__(self, hidden_size: int, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, width, bias=False)
        self.up_proj = nn.Linear(hidden_size, width, bias=False)
        self.down_proj = nn.Linear(width, hidden_size, bias=False)
        self.act_fn = activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
        return out


class Experts(nn.ModuleList):
    """The experts of a layer, for the place of transformers' stacked ones."""

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Mix for each token the outputs of the experts chosen for it.

        Args:
            hidden_states: ``[n, hidden]``.
            top_k_index: which experts, ``[n, k]``.
            top_k_weights: how much each counts, ``[n, k]``.

        Returns:
            ``[n, hidden]``.
        """
        mixed = torch.zeros_like(hidden_states)
        for index in sorted(set(top_k_index.flatten().tolist())):
            token, choice = torch.where(top_k_index == index)
            out = self[index](hidden_states[token]) * top_k_weights[token, choice, None]
            mixed.index_add_(0, token, out.to(mixed.dtype))
        return mixed


@dataclass(frozen=True)
class Again:
    """A layer's `forward` that is computed again for the gradient."""

    plain: Callable[..., Any]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return checkpoint(self.plain, *arguments, use_reentrant=False, **options)


class GLM(LanguageModel):
    """A GLM of transformers: token ids to logits."""

    config: GLMConfig
    EMBEDDING = "model.embed_tokens"
    takes_any_state: ClassVar[bool] = False
    """transformers' layers ask for sizes, and attend by themselves."""
    PRECISE = re.compile(r"\.mlp\.gate\.")
    """Tensors that stay float32 whatever the rest is: small differences would choose other experts."""

    def __init__(self, config: GLMConfig) -> None:
        super().__init__()
        import transformers

        transformers.AttentionInterface.register(ATTENTION, attend)
        made = self.make(config.settings)
        self.config = config
        self.model, self.lm_head = made.model, made.lm_head
        with torch.device("cpu"):  # computed, not read from a file
            self.text.rotary_emb = type(self.text.rotary_emb)(config.settings.get_text_config())
        for module in list(self.model.modules()):
            if hasattr(module, "layer_idx") and hasattr(module, "o_proj"):
                module.core_attention = CoreAttention()
            stacked: Any = getattr(module, "experts", None)
            if stacked is not None:
                count, hidden_size, width = stacked.down_proj.shape
                module.experts = Experts(Expert(hidden_size, width, stacked.act_fn) for _ in range(count))
        parameters = inspect.signature(self.text.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"  # renamed in 5.24
        self.tie_weights()

    @staticmethod
    def make(settings: Any) -> Any:
        """Build transformers' own model."""
        import transformers

        from_config: Callable[..., Any] = transformers.AutoModelForCausalLM.from_config
        return from_config(settings, attn_implementation=ATTENTION)

    @property
    def text(self) -> Any:
        """What reads tokens, of all that the model is."""
        return self.model

    def checkpoint_layers(self, on: bool) -> None:
        for layer in self.text.layers:
            plain = layer.forward.plain if isinstance(layer.forward, Again) else layer.forward
            layer.forward = Again(plain) if on else plain

    def embed(self, ids: Tensor) -> Tensor:
        x: Tensor = self.text.embed_tokens(ids)
        return x

    def hidden(self, x: Tensor, positions: Tensor, mask: Tensor | None, state: State) -> Tensor:
        """``[batch, n, hidden]`` to the same, at `positions` ``[batch, n]``; see `LanguageModel`."""
        if mask is not None and mask.dim() == 2:
            mask = mask[None, None]
        found = self.text(
            inputs_embeds=x,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **{self._cache_name: CacheView(state)},
        )
        hidden: Tensor = found.last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(hidden)
        return logits.float()


@dataclass(frozen=True)
class CacheView:
    """A `State` as transformers' layers use their cache."""

    state: State

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_more: Any, **_options: Any) -> Any:
        """Take in a layer's `keys` and `values` ``[1, heads, n, width]``; return all of them.

        Compressed ones (GLM-4.7-Flash) differ in width: the narrower are padded while they lie there.
        """
        wide, narrow = keys.shape[-1], values.shape[-1]
        if wide == narrow:
            return self.state.append(layer_idx, keys, values)
        width = max(wide, narrow)
        all_keys, all_values = self.state.append(
            layer_idx, F.pad(keys, (0, width - wide)), F.pad(values, (0, width - narrow))
        )
        return all_keys[..., :wide].to(keys.dtype), all_values[..., :narrow].to(values.dtype)

    def get_seq_length(self, _layer_idx: int = 0) -> int:
        """Return how many tokens were there before this pass."""
        return self.state.length


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend by the layer's own `CoreAttention`, as transformers calls an attention function.

    Returns:
        ``[batch, n, heads, width]``, and no weights.
    """
    ratio = options.get("scaling", query.shape[-1] ** -0.5) * query.shape[-1] ** 0.5
    query = query if abs(ratio - 1) < 1e-6 else query * ratio
    return module.core_attention(query, key, value, attention_mask).transpose(1, 2).contiguous(), None
