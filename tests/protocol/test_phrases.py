"""Sentences that are in no language yet."""

from __future__ import annotations

import subprocess
import sys
import weakref

from glmtui import i18n
from glmtui.errors import NotFoundError
from glmtui.protocol.phrases import English, Option, _
from glmtui.session.slash.registry import COMMANDS


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


def test_advice_names_options_as_the_front_takes_them() -> None:
    phrase = _("{option} frees {size}").format(option=Option("quant", 4), size="3 GB")
    assert str(phrase) == "--quant 4 frees 3 GB"
    try:
        i18n.write_options(COMMANDS.option)
        assert i18n.tell(phrase) == "/quant 4 frees 3 GB"
        assert i18n.tell(_("{option}").format(option=Option("max-length", 512))) == "/set max_length 512"
    finally:
        i18n.write_options()
    assert i18n.tell(phrase) == str(phrase)
