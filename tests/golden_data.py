"""Where the reference data lies: outputs of the published code, and the published tokenizers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).with_name("golden")
TOKENIZERS = Path(__file__).parents[2] / "shared" / "tokenizers"
"""The published tokenizers, read in place: their licence is the models', so they are not copied here."""

needs_published_tokenizers = pytest.mark.skipif(
    not TOKENIZERS.is_dir(), reason=f"the published tokenizers are not at {TOKENIZERS}"
)


def golden_json(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def check_golden(name: str, network: Any, tolerance: float = 1.5e-5) -> None:
    """Compare prompt logits, every cached step and greedy ids of a float32 `network` with a golden.

    `tolerance` is relative to the largest logit: about 14 in ChatGLM-6B's cases, whose weights are large.
    """
    import torch

    from glmtui.engine.prefill import read

    expected = np.load(GOLDEN / name / "expected.npz")
    close = tolerance * np.abs(expected["prompt_logits"]).max()
    cache = network.new_cache()
    logits = read(network, torch.from_numpy(expected["input_ids"]), cache)
    np.testing.assert_allclose(logits, expected["prompt_logits"], rtol=0, atol=close)
    for token, step in zip(expected["greedy_ids"], expected["step_logits"], strict=False):
        np.testing.assert_allclose(logits[-1], step, rtol=0, atol=close)
        assert logits[-1].argmax() == token
        logits = read(network, torch.tensor([token]), cache)
    np.testing.assert_allclose(logits[-1], expected["step_logits"][-1], rtol=0, atol=close)


def read_network(path: Path, dtype: Any = None) -> Any:
    """Load an unquantised folder on the CPU, every tensor turned into `dtype` (float32) as it is read."""
    import torch

    from glmtui.models.checkpoint import Checkpoint, assign, dtype_of, expected_shapes, new_network

    checkpoint = Checkpoint.open(path)
    network = new_network(checkpoint.folder)
    for name, tensor in checkpoint.tensors(expected_shapes(network), network.TIED):
        assign(network, name, tensor.to(dtype_of(network, name, dtype or torch.float32), copy=True))
    network.tie_weights()
    return network.eval()
