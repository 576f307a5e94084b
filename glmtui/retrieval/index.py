"""The index of a collection: one SQLite file with the passages and a full-text index of their terms.

It can be made again from the documents at any time. Each document is replaced in one transaction, so that a
process that is killed leaves the document as it was or as it is now. Several processes may use one file.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path
from typing import Any, TypeVar

from glmtui import paths
from glmtui.errors import BadFileError, StorageError
from glmtui.protocol.cancellation import CancelToken
from glmtui.protocol.phrases import NOTHING, Phrase, _
from glmtui.retrieval import terms, vectors
from glmtui.retrieval.passages import Passage
from glmtui.retrieval.stored_phrases import packed, unpacked
from glmtui.retrieval.vectors import Embedder

FORMAT = f"1.{terms.VERSION}"
"""Of the tables and of what is in them; a file of another one is made anew."""
CANDIDATES = 40
"""Passages with most of the terms, which are then compared closely."""
MOST_TERMS = 24
"""Of a question; the rarest that there are are looked for..."""
MOST_ASKED = 400
"""...of so many: of a longer one, as people paste them, half are of its beginning and half of its end."""
COMMON = 2000
"""Passages: a term that stands in more of them is not looked for further."""
K1, B = 1.2, 0.6
"""Of BM25: how fast more of the same counts less, and how much long passages are held back."""
USUAL = 350
"""Terms that a passage has."""
HEADING_WEIGHT = 0.6
"""Of a term that stands in the headings or the title only."""
OFTEN = 0.15
"""What depends on how often a term stands there; the rest on whether it does."""
PHRASE = 0.5
"""What a name like ``HT-2024-0917`` counts on top, as a share of its terms, where it stands as a whole."""
FEW = 100
"""Passages: in fewer it says little in how many of them a term stands."""
NO_WORD = 0.5
"""What a pair of Chinese characters that stands nowhere counts: it may be the end of one word and the start
of another."""
ABSENT = 3.0
"""What a term that stands nowhere counts at most, next to the rarest that is there. Where all documents have
one subject, its own terms stand everywhere: they tell passages apart badly, yet are what is asked about."""
LATEST = 2.0**37
"""Seconds since 1970 that every calendar can show: the year 6325."""
_FILE_TYPES = (str, str, int, int, str, int, int, float, str, str)
_FOUND_TYPES = (int, str, str, str, str, int, int, int)
"""Types of what is read of documents, and of passages."""
PATIENCE = 10.0
"""Seconds to wait for another process that opens the file..."""
LONG_PATIENCE = 600.0
"""...and for one that writes: it may be replacing a large document."""
LOOK = 0.3
"""Seconds between two looks whether that is to be given up."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL UNIQUE, title TEXT NOT NULL,
    size INTEGER NOT NULL, mtime INTEGER NOT NULL, sha256 TEXT NOT NULL, pages INTEGER NOT NULL,
    passages INTEGER NOT NULL, read_at REAL NOT NULL, error TEXT NOT NULL, notes TEXT NOT NULL);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, file INTEGER NOT NULL, page INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX passages_of_file ON passages (file);
CREATE VIRTUAL TABLE words USING fts5(text, heading, content='', tokenize="unicode61 remove_diacritics 0");
"""


_FILE = "origin, title, size, mtime, sha256, pages, passages, read_at, error, notes"
_Term = TypeVar("_Term")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of one document."""

    origin: str
    """An absolute path, or an address."""
    title: str
    size: int
    """Bytes"""
    mtime: int
    """Nanoseconds, as `os.stat` gives it; 0 of an address."""
    sha256: str
    pages: int
    passages: int
    read_at: float
    """Seconds since 1970."""
    error: Phrase = NOTHING
    """Why it could not be read."""
    notes: tuple[Phrase, ...] = ()
    """What a person should know of it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found."""

    origin: str
    title: str
    passage: Passage
    score: float
    """0 to 1: how much of what the question asks for stands there, rare terms counting more; with vectors,
    how close the meaning is where that is more."""


class DamagedIndexError(BadFileError):
    """What is in the index makes no sense; an update makes it again from the documents."""


class Index:
    """The index in the file `path`. Used by one thread, and closed by `close`."""

    def __init__(self, path: Path | None) -> None:
        """Open it; one that is damaged or of another format is thrown away and begun anew.

        None is an index in memory.

        Raises:
            StorageError: it cannot be opened or made.
        """
        self.path = path = path or Path(":memory:")
        try:
            if path.name != ":memory:":
                paths.make_private(path.parent)
            self._db = self._opened()
        except sqlite3.OperationalError as error:  # no permission, no room, another process
            raise _unusable(path, error) from error
        except sqlite3.DatabaseError:
            try:
                throw_away(path)
                self._db = self._opened()
            except (sqlite3.Error, OSError) as error:
                raise _unusable(path, error) from error
        except OSError as error:
            raise _unusable(path, error) from error

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA cache_size = -16000")
            known = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]
            found = db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() if known else None
            if not known:
                self._create(db)
            elif found is None or found[0] != FORMAT:
                raise sqlite3.DatabaseError(f"format {found}")
        except BaseException:
            db.close()
            raise
        return db

    @staticmethod
    def _create(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]:
            for statement in _TABLES.split(";\n"):
                if statement.strip():
                    db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('format', ?)", (FORMAT,))
        db.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # --- what is in it ---

    def files(self) -> list[FileRecord]:
        """Return the documents, by their origins."""
        with self._errors():
            rows = self._rows(_FILE_TYPES, f"SELECT {_FILE} FROM files ORDER BY origin")
        return list(map(_file_record, rows))

    def file(self, origin: str) -> FileRecord | None:
        """Return one document, if it is in the index."""
        with self._errors():
            rows = self._rows(_FILE_TYPES, f"SELECT {_FILE} FROM files WHERE origin = ?", (origin,))
        return _file_record(rows[0]) if rows else None

    def count(self) -> tuple[int, int]:
        """Return how many documents and passages there are."""
        with self._errors():
            row = self._db.execute("SELECT count(*), coalesce(sum(passages), 0) FROM files").fetchone()
        return int(row[0]), int(row[1])

    # --- changing it ---

    def put(
        self,
        origin: str,
        passages: Iterable[Passage],
        describe: Callable[[int], FileRecord],
        check: Callable[[], object] = lambda: None,
    ) -> FileRecord:
        """Replace a document: all of it, or where that fails or is given up nothing.

        `passages` may raise, and `check`, which is called now and then; their errors go on. `describe` is
        asked afterwards, with their number, what is to be known of the document, which it returns.
        """
        with self._transaction(check):
            self._remove(origin, check)
            file = self._db.execute(
                "INSERT INTO files VALUES (NULL, ?, '', 0, 0, '', 0, 0, 0, '', '')", (origin,)
            ).lastrowid
            count = 0
            for passage in passages:
                check()
                count += 1
                id_ = self._db.execute(
                    "INSERT INTO passages (file, page, first, last, heading, text) VALUES (?, ?, ?, ?, ?, ?)",
                    (file, passage.page, passage.first, passage.last, passage.heading, passage.text),
                ).lastrowid
                self._db.execute(
                    "INSERT INTO words (rowid, text, heading) VALUES (?, ?, ?)",
                    (id_, *_indexed(passage.text, passage.heading)),
                )
            record = describe(count)
            self._describe(record)
        return record

    def describe(self, record: FileRecord) -> None:
        """Change what is known of a document whose passages stay as they are."""
        with self._transaction():
            self._describe(record)

    def _describe(self, record: FileRecord) -> None:
        values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
        values |= {"error": packed([record.error] if record.error else []), "notes": packed(record.notes)}
        names = ", ".join(f"{name} = :{name}" for name in values if name != "origin")
        self._db.execute(f"UPDATE files SET {names} WHERE origin = :origin", values)

    def remove(self, origins: Iterable[str], check: Callable[[], object] = lambda: None) -> None:
        """Forget documents; `check` may raise, and then those that are left stay."""
        for origin in origins:
            with self._transaction(check):
                self._remove(origin, check)

    def _remove(self, origin: str, check: Callable[[], object]) -> None:
        found = self._db.execute("SELECT id FROM files WHERE origin = ?", (origin,)).fetchone()
        if found is None:
            return
        query = "SELECT id, text, heading FROM passages WHERE file = ?"
        for id_, text, heading in self._rows((int, str, str), query, found):
            check()
            self._db.execute(
                "INSERT INTO words (words, rowid, text, heading) VALUES ('delete', ?, ?, ?)",
                (id_, *_indexed(text, heading)),
            )
        self._db.execute("DELETE FROM passages WHERE file = ?", found)
        self._db.execute("DELETE FROM files WHERE id = ?", found)

    def embed(
        self,
        model: Embedder,
        token: CancelToken | None = None,
        progress: vectors.Progress = lambda _done, _total, _name: None,
    ) -> None:
        """Make the vectors that are lacking, as `glmtui.retrieval.vectors.complete` says."""
        with self._errors():
            vectors.complete(self._db, self._transaction, model, token or CancelToken(), progress)

    # --- searching ---

    def search(self, question: str, top: int = 5, model: Embedder | None = None) -> list[Hit]:
        """Return the passages that say most of what `question` asks about, best first.

        With a model, also those that say it in other words, as far as they have vectors.

        Raises:
            UserError: the index or the model cannot be used.
        """
        with self._errors():
            near = vectors.nearest(self._db, model, question) if model is not None else {}
            total = self._db.execute("SELECT count(*) FROM passages").fetchone()[0]
            places = {term: self._places(_quoted(term)) for term in _some(terms.asked(question))}
            weights = _weights({term: len(ids) for term, ids in places.items()}, total)
            wholes = [
                (whole, self._places(f'"{" ".join(whole)}"'))
                for whole in _some(list(terms.phrases(question)))
            ]
            candidates: defaultdict[int, float] = defaultdict(float)
            for term, weight in weights.items():
                for id_ in places[term]:
                    candidates[id_] += weight
            for whole, ids in wholes:
                for id_ in ids:
                    candidates[id_] += sum(weights.get(term, 0.0) for term in whole)
            present = [term for term, ids in places.items() if ids]
            if present and all(len(places[term]) == COMMON for term in present):
                candidates.update(dict.fromkeys(self._with_all(present), sum(weights.values())))
            chosen = nlargest(max(CANDIDATES, top), candidates, key=lambda id_: candidates[id_])
            chosen = list(dict.fromkeys([*chosen, *near]))
            marks = ", ".join("?" * len(chosen))
            rows = self._rows(
                _FOUND_TYPES,
                "SELECT p.id, f.origin, f.title, p.text, p.heading, p.page, p.first, p.last FROM passages p"
                f" JOIN files f ON f.id = p.file WHERE p.id IN ({marks}) ORDER BY p.id",
                chosen,
            )
        names = [whole for whole, _ids in wholes]
        hits = {
            id_: Hit(origin, title, Passage(text, heading, page, first, last),
                     _score(weights, names, text, f"{title} {heading}"))
            for id_, origin, title, text, heading, page, first, last in rows
        }  # fmt: skip
        ranked = sorted(hits, key=lambda id_: -hits[id_].score)
        if near:
            by_words = [id_ for id_ in ranked if hits[id_].score > 0]
            ranked = vectors.merged(by_words, [id_ for id_ in near if id_ in hits])
            least = 0.0
            for id_ in reversed(ranked):  # what stands before another is no worse
                least = max(least, hits[id_].score, near.get(id_, 0.0))
                hits[id_] = dataclasses.replace(hits[id_], score=round(min(least, 1.0), 4))
        return _distinct([hits[id_] for id_ in ranked], top)

    def _places(self, query: str) -> list[int]:
        """Return the passages that have a term; of one that is common, the first `COMMON`."""
        rows = self._db.execute("SELECT rowid FROM words WHERE words MATCH ? LIMIT ?", (query, COMMON))
        return [row[0] for row in rows]

    def _with_all(self, common: Sequence[str]) -> list[int]:
        """Return the best passages that have all of several terms, none of which is rare."""
        query = " AND ".join(map(_quoted, common))
        rows = self._db.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (query, CANDIDATES)
        )
        return [row[0] for row in rows]

    # --- inside ---

    def _rows(
        self, types: Sequence[type], query: str, values: Sequence[object] = ()
    ) -> list[tuple[Any, ...]]:
        """Return what is found; SQLite keeps anything in any column. Raises DatabaseError of other types."""
        rows: list[tuple[Any, ...]] = self._db.execute(query, values).fetchall()
        for row in rows:
            if tuple(map(type, row)) != tuple(types):
                raise sqlite3.DatabaseError("a value has the wrong type")
        return rows

    @contextmanager
    def _transaction(self, check: Callable[[], object] = lambda: None) -> Iterator[None]:
        with self._errors():
            self._begin(check)
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _begin(self, check: Callable[[], object]) -> None:
        self._db.execute(f"PRAGMA busy_timeout = {int(LOOK * 1000)}")
        deadline = time.monotonic() + LONG_PATIENCE
        try:
            while True:
                try:
                    self._db.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or time.monotonic() > deadline:
                        raise
                check()
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise _unusable(self.path, error) from error
        except sqlite3.DatabaseError as error:
            raise DamagedIndexError(
                _("The index {path} is damaged: {error}. /docs update makes it again.").format(
                    path=self.path, error=error
                )
            ) from error


def _file_record(row: tuple[Any, ...]) -> FileRecord:
    origin, title, size, mtime, sha256, pages, passages, read_at, error, notes = row
    why = next(iter(unpacked(error)), NOTHING)
    read_at = read_at if 0 <= read_at <= LATEST else 0.0
    return FileRecord(
        origin, title, size, mtime, sha256, pages, passages, read_at, why, notes=unpacked(notes)
    )


def _some(found: list[_Term]) -> list[_Term]:
    half = MOST_ASKED // 2
    return found if len(found) <= MOST_ASKED else [*found[:half], *found[-half:]]


def _indexed(text: str, heading: str) -> tuple[str, str]:
    return " ".join(terms.terms(text)), " ".join(terms.terms(heading))


def _weights(counts: Mapping[str, int], total: int) -> dict[str, float]:
    """Return how much each term tells: the rarer the more (the IDF of BM25, never below 0)."""
    weights = {
        term: math.log(1 + (max(total, FEW) - min(count, total) + 0.5) / (count + 0.5))
        for term, count in counts.items()
    }
    most = ABSENT * max((weights[term] for term, count in counts.items() if count), default=math.inf)
    for term, count in counts.items():
        if not count:
            weights[term] = min(weights[term], most) * (NO_WORD if terms.is_han(term) else 1.0)
    rarest = sorted(weights, key=lambda term: (not counts[term], -weights[term]))[:MOST_TERMS]
    return {term: weights[term] for term in weights if term in rarest}


def _quoted(term: str) -> str:
    """Return a term for FTS5's language; a single Chinese character is the beginning of a term."""
    quoted = '"' + term.replace('"', '""') + '"'
    return f"{quoted}*" if len(term) == 1 and terms.is_han(term) else quoted


def _score(weights: dict[str, float], wholes: Sequence[Sequence[str]], text: str, heading: str) -> float:
    """Return how much of what is asked for stands in a passage; a little depends on how often (BM25)."""
    words = terms.terms(text)
    counts, above = Counter(words), Counter(terms.terms(heading))
    held_back = K1 * (1 - B + B * len(words) / USUAL)
    got = 0.0
    for term, weight in weights.items():
        if len(term) == 1 and terms.is_han(term):
            count = sum(n for word, n in counts.items() if word.startswith(term))
        else:
            count = counts[term]
        often = count / (count + held_back)
        there = max(min(2 * often, 1.0), HEADING_WEIGHT if above[term] else 0.0)
        got += weight * ((1 - OFTEN) * there + OFTEN * (often + above[term] / (above[term] + K1)) / 2)
    joined = f" {' '.join(words)} "
    for whole in wholes:
        if f" {' '.join(whole)} " in joined:
            got += PHRASE * sum(weights.get(term, 0.0) for term in whole)
    return round(min(got / sum(weights.values()), 1.0), 4)


def _distinct(hits: Sequence[Hit], top: int) -> list[Hit]:
    """Return the best, each text once: a folder often has copies."""
    seen: set[str] = set()
    chosen = []
    for hit in hits:
        if hit.passage.text not in seen and hit.score > 0:
            seen.add(hit.passage.text)
            chosen.append(hit)
        if len(chosen) >= top:
            break
    return chosen


def companions(path: Path) -> list[Path]:
    """Return the files that SQLite keeps next to the one at `path`."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def throw_away(path: Path) -> None:
    """Remove the index at `path`, if there is one."""
    for each in (path, *companions(path)):
        each.unlink(missing_ok=True)


def _unusable(path: Path, error: Exception) -> StorageError:
    return StorageError(_("The index {path} cannot be used: {error}").format(path=path, error=error))
