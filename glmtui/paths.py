"""Where things live on this platform. Nothing is created until something is written.

``GLMTUI_HOME`` puts all four under one folder: for tests, portable installs and shared machines.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from glmtui.atomic import make_directory
from glmtui.errors import BadValueError, NotFoundError
from glmtui.protocol.phrases import _

APP = "glmtui"
SHOWN = 100
"""Characters of a name that cannot be one."""
_URL = re.compile(r"file:(?://([^/]*))?/(?=[^/])", re.IGNORECASE)
_QUOTED = re.compile(r"""'(?:[^']|'\\'')*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
"""As a shell reads one word in quotes; ``'\\''`` is how it has a quote within single ones."""
_ESCAPED = re.compile(r"\\(\W)")
_ESCAPED_IN_QUOTES = re.compile(r'\\(["\\$`])')


_MADE = frozenset({"node_modules", "__pycache__", "venv", "target", "dist", "build"})
"""Folders of what programs made."""


def _home(kind: str, platform_path: Callable[..., Path]) -> Path:
    """Return the folder for `kind`.

    Raises:
        UserError: the person has no home folder, or ``GLMTUI_HOME`` begins with one that nobody has.
    """
    if root := os.environ.get("GLMTUI_HOME"):
        return expanded(root) / kind
    try:
        return expanded(platform_path(APP, appauthor=False))
    except (RuntimeError, NotFoundError) as error:  # older releases of platformdirs leave the ~
        raise NotFoundError(
            _("You have no home folder here. Set GLMTUI_HOME to a folder where glmtui may keep its files.")
        ) from error


def config_dir() -> Path:
    """``config.toml`` and the user's own ``themes/``."""
    return _home("config", platformdirs.user_config_path)


def data_dir() -> Path:
    """``conversations/`` and its trash: what must never be lost."""
    return _home("data", platformdirs.user_data_path)


def state_dir() -> Path:
    """Prompt history, drafts, the last conversation: nice to keep."""
    return _home("state", platformdirs.user_state_path)


def cache_dir() -> Path:
    """Compiled kernels, quantised weights, search index: may be deleted at any time."""
    return _home("cache", platformdirs.user_cache_path)


def themes_dir() -> Path:
    """The themes that ship with glmtui: inside the installed package, next to it in a checkout."""
    package = Path(__file__).parent
    installed = package / "themes"
    return installed if installed.is_dir() else package.parent / "themes"


def user_themes_dir() -> Path:
    """Where a person puts their own colour themes."""
    return config_dir() / "themes"


def typed(text: str | Path) -> Path:
    """Return the path that a person typed, or dropped into a terminal; ``~`` and ``~name`` are homes.

    A file dropped into a terminal comes quoted, with backslashes, or as a ``file://`` address. That is undone
    unless something is really called so.

    Raises:
        UserError: it is empty, no file can have this name, or there is no such home and nothing that is
            really called so.
    """
    if isinstance(text, Path):
        return expanded(text)
    if not (path := unquoted(text)):  # Path("") is the folder one is in
        raise BadValueError(_("Give the name of a file or folder: this one is empty."))
    return expanded(path)


def unquoted(text: str) -> str:
    """Return a path, or a name that may be one, without what shells and terminals write into it.

    That is quotes around it, backslashes before blanks and marks, or the form ``file://…`` of file managers,
    of which some name this machine.
    What is really called so stays as it is.
    """
    if os.path.lexists(text):
        return text
    text = text.strip()
    if url := _URL.match(text):
        import platform
        from urllib.parse import unquote

        if (url[1] or "").lower() in ("", "localhost", platform.node().lower()):
            return unquote("/" + text[url.end() :])
    if _QUOTED.fullmatch(text):
        inside = text[1:-1]
        return inside.replace(r"'\''", "'") if text[0] == "'" else _ESCAPED_IN_QUOTES.sub(r"\1", inside)
    return text if os.sep == "\\" else _ESCAPED.sub(r"\1", text)


def is_utf8(path: str | Path) -> bool:
    """Whether a path can be stored as text: names are bytes on Linux, and those of old archives in GBK."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_possible(path: Path) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    except ValueError:  # a NUL, or a lone surrogate that stands for no byte
        return False
    return True


def expanded(text: str | Path) -> Path:
    """Return a path with ``~`` and ``~name`` as the homes they stand for. Raises as `typed` does."""
    path = Path(os.path.expanduser(text))
    if not _is_possible(path):
        name = str(text) if len(str(text)) <= SHOWN else str(text)[:SHOWN] + "…"
        raise NotFoundError(_("No file can be called {path}.").format(path=repr(name)))
    home = path.parts[0] if path.parts else ""
    if home.startswith("~") and not os.path.lexists(path):
        raise NotFoundError(
            _("{path} stands for nothing: there is no home folder {home}.").format(path=text, home=home)
        )
    return path


def make_private(directory: Path) -> Path:
    """Create `directory` readable by its owner only, as conversations are nobody else's business."""
    make_directory(directory)
    return directory


def free(path: Path) -> Path:
    """Return `path`, or one like it with a number that does not exist."""
    number, found = 2, path
    while os.path.lexists(found):
        found, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return found


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in `folder` and the folders in it, but for hidden ones and what programs made."""
    for inside, folders, files in os.walk(folder):
        folders[:] = [name for name in sorted(folders) if name[0] != "." and name not in _MADE]
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(inside, name)


def leave_missing_folder() -> None:
    """Go home (or to the root) if the working folder was removed.

    Intel's library in PyTorch ends the process there: "oneMKL FATAL ERROR".
    """
    try:
        os.getcwd()
    except OSError:
        home = os.path.expanduser("~")
        os.chdir(home if os.path.isdir(home) else os.sep)
