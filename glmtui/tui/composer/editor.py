"""Writing in the person's own editor."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.regular_files import read_regular
from glmtui.text.encodings import MOST_BYTES, decode
from glmtui.text.quoting import reason_of

_FALLBACKS = ("sensible-editor", "nano", "vi")


def command() -> list[str]:
    """Return the editor's command line: ``$VISUAL``, ``$EDITOR``, or what this system has.

    Raises:
        UserError: there is none, or what the environment names cannot be read.
    """
    for name in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(os.environ.get(name, ""), posix=sys.platform != "win32")
        except ValueError as error:  # a quotation mark without its other half
            raise UserError(_("{name} is no command line: {error}").format(name=name, error=error)) from error
        if words:
            return words
    if sys.platform == "win32":
        return ["notepad"]
    for name in _FALLBACKS:
        if found := shutil.which(name):
            return [found]
    raise UserError(_("There is no editor. Name yours in the environment variable VISUAL or EDITOR."))


def edit(text: str, editor: list[str]) -> tuple[str, str]:
    """Let the person edit `text`; return the new text and, if something went wrong, what to tell them.

    Raises:
        UserError: there is no room for the file.

    The text goes through a file in a folder that only the person can read. The folder is removed, unless the
    file holds something that cannot be given back.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="glmtui-"))  # mode 0700
        file = folder / "message.md"
        file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(
            _("{path} cannot be written: {error}").format(
                path=error.filename or tempfile.gettempdir(), error=tell(reason_of(error))
            )
        ) from error
    wrong = ""
    try:
        code = subprocess.run([*editor, str(file)], check=False).returncode
        if code:
            wrong = _("The editor {editor} ended with code {code}.").format(editor=editor[0], code=code)
    except OSError as error:
        wrong = _("The editor {editor} cannot be started: {error}").format(
            editor=editor[0], error=tell(reason_of(error))
        )
    try:
        written = decode(read_regular(file, MOST_BYTES))
    except FileNotFoundError:  # the editor removed it
        written = text
    except OSError:
        written = None
    if written is None:
        return text, _("What the editor saved is not text. It is kept in {path}").format(path=file)
    shutil.rmtree(folder, ignore_errors=True)
    return written.removesuffix("\n") if not text.endswith("\n") else written, wrong
