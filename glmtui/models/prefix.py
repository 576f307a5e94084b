"""P-tuning v2: trained keys and values that stand before every sequence, seen by all, at no position."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from glmtui.errors import BadFileError, BadValueError
from glmtui.hub.model_dir import TRANSFORMERS, ModelFolder
from glmtui.protocol.phrases import _

KEYS = "transformer.prefix_encoder."
"""What the names of a prefix's tensors start with, in every architecture."""


class PrefixEncoder(nn.Module):
    """The prefix as it is stored: a table, or with projection a smaller table and two layers behind it.

    Args:
        rows: length of the prefix in tokens.
        width: keys and values of one row over all layers.
        table: width of the table; less than `width`, or followed by a projection.
        hidden: inner width of the projection; None without one.
    """

    def __init__(self, rows: int, width: int, table: int, hidden: int | None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(rows, table)
        self.trans: nn.Sequential | None = None
        if hidden is not None:
            self.trans = nn.Sequential(nn.Linear(table, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def forward(self) -> Tensor:
        """Return ``[rows, width]``: for every layer its keys, then its values."""
        table = self.embedding
        # A lookup, not the weight itself: what accelerate keeps elsewhere is there only while it computes.
        device = "cpu" if table.weight.is_meta else table.weight.device
        rows: Tensor = table(torch.arange(table.num_embeddings, device=device))
        return rows if self.trans is None else self.trans(rows)

    def keys_values(self, num_layers: int, heads: int, head_dim: int, dtype: torch.dtype) -> Tensor:
        """Return the prefix as a cache holds it: ``[num_layers, 2, heads, rows, head_dim]``."""
        rows: Tensor = self().to(dtype).view(-1, num_layers, 2, heads, head_dim)
        return rows.permute(1, 2, 3, 0, 4)

    @torch.no_grad()
    def fold(self) -> None:
        """Keep only what the projection gives: at 6B it has 0.9 G weights and is needed just once."""
        if self.trans is not None:
            rows = self()
            self.embedding = nn.Embedding(rows.shape[0], rows.shape[1], _weight=rows, _freeze=True)
            self.trans = None


def with_prefix(folder: ModelFolder, prefix: ModelFolder) -> ModelFolder:
    """Return `folder` as if it had the prefix of a P-tuning checkpoint, whose weights come from `prefix`.

    Raises:
        UserError: `prefix` is no P-tuning checkpoint, or was trained on another model.
    """
    if folder.family in TRANSFORMERS:
        message = _(
            "{path} takes no P-tuning prefix: they were made for ChatGLM-6B, ChatGLM2-6B and ChatGLM3-6B"
        )
        raise BadValueError(message.format(path=folder.path))
    length = prefix.config.get("pre_seq_len")
    if not length:
        raise BadFileError(
            _("{path} is no P-tuning checkpoint: its config.json has no pre_seq_len").format(path=prefix.path)
        )
    for name in ("hidden_size", "num_layers", "num_attention_heads", "multi_query_group_num"):
        found, expected = prefix.config.get(name), folder.config.get(name)
        if found is not None and found != expected:
            message = _("{path} was trained on another model: its {name} is {found}, this model's {expected}")
            raise BadFileError(message.format(path=prefix.path, name=name, found=found, expected=expected))
    projection = bool(prefix.config.get("prefix_projection", False))
    config = {**folder.config, "pre_seq_len": length, "prefix_projection": projection}
    return replace(folder, config=config)


def without_prefix(folder: ModelFolder) -> ModelFolder:
    """Return `folder` as if its model had no prefix: what it is trained on, whatever its config says."""
    config = {name: value for name, value in folder.config.items() if name != "pre_seq_len"}
    return replace(folder, config=config)
