"""Sentences for people that are not in any language yet.

What runs models does not know who reads what it says: a person in the app, a log, a program behind a server.
It makes a `Phrase`: an English template, which is also the key of its translation, with the values that go
into it. Whoever shows it says it (`glmtui.i18n.tell`); as a string it is English.

In such modules ``_`` is this module's, not gettext's: ``_("There is no file {path}.").format(path=path)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias


class Language(Protocol):
    """What templates are looked up in; gettext's catalogues are such."""

    def gettext(self, message: str) -> str:
        """Translate a template."""

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """Translate the template for one or the other, as fits the number."""

    def option(self, name: str, value: str) -> str:
        """Return how an option is set where the reader is: ``--quant 4``, or ``/quant 4`` in a chat."""


class English:
    """The language the templates are written in."""

    def gettext(self, message: str) -> str:
        """Return the template."""
        return message

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """Return the template for one, or that for several."""
        return msgid1 if n == 1 else msgid2

    def option(self, name: str, value: str) -> str:
        """Return the option as on the command line."""
        return as_argument(name, value)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A template with named fields in braces, and their values: anything, also phrases and listings."""

    template: str
    fields: Mapping[str, object] = field(default_factory=dict)
    plural: str = ""
    """The template where `count` is not 1; empty: there is but one."""
    count: int = 1

    def __hash__(self) -> int:
        return hash((self.template, self.plural, self.count))

    def __bool__(self) -> bool:
        return bool(self.template)

    def __str__(self) -> str:
        return self.render(English())

    def format(self, **fields: object) -> Phrase:
        """Return the same with (more) values. Of an error it takes what it says: not its frames."""
        said = {name: _said(value) for name, value in fields.items()}
        return replace(self, fields={**self.fields, **said})

    def render(self, language: Language) -> str:
        """Return the sentence."""
        if not self.template:
            return ""
        if self.plural:
            words = language.ngettext(self.template, self.plural, self.count)
        else:
            words = language.gettext(self.template)
        if not self.fields:  # as it stands: it may have braces that are no fields
            return words
        return words.format(**{name: _render(value, language) for name, value in self.fields.items()})


@dataclass(frozen=True, slots=True)
class Listing:
    """Values that are written one after another, with the comma that lists have in the reader's language."""

    items: tuple[object, ...]

    def __str__(self) -> str:
        return self.render(English())

    def render(self, language: Language) -> str:
        """Return the list."""
        comma = language.gettext("{names}, {name}").format(names="", name="")
        return comma.join(str(_render(item, language)) for item in self.items)


@dataclass(frozen=True, slots=True)
class Option:
    """Advice to set an option, for sentences that people read on the command line and in a chat."""

    name: str
    """As on the command line, without its dashes."""
    value: object

    def __str__(self) -> str:
        return self.render(English())

    def render(self, language: Language) -> str:
        """Return what is to be typed."""
        return language.option(self.name, str(_render(self.value, language)))


def as_argument(name: str, value: str) -> str:
    """Return an option as it stands on the command line."""
    return f"--{name} {value}"


def _said(value: object) -> object:
    return getattr(value, "phrase", None) or str(value) if isinstance(value, BaseException) else value


def _render(value: object, language: Language) -> object:
    return value.render(language) if isinstance(value, Phrase | Listing | Option) else value


Sayable: TypeAlias = Phrase | str
"""Something to say: a sentence without a language, or text that has one."""
NOTHING = Phrase("")
"""No sentence; it is false."""


def verbatim(text: str) -> Phrase:
    """Return a phrase for text that is the same in every language, such as what the system said."""
    return Phrase("{text}", {"text": text}) if text else NOTHING


def _(template: str) -> Phrase:
    """Begin a phrase; the name marks `template` for the catalogues."""
    return Phrase(template)


def ngettext(singular: str, plural: str, number: int) -> Phrase:
    """Begin a phrase that is another for one than for several; the name is gettext's."""
    return Phrase(singular, {}, plural, number)


def sentences(first: Phrase, second: Phrase) -> Phrase:
    """Put one sentence after another, with what stands between sentences in the reader's language."""
    return _("{first} {second}").format(first=first, second=second)


def listing(items: Iterable[object]) -> Listing:
    """Write `items` one after another."""
    return Listing(tuple(items))
