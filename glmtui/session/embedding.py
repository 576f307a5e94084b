"""The model that makes vectors of documents, where the settings name one."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from glmtui import paths

if TYPE_CHECKING:
    from glmtui.engine.embedding import EmbeddingModel

EMBEDDING = "docs.embedding"
"""The setting that names its folder."""


class EmbeddingLoader:
    """Loads it when it is first needed, and keeps it; a `glmtui.retrieval.vectors.Load`.

    Args:
        folder: returns what the setting says; empty: none is wanted.
    """

    def __init__(self, folder: Callable[[], str]) -> None:
        self._folder = folder
        self._lock = Lock()
        self._loaded: tuple[str, EmbeddingModel] | None = None

    def __call__(self) -> EmbeddingModel | None:
        """Return the model, or None. It may take seconds: for threads that may wait.

        Raises:
            UserError: the folder is not there, or holds no such model.
        """
        with self._lock:
            folder = self._folder()
            if not folder:
                self._loaded = None
                return None
            if self._loaded is None or self._loaded[0] != folder:
                self._loaded = None  # not two at once
                from glmtui.engine.embedding import EmbeddingModel

                self._loaded = folder, EmbeddingModel(paths.typed(folder))
            return self._loaded[1]
