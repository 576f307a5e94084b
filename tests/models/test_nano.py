"""The built-in model answers what a newcomer asks first, in both languages, and is small."""

import random
import re
from itertools import islice

import pytest
import torch
from nano import corpus as tables
from nano.corpus import Corpus, heldout, normalised, parse
from nano.evaluate import Grader, load
from nano.train import FOLDER, Encoder, collate, loss_of, read_legs

import glmtui
from glmtui.cli.main import build_parser
from glmtui.cli.subcommands import SUBCOMMANDS, parsers
from glmtui.engine.chat_model import ChatModel
from glmtui.session import keys
from glmtui.session.slash.registry import COMMANDS

QUESTIONS = [
    ("en", "hello", "Hello"),
    ("en", "who", "Who are you?"),
    ("en", "load_6b", "How do I load ChatGLM-6B?"),
    ("en", "int4", "How do I use INT4?"),
    ("en", "memory", "How much memory does ChatGLM-6B need?"),
    ("en", "quit", "How do I quit?"),
    ("en", "where_kept", "Where are my conversations saved?"),
    ("en", "unknown", "What is the capital of France?"),
    ("en", "unknown", "Write a poem about the moon"),
    ("zh", "hello", "你好"),
    ("zh", "who", "你是谁？"),
    ("zh", "load_6b", "怎么加载ChatGLM-6B？"),
    ("zh", "int4", "怎么使用INT4量化？"),
    ("zh", "memory", "需要多少内存？"),
    ("zh", "quit", "怎么退出？"),
    ("zh", "where_kept", "聊天记录保存在哪里？"),
    ("zh", "unknown", "今天天气怎么样？"),
    ("zh", "unknown", "写一首关于月亮的诗"),
]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus()


@pytest.fixture(scope="module")
def nano() -> ChatModel:
    model = glmtui.load()
    torch.set_num_threads(1)
    return model


def test_is_small(nano: ChatModel):
    assert 5e6 <= nano.info.parameters <= 10e6
    assert (FOLDER / "model.safetensors").stat().st_size <= 20e6


@pytest.mark.parametrize(("language", "intent", "question"), QUESTIONS)
def test_answers_what_people_ask_first(
    nano: ChatModel, corpus: Corpus, language: str, intent: str, question: str
):
    answer, _history = nano.chat(question, temperature=0)
    assert answer == corpus.answers[intent, language]


@pytest.mark.parametrize(("language", "intent", "question"), [QUESTIONS[2], QUESTIONS[9]])
@pytest.mark.parametrize("seed", range(8))
def test_answers_at_the_default_sampling(
    nano: ChatModel, corpus: Corpus, language: str, intent: str, question: str, seed: int
):
    answer, _history = nano.chat(question, seed=seed)
    assert answer == corpus.answers[intent, language]


@pytest.mark.parametrize(
    ("language", "first", "then", "intent"),
    [
        ("en", "How much memory does ChatGLM-6B need?", "and in INT4?", "int4"),
        ("en", "What is quantisation?", "And how do I quit?", "quit"),
        ("zh", "ChatGLM-6B需要多少内存？", "那INT4呢？", "int4"),
        ("zh", "你好", "那怎么退出？", "quit"),
    ],
)
def test_follows_a_conversation(
    nano: ChatModel, corpus: Corpus, language: str, first: str, then: str, intent: str
):
    _answer, history = nano.chat(first, temperature=0)
    answer, _history = nano.chat(then, history, temperature=0)
    assert answer == corpus.answers[intent, language]


def test_a_long_conversation_leaves_the_model_able_to_answer(nano: ChatModel, corpus: Corpus):
    history = [(question, corpus.answers[intent, language]) for language, intent, question in QUESTIONS]
    answer, _history = nano.chat("怎么退出？", history, temperature=0)
    assert answer == corpus.answers["quit", "zh"]


def test_every_answer_survives_tokenizer_and_post_processing(nano: ChatModel, corpus: Corpus):
    for answer in corpus.answers.values():
        ids = nano.tokenizer.encode_text(answer)
        assert nano.format.process_response(nano.tokenizer.decode(ids)) == answer


def test_every_intent_has_an_answer_and_questions_in_both_languages(corpus: Corpus):
    assert set(corpus.answers) == {
        (intent, language) for intent in corpus.intents for language in tables.LANGUAGES
    }


def test_the_same_seed_draws_the_same_dialogues(corpus: Corpus):
    assert list(islice(corpus.stream(3), 50)) == list(islice(Corpus().stream(3), 50))


def test_held_out_questions_are_many_and_not_in_the_training_text(corpus: Corpus):
    examples = heldout(corpus)
    drawn = {normalised(example.question) for example in islice(corpus.stream(7), 5000)}
    for language in tables.LANGUAGES:
        asked = [each for each in examples if each.language == language]
        assert len(asked) >= 100
        seen = [each.question for each in asked if normalised(each.question) in drawn]
        assert (
            len(seen) <= len(asked) / 20
        )  # `evaluate` looks at all of the training text and leaves them out


def test_a_template_with_an_open_bracket_is_refused():
    with pytest.raises(ValueError, match=r"\) is missing"):
        parse("how (do|can i")


def test_it_is_written_down_how_the_weights_were_trained():
    legs = read_legs(FOLDER)
    assert all(leg["examples"] > 10_000 and leg["seed"] for leg in legs)


def test_a_step_of_training_lowers_the_loss(corpus: Corpus):
    model = load()
    encode = Encoder(model.config)
    examples = [encode(example, random.Random(1)) for example in islice(corpus.stream(5), 6)]
    batch = collate(examples, model.config.pad_token_id)
    before = loss_of(model, batch)
    before.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert loss_of(model, batch) < before


def test_the_grader_and_the_app_hear_the_same(nano: ChatModel, corpus: Corpus):
    grader = Grader(load())
    for example in heldout(corpus)[:3]:
        answer, _history = nano.chat(example.question, temperature=0)
        assert grader.is_right(example) == (answer == example.answer)


def named_in_the_dialogues() -> str:
    return "\n".join(table.read_text(encoding="utf-8") for table in tables.DIALOGUES.glob("*.toml"))


def test_every_slash_command_it_names_exists():
    named = set(re.findall(r"(?<=`)/(\w+)", named_in_the_dialogues()))
    assert len(named) > 20
    assert named <= set(COMMANDS.by_name)


def test_every_key_it_names_is_bound(corpus: Corpus):
    bound = {name for key in keys.KEYS for name in keys.keys_of(key, {})}
    textual = {"esc": "escape", "[": "left_square_bracket", "]": "right_square_bracket"}
    named = {
        key for answer in corpus.answers.values() for key in re.findall(r"\*\*(?!nano\b)(.+?)\*\*", answer)
    }
    assert len(named) > 10
    assert {textual.get(key.lower(), key.lower()) for key in named} <= bound
    for answer in corpus.answers.values():  # a binding it gives as an example clashes with nothing
        assert not keys.problems(dict(re.findall(r'`"(\w+\.\w+)" = "([\w+]+)"`', answer)))


def test_every_subcommand_and_option_it_names_exists(corpus: Corpus):
    options = {name for each in parsers(build_parser()) for name in each._option_string_actions}
    shell = " ".join(corpus.answers.values())
    named = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", shell))
    assert {"--model", "--plain"} <= named <= options
    subcommands = set(re.findall(r"(?:`|\n|\()glmtui ([a-z]+)", shell))
    assert {"ask", "models", "completion"} <= subcommands <= set(SUBCOMMANDS)
    listed = re.findall(r"(?:Subcommands: |子命令有 )(.+?)(?:\. |，)", shell)
    assert [set(re.findall(r"`(\w+)`", names)) for names in listed] == [set(SUBCOMMANDS)] * 2
