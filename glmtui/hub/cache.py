"""The local Hugging Face hub cache, read without importing huggingface_hub, which takes half a second.

Its layout: ``models--OWNER--NAME/`` with ``refs/BRANCH`` (a commit), ``snapshots/COMMIT/`` (links) and
``blobs/HASH`` (the files themselves), as huggingface_hub's own documentation describes it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from glmtui import paths
from glmtui.errors import NotFoundError

MAIN = "main"
"""The revision that is meant where none is given."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision of one repository, complete or in part."""

    hub_id: str
    commit: str
    path: Path
    revisions: tuple[str, ...] = ()
    """The branches and tags known to stand for it."""


def folder() -> Path:
    """Return the hub cache, from the same variables that huggingface_hub reads."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(name):
            return paths.typed(os.path.expandvars(value))
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    try:
        return paths.typed(os.path.expandvars(home)) / "hub"
    except NotFoundError:  # nobody's home, as for users of containers: next to what else is cached
        return paths.cache_dir() / "huggingface" / "hub"


def free_bytes() -> int:
    """Return how much room the cache's disk has."""
    place = folder()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def repository(hub_id: str) -> Path:
    """Return where the cache keeps a model."""
    return folder() / f"models--{hub_id.replace('/', '--')}"


def find(hub_ids: Iterable[str], revision: str | None = None) -> Path | None:
    """Return the snapshot of the first of `hub_ids` that has a ``config.json``, or None.

    `revision` is a branch, a tag or a commit (its beginning is enough). None takes ``main``, or where there
    is none the one snapshot that was fetched.
    """
    for hub_id in hub_ids:
        home = repository(hub_id)
        for commit in _commits(home, revision):
            path = home / "snapshots" / commit
            if (path / "config.json").is_file():
                return path
    return None


def snapshots() -> Iterator[Snapshot]:
    """Yield every snapshot of every model in the cache that has a ``config.json``, by repository."""
    for home in sorted(folder().glob("models--*--*")):
        hub_id = home.name.removeprefix("models--").replace("--", "/", 1)
        named: dict[str, list[str]] = {}
        for reference in sorted((home / "refs").rglob("*")):
            if reference.is_file():
                named.setdefault(_read(reference), []).append(reference.relative_to(home / "refs").as_posix())
        for path in sorted((home / "snapshots").glob("*")):
            if (path / "config.json").is_file():
                yield Snapshot(hub_id, path.name, path, tuple(named.get(path.name, ())))


def title(path: Path) -> str:
    """Name the model in a folder for people: of a snapshot, whose own name is a commit, the repository's."""
    home = path.parent.parent
    if path.parent.name == "snapshots" and home.name.startswith("models--"):
        return home.name.split("--", 2)[-1]
    return path.name


def blobs(hub_id: str) -> list[Path]:
    """Return the files that the cache holds of a model, finished or not."""
    return sorted(file for file in (repository(hub_id) / "blobs").glob("*") if file.is_file())


def size_of(hub_id: str) -> int:
    """Return the bytes that the cache holds of a model, finished or not."""
    size = 0
    for blob in blobs(hub_id):
        with suppress(FileNotFoundError):  # a download that runs has just finished with it
            size += blob.stat().st_size
    return size


def remove(hub_id: str) -> int:
    """Delete a model with all its revisions from the cache; return the bytes that were freed."""
    freed = size_of(hub_id)
    shutil.rmtree(repository(hub_id))
    shutil.rmtree(folder() / ".locks" / repository(hub_id).name, ignore_errors=True)
    return freed


def _commits(home: Path, revision: str | None) -> list[str]:
    reference = home / "refs" / (revision or MAIN)
    if reference.is_file():
        return [_read(reference)]
    there = [path.name for path in sorted((home / "snapshots").glob("*"))]
    if revision is None:
        return there if len(there) == 1 else []
    matching = [commit for commit in there if len(revision) >= 4 and commit.startswith(revision.lower())]
    return matching if len(matching) == 1 else []


def _read(reference: Path) -> str:
    with reference.open("rb") as stream:
        return stream.read(100).decode("ascii", "replace").strip()
