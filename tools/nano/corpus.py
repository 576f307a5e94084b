"""The dialogues nano is trained on: tables of questions and answers, expanded and roughened without end.

The tables in ``dialogues/`` hold, for every *intent* and language, one answer and many questions:

- ``do``: what a person wants to do; put into frames such as ``how do i {}`` or ``怎么{}``
- ``topic``: a thing to ask about; put into frames such as ``what is {}`` or ``{}是什么``
- ``trouble``: what goes wrong; put into frames such as ``{}, what now`` or ``{}怎么办``
- ``ask``: whole questions

More questions of an intent may stand in another table, without the answer.

All of them are written in a little grammar: ``(a|b)`` is one of them, ``[a|b]`` one of them or nothing,
``{name}`` a word of the list of that name. A question drawn from it is then changed as people change theirs:
politeness, fillers, capitals, punctuation, missing words, typing errors. `stream` draws dialogues for ever.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from glmtui.protocol.messages import ChatMessage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DIALOGUES = Path(__file__).with_name("dialogues")
HELDOUT = Path(__file__).with_name("heldout.jsonl")
LANGUAGES = ("en", "zh")
KINDS = {"ask": 1.3, "do": 1.2, "topic": 0.6, "trouble": 0.9}
"""Kinds of question and how often each is drawn where an intent has it."""

Rounds = tuple[tuple[str, str], ...]
Template = list[Any]
"""A sequence of strings, word lists ``("word", name)`` and choices ``("choice", [templates])``."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question in a conversation, and the answer that is right."""

    intent: str
    language: str
    rounds: Rounds
    """Earlier questions and answers."""
    question: str
    answer: str

    @property
    def turns(self) -> tuple[ChatMessage, ...]:
        """The conversation up to the question."""
        earlier = (
            turn
            for question, answer in self.rounds
            for turn in (ChatMessage.of("user", question), ChatMessage.of("assistant", answer))
        )
        return (*earlier, ChatMessage.of("user", self.question))


def parse(text: str) -> Template:
    """Read the grammar of one template.

    Raises:
        ValueError: a bracket is not closed.
    """
    tokens = re.findall(r"[()\[\]|]|\{\w*\}|[^()\[\]|{}]+", text)
    position = 0

    def sequence(closer: str) -> list[Template]:
        nonlocal position
        options: list[Template] = [[]]
        while position < len(tokens):
            token = tokens[position]
            position += 1
            if token == closer:
                return options
            if token == "|":
                options.append([])
            elif token in "([":
                inner = sequence(")" if token == "(" else "]")
                options[-1].append(("choice", inner if token == "(" or [] in inner else [*inner, []]))
            elif token[0] == "{":
                options[-1].append(("word", token[1:-1]))
            else:
                options[-1].append(token)
        if closer:
            raise ValueError(f"{closer} is missing in {text!r}")
        return options

    options = sequence("")
    return options[0] if len(options) == 1 else [("choice", options)]


class Corpus:
    """All tables, ready to draw from."""

    def __init__(self, folder: Path = DIALOGUES) -> None:
        tables = {
            path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.toml")
        }
        words = tables.pop("words")
        self.followups: list[dict[str, Any]] = tables.pop("followups")["followup"]
        self.words: dict[str, dict[str, list[Template]]] = {}
        self.frames: dict[str, dict[str, list[Template]]] = {}
        self.edges: dict[str, Mapping[str, list[str]]] = {}
        self.synonyms: dict[str, dict[str, list[str]]] = {}
        self.answers: dict[tuple[str, str], str] = {}
        self._questions: dict[tuple[str, str], dict[str, list[Template]]] = {}
        for language in LANGUAGES:
            part = words[language]
            self.words[language] = {
                name: [parse(word) for word in part["words"][name]] for name in part["words"]
            }
            self.frames[language] = {
                kind: list(map(parse, part["frames"][kind])) for kind in ("do", "topic", "trouble")
            }
            groups = [group.split("|") for group in part["synonyms"]]
            self.synonyms[language] = {word: group for group in reversed(groups) for word in group}
            self.edges[language] = {name: part["frames"][name] for name in ("opening", "followup", "closing")}
        for table in sorted(tables):
            for intent, languages in tables[table].items():
                for language in LANGUAGES:
                    entry = languages[language]
                    if "answer" in entry:
                        self.answers[intent, language] = entry.pop("answer")
                    questions = self._questions.setdefault((intent, language), {})
                    for name, templates in entry.items():
                        if name in KINDS:
                            questions.setdefault(name, []).extend(map(parse, templates))
                        else:  # a word list of the table's own
                            self.words[language][name] = list(map(parse, templates))
        self._followups = {
            language: [
                (each["after"], each["now"], list(map(parse, each[language]))) for each in self.followups
            ]
            for language in LANGUAGES
        }

    @cached_property
    def intents(self) -> list[str]:
        """Names of all intents."""
        return sorted({intent for intent, _language in self.answers})

    def question(self, intent: str, language: str, rng: random.Random) -> str:
        """Draw a clean question of `intent`."""
        kinds = self._questions[intent, language]
        names = list(kinds)
        # An intent with few templates of a kind should not hear the same ones again and again.
        weights = [KINDS[kind] * min(len(kinds[kind]), 6) for kind in names]
        kind = rng.choices(names, weights)[0]
        body = rng.choice(kinds[kind])
        if kind == "ask":
            return self._draw(body, language, rng)
        return self._draw(rng.choice(self.frames[language][kind]), language, rng, body)

    def follow_up(self, language: str, rng: random.Random) -> tuple[str, str, str]:
        """Draw ``(intent before, intent now, question)`` where the question needs the round before it."""
        after, now, templates = rng.choice(self._followups[language])
        return rng.choice(after), now, self._draw(rng.choice(templates), language, rng)

    def example(self, rng: random.Random) -> Example:
        """Draw a dialogue: mostly a single question, otherwise after some rounds about something else."""
        language = rng.choice(LANGUAGES)
        intent = "unknown" if rng.random() < 0.16 else rng.choice(self.intents)
        rounds = self._history(language, rng, rng.choices((0, 1, 2, 3, 5, 8), (86, 9, 3, 1.3, 0.5, 0.2))[0])
        if rng.random() < 0.05:
            before, intent, question = self.follow_up(language, rng)
            rounds += ((self._rough(before, language, rng), self.answers[before, language]),)
            question = self._roughen(question, language, rng)
        else:
            question = self._rough(intent, language, rng, bool(rounds))
        return Example(intent, language, rounds, question, self.answers[intent, language])

    def stream(self, seed: int) -> Iterator[Example]:
        """Draw dialogues for ever, the same ones for the same `seed`."""
        rng = random.Random(seed)
        while True:
            yield self.example(rng)

    def _history(self, language: str, rng: random.Random, count: int) -> Rounds:
        rounds = []
        for _ in range(count):
            spoken = language if rng.random() < 0.85 else rng.choice(LANGUAGES)
            intent = "unknown" if rng.random() < 0.25 else rng.choice(self.intents)
            answer = self.answers[intent, spoken]
            if rng.random() < 0.6:  # stopped by the reader
                answer = answer[: rng.randrange(10, 60)].strip()
            rounds.append((self._rough(intent, spoken, rng), answer))
        return tuple(rounds)

    def _rough(self, intent: str, language: str, rng: random.Random, later: bool = False) -> str:
        question = self.question(intent, language, rng)
        edges = self.edges[language]
        if intent not in ("hello", "thanks", "bye", "ok", "praise"):
            if later and rng.random() < 0.3:
                question = rng.choice(edges["followup"]) + question
            elif rng.random() < 0.15:
                question = rng.choice(edges["opening"]) + question
            if rng.random() < 0.1:
                question += rng.choice(edges["closing"])
        return self._roughen(question, language, rng)

    def _roughen(self, question: str, language: str, rng: random.Random) -> str:
        for _ in range(rng.choices((0, 1, 2), (65, 25, 10))[0]):
            question = exchange_word(question, self.synonyms[language], rng)
        return roughen(question, language, rng)

    def _draw(
        self, template: Template, language: str, rng: random.Random, body: Template | None = None
    ) -> str:
        text = ""
        for part in template:
            if isinstance(part, str):
                text += part
            elif part[0] == "choice":
                text += self._draw(rng.choice(part[1]), language, rng, body)
            elif part[1]:
                text += self._draw(rng.choice(self.words[language][part[1]]), language, rng)
            elif body is not None:
                text += self._draw(body, language, rng)
        return text


FILLERS = {
    "en": re.compile(r"\b(the|a|an|is|are|do|does|to|please|my|of|it|in|with|for|can|i)\b ?"),
    "zh": re.compile("[的了吗呢啊一下是]"),
}
CONTRACTIONS = (
    ("what is", "what's"),
    ("do not", "don't"),
    ("can not", "can't"),
    ("cannot", "can't"),
    ("how is", "how's"),
    ("i am", "i'm"),
    ("i want to", "i wanna"),
    ("you are", "you're"),
    ("please", "pls"),
)


def roughen(question: str, language: str, rng: random.Random) -> str:
    """Change a clean question as people write theirs: endings, capitals, missing words, typing errors."""
    if rng.random() < 0.08 and len(question) > 6:  # 你好吗 without its last hanzi is another question
        question = _without_one(FILLERS[language], question, rng)
    if language == "en":
        for long, short in CONTRACTIONS:
            if long in question and rng.random() < 0.3:
                question = question.replace(long, short, 1)
        if rng.random() < 0.1:
            question = _mistype(question, rng)
        style = rng.random()
        if style < 0.55:
            question = question[:1].upper() + question[1:]
            question = re.sub(r"\bi\b", "I", question)
        elif style < 0.58:
            question = question.upper()
        ending = rng.choices(("?", "", ".", "!", "??", " ?"), (42, 42, 6, 3, 2, 2))[0]
    else:
        if rng.random() < 0.05 and len(question) > 5:
            place = rng.randrange(len(question))
            question = question[:place] + question[place + 1 :]
        if rng.random() < 0.15:
            question = question.replace("，", rng.choice((",", " ", "")))
        if rng.random() < 0.15:  # a space between hanzi and latin letters
            question = re.sub(
                r"(?<=[\u4e00-\u9fff])(?=[A-Za-z0-9/])|(?<=[A-Za-z0-9])(?=[\u4e00-\u9fff])", " ", question
            )
        if rng.random() < 0.1:
            question = question.lower()
        ending = rng.choices(("？", "", "?", "。", "！", "？？"), (36, 46, 8, 5, 3, 2))[0]
    if question[-1:] in "?？!！.。" and question:
        return question
    return question + ending


def exchange_word(question: str, synonyms: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """Put another word in the place of one that has `synonyms`."""
    found = [
        word
        for word in synonyms
        if word in question and (not word.isascii() or re.search(rf"\b{word}\b", question))
    ]
    if not found:
        return question
    word = rng.choice(found)
    other = rng.choice(synonyms[word])
    if word.isascii():
        return re.sub(rf"\b{word}\b", other, question, count=1)
    return question.replace(word, other, 1)


def _without_one(pattern: re.Pattern[str], text: str, rng: random.Random) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text
    cut = rng.choice(found)
    return text[: cut.start()] + text[cut.end() :]


def _mistype(text: str, rng: random.Random) -> str:
    words = list(re.finditer(r"[a-z]{4,}", text))
    if not words:
        return text
    word = rng.choice(words)
    place = rng.randrange(word.start(), word.end() - 1)
    kind = rng.randrange(4)
    if kind == 0:  # two letters the wrong way round
        return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    if kind == 1:  # a letter missing
        return text[:place] + text[place + 1 :]
    if kind == 2:  # a letter twice
        return text[:place] + text[place] + text[place:]
    return text[:place] + rng.choice("abcdefghijklmnopqrstuvwxyz") + text[place + 1 :]


def normalised(text: str) -> str:
    """Reduce a question to what makes it different: letters, digits and hanzi in lower case."""
    return " ".join(re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]", text.lower()))


def texts(corpus: Corpus, seed: int, count: int) -> Sequence[str]:
    """Draw `count` questions, and all answers: what the tokenizer is trained on."""
    examples = corpus.stream(seed)
    return [next(examples).question for _ in range(count)] + [*corpus.answers.values()] * 20


def heldout(corpus: Corpus | None = None) -> list[Example]:
    """Return the dialogues that nothing is trained on: questions put in other words than the tables'."""
    answers = (corpus or Corpus()).answers
    examples = []
    for line in HELDOUT.read_text(encoding="utf-8").split("\n"):
        if line:
            record = json.loads(line)
            language, intent = record["language"], record["intent"]
            rounds = tuple((question, answers[each, language]) for each, question in record.get("rounds", ()))
            examples.append(Example(intent, language, rounds, record["question"], answers[intent, language]))
    return examples
