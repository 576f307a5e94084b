"""VisualGLM-6B: a picture becomes 32 embeddings in the prompt of a ChatGLM-6B.

A vision transformer (EVA-CLIP's) makes rows of the patches, 32 learned queries look at those (the Q-Former of
BLIP-2), and a projection brings what they saw to the width of the language model, which takes it in the place
of filler tokens. Positions, mask and decoding are ChatGLM-6B's. Module names are those of the published state
dict. The products have the type of their weights; norms and the streams between them are float32 always.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui.errors import BadFileError
from glmtui.hub.model_dir import crosses
from glmtui.models import layers
from glmtui.models.base import ImageRows
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.protocol.phrases import _

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue, as CLIP has them."""


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the image encoder: ``eva_config``."""

    num_layers: int
    hidden_size: int
    num_attention_heads: int
    inner_hidden_size: int
    patch_size: int
    image_size: tuple[int, int]
    """Height and width in pixels."""
    in_channels: int = 3
    layernorm_epsilon: float = 1e-6

    @property
    def patches(self) -> int:
        """How many rows a picture has, the class token not counted."""
        height, width = self.image_size
        return (height // self.patch_size) * (width // self.patch_size)


@dataclass(frozen=True)
class QueriesConfig:
    """Sizes of the Q-Former: ``qformer_config``."""

    num_layers: int
    hidden_size: int
    num_attention_heads: int
    inner_hidden_size: int
    queries: int
    crosses: tuple[bool, ...]
    """Which layers look at the picture."""
    layernorm_epsilon: float = 1e-12


@dataclass(frozen=True, kw_only=True)
class VisualGLMConfig(ChatGLMConfig):
    """ChatGLM-6B's, and those of what looks at pictures."""

    image_length: int
    """Rows that a picture takes in a prompt."""
    encoder: EncoderConfig
    queries: QueriesConfig

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> VisualGLMConfig:
        """Read a ``config.json``. Raises UserError as `ChatGLMConfig.from_dict` does."""
        language = ChatGLMConfig.from_dict(config)
        encoder = _encoder_config(config.get("eva_config") or {})
        queries = _queries_config(config.get("qformer_config") or {})
        length = config.get("image_length") or queries.queries
        if length != queries.queries:
            message = _("config.json: image_length is {length}, but there are {queries} queries")
            raise BadFileError(message.format(length=length, queries=queries.queries))
        for name, part in (("eva_config", encoder), ("qformer_config", queries)):
            if part.hidden_size % part.num_attention_heads:
                message = _(
                    "config.json: hidden_size {width} cannot be divided among {heads} attention heads"
                )
                raise BadFileError(
                    message.format(width=f"{part.hidden_size} ({name})", heads=part.num_attention_heads)
                )
        if (config.get("eva_config") or {}).get("max_sequence_length") not in (None, encoder.patches + 1):
            message = _("config.json: {size} pixels make {count} patches, which eva_config does not have")
            raise BadFileError(
                message.format(size="×".join(map(str, encoder.image_size)), count=encoder.patches)
            )
        return cls(**vars(language), image_length=length, encoder=encoder, queries=queries)


def _encoder_config(config: Mapping[str, Any]) -> EncoderConfig:
    take = partial(_take, "eva_config", config)
    hidden = take("hidden_size")
    size = config.get("image_size") or 224
    sides = tuple(size) if isinstance(size, list) else (size,)
    return EncoderConfig(
        num_layers=take("num_layers"),
        hidden_size=hidden,
        num_attention_heads=take("num_attention_heads"),
        inner_hidden_size=config.get("inner_hidden_size") or 4 * hidden,
        patch_size=take("patch_size"),
        image_size=(sides[0], sides[-1]) if sides else (224, 224),
        in_channels=config.get("in_channels") or 3,
        layernorm_epsilon=config.get("layernorm_epsilon") or 1e-6,
    )


def _queries_config(config: Mapping[str, Any]) -> QueriesConfig:
    take = partial(_take, "qformer_config", config)
    hidden, layers = take("hidden_size"), take("num_layers")
    return QueriesConfig(
        num_layers=layers,
        hidden_size=hidden,
        num_attention_heads=take("num_attention_heads"),
        inner_hidden_size=config.get("inner_hidden_size") or 4 * hidden,
        queries=take("vocab_size"),
        crosses=tuple(crosses(config, layers)),
        layernorm_epsilon=config.get("layernorm_epsilon") or 1e-12,
    )


def _take(part: str, config: Mapping[str, Any], name: str) -> int:
    if config.get(name) is None:
        raise BadFileError(_("config.json does not say {name}").format(name=f"{part}.{name}"))
    return int(config[name])


def to_pixels(picture: Picture, size: tuple[int, int]) -> Tensor:
    """Return a picture in RGB as the encoder is given it: float32 ``[3, height, width]``.

    It is resized by Pillow's own bicubic filter, which widens where it makes smaller, to `size` (height and
    width) whatever its shape: nothing is cut off. Every step rounds as the published code does.
    """
    from PIL import Image

    height, width = size
    resized = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).to(torch.float32).div(255)
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
    return pixels.sub_(mean).div_(deviation).contiguous()


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Let every row of `q` ``[batch, n, width]`` see all of `k` and `v` ``[batch, columns, width]``."""
    q, k, v = (each.view(*each.shape[:2], heads, -1).transpose(1, 2) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Every row sees all others; all queries come first in the product, then all keys, then all values."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, n, width]`` to the same, in the type of the weights."""
        q, k, v = self.query_key_value(layers.suited(x, self.query_key_value)).chunk(3, dim=-1)
        out: Tensor = self.dense(attend(q, k, v, self.heads))
        return out


class CrossAttention(nn.Module):
    """The queries see the rows of the picture."""

    def __init__(self, hidden_size: int, seen_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(seen_size, 2 * hidden_size)
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``[batch, n, width]``, seeing ``[batch, patches, seen width]``, to the first."""
        k, v = self.key_value(layers.suited(seen, self.key_value)).chunk(2, dim=-1)
        out: Tensor = self.dense(attend(self.query(layers.suited(x, self.query)), k, v, self.heads))
        return out


class MLP(nn.Module):
    """Two linear layers around the exact GELU."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(hidden_size, inner_size)
        self.dense_4h_to_h = nn.Linear(inner_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(layers.suited(x, self.dense_h_to_4h))))
        return out


class EncoderLayer(nn.Module):
    """One layer of the image encoder."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, config.hidden_size, eps=config.layernorm_epsilon)
        self.input_layernorm = norm()
        self.attention = SelfAttention(config.hidden_size, config.num_attention_heads)
        self.post_attention_layernorm = norm()
        self.mlp = MLP(config.hidden_size, config.inner_hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.input_layernorm(x))
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class QueryLayer(nn.Module):
    """One layer of the Q-Former: what is added to is the norm's output."""

    def __init__(self, config: QueriesConfig, seen_size: int, *, crosses: bool) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, config.hidden_size, eps=config.layernorm_epsilon)
        self.input_layernorm = norm()
        self.attention = SelfAttention(config.hidden_size, config.num_attention_heads)
        self.post_attention_layernorm = norm()
        if crosses:
            self.cross_attention = CrossAttention(config.hidden_size, seen_size, config.num_attention_heads)
            self.post_cross_attention_layernorm = norm()
        self.crosses = crosses
        self.mlp = MLP(config.hidden_size, config.inner_hidden_size)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        a = self.input_layernorm(x)
        m = self.post_attention_layernorm(a + self.attention(a))
        if self.crosses:
            m = self.post_cross_attention_layernorm(m + self.cross_attention(m, seen))
        out: Tensor = m + self.mlp(m)
        return out


def _holder(**modules: nn.Module) -> nn.Module:
    """Return a module of `modules`, for a level of the published names that computes nothing."""
    holder = nn.Module()
    for name, module in modules.items():
        holder.add_module(name, module)
    return holder


class VisionTransformer(nn.Module):
    """Pixels to rows: a class token, then the patches from the top left on."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        hidden, patch = config.hidden_size, config.patch_size
        self.transformer = _holder(
            word_embeddings=nn.Embedding(1, hidden),  # the class token
            position_embeddings=nn.Embedding(config.patches + 1, hidden),
            layers=nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers)),
        )
        self.mixins = _holder(
            patch_embedding=_holder(proj=nn.Conv2d(config.in_channels, hidden, patch, stride=patch)),
            cls=_holder(ln_vision=nn.LayerNorm(hidden)),  # torch's usual epsilon, not the config's
        )

    def embed(self, pixels: Tensor) -> Tensor:
        """``[batch, 3, height, width]`` to ``[batch, 1 + patches, hidden]`` for the first layer."""
        projection: Any = self.mixins.get_submodule("patch_embedding.proj")
        embeddings: Any = self.transformer
        # As a product in float32: the CPU has no fast convolution of half as wide numbers.
        pieces = F.unfold(pixels, projection.kernel_size, stride=projection.stride).transpose(1, 2)
        patches = F.linear(pieces, projection.weight.flatten(1).float(), projection.bias.float())
        token = embeddings.word_embeddings.weight.expand(len(patches), -1, -1)
        out: Tensor = torch.cat((token, patches), dim=1) + embeddings.position_embeddings.weight
        return out

    @property
    def layers(self) -> Any:
        """The `EncoderLayer` modules."""
        return self.transformer.get_submodule("layers")

    def forward(self, pixels: Tensor) -> Tensor:
        """``[batch, 3, height, width]`` to ``[batch, 1 + patches, hidden]``."""
        x = self.embed(pixels)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.mixins.get_submodule("cls.ln_vision")(x)
        return out


class QFormer(nn.Module):
    """The queries, and what they see of the encoder's rows."""

    def __init__(self, config: QueriesConfig, seen_size: int) -> None:
        super().__init__()
        self.transformer = _holder(
            word_embeddings=nn.Embedding(config.queries, config.hidden_size),
            layers=nn.ModuleList(QueryLayer(config, seen_size, crosses=each) for each in config.crosses),
            final_layernorm=nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon),
        )

    def forward(self, seen: Tensor) -> Tensor:
        """``[batch, 1 + patches, hidden]`` of the encoder to ``[batch, queries, hidden]``."""
        transformer: Any = self.transformer
        x = transformer.word_embeddings.weight.expand(len(seen), -1, -1)
        for layer in transformer.layers:
            x = layer(x, seen)
        out: Tensor = transformer.final_layernorm(x)
        return out


class ImageEncoder(nn.Module):
    """Pixels to embeddings of the language model."""

    def __init__(self, encoder: EncoderConfig, queries: QueriesConfig, hidden_size: int) -> None:
        super().__init__()
        self.vit = VisionTransformer(encoder)
        self.qformer = QFormer(queries, encoder.hidden_size)
        self.glm_proj = nn.Linear(queries.hidden_size, hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """``[batch, 3, height, width]`` to float32 ``[batch, queries, language model's hidden]``."""
        seen = self.qformer(self.vit(pixels))
        out: Tensor = self.glm_proj(layers.suited(seen, self.glm_proj))
        return out.float()


class VisualGLM(ChatGLM):
    """VisualGLM-6B of any size: pictures and token ids to logits."""

    config: VisualGLMConfig
    sees_images = True
    VISION = re.compile(r"^image_encoder\.")
    PRECISE = re.compile(r"^image_encoder\..*(norm|ln_vision|_embeddings)\b")

    def __init__(self, config: VisualGLMConfig) -> None:
        super().__init__(config)
        self.image_encoder = ImageEncoder(config.encoder, config.queries, config.hidden_size)

    def image_rows(self, width: int, height: int) -> int:
        """Every picture takes as many."""
        return self.config.image_length

    @property
    def image_blocks(self) -> Iterable[nn.Module]:
        blocks: Iterable[nn.Module] = self.image_encoder.vit.layers
        return blocks

    def encode_image(self, picture: Picture) -> ImageRows:
        pixels = to_pixels(picture, self.config.encoder.image_size)
        device = self.image_encoder.glm_proj.weight.device
        return ImageRows(self.image_encoder(pixels[None].to(device))[0])
