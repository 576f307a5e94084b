"""What tests of documents share."""

from __future__ import annotations

from glmtui.retrieval.documents import Block, Reading


def texts(document: tuple[list[Block], Reading]) -> list[str]:
    """The texts of what was read."""
    return [block.text for block in document[0]]
