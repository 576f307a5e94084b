"""How a model samples and how long its conversations may be, unless a person says otherwise. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glmtui.hub.config import read_generation_config
from glmtui.hub.files import JSON_BYTES, read
from glmtui.hub.model_dir import Family, ModelFolder
from glmtui.models.chat_formats import thoughts
from glmtui.protocol.sampling import Sampling

VISUALGLM_LENGTH = 1024
"""What VisualGLM-6B's published `chat` takes, and with it the shortest length of 100."""
CHATGLM2_LENGTH = 8192
"""What the published `chat` of ChatGLM2, ChatGLM3 and GLM-4 takes, whatever ``seq_length`` says: the longer
ones were trained on more, and have a ``rope_ratio``."""
LONGEST = 32_768
"""Most tokens of a conversation with a model made for more, each of which costs memory and time: 1.3 GB with
GLM-4-9B."""
LONGEST_THINKING = 65_536
"""The same of a model that thinks before it answers, which can take ten thousand tokens alone."""
_RANGES = {"temperature": (0, 2), "top_p": (0, 1), "top_k": (0, 100_000), "repetition_penalty": (0.5, 2)}
_LATER: tuple[Family, ...] = ("chatglm2", "chatglm3", "codegeex2")


def published_sampling(folder: ModelFolder, max_length: int) -> Sampling:
    """Return how a model's makers sample: in their `chat`, or in the folder's ``generation_config.json``.

    Args:
        folder: the model.
        max_length: what it was made for, in tokens.

    Raises:
        UserError: ``generation_config.json`` cannot be read.
    """
    if folder.family == "chatglm":
        return Sampling(max_length=max_length)
    if folder.family == "visualglm":
        return Sampling(
            min(VISUALGLM_LENGTH, max_length),
            temperature=0.8,
            top_p=0.4,
            top_k=100,
            repetition_penalty=1.2,
            min_length=100,
        )
    if folder.family in _LATER:
        is_long = float(folder.config.get("rope_ratio") or 1) > 1
        longest = LONGEST if is_long else CHATGLM2_LENGTH
        return Sampling(min(longest, max_length), temperature=0.8, top_p=0.8)
    longest = LONGEST_THINKING if _thinks(folder) else LONGEST
    return Sampling(min(longest, max_length), **_chosen(read_generation_config(folder.path)))


def _thinks(folder: ModelFolder) -> bool:
    """Whether the model's chat template knows of thoughts before the answer."""
    names = ("chat_template.jinja", "tokenizer_config.json")
    files = [file for name in names if (file := folder.path / name).is_file()]
    return any(thoughts.OPEN.encode() in read(file, JSON_BYTES) for file in files)


def _chosen(generation: Mapping[str, Any]) -> dict[str, Any]:
    """Return temperature, top_p, top_k and repetition_penalty as a ``generation_config.json`` has them.

    What it leaves out is transformers' default where it says that it samples, else GLM-4's own. Values that
    no sampling has are passed over.
    """
    if generation.get("do_sample") is False:
        return {"temperature": 0.0}
    samples = generation.get("do_sample") is True
    usual = {"temperature": 1.0, "top_p": 1.0} if samples else {"temperature": 0.8, "top_p": 0.8}
    found: dict[str, Any] = {}
    for name, (low, high) in _RANGES.items():
        value = generation.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            found[name] = int(value) if name == "top_k" else float(value)
    return usual | found
