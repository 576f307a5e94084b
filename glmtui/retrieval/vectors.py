"""Vectors of passages, where a person has a model that makes them: they find what is said in other words.

They lie in the index next to the passages, as float16. Passages are found by going through all of them:
20,000 of 512 numbers are 20 MB, which takes some milliseconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from glmtui.i18n import _
from glmtui.protocol.cancellation import CancelToken

if TYPE_CHECKING:
    import numpy as np

TABLE = """
CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS forget_vector AFTER DELETE ON passages
    BEGIN DELETE FROM vectors WHERE id = old.id; END
"""
"""Made with the first vectors."""
MODEL = "embedding"
"""In the table `meta`: which model made them."""
AT_ONCE = 16
"""Passages of one batch, which is one transaction: what was made stays when the rest is given up."""
ROWS = 4096
"""Vectors that are compared at once."""
NEAREST = 20
"""Passages that vectors add to those that words find."""
CLOSE = 0.3
"""How close a passage must be (see `nearest`) to be one of them."""
RANK = 60
"""Of reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009): how little the first ranks differ."""


class Embedder(Protocol):
    """A model that makes vectors of texts."""

    @property
    def id(self) -> str:
        """What tells it, and its files, from all others."""

    @property
    def before_question(self) -> str:
        """What stands before a question as the model was trained."""

    @property
    def before_passage(self) -> str:
        """What stands before a passage."""

    def embed(self, texts: Sequence[str]) -> tuple[Sequence[Sequence[float]], int]:
        """Return vectors ``[texts, hidden_size]``, of length 1, and the number of tokens.

        Raises:
            UserError: it cannot.
        """


Load: TypeAlias = Callable[[], "Embedder | None"]
"""Returns the model that the person chose; None: they chose none. Raises `UserError` where it cannot be."""
Progress: TypeAlias = Callable[[int, int, str], None]
Transaction: TypeAlias = Callable[[Callable[[], object]], AbstractContextManager[None]]


def complete(
    db: sqlite3.Connection, transaction: Transaction, model: Embedder, token: CancelToken, progress: Progress
) -> None:
    """Make the vectors that are lacking in an index; those of another model are thrown away first.

    Args:
        db: the index.
        transaction: around what writes; while it waits for others it calls what it is given, which may raise.
        model: makes them.
        token: ends it between two batches.
        progress: told how many passages of how many have been looked at.

    Raises:
        OperationCancelled: it was given up; what was made stays.
        UserError: the model cannot be used.
    """
    if not _is_of(db, model):
        with transaction(token.check):
            for statement in TABLE.split(";\n", 1):
                db.execute(statement)
            db.execute("DELETE FROM vectors")
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (MODEL, model.id))
    lacking = [
        row[0]
        for row in db.execute(
            "SELECT id FROM passages WHERE id NOT IN (SELECT id FROM vectors) ORDER BY length(text)"
        )
    ]  # by length: what is embedded together is filled up to the longest
    for start in range(0, len(lacking), AT_ONCE):
        token.check()
        progress(start, len(lacking), _("vectors"))
        ids = lacking[start : start + AT_ONCE]
        marks = ", ".join("?" * len(ids))
        rows = db.execute(f"SELECT id, heading, text FROM passages WHERE id IN ({marks})", ids).fetchall()
        if not rows:
            continue
        made, _tokens = model.embed(
            [f"{model.before_passage}{heading}\n{text}" for _id, heading, text in rows]
        )
        with transaction(token.check):
            if not _is_of(db, model):  # another process has another one
                return
            for (id_, _heading, _text), vector in zip(rows, _packed(made), strict=True):
                db.execute(  # unless the document was replaced meanwhile
                    "INSERT OR REPLACE INTO vectors SELECT id, ? FROM passages WHERE id = ?", (vector, id_)
                )


def nearest(db: sqlite3.Connection, model: Embedder, question: str) -> Mapping[int, float]:
    """Return the passages whose vectors are close to that of a question, the closest first.

    How close: 0 is what the passages of the collection have with the question on average, 1 the same text.
    By that the models, each of which has similarities of its own between texts that have nothing in common,
    are alike.

    Raises:
        UserError: the model cannot be used.
    """
    if not _is_of(db, model):
        return {}
    import numpy as np

    asked = np.asarray(model.embed([model.before_question + question])[0][0], np.float32)
    ids: list[int] = []
    similar: list[np.ndarray] = []
    for some, vectors in _stored(db, len(asked)):
        ids += some
        similar.append(vectors @ asked)
    if not ids:
        return {}
    similarity = np.concatenate(similar)  # [passages]
    usual = similarity.mean()
    closeness = (similarity - usual) / max(1 - usual, 1e-6)
    best = np.argsort(-closeness, kind="stable")[:NEAREST]
    return {ids[at]: float(closeness[at]) for at in best if closeness[at] >= CLOSE}


def merged(by_words: Sequence[int], by_vectors: Sequence[int]) -> list[int]:
    """Return all of two rankings, best first: by the sum of their reciprocal ranks."""
    scores: dict[int, float] = {}
    for ranking in (by_words, by_vectors):
        for rank, id_ in enumerate(ranking, 1):
            scores[id_] = scores.get(id_, 0.0) + 1 / (RANK + rank)
    return sorted(scores, key=lambda id_: -scores[id_])


def _is_of(db: sqlite3.Connection, model: Embedder) -> bool:
    """Whether the vectors in an index are this model's."""
    found = db.execute("SELECT value FROM meta WHERE key = ?", (MODEL,)).fetchone()
    return found is not None and bool(found[0] == model.id)


def _packed(vectors: Sequence[Sequence[float]]) -> Iterator[bytes]:
    import numpy as np

    for vector in vectors:
        yield np.asarray(vector, np.float32).astype("<f2").tobytes()


def _stored(db: sqlite3.Connection, size: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield ids and vectors ``[some, size]``, some at a time."""
    import numpy as np

    found = db.execute(  # SQLite keeps any value in any column
        "SELECT id, vector FROM vectors WHERE typeof(vector) = 'blob' AND length(vector) = ?", (2 * size,)
    )
    while rows := found.fetchmany(ROWS):
        read = np.frombuffer(b"".join(row[1] for row in rows), "<f2").reshape(len(rows), size)
        sound = np.isfinite(read).all(axis=1)
        yield [row[0] for row, good in zip(rows, sound, strict=True) if good], read[sound].astype(np.float32)
