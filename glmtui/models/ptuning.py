"""P-tuning v2: trained keys and values that stand before every sequence, seen by all, at no position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from glmtui.errors import UserError
from glmtui.i18n import _


class PrefixConfig(Protocol):
    """What a config says of its prefix."""

    hidden_size: int
    num_layers: int
    pre_seq_len: int | None
    prefix_projection: bool


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
        rows = self.embedding.weight
        return rows if self.trans is None else self.trans(rows)

    @torch.inference_mode()
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


def with_prefix(
    config: Mapping[str, Any], prefix: Mapping[str, Any], rows: int | None = None
) -> dict[str, Any]:
    """Return a model's `config` with the prefix of a P-tuning checkpoint's config.

    Args:
        config: of the model that the prefix was trained on.
        prefix: the P-tuning checkpoint's own ``config.json``.
        rows: length of the prefix that the checkpoint holds, where it is known.

    Raises:
        UserError: the two are not of one shape, or `prefix` has no or another length than the file.
    """
    length = prefix.get("pre_seq_len")
    if not length:
        raise UserError(_("The P-tuning checkpoint's config.json has no pre_seq_len"))
    if rows is not None and rows != length:
        raise UserError(
            _("config.json says pre_seq_len {length}, but the P-tuning prefix has {rows} rows").format(
                length=length, rows=rows
            )
        )
    for name in ("hidden_size", "num_layers", "num_attention_heads", "multi_query_group_num"):
        if config.get(name) != prefix.get(name, config.get(name)):
            raise UserError(
                _(
                    "The P-tuning prefix was trained on another model: {name} is {found}, here {expected}"
                ).format(name=name, found=prefix[name], expected=config.get(name))
            )
    projection = bool(prefix.get("prefix_projection", False))
    return {**config, "pre_seq_len": length, "prefix_projection": projection}
