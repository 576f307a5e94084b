"""GLMs of transformers that see pictures: GLM-4.1V, GLM-4.5V, GLM-4.6V and GLM-OCR.

transformers' own classes look at a picture and its own processors prepare it; the rows that come out stand in
the places of its tokens, as VisualGLM's do. Every such token has three positions: when, how far down and how
far to the right. All tokens of a picture together move on what follows by its longer side alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glmtui.errors import BadFileError, NotFoundError
from glmtui.hub.files import JSON_BYTES, check_regular
from glmtui.models.base import ImageRows, KVCache, PlacedImage, State
from glmtui.models.glm_hf import ATTENTION, GLM, GLMConfig
from glmtui.protocol.phrases import _
from glmtui.text.quoting import reason_of

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PROCESSOR = "preprocessor_config.json"


class SeeingCache(KVCache):
    """A cache that knows where pictures lie, and so the positions of all tokens."""

    images: tuple[PlacedImage, ...] = ()

    def see(self, images: Sequence[PlacedImage]) -> None:
        earlier = (each for each in self.images if each.at < self.length)
        self.images = (*earlier, *(each for each in images if each.at >= self.length))

    def truncate(self, length: int) -> None:
        super().truncate(length)
        self.images = tuple(each for each in self.images if each.at < length)

    def positions(self, index: Tensor) -> Tensor:
        """Return the positions ``[1, 3, n]`` of the tokens at `index` ``[n]``: time, row and column."""
        found = index.expand(3, -1).clone()
        shift = 0
        for at, image in self.images:
            (rows, columns), count = image.grid, len(image.rows)
            inside = (index >= at) & (index < at + count)
            place = index - at
            start = at - shift
            grid = torch.stack((torch.zeros_like(place), place // columns, place % columns)) + start
            found = torch.where(inside, grid, found)
            skipped = count - max(rows, columns)
            shift += skipped
            found = torch.where(index >= at + count, found - skipped, found)
        return found[None]


class SeeingGLM(GLM):
    """A GLM of transformers that sees: pictures and token ids to logits."""

    sees_images = True
    EMBEDDING = "model.language_model.embed_tokens"
    VISION = re.compile(r"^model\.visual\.")

    def __init__(self, config: GLMConfig) -> None:
        super().__init__(config)
        visual: Any = self.model.visual
        with torch.device("cpu"):
            visual.rotary_pos_emb = type(visual.rotary_pos_emb)(config.settings.vision_config)

    @staticmethod
    def make(settings: Any) -> Any:
        import transformers

        from_config: Callable[..., Any] = transformers.AutoModelForImageTextToText.from_config
        attention = {"text_config": ATTENTION, "vision_config": "sdpa"}
        return from_config(settings, attn_implementation=attention)

    @property
    def text(self) -> Any:
        return self.model.language_model

    @cached_property
    def processor(self) -> Any:
        """transformers' own, which prepares pictures.

        Raises:
            UserError: its file is missing, or it does not take it.
        """
        from transformers import AutoImageProcessor

        file = self.config.folder / PROCESSOR
        if not file.exists():
            message = _("{path} is missing: without it the model cannot see pictures. Download it again.")
            raise NotFoundError(message.format(path=file))
        check_regular(file, JSON_BYTES)
        try:
            load: Callable[..., Any] = AutoImageProcessor.from_pretrained
            return load(self.config.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # it has no class of its own for what it does not take
            message = _("{path}: transformers does not take it: {error}")
            raise BadFileError(message.format(path=file, error=reason_of(error))) from error

    def image_rows(self, width: int, height: int) -> int:
        patches = self.processor.get_number_of_image_patches(height, width, {})
        return int(patches // self.processor.merge_size**2)

    @property
    def image_blocks(self) -> Iterable[nn.Module]:
        visual: Any = self.model.visual
        blocks: Iterable[nn.Module] = visual.blocks
        return blocks

    def encode_image(self, picture: Picture) -> ImageRows:
        prepared = self.processor(images=[picture], return_tensors="pt")
        grid = prepared["image_grid_thw"]
        visual: Any = self.model.visual
        device = next(visual.parameters()).device
        pixels = prepared["pixel_values"].to(device)
        found: Any = self.model.get_image_features(pixels, grid.to(device), return_dict=True)
        merge = self.processor.merge_size
        _time, rows, columns = (int(side) for side in grid[0])
        return ImageRows(found.pooler_output[0].float(), (rows // merge, columns // merge))

    def hidden(self, x: Tensor, positions: Tensor, mask: Tensor | None, state: State) -> Tensor:
        """``[batch, n, hidden]`` to the same, at `positions` ``[batch, 3, n]``; see `LanguageModel`."""
        return super().hidden(x, positions.transpose(0, 1), mask, state)

    def new_cache(self, capacity: int = 0) -> SeeingCache:
        return SeeingCache(self.config.num_layers, capacity, None, self.cache_storage)
