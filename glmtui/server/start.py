"""The way into this package for those who must not import a web framework before a server is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from glmtui.errors import UnavailableError
from glmtui.protocol.phrases import _

if TYPE_CHECKING:
    from glmtui.protocol.engine import Engine
    from glmtui.protocol.models import ModelInfo
    from glmtui.protocol.sampling import Sampling
    from glmtui.server.library import Library
    from glmtui.server.options import ServerOptions
    from glmtui.server.server import Server
    from glmtui.server.service import Embedder, Program

LIBRARIES = ("starlette", "uvicorn", "h11", "anyio")


def make_server(
    options: ServerOptions,
    engine: Engine,
    info: Callable[[], ModelInfo | None],
    sampling: Callable[[], Sampling],
    *,
    busy: Callable[[], bool] = lambda: False,
    library: Library | None = None,
    embedder: Embedder | None = None,
    program: Callable[[ModelInfo], Program] | None = None,
    log: Callable[[str], None] | None = None,
) -> Server:
    """Return a server that listens and answers once it runs; see `Service` for the arguments.

    Raises:
        UserError: a library is not installed, or the port is in use.
    """
    try:
        from glmtui.server.server import Server
        from glmtui.server.service import Service
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        phrase = _("A server needs a library that is not installed: `python -m pip install {names}`")
        raise UnavailableError(phrase.format(names="starlette uvicorn")) from error
    return Server(Service(engine, info, sampling, busy, library, embedder, program), options, log)
