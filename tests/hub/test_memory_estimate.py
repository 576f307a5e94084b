"""The list of models says what a model needs as loading it would."""

from __future__ import annotations

import pytest
from golden_data import GOLDEN

from glmtui.engine import loader
from glmtui.hub import inventory
from glmtui.protocol.models import LocalModel, Quant


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded", "chatglm2-int4"])
@pytest.mark.parametrize("quant", ["none", "8", "4"])
def test_the_estimate_is_the_loaders(name: str, quant: Quant) -> None:
    needs = dict(inventory.examine(GOLDEN / name).needs)
    if quant in needs:
        plan = loader.plan(LocalModel(str(GOLDEN / name), quant=quant, device="cpu"))
        assert needs[quant] == plan.needed
    else:
        assert name.endswith("int4")


def test_the_published_table() -> None:
    """ChatGLM-6B's own README says 13, 8 and 6 GB of GPU memory for answers of some length."""
    entry = inventory.describe(inventory.catalog.KNOWN[0], "cuda")
    assert [round(needed / 1e9, 1) for _quant, needed in entry.needs] == [13.6, 7.9, 5.1]
