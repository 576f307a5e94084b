"""Sentences that are in no language yet."""

from __future__ import annotations

import subprocess
import sys
import weakref

from glmtui.errors import NotFoundError
from glmtui.protocol.phrases import English, _


class Upper(English):
    """A language of capitals."""

    def gettext(self, message: str) -> str:
        return message if message.startswith("{") else message.replace("There is no", "THERE IS NO")


def test_an_error_in_a_phrase_is_said_in_the_readers_language_too() -> None:
    error = NotFoundError(_("There is no {path}").format(path="/x"))
    phrase = _("{error}. The default is used.").format(error=error)
    assert str(phrase) == "There is no /x. The default is used."
    assert phrase.render(Upper()) == "THERE IS NO /x. The default is used."


def test_a_phrase_keeps_none_of_the_frames_of_an_error() -> None:
    class Large:
        """As tensors are."""

    seen: list[weakref.ref[Large]] = []

    def fail() -> None:
        large = Large()
        seen.append(weakref.ref(large))
        raise ValueError("too large")

    try:
        fail()
    except ValueError as error:
        phrase = _("{path}: {error}").format(path="/x", error=error)
    assert str(phrase) == "/x: too large"
    assert seen[0]() is None


def test_sampling_and_messages_come_without_requests_and_events() -> None:
    code = "import sys, glmtui.protocol.sampling, glmtui.protocol.messages; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    assert "glmtui.protocol.messages" in names
    assert not names & {"glmtui.protocol.requests", "glmtui.protocol.events"}
