"""All paths of a server behind their guard."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from glmtui.server import errors, web
from glmtui.server.conversations import Conversations
from glmtui.server.dispatcher import Dispatcher
from glmtui.server.embeddings import Embeddings
from glmtui.server.guard import Guard, Log
from glmtui.server.health import Health
from glmtui.server.metrics import Metrics
from glmtui.server.openai import OpenAI
from glmtui.server.options import ServerOptions
from glmtui.server.seed_api import SeedApi
from glmtui.server.service import Service
from glmtui.server.terminals import Terminals


class App:
    """One server's paths; made in the event loop that runs it.

    Args:
        service: the engine and its model.
        options: names, keys, limits.
        log: takes a line about every request, without what was said in it.
    """

    def __init__(self, service: Service, options: ServerOptions, log: Log | None = None) -> None:
        metrics, limits = Metrics(), options.limits
        self.dispatcher = Dispatcher(service.engine, limits, metrics, service.busy)
        self.health = Health(service, self.dispatcher, metrics)
        seed = SeedApi(service, self.dispatcher, limits)
        openai = OpenAI(service, self.dispatcher, limits)
        conversations = Conversations(service, limits)
        self._terminals = Terminals(service, limits)
        routes = [
            *seed.routes,
            *openai.routes,
            *Embeddings(service, limits).routes,
            *conversations.routes,
            *self.health.routes,
            *self._terminals.routes,
            *web.ROUTES,
        ]
        paths = Starlette(
            routes=routes,
            exception_handlers={
                errors.ApiError: errors.on_api_error,
                HTTPException: errors.on_http_error,
            },
            middleware=[Middleware(errors.Unexpected)],
        )
        paths.router.redirect_slashes = False
        self.asgi: ASGIApp = Guard(paths, options, web.is_page, log)

    def close(self) -> None:
        """End everything; who waits is told. Never waits."""
        self.dispatcher.close()
        self._terminals.close()
