"""Models that turn texts into vectors (bge, multilingual-e5), through transformers' own classes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glmtui.errors import BadFileError, NotFoundError
from glmtui.protocol.phrases import _
from glmtui.regular_files import read_regular
from glmtui.text import json_values

POOLING = "1_Pooling/config.json"
"""Where sentence-transformers says how the vectors of tokens become one of the text."""
MOST_BYTES = 1 << 20
LONGEST = 8192
"""Tokens of a text; most models take 512."""
PREFIXES = (
    (re.compile(r"\be5\b(?!.*instruct)"), "query: ", "passage: "),
    (re.compile(r"\bbge\b.*\bzh\b"), "为这个句子生成表示以用于检索相关文章：", ""),
    (re.compile(r"\bbge\b.*\ben\b"), "Represent this sentence for searching relevant passages: ", ""),
)
"""What the makers of models, by their names, put before questions and before passages."""


class EmbeddingModel:
    """A model on the CPU.

    Args:
        folder: its files, as on the hub. Nothing is fetched, and no code of theirs runs.

    Raises:
        UserError: the folder is not there, or holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file():
            raise NotFoundError(_("There is no model in {path}").format(path=folder))
        from transformers import AutoModel, AutoTokenizer

        self.name = folder.resolve().name
        """What clients call it."""
        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with _quiet():
                self._tokenizer = AutoTokenizer.from_pretrained(folder, **given)
                self._model = AutoModel.from_pretrained(folder, **given).eval()
            self._takes_first = _takes_first(folder / POOLING)
        except Exception as error:  # files of somebody else's, read by programs of somebody else's
            phrase = _("{path} cannot be loaded: {error}")
            raise BadFileError(phrase.format(path=folder, error=_first_line(error))) from error
        self._folder = folder
        self.id = _identity(folder)
        """Another one where any of the files is."""
        self.before_question, self.before_passage = _prefixes(folder)
        """What `embed` wants put before a question, and before a passage that may answer it."""
        config = self._model.config
        longest = getattr(config, "max_position_embeddings", LONGEST)
        if getattr(config, "pad_token_id", 0) and config.model_type in ("roberta", "xlm-roberta"):
            longest -= config.pad_token_id + 1  # positions are counted from behind it
        self._longest = min(longest, self._tokenizer.model_max_length, LONGEST)

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return the vectors ``[texts, hidden_size]``, of length 1, and how many tokens were read.

        What is longer than the model's positions is cut.

        Raises:
            BadFileError: the model fails, as one whose files do not fit each other does.
        """
        import torch

        try:
            batch = self._tokenizer(
                list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
            )
            with torch.inference_mode():
                hidden = self._model(**batch).last_hidden_state.float()  # [texts, tokens, hidden_size]
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            phrase = _("{path} makes no vectors: {error}")
            raise BadFileError(phrase.format(path=self._folder, error=_first_line(error))) from error
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = hidden[:, 0] if self._takes_first else (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors: list[list[float]] = torch.nn.functional.normalize(pooled, dim=-1).tolist()
        return vectors, int(mask.sum())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing bars and reports on the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _identity(folder: Path) -> str:
    """Return what changes with the files of a model."""
    digest = hashlib.sha256()
    for path in sorted(path for path in (*folder.iterdir(), folder / POOLING) if path.is_file()):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "replace"))
    return f"{folder.resolve().name} {digest.hexdigest()[:32]}"


def _prefixes(folder: Path) -> tuple[str, str]:
    """Return what stands before questions and passages, by the names the model has in its path and files."""
    named = [folder.name, folder.resolve().name]
    named += (part.removeprefix("models--") for part in folder.resolve().parts if part.startswith("models--"))
    try:
        config = json_values.loads(read_regular(folder / "config.json", MOST_BYTES).decode())
        named.append(str(config.get("_name_or_path", "")))
    except (OSError, ValueError, AttributeError):
        pass  # it was loaded: another file says what it is
    for name in named:
        for pattern, question, passage in PREFIXES:
            if pattern.search(re.sub(r"[\W_]+", " ", name.lower())):
                return question, passage
    return "", ""


def _takes_first(path: Path) -> bool:
    """Whether the vector of the first token stands for the text; else it is the mean of all."""
    try:
        found = json_values.loads(read_regular(path, MOST_BYTES).decode())
    except FileNotFoundError:
        return False
    return isinstance(found, dict) and found.get("pooling_mode_cls_token") is True
