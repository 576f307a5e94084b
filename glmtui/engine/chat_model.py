"""A loaded model as Python and the engine see it: token ids in and out, and conversations in and text out."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from glmtui.engine import pictures
from glmtui.engine.adapters import Adapters
from glmtui.engine.answer_text import AnswerText
from glmtui.engine.generate import Generation
from glmtui.engine.pictures import Content, Pictures, PromptImage
from glmtui.engine.prefill import Check, read
from glmtui.engine.prefix_cache import Digests, PrefixCache, default_limit
from glmtui.errors import BadValueError, OutOfMemoryError, TooLongError, UnavailableError, UserError
from glmtui.failures import is_out_of_memory
from glmtui.hub.memory_estimate import context_advice
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.base import ImageRows, KVCache, LanguageModel, PlacedImage
from glmtui.models.chat_formats import formats, thoughts
from glmtui.models.chat_tokenizer import ChatTokenizer, load_tokenizer
from glmtui.protocol.cancellation import OperationCancelled
from glmtui.protocol.events import Stats, TokenCount
from glmtui.protocol.messages import ChatMessage, Image, Part, Text, Thought, ToolCall, text_of
from glmtui.protocol.models import Capabilities, ModelEntry, ModelInfo
from glmtui.protocol.phrases import NOTHING, Phrase, _, sentences
from glmtui.protocol.requests import CountTokens, Tool
from glmtui.protocol.sampling import Sampling

if TYPE_CHECKING:
    from glmtui.engine.grammar import Grammar, Vocabulary

ANSWER_ROOM = 512
"""Tokens kept free for the answer when old rounds must be left out, or a quarter of a shorter context. A
model that thinks first always has the quarter."""

SLICE = 64
"""Tokens that are read ahead at once, where they can be cut: what is lost when that is given up."""

History = list[tuple[str, str]]
"""Rounds of (question, answer), as in the published `chat`."""


class ChatModel:
    """A network with its tokenizer and its way of writing conversations. Made by `glmtui.load`.

    One answer at a time: the model's tensors are shared, so two threads must not generate at once.
    """

    def __init__(
        self,
        network: LanguageModel,
        folder: ModelFolder,
        info: ModelInfo,
        tokenizer: ChatTokenizer | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        self.network = network
        self.folder = folder
        self.info = info
        self._adapters = adapters
        self._tokenizer = tokenizer
        device = next(network.parameters()).device
        self._prefixes: PrefixCache[formats.CachedConversation] = PrefixCache(default_limit(device))
        self._ahead: _Ahead | None = None
        self._pictures = Pictures(network)

    def __repr__(self) -> str:
        info = self.info
        return f"<ChatModel {info.name} on {info.device}, {info.dtype}, quant {info.quant}>"

    @property
    def tokenizer(self) -> ChatTokenizer:
        """The model's tokenizer. Raises UserError naming the file where the folder has none."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.folder.path)
        return self._tokenizer

    @property
    def format(self) -> formats.ChatFormat:
        """How the model wants a conversation to be written."""
        return self.tokenizer.format

    def adapt(self, ptuning: str | None, lora: str | None) -> None:
        """Put exactly these folders on top of the model, None for none. Each is read once and then kept.

        Raises:
            UserError: one cannot be read, or was made for another model; all is as it was.
        """
        if self._adapters is None:
            raise UnavailableError(_("Nothing can be put on top of this model."))
        if self._adapters.use(ptuning, lora):
            self.forget_prefixes()

    # --- token ids ---

    def logits(self, ids: Sequence[int], *, image: Content | None = None, image_at: int = 0) -> Tensor:
        """Return float32 logits ``[n, vocab]`` on the CPU for the prompt `ids` ``[n]``.

        Args:
            ids: token ids.
            image: the path of a picture, or its bytes, whose rows stand in the places of some of them.
            image_at: index of the first of those.

        Raises:
            BadValueError: `ids` are none, not in one row, or not all in the vocabulary; or the picture has no
                room among them.
            UserError: the model sees no pictures, or this is none.
        """
        checked = self._checked(ids)
        placed = [
            PlacedImage(each.at, each.look(None)) for each in self._placed(image, image_at, len(checked))
        ]
        return read(self.network, checked.to(next(self.network.parameters()).device), images=placed).cpu()

    def image_embeds(self, image: Content) -> Tensor:
        """Return what stands in a prompt for a picture: float32 ``[rows, hidden]`` on the CPU.

        Args:
            image: the path of its file, or the bytes in it.

        Raises:
            UserError: the model sees no pictures, or this is none.
        """
        return self._look(*pictures.given(image)).rows.float().cpu().clone()

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop_ids: Sequence[int] = (),
        image: Content | None = None,
        image_at: int = 0,
    ) -> Iterator[int]:
        """Return up to `max_new_tokens` token ids that follow the prompt `ids`, through the key/value cache.

        Greedy unless `temperature` is above 0. This is the bare decoding: it goes on after an end token
        unless `stop_ids` (such as ``model.network.config.stop_ids``) say otherwise. `image` and `image_at`
        are those of `logits`.

        Raises:
            BadValueError: `ids` are as in `logits`, or an option is out of range.
        """
        prompt = self._checked(ids).tolist()
        if max_new_tokens is None:  # which elsewhere is as many as there is room for
            raise BadValueError(_("{name} cannot be {value}.").format(name="max_new_tokens", value="None"))
        if not isinstance(stop_ids, Iterable) or not all(isinstance(token, int) for token in stop_ids):
            raise BadValueError(_("{name} cannot be {value}.").format(name="stop_ids", value=repr(stop_ids)))
        sampling = Sampling(
            max_length=sys.maxsize,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        placed = self._placed(image, image_at, len(prompt))
        return iter(Generation(self.network, prompt, sampling, stop_ids=stop_ids, images=placed))

    def _look(self, image: Image, data: bytes) -> ImageRows:
        return self._pictures.look(image.sha256, data, image.name)

    def _placed(self, content: Content | None, at: int, tokens: int) -> tuple[PromptImage, ...]:
        """Return the picture that a program gave, `at` an index of a prompt of `tokens`; looks at it."""
        if content is None:
            return ()
        image, data = pictures.given(content)
        count = len(self._look(image, data).rows)
        if type(at) is not int or not 0 <= at <= tokens - count:
            message = _(
                "A picture takes {count} tokens, which a prompt of {tokens} does not have from {at} on."
            )
            raise BadValueError(message.format(count=count, tokens=tokens, at=at))
        return self._pictures.in_prompt([(at, image)], {image.sha256: data})

    def _checked(self, ids: Sequence[int]) -> Tensor:
        count = self.network.config.vocab_size
        try:
            found = torch.as_tensor(ids)
        except (TypeError, ValueError, RuntimeError):  # no numbers, or too large for any
            found = torch.empty(0)
        whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
        found = found.long()
        if (
            not whole
            or found.ndim != 1
            or not len(found)
            or not 0 <= int(found.min()) <= int(found.max()) < count
        ):
            raise BadValueError(
                _("A prompt is a row of token ids from 0 to {last}, at least one.").format(last=count - 1)
            )
        return found

    # --- conversations ---

    def chat(
        self,
        query: str,
        history: Sequence[tuple[str, str]] = (),
        *,
        system: str = "",
        image: Content | None = None,
        **sampling: Any,
    ) -> tuple[str, History]:
        """Answer `query`; return the answer and the history with it, as the published `chat` does.

        The conversation is about `image`, where one is given: the path of its file, or the bytes in it. Other
        keyword arguments are fields of `Sampling`. `history` itself is not changed. A thought before the
        answer is part of the response, between ``<think>`` and ``</think>``.
        """
        answer = self._asked(query, history, system, image, sampling)
        for _piece in answer:
            pass
        response = thoughts.written(answer.parts)
        return response, [*history, (query, response)]

    def stream_chat(
        self,
        query: str,
        history: Sequence[tuple[str, str]] = (),
        *,
        system: str = "",
        image: Content | None = None,
        **sampling: Any,
    ) -> Iterator[tuple[str, History]]:
        """Yield the answer so far and the history with it, every time there is more text. See `chat`."""
        answer = self._asked(query, history, system, image, sampling)
        for piece in answer:
            if piece.text:
                response = thoughts.written(answer.parts)
                yield response, [*history, (query, response)]

    def _asked(
        self,
        query: str,
        history: Sequence[tuple[str, str]],
        system: str,
        content: Content | None,
        sampling: dict[str, Any],
    ) -> Answer:
        image, files = None, {}
        if content is not None:
            image, data = pictures.given(content)
            files = {image.sha256: data}
        messages = formats.messages_of(query, history, system, image)
        return self.stream(messages, replace(self.default_sampling, **sampling), images=files)

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked for: all that concerns text, and of some models to see, or to call tools."""
        return Capabilities(
            tools=self.calls_tools, images=self.info.sees_images, adapters=self._adapters is not None
        )

    @property
    def siblings(self) -> tuple[ModelEntry, ...]:
        """What else can be had from where it runs: nothing."""
        return ()

    @property
    def default_sampling(self) -> Sampling:
        """What the model's makers chose."""
        return self.info.sampling

    def stream(
        self,
        messages: Sequence[ChatMessage],
        sampling: Sampling | None = None,
        *,
        continue_answer: bool = False,
        stop: Sequence[str] = (),
        tools: Sequence[Tool] = (),
        json_schema: Mapping[str, Any] | None = None,
        leave_out_rounds: bool = True,
        images: Mapping[str, bytes] = MappingProxyType({}),
        check: Check | None = None,
    ) -> Answer:
        """Return the answer to `messages`, for which nothing is computed until it is iterated over.

        If the conversation is too long, its oldest rounds are left out of the prompt.

        Args:
            messages: end with the user's, or with `continue_answer` the assistant's own unfinished one.
            sampling: how tokens are chosen; None is `default_sampling`.
            continue_answer: go on where the last message ends, if it has none but a thought, in that.
            stop, tools, json_schema, leave_out_rounds, images: as in `glmtui.protocol.requests.Generate`.
            check: called with the fraction of the prompt that is read, and before every token. It may raise
                `OperationCancelled`, which ends the answer with what came until then.

        Raises:
            UserError: there is no tokenizer, the last message alone is too long, the model calls no tools or
                sees no pictures, or one of them is missing or is none.
        """
        sampling = sampling or self.default_sampling
        limit = self.limit(sampling)
        messages = self._with_tools(messages, tools)
        prompt = self._fit(messages, sampling, limit, self._pictures.row_counts(messages, images))
        if prompt.dropped_rounds and not leave_out_rounds:
            phrase = _("The conversation is {count} tokens long and only {limit} fit.")
            count = self.count_tokens(messages, images)
            raise TooLongError(phrase.format(count=f"{count:,}", limit=f"{limit - 1:,}"))
        begun = messages[-1].parts if continue_answer else ()
        before = thoughts.written(begun)
        text = AnswerText(
            self.format.stream_tokens(before),
            None if json_schema is not None else self.format.stream_response(before),
            thoughts.ThoughtStream(begun),
            stop=stop,
            tools=[tool.name for tool in tools],
        )
        return Answer(
            self,
            self._generation(
                prompt.ids,
                sampling,
                limit,
                check,
                self._pictures.in_prompt(prompt.images, images),
                self._grammar(json_schema),
            ),
            text,
            limit,
            messages=tuple(messages[:-1] if continue_answer else messages),
            begun=begun,
            dropped_rounds=prompt.dropped_rounds,
            note=_unseen(messages, prompt),
        )

    def complete(
        self,
        text: str,
        sampling: Sampling | None = None,
        *,
        stop: Sequence[str] = (),
        check: Check | None = None,
    ) -> Answer:
        """Return how the model goes on with `text`, which is not put into a conversation; see `stream`.

        Raises:
            UserError: there is no tokenizer, or the text is too long.
        """
        sampling = sampling or self.default_sampling
        limit = self.limit(sampling)
        ids = self.tokenizer.encode(text)
        if len(ids) >= limit:
            raise TooLongError(
                _("The text is {count} tokens long and only {limit} fit.").format(
                    count=f"{len(ids):,}", limit=f"{limit - 1:,}"
                )
            )
        generation = self._generation(ids, sampling, limit, check)
        return Answer(self, generation, AnswerText(self.tokenizer.raw.stream(goes_on=True), stop=stop), limit)

    def prompt_ids(
        self, messages: Sequence[ChatMessage], images: Mapping[str, bytes] = MappingProxyType({})
    ) -> list[int]:
        """Return the tokens of the complete prompt of `messages`."""
        counts = self._pictures.row_counts(messages, images)
        return self.format.write(formats.Dialogue.of(messages, counts))

    def count(self, request: CountTokens) -> TokenCount:
        """Return the tokens of a prompt or of a bare text."""
        text = request.text
        messages, images = request.messages, request.images
        ids = self.prompt_ids(messages, images) if text is None else self.tokenizer.encode(text)
        return TokenCount(len(ids), tuple(ids))

    def count_tokens(
        self, messages: Sequence[ChatMessage], images: Mapping[str, bytes] = MappingProxyType({})
    ) -> int:
        """Return the tokens of the complete prompt of `messages`."""
        return len(self.prompt_ids(messages, images))

    @property
    def calls_tools(self) -> bool:
        """Whether `stream` takes tools; False also where there is no tokenizer."""
        try:
            return self.format.calls_tools
        except UserError:
            return False

    def limit(self, sampling: Sampling) -> int:
        """Prompt and answer together in tokens: what is asked for, as far as the model was made for it."""
        return min(sampling.max_length, self.network.config.max_length)

    def too_long(self, tokens: int) -> Phrase:
        """Say that memory ran out with a conversation of `tokens`, and what would fit."""
        info = self.info
        message = _("{device} ran out of memory with a conversation of {count} tokens.").format(
            device=info.device_name or info.device, count=f"{tokens:,}"
        )
        itemsize = 4 if info.dtype == "float32" else 2
        return sentences(message, context_advice(self.folder.sizes, info.quant, itemsize, tokens))

    def prefill(self, messages: Sequence[ChatMessage], sampling: Sampling, check: Check) -> int:
        """Read the prompt of `messages`, all but its last token, for the answer that may be asked for.

        Of a causal network's prompt what is read stays also when `check` raises. When the next prompt is
        another one, it is as if nothing had been read.

        Args:
            messages: without pictures.
            sampling: its lengths say how much of the conversation fits.
            check: as in `stream`.

        Returns:
            The tokens that need not be read again.
        """
        cached = self._cached(messages)
        images = self._pictures.row_counts(messages, {})
        prompt = self._fit(messages, sampling, self.limit(sampling), images)
        ids = torch.tensor(prompt.ids[:-1], device=next(self.network.parameters()).device)
        before = self._ahead
        cache = self._take(prompt.ids) or self.network.new_cache(len(ids) + KVCache.STEP)
        source = cached or formats.CachedConversation((), [])
        if before is None or before.cache is not cache:
            pairs = zip(source.ids, prompt.ids[: cache.length], strict=False)
            same = sum(1 for _pair in takewhile(lambda pair: pair[0] == pair[1], pairs))
            before = _Ahead(cache, source, same)
        cache.begin(ids)
        step = max(SLICE, cache.indivisible)
        try:
            while cache.length < len(ids):
                start, piece = cache.length, ids[cache.length :][:step]

                def within(fraction: float, start: int = start, count: int = len(piece)) -> None:
                    check((start + fraction * count) / len(ids))

                read(self.network, piece, cache, last_only=True, check=within)
        finally:
            self._prefixes.put(cache, prompt.ids, source)
            self._ahead = before
        return cache.length

    def keep(
        self, conversation: formats.CachedConversation, cache: KVCache | None, digests: Digests = ()
    ) -> None:
        """Keep what an answer leaves in `cache`, for the next question of the same conversation."""
        if cache is not None:
            self._prefixes.put(cache, conversation.ids, conversation, digests)

    def forget_prefixes(self) -> bool:
        """Give the memory of all other conversations' keys and values back; return whether there were any."""
        found = len(self._prefixes) > 0
        self._prefixes.clear()
        return found

    def _generation(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        limit: int,
        check: Check | None,
        images: Sequence[PromptImage] = (),
        grammar: Grammar | None = None,
    ) -> Generation:
        return Generation(
            self.network,
            ids,
            sampling,
            limit=limit,
            stop_ids=self._stop_ids,
            guard_id=self.tokenizer.raw.guard_id,
            cache=self._take(ids, [(each.at, each.digest) for each in images]),
            images=images,
            check=check,
            grammar=grammar,
        )

    @property
    def _stop_ids(self) -> tuple[int, ...]:
        return (*self.network.config.stop_ids, *self.format.stop_ids)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        from glmtui.engine.grammar import Vocabulary

        return Vocabulary(self.tokenizer.raw, self._stop_ids)

    def _grammar(self, json_schema: Mapping[str, Any] | None) -> Grammar | None:
        if json_schema is None:
            return None
        from glmtui.engine.grammar import Grammar

        return Grammar(self._vocabulary, json_schema, after_thought=self.format.thinks)

    def _with_tools(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> Sequence[ChatMessage]:
        """Return `messages` with `tools` offered in front, next to what the system says."""
        if not tools:
            return messages
        system = "\n".join(message.text for message in messages if message.role == "system")
        offered = self.format.offer([asdict(tool) for tool in tools], system)
        return (*offered, *(message for message in messages if message.role != "system"))

    def _fit(
        self,
        messages: Sequence[ChatMessage],
        sampling: Sampling,
        limit: int,
        image_rows: Mapping[str, int],
    ) -> formats.Prompt:
        """Write the prompt so that an answer of fair length has room, or any if the last message is long.

        It continues, token for token, the longest conversation that is cached and that `messages` continue.
        """
        usual = limit if self.format.thinks else ANSWER_ROOM
        room = min(sampling.max_new_tokens or usual, limit // 4)
        cached = self._cached(messages)
        try:
            return self.format.fit(messages, limit - room, cached, image_rows)
        except TooLongError:
            return self.format.fit(messages, limit - 1, cached, image_rows)

    def _cached(self, messages: Sequence[ChatMessage]) -> formats.CachedConversation | None:
        """Return the longest conversation that is cached and that `messages` continue."""
        if not self.format.keeps_cache:
            return None
        fitting = (each for each in self._prefixes.sources() if each.continued_by(messages))
        return max(fitting, key=lambda each: len(each.messages), default=None)

    def _take(self, ids: Sequence[int], digests: Digests = ()) -> KVCache | None:
        """Take the cache of a prompt that begins with `ids`; what was read ahead for another one goes."""
        cache, ahead, self._ahead = self._prefixes.take(ids, digests), self._ahead, None
        if ahead is not None and ahead.cache is not cache and self._prefixes.remove(ahead.cache):
            ahead.cache.truncate(ahead.length)
            self._prefixes.put(ahead.cache, ahead.source.ids, ahead.source)
        return cache


@dataclass(frozen=True)
class _Ahead:
    """A cache with a prompt that nobody has asked for yet."""

    cache: KVCache
    source: formats.CachedConversation
    length: int
    """What it held before that, of `source`."""


class Answer:
    """One answer to a conversation as it comes: iterate for its pieces, once.

    Every token yields at least one, without text while a character is held back; what is held back to the end
    comes last.
    """

    def __init__(
        self,
        model: ChatModel,
        generation: Generation,
        text: AnswerText,
        limit: int,
        *,
        messages: tuple[ChatMessage, ...] = (),
        begun: tuple[Part, ...] = (),
        dropped_rounds: int = 0,
        note: Phrase = NOTHING,
    ) -> None:
        self.limit = limit
        """Prompt and answer together may not pass this, in tokens."""
        self.dropped_rounds = dropped_rounds
        """How many of the oldest rounds the prompt leaves out."""
        self.reason: Literal["stop", "length", "cancelled"] = "cancelled"
        """Why it ended: complete, too long, or cancelled by `check`."""
        self.note = note
        """What the person should know of it."""
        self._model = model
        self.generation = generation
        """Where its tokens come from."""
        self._messages, self._begun = messages, begun
        self._reader = text
        self._ids: list[int] = []
        self._text: list[str] = []
        self._thought: list[str] = []

    def __iter__(self) -> Iterator[thoughts.Piece]:
        try:
            with closing(self._tokens()) as tokens:
                for token in tokens:
                    self._ids.append(token)
                    yield from self._add(self._reader.push(token)) or [thoughts.Piece("", thought=False)]
                    if self._reader.stopped:
                        break
            self.reason = "stop" if self._reader.stopped else self.generation.reason
        except OperationCancelled:
            pass
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._model.forget_prefixes()
            raise OutOfMemoryError(self._model.too_long(self.prompt_tokens + self.answer_tokens)) from error
        yield from self._add(self._reader.finish(complete=self.reason == "stop"))
        answered = ChatMessage.of("assistant", text_of(self._begun) + self.text)
        conversation = formats.CachedConversation(
            # a thought is in the cache, but in no later prompt
            (*self._messages, answered) if self._messages and self._reader.as_generated else (),
            [*self.generation.prompt, *self._ids],
            self.dropped_rounds,
        )
        digests = [(each.at, each.digest) for each in self.generation.images]
        self._model.keep(conversation, self.generation.cache, digests)

    def _tokens(self) -> Generator[int]:
        """Yield the tokens; where memory runs out before the first, once more without other conversations'
        caches."""
        try:
            yield from self.generation
        except (RuntimeError, MemoryError) as error:
            if self._ids or not is_out_of_memory(error) or not self._model.forget_prefixes():
                raise
        else:
            return
        self.generation.cache = None
        yield from self.generation

    @property
    def call(self) -> ToolCall | None:
        """The tool it calls, once it is complete."""
        return self._reader.call

    @property
    def text(self) -> str:
        """What has come so far, without the thought."""
        return "".join(self._text)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What has come so far: the thought, if there is one, and the answer."""
        thought = "".join(self._thought)
        return (*((Thought(thought),) if thought else ()), *((Text(self.text),) if self._text else ()))

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""
        return len(self.generation.prompt)

    @property
    def answer_tokens(self) -> int:
        """How many tokens have come so far."""
        return self.generation.count

    @property
    def stats(self) -> Stats:
        """The measure of the answer so far."""
        return self.generation.stats

    def _add(self, pieces: list[thoughts.Piece]) -> list[thoughts.Piece]:
        for piece in pieces:
            (self._thought if piece.thought else self._text).append(piece.text)
        return pieces


def _unseen(messages: Sequence[ChatMessage], prompt: formats.Prompt) -> Phrase:
    """Say so where the model does not look at all pictures of what is asked now."""
    asked = next((each for each in reversed(messages) if each.role == "user"), None)
    shown = {image.sha256 for image in formats.images_of(asked)} if asked is not None else set()
    if shown <= {image.sha256 for _at, image in prompt.images}:
        return NOTHING
    return _("This model looks at one picture at a time: of those in your message it saw the last.")
