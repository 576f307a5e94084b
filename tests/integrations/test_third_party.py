"""What other programs do with the registered classes: training, evaluation, pipelines, generation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from golden_data import GOLDEN
from tiny_model import write_tiny_model, write_tiny_model2

import glmtui
from glmtui.errors import BadValueError, UnavailableError

TEXTS = ("你好 a", "b", "How do I")


@pytest.fixture(scope="module", params=[write_tiny_model, write_tiny_model2], ids=["chatglm", "chatglm2"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    glmtui.register()
    write: Callable[[Path], Path] = request.param
    folder = write(tmp_path_factory.mktemp("models") / "tiny")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


def ids_of(tokenizer: Any, text: str, *, special: bool = True) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=special)["input_ids"]
    return ids


# --- labels ---


def test_labels_give_the_loss_computed_by_hand(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    ids = torch.tensor([ids_of(tokenizer, TEXTS[0])])
    labels = ids.clone()
    labels[0, :3] = -100
    found = model(ids, labels=labels)
    logits = model(ids).logits
    assert not logits.requires_grad
    torch.testing.assert_close(found.logits, logits)
    expected = F.cross_entropy(logits[0, 2:-1], ids[0, 3:])
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss, expected)
    assert torch.equal(model(ids, labels=labels, return_dict=False)[0], found.loss)
    share = model(ids, labels=labels, num_items_in_batch=7).loss  # as the trainer asks it to accumulate
    torch.testing.assert_close(share, expected * (ids.shape[1] - 3) / 7)


def test_a_padded_batch_has_the_losses_of_its_rows(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    tokenizer = copy.deepcopy(tokenizer)
    for side in ("left", "right"):
        tokenizer.padding_side = side
        batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
        real = batch["attention_mask"].bool()
        logits = model(**batch).logits
        for row, kept, text in zip(logits, real, TEXTS, strict=True):
            alone = model(torch.tensor([ids_of(tokenizer, text)])).logits[0]
            torch.testing.assert_close(row[kept], alone, rtol=1e-4, atol=1e-4)
            assert not row[~kept].any()
        labels = batch["input_ids"].masked_fill(~real, -100)
        expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        torch.testing.assert_close(model(**batch, labels=labels).loss, expected, rtol=1e-4, atol=1e-4)


def test_training_changes_every_weight(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    trained = copy.deepcopy(model).train()
    ids = torch.tensor([ids_of(tokenizer, TEXTS[0])])
    first = trained(input_ids=ids, labels=ids)
    assert "cache" not in first
    assert "past_key_values" not in first
    first.loss.backward()
    assert all(each.grad is not None for each in trained.parameters())
    with torch.no_grad():
        for each in trained.parameters():
            each -= 1e-3 * each.grad
    assert trained(input_ids=ids, labels=ids).loss < first.loss


def test_the_prefix_of_p_tuning_has_a_gradient() -> None:
    from transformers import AutoModelForCausalLM

    glmtui.register()
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / "chatglm2-ptuning", dtype=torch.float32).train()
    ids = torch.arange(5, 15)[None]
    model(ids, labels=ids).loss.backward()
    assert model.transformer.prefix_encoder.embedding.weight.grad.abs().sum() > 0


def test_quantised_weights_pass_a_gradient_on() -> None:
    """So an adapter learns over them; themselves they have none, which `backward` says."""
    from transformers import AutoModelForCausalLM

    glmtui.register()
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / "chatglm2-int4")
    ids = torch.arange(5, 15)[None]
    with pytest.raises(RuntimeError, match="does not require grad"):
        model(ids, labels=ids).loss.backward()
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    model(inputs_embeds=embedded, labels=ids).loss.backward()
    assert embedded.grad is not None
    assert embedded.grad.abs().sum() > 0


def test_a_module_that_is_replaced_is_used(loaded: tuple[Any, Any]) -> None:
    """As adapters replace them, at the top too."""
    model, tokenizer = loaded
    changed = copy.deepcopy(model)
    ids = torch.tensor([ids_of(tokenizer, TEXTS[0])])

    class Half(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.inner(x)) / 2

    if hasattr(changed, "lm_head"):
        changed.lm_head = Half(changed.lm_head)
    else:
        changed.transformer.output_layer = Half(changed.transformer.output_layer)
    torch.testing.assert_close(changed(ids).logits, model(ids).logits / 2)


# --- what else forward takes ---


def test_hidden_states_lead_to_the_logits(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    found = model(**batch, output_hidden_states=True)
    states = found.hidden_states
    assert len(states) == model.config.num_layers + 1
    real = batch["attention_mask"].bool()
    embedded = model.get_input_embeddings()(batch["input_ids"])
    assert torch.equal(states[0][real], embedded[real])
    head = getattr(model, "lm_head", None) or model.transformer.output_layer
    torch.testing.assert_close(head(states[-1][real]), found.logits[real])
    generated = model.generate(
        **batch, max_new_tokens=2, output_hidden_states=True, return_dict_in_generate=True, do_sample=False
    )
    torch.testing.assert_close(generated.hidden_states[0][-1], states[-1], rtol=1e-4, atol=1e-4)


def test_embedded_ids_are_as_good_as_ids_or_refused(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    ids = torch.tensor([ids_of(tokenizer, TEXTS[0])])
    embedded = model.get_input_embeddings()(ids)
    if hasattr(model, "lm_head"):  # ChatGLM-6B's prompt ends where its ids say
        with pytest.raises(UnavailableError, match="inputs_embeds"):
            model(inputs_embeds=embedded)
    else:
        torch.testing.assert_close(model(inputs_embeds=embedded).logits, model(ids).logits)
    with pytest.raises(BadValueError):
        model(ids, inputs_embeds=embedded if not hasattr(model, "lm_head") else ids)


def test_logits_may_be_asked_for_in_part(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    ids = torch.tensor([ids_of(tokenizer, TEXTS[0])])
    logits = model(ids).logits
    for kept in (1, 3, ids.shape[1]):
        torch.testing.assert_close(model(ids, logits_to_keep=kept).logits, logits[:, -kept:])
    chosen = torch.tensor([0, 2])
    assert torch.equal(model(ids, logits_to_keep=chosen).logits, logits[:, chosen])


def test_a_cache_goes_on(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    ids = torch.tensor([ids_of(tokenizer, TEXTS[0])])
    cut = ids.shape[1]
    more = torch.cat((ids, torch.tensor([[5, 9, 11]])), dim=1)
    first = model(ids)
    name = "cache" if "cache" in first else "past_key_values"
    then = model(more[:, cut:], **{name: first[name]})
    torch.testing.assert_close(then.logits, model(more).logits[:, cut:], rtol=1e-4, atol=1e-4)
    options = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
    started = {name: model(ids)[name]}
    assert torch.equal(model.generate(more, **started, **options), model.generate(more, **options))
    assert name not in model(ids, use_cache=False)


def test_position_ids_are_the_models_own_or_refused(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    if hasattr(model, "lm_head"):
        pytest.skip("its positions have two parts")
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    own = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    assert torch.equal(model(**batch, position_ids=own).logits, model(**batch).logits)
    with pytest.raises(UnavailableError, match="position_ids"):
        model(**batch, position_ids=own + 1)


@pytest.mark.parametrize(
    "options",
    [
        {"output_attentions": True},
        {"head_mask": torch.ones(2)},
        {"past_key_values": ((torch.ones(1),),)},
        {"no_such_option": 1},
    ],
)
def test_what_means_nothing_here_is_refused(loaded: tuple[Any, Any], options: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError):
        loaded[0](torch.tensor([[5, 6]]), **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"input_ids": torch.tensor([[5, -1]])},
        {"input_ids": torch.tensor([[5, 10**6]])},
        {"input_ids": torch.tensor([5, 6])},
        {"input_ids": torch.zeros(1, 0, dtype=torch.long)},
        {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.zeros(1, 2)},
        {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 3)},
        {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 1, 2, 2)},
    ],
)
def test_what_is_no_batch_is_refused(loaded: tuple[Any, Any], options: dict[str, Any]) -> None:
    with pytest.raises(BadValueError):
        loaded[0](**options)


# --- generate ---


@pytest.mark.parametrize("kind", ["prompt_lookup", "assistant", "without cache"])
def test_every_way_of_greedy_decoding_finds_the_same(loaded: tuple[Any, Any], kind: str) -> None:
    model, tokenizer = loaded
    ids = torch.tensor([ids_of(tokenizer, TEXTS[0])])
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    ways = {
        "prompt_lookup": {"prompt_lookup_num_tokens": 2},
        "assistant": {"assistant_model": copy.deepcopy(model)},
        "without cache": {"use_cache": False},
    }
    assert torch.equal(model.generate(ids, **ways[kind], **options), model.generate(ids, **options))


def test_several_answers_and_a_pipeline(loaded: tuple[Any, Any]) -> None:
    from transformers import pipeline

    model, tokenizer = loaded
    ids = torch.tensor([ids_of(tokenizer, TEXTS[0])])
    assert len(model.generate(ids, do_sample=True, num_return_sequences=3, max_new_tokens=2)) == 3
    run = pipeline("text-generation", model=model, tokenizer=tokenizer)
    options = {"max_new_tokens": 3, "do_sample": False}
    (found,) = run(TEXTS[0], **options)
    answer = model.generate(ids, **options)[0, ids.shape[1] :]
    assert found["generated_text"] == TEXTS[0] + tokenizer.decode(answer, skip_special_tokens=True)
    messages = [{"role": "user", "content": "hi"}]
    prompt = tokenizer.apply_chat_template(messages, return_tensors="pt")
    answer = model.generate(**prompt, **options)[0, prompt["input_ids"].shape[1] :]
    (found,) = run(messages, **options)
    said = tokenizer.decode(answer, skip_special_tokens=True)
    assert found["generated_text"] == [*messages, {"role": "assistant", "content": said}]


# --- loglikelihoods, as lm-evaluation-harness asks for them ---


def loglikelihood(model: Any, rows: list[tuple[list[int], list[int]]]) -> list[float]:
    """Return that of each continuation: a batch without a mask, padded with zeros on the right."""
    joined = [torch.tensor((context + continuation)[:-1]) for context, continuation in rows]
    batch = torch.nn.utils.rnn.pad_sequence(joined, batch_first=True)
    chances = model(batch).logits.log_softmax(-1)
    found = []
    for row, ids, (_context, continuation) in zip(chances, joined, rows, strict=True):
        predicted = row[len(ids) - len(continuation) : len(ids)]
        found.append(float(predicted.gather(1, torch.tensor(continuation)[:, None]).sum()))
    return found


def by_hand(model: Any, context: list[int], continuation: list[int]) -> float:
    """Return the sum of each token's, with nothing of what comes after it in sight."""
    total = 0.0
    for at, token in enumerate(continuation):
        seen = torch.tensor([context + continuation[:at]])
        total += float(model(seen).logits[0, -1].log_softmax(-1)[token])
    return total


@pytest.mark.parametrize("way", ["text", "chat", "rolling"])
def test_loglikelihoods_are_those_computed_by_hand(loaded: tuple[Any, Any], way: str) -> None:
    """Alone and in a batch; with a chat template the context is text with special tokens of its own."""
    model, tokenizer = loaded
    rows = []
    for text, continuation in (("How do I", " load"), ("你好", "，我")):
        special = way == "chat"
        context = text
        if way == "chat":
            messages = [{"role": "user", "content": text}]
            context = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        before = ids_of(tokenizer, context, special=special)
        complete = ids_of(tokenizer, context + continuation, special=special)
        rows.append((before, complete[len(before) :]))
        if way == "rolling":
            rows[-1] = ([tokenizer.bos_token_id], complete)
    together = loglikelihood(model, rows)
    for row, found in zip(rows, together, strict=True):
        assert found == pytest.approx(by_hand(model, *row), abs=1e-3)
        assert loglikelihood(model, [row])[0] == pytest.approx(found, abs=1e-3)


def test_chatglm_does_not_see_what_it_is_to_predict(loaded: tuple[Any, Any]) -> None:
    """Without ``<sop>`` the ids are read as an answer, behind the end of an empty prompt."""
    model, tokenizer = loaded
    ids = torch.tensor([ids_of(tokenizer, TEXTS[2], special=False)])
    changed = ids.clone()
    changed[0, -1] = 5
    torch.testing.assert_close(model(ids).logits[:, :-1], model(changed).logits[:, :-1])
    if hasattr(model, "lm_head"):
        end = torch.tensor([ids_of(tokenizer, "")])
        logits = model(torch.cat((end, ids), dim=1)).logits[:, 2:]
        torch.testing.assert_close(model(ids).logits, logits)
        options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
        longer = model.generate(torch.cat((end, ids), dim=1), **options)
        assert torch.equal(model.generate(ids, **options), longer[:, 2:])


def test_chatglm_refuses_a_prompt_that_ends_twice(loaded: tuple[Any, Any]) -> None:
    """So evaluations make it that add special tokens to a context, and to it with its continuation."""
    model, tokenizer = loaded
    if not hasattr(model, "lm_head"):
        pytest.skip("its special tokens come first")
    context, complete = ids_of(tokenizer, "How do I"), ids_of(tokenizer, "How do I load a model")
    with pytest.raises(BadValueError, match="add_bos_token"):
        loglikelihood(model, [(context, complete[len(context) :])])
