"""Failures that a person can act on."""


class UserError(Exception):
    """What went wrong, with which file or value, and what to do, in the interface's language.

    The text is shown as it is: on standard error by the command line (exit code 1), as an event by the
    worker, in the transcript by the app. Raise it with an already translated message:
    ``raise UserError(_("There is no folder {path}. …").format(path=path))``.
    """


class UsageError(UserError):
    """The command line was wrong (exit code 2)."""


class OutOfMemoryError(UserError):
    """The model does not fit; raised from an estimate before loading or when the device says so."""


class ModelNotHereError(UserError):
    """The model is not on this machine, but can be downloaded under the name `source`."""

    def __init__(self, message: str, source: str) -> None:
        super().__init__(message)
        self.source = source
