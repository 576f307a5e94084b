"""Where the reference data lies: outputs of the published code, and the published tokenizers."""

import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).with_name("golden")
TOKENIZERS = Path(__file__).parents[2] / "shared" / "tokenizers"
"""The published tokenizers, read in place: their licence is the models', so they are not copied here."""

needs_published_tokenizers = pytest.mark.skipif(
    not TOKENIZERS.is_dir(), reason=f"the published tokenizers are not at {TOKENIZERS}"
)


def golden_json(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))
