"""Where things live on this platform. Nothing is created until something is written.

``GLMTUI_HOME`` puts all four under one folder: for tests, portable installs and shared machines.
"""

import os
from pathlib import Path

import platformdirs

from glmtui.atomic import make_directory
from glmtui.errors import NotFoundError
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

    Raises:
        UserError: there is no such home, and nothing that is really called so.
    """
    path = Path(os.path.expanduser(text))
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
    while found.exists():
        found, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return found
