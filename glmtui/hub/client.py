"""What the Hugging Face hub (or a mirror) has of a model, which files are needed, and errors for people.

huggingface_hub is imported by the functions, as it takes half a second. It reads ``HF_ENDPOINT``,
``HF_TOKEN``, ``HF_HUB_OFFLINE`` and the proxy variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmtui.connections import check_address, check_variables, why_not
from glmtui.errors import NotFoundError, UnavailableError, UserError
from glmtui.hub import cache as hub_cache
from glmtui.hub import catalog
from glmtui.protocol.phrases import Option, Phrase, _, sentences
from glmtui.version import __version__

if TYPE_CHECKING:
    from httpx2 import HTTPError, Response

MIRROR = "https://hf-mirror.com"
"""A mirror for those who cannot reach the hub, as in mainland China."""

_WEIGHTS = {
    "safetensors": re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"),
    "pickle": re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?"),
}
"""Weight files and their index, the preferred format first."""
_COMPANIONS = re.compile(
    r"(?!.*\.index\.json$)[\w.-]+\.json|[\w.-]+\.(model|tiktoken|jinja)|merges\.txt|vocab\.txt"
    r"|(MODEL_)?LICENSE(\.txt|\.md)?"
)
"""Configurations, tokenizers, licences. Never code: nothing of a repository is run."""
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a revision."""

    name: str
    size: int
    etag: str
    """SHA-256 of a large file, git's SHA-1 of a small one; the cache names its blobs by it."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one revision that a model needs."""

    hub_id: str
    revision: str
    """As asked for: a branch, a tag or a commit."""
    commit: str
    files: tuple[HubFile, ...]
    endpoint: str

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)


def needed(names: Iterable[str]) -> list[str]:
    """Return those of a repository's files that a model needs: its weights once, tokenizer, configuration."""
    names = list(names)
    kept = [name for name in names if _COMPANIONS.fullmatch(name)]
    for pattern in _WEIGHTS.values():
        weights = [name for name in names if pattern.fullmatch(name)]
        if any(not name.endswith(".json") for name in weights):
            return sorted({*kept, *weights})
    return []


def list_files(source: str, endpoint: str | None = None) -> Listing:
    """Ask the hub what there is of `source`: a short name or hub id, with ``@revision`` to pin one.

    Raises:
        UserError: there is no such model or revision, no permission, no connection.
    """
    hub_id = catalog.hub_ids_of(source)[0]
    revision = catalog.split(source)[1] or hub_cache.MAIN
    if ".." in revision:  # it becomes a path in the cache
        raise NotFoundError(
            _("{hub_id} has no revision {revision}.").format(hub_id=hub_id, revision=revision)
        )
    with errors_for_people(hub_id, revision, endpoint):
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=endpoint, library_name="glmtui", library_version=__version__)
        commit = str(api.model_info(hub_id, revision=revision).sha)
        there: Mapping[str, RepoFile] = {
            entry.path: entry
            for entry in api.list_repo_tree(hub_id, revision=commit)
            if isinstance(entry, RepoFile)
        }
        files = tuple(
            HubFile(name, there[name].size, lfs.sha256 if (lfs := there[name].lfs) else there[name].blob_id)
            for name in needed(there)
        )
        if not files or "config.json" not in there:
            raise UnavailableError(
                _("{hub_id} has no weights that glmtui can read (safetensors or pytorch_model.bin).").format(
                    hub_id=hub_id
                )
            )
        if not all(_HASH.fullmatch(each) for each in (commit, *(file.etag for file in files))):
            raise UnavailableError(_("{server} does not answer as a hub does.").format(server=api.endpoint))
        return Listing(hub_id, revision, commit, files, api.endpoint)


@contextmanager
def errors_for_people(hub_id: str, revision: str, endpoint: str | None = None) -> Iterator[None]:
    """Turn what goes wrong between here and the hub into a `UserError`."""
    check_environment(os.environ)
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    server = endpoint or constants.ENDPOINT
    try:
        import httpx2

        yield
    except UserError:
        raise
    except OfflineModeIsEnabled as error:
        message = _("HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it.")
        raise UnavailableError(sentences(message, _or_from_a_folder())) from error
    except HFValidationError as error:
        raise NotFoundError(_("{hub_id} is no name of a model on the hub.").format(hub_id=hub_id)) from error
    except httpx2.HTTPError as error:
        if (response := getattr(error, "response", None)) is not None:
            raise UnavailableError(_explain_status(response, error, hub_id, revision, server)) from error
        raise UnavailableError(no_connection(server, error)) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # what is no answer of a hub
        message = _(
            "{server} does not answer as a hub does: it may be the login page of a network, or of a proxy. "
            "Open it in a browser."
        )
        raise UnavailableError(message.format(server=server)) from error


def check_environment(variables: Mapping[str, str]) -> None:
    """Look at the environment variables by which the hub is reached, before anything stumbles over them.

    Raises:
        UnavailableError: one cannot be so; it is named.
    """
    check_variables(variables)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if not (value := variables.get(name, "")).isascii() or not value.isprintable():
            message = _("{variable} holds characters that no access token has. Set it right, or unset it.")
            raise UnavailableError(message.format(variable=name))
    if endpoint := variables.get("HF_ENDPOINT"):
        check_address("HF_ENDPOINT", endpoint)


def no_connection(server: str, error: BaseException) -> Phrase:
    """Say that there is no network, and what can be done without."""
    message = _("No connection to {server} ({reason}). Try again later.")
    message = message.format(server=server, reason=why_not(error))
    if MIRROR not in server:
        mirror = _("Behind a slow line, a mirror may help: {variable}.")
        message = sentences(message, mirror.format(variable=f"HF_ENDPOINT={MIRROR}"))
    return sentences(message, _or_from_a_folder())


def _or_from_a_folder() -> Phrase:
    option = Option("model", _("FOLDER"))
    return _("Or load a model from a folder that you copied here: {option}").format(option=option)


def _explain_status(response: Response, error: HTTPError, hub_id: str, revision: str, server: str) -> Phrase:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return _(
            "{hub_id} asks for consent: accept its conditions at {server}/{hub_id}, then set HF_TOKEN to "
            "your access token."
        ).format(hub_id=hub_id, server=server)
    if isinstance(error, RevisionNotFoundError):
        return _("{hub_id} has no revision {revision}.").format(hub_id=hub_id, revision=revision)
    if isinstance(error, RepositoryNotFoundError):
        return _(
            "{server} has no model {hub_id}, or it is private. Check the name; for a private one set "
            "HF_TOKEN."
        ).format(server=server, hub_id=hub_id)
    status = response.status_code
    if status in (401, 403):
        return _(
            "{server} refuses {hub_id} (status {status}). Set HF_TOKEN to an access token that may read it, "
            "or unset it."
        ).format(server=server, hub_id=hub_id, status=status)
    if status == 429:
        return _("{server} has had too many requests from here. Try again in some minutes.").format(
            server=server
        )
    return _("{server} answered {hub_id} with status {status}. Try again later.").format(
        server=server, hub_id=hub_id, status=status
    )
