"""The tensors of a VisualGLM as SwissArmyTransformer stores them, under their names in transformers' layout.

Since July 2023 such files have the language model's queries, keys and values in three thirds; those of May
and June 2023, and transformers' always, have them head by head. Nothing in a file says which, and taken for
the other one every answer is nonsense. But weights that were trained tell: keys have rows of another length
than values, so the order in which the rows' lengths form groups is the one that was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from glmtui.errors import BadFileError
from glmtui.hub import sat
from glmtui.hub.files import read_json_object
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.weight_files import read_file
from glmtui.protocol.phrases import NOTHING, Phrase, _
from glmtui.text.quoting import quoted

_ROWS = re.compile(r"^transformer\.layers\.\d+\.attention\.query_key_value\.(weight|bias)$")
_RENAMED = (("mixins.eva.model.", "image_encoder."), ("mixins.chatglm-final.lm_head.", "lm_head."))
_ADDED = re.compile(r"matrix_[AB]\b|^mixins\.(ptuning|lora)\b|\.original\.")
"""What training adds to the weights of the model that it starts from."""
SAMPLED = 4
"""Layers whose rows are looked at."""
COLUMNS = 512
"""How much of each row."""
CLEAR = 3.0
"""How much more one order must explain than the other to be believed."""
_LEAST = 0.01
"""Of the variance: what the better order must explain, in nano about 0.14."""
CHANCE = 20
"""How many times as much as it would explain by chance, of which there is more in few rows."""
FIRST_STEP = "1"
"""What ``latest`` says in the release of May 2023, whose rows are head by head."""


@dataclass(frozen=True, slots=True)
class RowOrder:
    """In which order a file has the rows of queries, keys and values."""

    per_head: bool
    told: bool
    """Whether somebody or the weights themselves say so, so that it is more than what is likeliest."""

    @classmethod
    def of(cls, folder: ModelFolder) -> RowOrder:
        """Look at ``model_config.json``, at the weights, and then at the step that ``latest`` names."""
        said = read_json_object(folder.path / sat.CONFIG).get(sat.ROWS)
        if said is not None:
            return cls(said == sat.PER_HEAD, told=True)
        heads = int(folder.config["num_attention_heads"])
        thirds = per_head = 0.0
        looked, least = 0, _LEAST
        for file in folder.weight_files:
            for name, tensor in read_file(file, verify=False):
                if _ROWS.match(name) and tensor.dim() == 2 and tensor.shape[0] % (3 * heads) == 0:
                    explained = _explained(tensor, heads)
                    thirds, per_head = thirds + explained[0], per_head + explained[1]
                    looked, least = looked + 1, max(least, CHANCE * 2 / len(tensor))
                if looked == SAMPLED:
                    break
        better, other = max(thirds, per_head), min(thirds, per_head)
        if looked and better > least * looked and better > CLEAR * other:
            return cls(per_head > thirds, told=True)
        return cls(sat.latest(folder.path) == FIRST_STEP, told=False)

    def note(self, folder: ModelFolder) -> Phrase:
        """Say what was assumed, where nothing tells it."""
        if self.told:
            return NOTHING
        taken, other = (sat.PER_HEAD, sat.THIRDS) if self.per_head else (sat.THIRDS, sat.PER_HEAD)
        return _(
            "Nothing in {path} tells whether its query_key_value rows lie per head (files of May and June "
            "2023) or in thirds (later ones); taken was: {taken}. If the answers are nonsense, write "
            '"{field}": "{other}" into {file}.'
        ).format(
            path=folder.path,
            taken=taken,
            other=other,
            field=sat.ROWS,
            file=sat.CONFIG,
        )


def _explained(weight: Tensor, heads: int) -> tuple[float, float]:
    """Return how much of the variance of the rows' lengths is that of queries, keys and values.

    Args:
        weight: ``[3 * heads * head_dim, hidden]``.
        heads: how many there are.

    Returns:
        For rows in thirds, and for rows per head, each 0 to 1.
    """
    lengths = weight[:, :COLUMNS].float().norm(dim=1).clamp(min=1e-12).log()
    total = float(lengths.var(correction=0))
    if not total > 0:
        return 0.0, 0.0
    in_thirds, by_head = lengths.view(3, -1), lengths.view(heads, 3, -1).transpose(0, 1).flatten(1)
    explained = [float(each.mean(1).var(correction=0)) / total for each in (in_thirds, by_head)]
    return explained[0], explained[1]


def published(stored: Iterable[tuple[str, Tensor]], folder: ModelFolder) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a folder of SwissArmyTransformer's as transformers' layout has them.

    Raises:
        UserError: there is a LoRA or P-tuning in it, which was not merged.
    """
    order = RowOrder.of(folder)
    heads = int(folder.config["num_attention_heads"])
    for name, tensor in stored:
        if _ADDED.search(name):
            message = _(
                "{path} holds what training added to a VisualGLM ({name}), which glmtui does not put "
                "together. Merge it into the model (merge_lora of its fine-tuning code), and save that."
            )
            raise BadFileError(message.format(path=folder.path, name=quoted(name)))
        for old, new in _RENAMED:
            if name.startswith(old):
                name = new + name.removeprefix(old)
        if _ROWS.match(name) and not order.per_head and tensor.shape[0] % (3 * heads) == 0:
            tensor = head_by_head(tensor, heads)
        yield name, tensor


def head_by_head(rows: Tensor, heads: int) -> Tensor:
    """Return `rows` ``[3 * heads * head_dim, ...]`` in thirds as they are head by head."""
    return rows.view(3, heads, -1, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)
