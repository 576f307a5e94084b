"""Where things live on this platform. Nothing is created until something is written.

``GLMTUI_HOME`` puts all four under one folder: for tests, portable installs and shared machines.
"""

import os
import re
from pathlib import Path
from urllib.parse import unquote

import platformdirs

from glmtui.errors import BadValueError, NotFoundError
from glmtui.protocol.phrases import _

APP = "glmtui"


def _home(kind: str, platform_path: Path) -> Path:
    root = os.environ.get("GLMTUI_HOME")
    return Path(root) / kind if root else platform_path


def config_dir() -> Path:
    """``config.toml`` and the user's own ``themes/``."""
    return _home("config", platformdirs.user_config_path(APP, appauthor=False))


def data_dir() -> Path:
    """``conversations/`` and its trash: what must never be lost."""
    return _home("data", platformdirs.user_data_path(APP, appauthor=False))


def state_dir() -> Path:
    """Prompt history, drafts, the last conversation: nice to keep."""
    return _home("state", platformdirs.user_state_path(APP, appauthor=False))


def cache_dir() -> Path:
    """Compiled kernels, quantised weights, search index: may be deleted at any time."""
    return _home("cache", platformdirs.user_cache_path(APP, appauthor=False))


def themes_dir() -> Path:
    """The themes that ship with glmtui: inside the installed package, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "themes"
    return installed if installed.is_dir() else package.parent / "themes"


def user_themes_dir() -> Path:
    """Where a person puts their own colour themes."""
    return config_dir() / "themes"


def typed(text: str | Path) -> Path:
    """Return the path that a person typed, ``~`` and ``~name`` as the homes they stand for.

    A file dropped into a terminal comes quoted, with backslashes, or as a ``file://`` address. That is undone
    unless something is really called so.

    Raises:
        UserError: no file can have this name, or there is no such home and nothing that is really called so.
    """
    written = os.fspath(text)
    try:
        if b"\0" in os.fsencode(written):
            raise ValueError(written)
    except ValueError as error:  # a lone surrogate too
        raise BadValueError(_("{path} cannot be the name of a file.").format(path=repr(written))) from error
    path = _at_home(written)
    if isinstance(text, str) and not os.path.lexists(path):
        path = _at_home(_unquoted(text))
    home = path.parts[0] if path.parts else ""
    if home.startswith("~") and not os.path.lexists(path):
        raise NotFoundError(
            _("{path} stands for nothing: there is no home folder {home}.").format(path=text, home=home)
        )
    return path


def _at_home(text: str) -> Path:
    return Path(os.path.expanduser(text))


def _unquoted(text: str) -> str:
    """Return what a shell would make of a word as terminals write it."""
    if text[:7].lower() == "file://":
        _host, slash, path = text[7:].partition("/")
        return unquote(slash + path, errors="surrogateescape").replace("\0", "")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace("'\\''", "'") if text[0] == "'" else text[1:-1]
    return text if os.name == "nt" else re.sub(r"\\(.)", r"\1", text)


def make_private(directory: Path) -> Path:
    """Create `directory`, and what is missing above it, for its owner only: it is nobody else's business."""
    missing = []
    while not os.path.isdir(directory) and directory not in missing:
        missing.append(directory)
        directory = directory.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    return missing[0] if missing else directory


def free(path: Path) -> Path:
    """Return `path`, or one like it with a number that does not exist."""
    number, found = 2, path
    while os.path.lexists(found):
        found, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return found
