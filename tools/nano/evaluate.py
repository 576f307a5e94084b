"""Grades nano on the held-out questions: ``python -m nano.evaluate``.

A question counts as right if the greedy answer is, word for word, the one its intent has in the tables.
Questions whose text occurs in the training data (drawn again here by seed) do not count at all, and those
that come close to some training text are counted on their own.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file

from glmtui.engine.prefill import read
from glmtui.models.chat_formats.formats import Dialogue, Rounds
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.models.tokenizers.chatglm import ChatGLMTokenizer, load_tokenizer
from nano.corpus import LANGUAGES, Corpus, Example, heldout, normalised
from nano.train import FOLDER, read_legs

CLOSE = 0.8
"""Shared words of two questions, of all their words, from which on they count as close."""


def load(folder: Path = FOLDER) -> ChatGLM:
    """Load the weights in `folder` as float32."""
    config = ChatGLMConfig.from_dict(json.loads((FOLDER / "config.json").read_text(encoding="utf-8")))
    model = ChatGLM(config)
    missing, unexpected = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    if unexpected or set(missing) - set(model.TIED):
        raise ValueError(f"{folder}: missing {missing}, unexpected {unexpected}")
    return model.float().eval()


class Grader:
    """Asks nano, greedily."""

    def __init__(self, model: ChatGLM) -> None:
        tokenizer = load_tokenizer(FOLDER)
        assert isinstance(tokenizer, ChatGLMTokenizer)
        self.model, self.tokenizer, self.format = model, tokenizer, Rounds(tokenizer)

    def is_right(self, example: Example) -> bool:
        """Whether the greedy answer is the right one: as if its every token were the likeliest."""
        prompt = self.prompt(example)
        answer = [*self.tokenizer.encode_text(example.answer), self.tokenizer.eos_id]
        logits = read(self.model, torch.tensor(prompt + answer[:-1]))
        likeliest: list[int] = logits[len(prompt) - 1 :].argmax(-1).tolist()
        return likeliest == answer

    def answer(self, example: Example, limit: int = 200) -> str:
        """Return the greedy answer."""
        cache, ids = self.model.new_cache(), self.prompt(example)
        answer: list[int] = []
        while len(answer) < limit:
            token = int(read(self.model, torch.tensor(ids), cache, last_only=True).argmax())
            if token == self.tokenizer.eos_id:
                break
            answer.append(token)
            ids = [token]
        return self.format.process_response(self.tokenizer.decode(answer))

    def prompt(self, example: Example) -> list[int]:
        """Return the prompt's ids."""
        return self.format.write(Dialogue.of(example.turns))


def overlaps(examples: Sequence[Example], training: Sequence[str]) -> dict[Example, float]:
    """Return for each example how near the nearest training text is: 1 is the same, 0 shares no word."""
    known: dict[str, list[frozenset[str]]] = defaultdict(list)
    for words in {frozenset(text.split()) for text in training}:
        for word in words:
            known[word].append(words)
    exact = set(training)
    nearest = {}
    for example in examples:
        text = normalised(example.question)
        words = frozenset(text.split())
        shared = Counter(other for word in words for other in known[word])
        best = max((count / len(words | other) for other, count in shared.items()), default=0.0)
        nearest[example] = 1.0 if text in exact else min(best, 0.99)
    return nearest


def training_texts(folder: Path) -> list[str]:
    """Draw the questions again that the weights in `folder` were trained on, normalised.

    They are drawn from the tables as they are now; an earlier run may have had fewer.
    """
    corpus, drawn_ahead = Corpus(), 8192
    return [
        normalised(question)
        for leg in read_legs(folder)
        for process in range(leg["processes"])
        for example in islice(
            corpus.stream(leg["seed"] + process), leg["examples"] // leg["processes"] + drawn_ahead
        )
        for question in (example.question, *(question for question, _answer in example.rounds))
    ]


def main() -> None:
    """Print the rate for each language, and every miss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=FOLDER, help="folder of model.safetensors")
    folder: Path = parser.parse_args().weights
    torch.set_num_threads(1)
    corpus = Corpus()
    grader, examples = Grader(load(folder)), heldout(corpus)
    nearest = overlaps(examples, training_texts(folder))
    intents = {answer: intent for (intent, _language), answer in corpus.answers.items()}
    for language in LANGUAGES:
        asked = [each for each in examples if each.language == language]
        counted = [each for each in asked if nearest[each] < 1 or each.rounds]
        wrong = [each for each in counted if not grader.is_right(each)]
        far = [each for each in counted if nearest[each] < CLOSE]
        far_right = len([each for each in far if each not in wrong])
        right = len(counted) - len(wrong)
        print(f"{language}: {right} of {len(counted)} right = {right / len(counted):.1%}")
        print(f"  {len(asked) - len(counted)} left out: their text occurs in training")
        rate = far_right / len(far)
        print(f"  {far_right} of {len(far)} right = {rate:.1%} where no training text comes close")
        for each in wrong:
            answer = grader.answer(each)
            print(f"  miss: {each.question!r} is {each.intent}, got {intents.get(answer, answer)!r}")


if __name__ == "__main__":
    main()
