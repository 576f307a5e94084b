"""The interface's language: gettext catalogues under ``locale/``, English as written in the source.

Like the C locale, the language belongs to the process: `use` sets it once at start (or when the setting
changes) and `_` reads it at every call, so a string is translated when it is shown. Strings that stand in
tables built at import are marked with `N_` and translated with `_` where they are used.
"""

import gettext
import locale
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from glmtui.errors import UserError
from glmtui.protocol import phrases
from glmtui.protocol.phrases import Phrase, verbatim

DOMAIN = "glmtui"
DIRECTORY = Path(__file__).with_name("locale")
LANGUAGES = {"en": "English", "zh_CN": "简体中文"}
"""Language codes and their own names, as the settings pane lists them."""


class _Reader:
    """Whom sentences are for: the language, and how an option is written where the person is."""

    def __init__(self) -> None:
        self.translations = gettext.NullTranslations()
        self.option: Callable[[str, str], str] = phrases.as_argument

    def gettext(self, message: str) -> str:
        return self.translations.gettext(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.translations.ngettext(msgid1, msgid2, n)


_reader = _Reader()


def _(message: str) -> str:
    """Translate `message` into the interface's language."""
    return _reader.gettext(message)


def ngettext(singular: str, plural: str, number: int) -> str:
    """Translate the form that fits `number`."""
    return _reader.ngettext(singular, plural, number)


def N_(message: str) -> str:  # noqa: N802 (the name that gettext's tools know)
    """Mark `message` for the catalogue without translating it yet."""
    return message


def tell(what: Phrase | Exception | str) -> str:
    """Say a phrase, or what an error has to say, in the interface's language; other text is as it is."""
    phrase = what.phrase if isinstance(what, UserError) else what
    return phrase.render(_reader) if isinstance(phrase, Phrase) else str(phrase)


def sentences(first: str, second: str) -> str:
    """Put one sentence after another: with a space between them in English, without one in Chinese."""
    return phrases.sentences(verbatim(first), verbatim(second)).render(_reader)


def listing(names: Iterable[str]) -> str:
    """Write `names` one after another, with the comma that lists have in the interface's language."""
    return phrases.listing(names).render(_reader)


def detect() -> str:
    """Return the language the environment asks for: ``zh_CN`` for any Chinese locale, else ``en``."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANGUAGE", "LANG"):
        if value := os.environ.get(name):
            return "zh_CN" if value.lower().startswith("zh") else "en"
    system, _encoding = locale.getlocale()  # Windows sets no variables
    return "zh_CN" if (system or "").lower().startswith(("zh", "chinese")) else "en"


def use(language: str = "auto") -> str:
    """Switch the process to `language` (a key of `LANGUAGES`, or ``auto``); return what is in use."""
    chosen = detect() if language == "auto" else language
    _reader.translations = gettext.translation(DOMAIN, DIRECTORY, [chosen], fallback=True)
    return chosen


def write_options(how: Callable[[str, str], str] = phrases.as_argument) -> None:
    """Let advice name options as this front takes them, by `how` from a name and a value."""
    _reader.option = how
