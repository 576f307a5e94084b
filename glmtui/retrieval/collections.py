"""Collections of documents: what they are called, and what belongs to them.

A collection is two files in the data directory: ``NAME.json`` says what was added to it, ``NAME.sqlite`` is
its index. A path that belongs to no collection gets an index in the cache when it is asked about.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glmtui import paths
from glmtui.atomic import write_atomically
from glmtui.connections import without_login
from glmtui.errors import BadFileError, BadValueError, NotFoundError, StorageError
from glmtui.protocol.phrases import _, listing
from glmtui.regular_files import read_regular, reason
from glmtui.retrieval.index import Index, throw_away
from glmtui.text import json_values
from glmtui.text.quoting import reason_of

ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
MOST_BYTES = 8 << 20
"""Of what was added to a collection; a larger file is none of ours."""
MOST_ROOTS = 10_000
_NAME = re.compile(
    r"(?!(?:none|off|无|con|prn|aux|nul|com\d|lpt\d)(?:\.|$))[^\W_](?:[\w .+-]{0,62}[\w+-])?", re.IGNORECASE
)
"""Not what says that answers rest on none, nor what is no name of a file on Windows."""


@dataclass(frozen=True, slots=True)
class Collection:
    """What was added under a name."""

    name: str
    roots: tuple[str, ...]
    """Absolute paths of files and folders, and addresses."""
    follows: bool
    """Whether what changed in its folders is read again before each question."""
    index_path: Path
    kept: bool = True
    """False: it has no name; its index is in the cache."""

    @property
    def found_by(self) -> str:
        """What `find` finds it by, wherever glmtui is started."""
        return self.name if self.kept else self.roots[0]

    @property
    def is_gone(self) -> bool:
        """Whether it had a name and was removed."""
        return self.kept and not self.index_path.with_suffix(".json").exists()

    def index(self) -> Index:
        """Open its index."""
        return Index(self.index_path)

    @property
    def is_unread(self) -> bool:
        """Whether nothing of it was read yet, or what was read had to be thrown away."""
        with self.index() as index:
            return bool(self.roots) and not index.count()[0]


def folder() -> Path:
    """Return where collections are kept."""
    return paths.data_dir() / "documents"


def names() -> list[str]:
    """Return what the collections are called."""
    return sorted((path.stem for path in folder().glob("*.json")), key=str.lower)


def get(name: str) -> Collection:
    """Return a collection.

    Raises:
        NotFoundError: there is none of this name; it lists those there are.
        BadFileError: what is stored of it cannot be read.
    """
    if name not in names():
        there = names()
        if not there:
            raise NotFoundError(
                _("There is no collection {name}, nor any other yet: /docs add FOLDER makes one.").format(
                    name=name
                )
            )
        raise NotFoundError(
            _("There is no collection {name}. There are: {names}.").format(name=name, names=listing(there))
        )
    path = folder() / f"{name}.json"
    try:
        stored = json_values.loads(read_regular(path, MOST_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise BadFileError(
            _("{path} cannot be read: {error}").format(path=path, error=reason(error))
        ) from error
    roots = stored.get("roots") if isinstance(stored, dict) else None
    if not isinstance(roots, list) or not all(isinstance(root, str) for root in roots):
        raise BadFileError(_("{path} does not say what was added to the collection.").format(path=path))
    return replace(
        unread(name), roots=tuple(dict.fromkeys(roots))[:MOST_ROOTS], follows=stored.get("follows") is True
    )


def unread(name: str) -> Collection:
    """Return a collection without what was added to it, whatever is stored of that."""
    return Collection(name, (), False, folder() / f"{name}.sqlite")


def add(name: str, root: str | Path, *, follows: bool | None = None) -> Collection:
    """Add a file, a folder or an address to a collection, which is made where there is none.

    Capitals do not matter: some disks take two such names for one file.

    Raises:
        UserError: there is no such file, the name cannot be one, or it cannot be stored.
    """
    there = {each.lower(): each for each in names()}
    name = name if name in there.values() else there.get(name.lower(), name)
    if name.lower() not in there and not _NAME.fullmatch(name):
        raise BadValueError(
            _("{name} cannot be the name of a collection: letters, digits, blanks and -_.+ can.").format(
                name=name
            )
        )
    given = root if isinstance(root, str) and ADDRESS.fullmatch(root) else str(existing(root))
    if ADDRESS.fullmatch(given) and given != (bare := without_login(given)):
        raise BadValueError(
            _(
                "{url} came with a user or a password, which would be kept. Save the page and add its file."
            ).format(url=bare)
        )
    if not paths.is_utf8(given):
        raise BadValueError(_("The name of {path} is not UTF-8. Rename it first.").format(path=given))
    known = get(name) if name in names() else unread(name)
    roots = known.roots if given in known.roots else (*known.roots, given)
    return _store(replace(known, roots=roots, follows=known.follows if follows is None else follows))


def existing(path: str | Path) -> Path:
    """Return the absolute path of what a person typed.

    Raises:
        NotFoundError: there is nothing.
        BadFileError: it is a device, a pipe or the like.
    """
    found = Path(os.path.realpath(paths.typed(path)))
    if not found.exists():
        raise NotFoundError(_("There is no file or folder {path}.").format(path=path))
    if not (found.is_file() or found.is_dir()):
        raise BadFileError(_("{path} is neither a regular file nor a folder.").format(path=path))
    return found


def follow(name: str, follows: bool) -> Collection:
    """Let a collection follow its folders, or no longer."""
    return _store(replace(get(name), follows=follows))


def take_out(name: str, root: str) -> Collection:
    """Let what was added no longer belong to a collection; its passages go with the next update.

    Raises:
        NotFoundError: it was not added.
    """
    known = get(name)
    given = root if root in known.roots else os.path.realpath(paths.typed(root))
    if given not in known.roots:
        raise NotFoundError(
            _("{path} was not added to {name}. It has: {roots}.").format(
                path=root, name=name, roots=listing(known.roots)
            )
        )
    return _store(replace(known, roots=tuple(each for each in known.roots if each != given)))


def remove(name: str) -> None:
    """Forget a collection and its index; the documents stay where they are."""
    known = unread(name) if name in names() else get(name)  # which says what there is
    try:
        (folder() / f"{name}.json").unlink()
        throw_away(known.index_path)
    except OSError as error:
        raise StorageError(
            _("{path} cannot be removed: {error}").format(path=error.filename, error=reason_of(error))
        ) from error


def find(name_or_path: str) -> Collection:
    """Return the collection of this name, else what stands at this path, with an index in the cache.

    Raises:
        NotFoundError: it is neither.
    """
    if name_or_path in names():
        return get(name_or_path)
    try:
        path = existing(name_or_path)
    except NotFoundError:
        if "/" in name_or_path or "\\" in name_or_path:
            raise
        return get(name_or_path)  # says what there is
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    index = paths.cache_dir() / "documents" / f"{digest}.sqlite"
    return Collection(path.name or str(path), (str(path),), True, index, kept=False)


def free_name(root: str | Path) -> str:
    """Return a name for a new collection that begins with `root`."""
    if isinstance(root, str) and ADDRESS.fullmatch(root):
        stem = root.split("/")[2]
    else:
        path = existing(root)
        stem = path.stem if path.is_file() else path.name
    cleaned = re.sub(r"[^\w .+-]+", "-", stem).strip("-_. ")[:60].strip("-_. ")
    cleaned = cleaned if _NAME.fullmatch(cleaned) else "documents"
    taken: Sequence[str] = [name.lower() for name in names()]
    number, name = 2, cleaned
    while name.lower() in taken:
        name, number = f"{cleaned}-{number}", number + 1
    return name


def _store(collection: Collection) -> Collection:
    values = {"roots": list(collection.roots), "follows": collection.follows}
    path = folder() / f"{collection.name}.json"
    try:
        write_atomically(path, json.dumps(values, ensure_ascii=False, indent=1).encode("utf-8", "replace"))
    except OSError as error:
        raise StorageError(
            _("{path} cannot be written: {error}").format(path=path, error=reason_of(error))
        ) from error
    return collection
