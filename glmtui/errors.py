"""Failures that a person can act on: typed, with a code for programs and a phrase for people."""

from __future__ import annotations

from typing import ClassVar

from glmtui.protocol.phrases import Phrase, verbatim


class UserError(Exception):
    """What went wrong, with which file or value, and what to do.

    It has no language yet: ``raise NotFoundError(_("There is no {path}.").format(path=path))`` with the ``_``
    of `glmtui.protocol.phrases`. Whoever shows it says it in the reader's (`glmtui.i18n.tell`): the command
    line on standard error (exit code 1), the app in the transcript. As a string it is English.
    """

    code: ClassVar[str] = "failed"
    """Stable, for programs: a server tells it, an event carries it."""

    def __init__(self, phrase: Phrase | str) -> None:
        super().__init__(phrase)
        self.phrase = phrase if isinstance(phrase, Phrase) else verbatim(phrase)

    def __str__(self) -> str:
        return str(self.phrase)


class UsageError(UserError):
    """The command line was wrong (exit code 2)."""

    code = "usage"


class NotFoundError(UserError):
    """There is no such file, folder, conversation, command or name."""

    code = "not_found"


class BadFileError(UserError):
    """A file is there but cannot be read as what it should be."""

    code = "bad_file"


class NewerFormatError(UserError):
    """A newer glmtui wrote the file, so it is only read here."""

    code = "newer_format"


class BadValueError(UserError):
    """A value is not allowed."""

    code = "bad_value"


class BadSchemaError(BadValueError):
    """A JSON schema is wrong, or of a kind that no answer can be made to follow."""

    code = "bad_schema"


class NoModelError(UserError):
    """Nothing is loaded that could answer."""

    code = "no_model"


class TooLongError(UserError):
    """A message does not fit into the model's context."""

    code = "too_long"


class OutOfMemoryError(UserError):
    """The model does not fit; raised from an estimate before loading or when the device says so."""

    code = "out_of_memory"


class UnavailableError(UserError):
    """What was asked for cannot be had here: a device, a network, a library that is not installed."""

    code = "unavailable"


class NoToolsError(UnavailableError):
    """The model cannot call tools."""

    code = "no_tools"


class ServerFailedError(UnavailableError):
    """Another machine that was asked is not there, refuses, or failed."""

    code = "server_failed"


class StorageError(UserError):
    """Something could not be written or deleted: there is no room, or no permission."""

    code = "storage"


class ModelNotHereError(NotFoundError):
    """The model is not on this machine, but can be downloaded under the name `source`."""

    code = "model_not_here"

    def __init__(self, phrase: Phrase, source: str) -> None:
        super().__init__(phrase)
        self.source = source
