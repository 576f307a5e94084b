"""What a model says to questions with known answers: BLEU-4, ROUGE and perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from glmtui.models.chat_formats.formats import messages_of
from glmtui.training.encoding import encode
from glmtui.training.forward import TrainingState, loss_of
from glmtui.training.metrics import Scores, score
from glmtui.training.rows import Row

if TYPE_CHECKING:
    from glmtui.engine.chat_model import ChatModel
    from glmtui.protocol.sampling import Sampling
    from glmtui.training.encoding import Encoded


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question, the expected answer, and the model's."""

    row: Row
    answer: str
    scores: Scores | None
    """None where no answer was asked for."""
    loss: float
    """Mean over the tokens of the expected answer."""
    tokens: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Of all rows."""

    rows: int
    perplexity: float
    """e to the mean loss over all tokens of the expected answers."""
    scores: Scores | None
    """The mean over the rows."""


def predict(
    model: ChatModel,
    row: Row,
    sampling: Sampling,
    *,
    max_source: int,
    max_target: int,
    answers: bool = True,
) -> Prediction:
    """Return what the model says to a row.

    Args:
        model: with or without something trained on top.
        row: the question, with what was said before it, and the expected answer.
        sampling: how tokens are chosen.
        max_source: the longest prompt in tokens, for the perplexity; asked it is as in a chat.
        max_target: the longest answer in tokens.
        answers: whether the model is to answer; else there is only the perplexity.

    Raises:
        TooLongError: the question is longer than the model was made for.
        UserError: what scores answers is not installed.
    """
    loss, tokens = loss_in(model, encode(row, model.tokenizer, max_source, max_target))
    if not answers:
        return Prediction(row, "", None, loss, tokens)
    answer = answer_to(model, row, replace(sampling, max_new_tokens=max_target))
    return Prediction(row, answer, score(answer, row.response), loss, tokens)


def answer_to(
    model: ChatModel, row: Row, sampling: Sampling, check: Callable[[float], None] | None = None
) -> str:
    """Return the model's answer to the question of `row`, as in a chat, without its thought."""
    answer = model.stream(messages_of(row.prompt, row.history or (), row.system), sampling, check=check)
    for _piece in answer:
        pass
    if check is not None:
        check(1.0)  # a cancel ends the answer, and then all
    return answer.text


@torch.no_grad()
def loss_in(model: ChatModel, row: Encoded) -> tuple[float, int]:
    """Return the mean loss of a row under the model, and over how many tokens."""
    network = model.network
    device = next(network.parameters()).device
    prefix = network.prefix()
    state = TrainingState(None if prefix is None else prefix[:, :, None], checkpointing=False)
    rows = 0 if prefix is None else prefix.shape[-2]
    ids, labels = (torch.tensor([each], device=device) for each in (row.ids, row.labels))
    loss, count = loss_of(network, ids, labels, state, rows)
    return float(loss), count


def summary(predictions: Sequence[Prediction]) -> Evaluation:
    """Return what at least one prediction gives."""
    tokens = sum(each.tokens for each in predictions)
    loss = sum(each.loss * each.tokens for each in predictions) / max(tokens, 1)
    scored = [each.scores for each in predictions if each.scores is not None]
    perplexity = math.exp(loss) if loss < math.log(1e300) else math.inf
    return Evaluation(len(predictions), perplexity, Scores.mean(scored) if scored else None)
