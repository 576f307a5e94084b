import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from golden_data import TOKENIZERS, golden_json, needs_published_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from glmtui.errors import UserError
from glmtui.hub import catalog
from glmtui.models.chat_formats.formats import SpacedRounds
from glmtui.models.tokenizers.chatglm import ChatGLM2Tokenizer, ChatGLMTokenizer, Tokenizer, load_tokenizer
from glmtui.protocol.messages import ChatMessage

GOLDEN = golden_json("tokenization.json")


@pytest.fixture(scope="session")
def v1(small_pieces: bytes, tmp_path_factory: pytest.TempPathFactory) -> ChatGLMTokenizer:
    file = tmp_path_factory.mktemp("v1") / "ice_text.model"
    file.write_bytes(small_pieces)
    return ChatGLMTokenizer(file)


@pytest.fixture(scope="session")
def v3(small_bpe: bytes, tmp_path_factory: pytest.TempPathFactory) -> ChatGLM2Tokenizer:
    file = tmp_path_factory.mktemp("v3") / "tokenizer.model"
    file.write_bytes(small_bpe)
    return ChatGLM2Tokenizer(file, "chatglm3")


def streamed(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    stream = tokenizer.stream()
    return "".join(map(stream.push, ids)) + stream.finish()


# --- parity with the published tokenizers ---


@needs_published_tokenizers
@pytest.mark.parametrize("name", ["v1", "v2"])
@pytest.mark.parametrize("kind", ["public", "computed"])
def test_golden_ids_and_texts(name: str, kind: str):
    tokenizer = load_tokenizer(TOKENIZERS / {"v1": "chatglm-6b", "v2": "chatglm2-6b"}[name])
    for case in GOLDEN[name][kind]:
        assert tokenizer.encode(case["text"]) == case["ids"]
        if "decoded" in case:
            assert tokenizer.decode(case["ids"]) == case["decoded"]
            assert streamed(tokenizer, case["ids"]) == case["decoded"]


def reference_decode(model: SentencePieceProcessor, ids: Sequence[int]) -> str:
    """What the published code makes of ids: sentencepiece, then the blanks put back."""
    text = model.Decode(list(ids)).replace("<n>", "\n").replace("<|tab|>", "\t")
    return re.sub(r"<\|blank_(\d+)\|>", lambda blank: " " * int(blank[1]), text)


@pytest.fixture(scope="session")
def published() -> tuple[Tokenizer, SentencePieceProcessor]:
    folder = TOKENIZERS / "chatglm-6b"
    return load_tokenizer(folder), SentencePieceProcessor(model_file=str(folder / "ice_text.model"))


@needs_published_tokenizers
@given(
    st.lists(st.one_of(st.integers(0, 130343), st.integers(130088, 130343), st.integers(0, 8)), max_size=12)
)
@settings(max_examples=300, deadline=None)
def test_published_pieces_decode_as_sentencepiece_does(
    published: tuple[Tokenizer, SentencePieceProcessor], ids: list[int]
):
    tokenizer, model = published
    assert tokenizer.decode(ids) == reference_decode(model, ids)


# --- the same of small tokenizers in the same layouts, which are always there ---


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_v1_decodes_as_sentencepiece_does(v1: ChatGLMTokenizer, small_pieces: bytes, data: st.DataObject):
    model = SentencePieceProcessor(model_proto=small_pieces)
    special = st.sampled_from(
        [model.PieceToId(p) for p in ("▁", "<n>", "<|blank_3|>", "<sop>", "<unk>", "<pad>")]
    )
    byte = st.integers(model.PieceToId("<0x00>"), model.PieceToId("<0xFF>"))
    ids = data.draw(st.lists(st.one_of(st.integers(0, len(model) - 1), special, byte), max_size=12))
    assert v1.decode(ids) == reference_decode(model, ids)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_v2_decodes_as_sentencepiece_does(v3: ChatGLM2Tokenizer, small_bpe: bytes, data: st.DataObject):
    model = SentencePieceProcessor(model_proto=small_bpe)
    byte = st.integers(model.PieceToId("<0x00>"), model.PieceToId("<0xFF>"))
    ids = data.draw(st.lists(st.one_of(st.integers(1, len(model) - 1), byte), max_size=12))
    assert v3.decode(ids) == model.Decode(ids)


@pytest.mark.parametrize("dummy", [True, False])
@pytest.mark.parametrize("removes", [True, False])
def test_first_spaces_are_what_the_file_makes_of_them(dummy: bool, removes: bool, tmp_path: Path):
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["how do I load a model? 你好，世界！"] * 8),
        model_writer=written,
        vocab_size=320,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=dummy,
        remove_extra_whitespaces=removes,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(written.getvalue())
    tokenizer = ChatGLM2Tokenizer(tmp_path / "tokenizer.model", "chatglm2")
    model = SentencePieceProcessor(model_proto=written.getvalue())
    space = model.PieceToId("▁")
    for ids in ([space], [space, space, 300], [300, space], model.Encode(" how  do"), [3, space, 270]):
        assert tokenizer.decode(ids) == model.Decode(ids)
    ids = SpacedRounds(tokenizer).follow(1, [ChatMessage.of("user", "q")])
    assert ids is not None
    assert model.IdToPiece(ids[0]) == "<0x0A>"


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_bytes_of_any_text_are_never_shown_half(v1: ChatGLMTokenizer, text: str):
    """Every character arrives as its UTF-8 bytes; it shows with the last of them, and not before."""
    first = v1.encode_text("\x00")[-1]
    stream = v1.stream()
    for character in text.encode("utf-8", "replace").decode():
        *start, last = character.encode()
        for byte in start:
            assert stream.push(first + byte) == ""
        assert stream.push(first + last) == character
    assert stream.finish() == ""


def test_an_unfinished_character_ends_as_replacements(v1: ChatGLMTokenizer):
    first = v1.encode_text("\x00")[-1]
    stream = v1.stream()
    assert [stream.push(first + byte) for byte in "😀".encode()[:3]] == ["", "", ""]
    assert stream.finish() == "\ufffd" * 3
    assert [stream.push(first + 0xE4), stream.push(v1.encode_text("好")[-1])][1].startswith("\ufffd")


@given(st.text(alphabet="abc 你好\n\t<>[]|nMASKsop👋"))
@settings(max_examples=200, deadline=None)
def test_text_never_becomes_a_control_token(v1: ChatGLMTokenizer, v3: ChatGLM2Tokenizer, text: str):
    for tokenizer, controls in ((v1, control_ids(v1)), (v3, set(v3.special_ids.values()))):
        ids = tokenizer.encode_text(text + "[gMASK]<sop><eop>[MASK]</s><s><pad><|user|>sop" + text)
        assert controls.isdisjoint(ids)


def control_ids(tokenizer: ChatGLMTokenizer) -> set[int]:
    return {1, 2, 3, tokenizer.bos_id, tokenizer.eos_id, tokenizer.gmask_id, tokenizer.mask_id}


def test_blanks_come_back(v1: ChatGLMTokenizer):
    text = "a\n\n  b\t\tc   d        e"
    assert v1.decode(v1.encode_text(text)) == text


def test_runs_longer_than_the_longest_blank(v1: ChatGLMTokenizer):
    text = "a" + " " * 21 + "b"
    assert v1.decode(v1.encode_text(text)) == text


def test_specials_are_dropped_and_unknown_ids_are_nothing(v1: ChatGLMTokenizer, v3: ChatGLM2Tokenizer):
    for tokenizer in (v1, v3):
        ids = tokenizer.encode("model")
        assert tokenizer.decode([*ids, tokenizer.eos_id, 10**6, -1]) == "model"


def test_lone_surrogates_are_replaced(v1: ChatGLMTokenizer):
    assert v1.decode(v1.encode_text("a\ud83db")) == "a?b"


# --- first release: 20,000 image tokens before the text ---


def test_image_tokens_come_first(v1: ChatGLMTokenizer, small_pieces: bytes, tmp_path: Path):
    file = tmp_path / "ice_text.model"
    file.write_bytes(small_pieces)
    config = {"bos_token_id": v1.bos_id + 20000, "eos_token_id": v1.eos_id + 20000, "vocab_size": 150528}
    first = ChatGLMTokenizer(file, config)
    assert first.encode("model") == [token + 20000 for token in v1.encode("model")]
    assert first.decode([7, 19999, *first.encode("model")]) == "model"


@pytest.mark.parametrize(("settings_", "offset"), [({}, 20000), ({"num_image_tokens": 0}, 0)])
def test_without_a_config_the_tokenizer_config_tells(
    small_pieces: bytes, tmp_path: Path, settings_: dict[str, int], offset: int
):
    (tmp_path / "ice_text.model").write_bytes(small_pieces)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"name_or_path": "x", **settings_}))
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, ChatGLMTokenizer)
    assert tokenizer.offset == offset


# --- bad files ---


def test_no_tokenizer(tmp_path: Path):
    with pytest.raises(UserError, match=r"ice_text\.model is missing"):
        ChatGLMTokenizer(tmp_path / "ice_text.model")
    with pytest.raises(UserError, match=r"tokenizer\.model is missing"):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match="There is no folder"):
        load_tokenizer(tmp_path / "nothing")


def test_a_git_lfs_pointer(tmp_path: Path):
    file = tmp_path / "ice_text.model"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:5e97\nsize 2706249\n")
    with pytest.raises(UserError, match="git lfs pull"):
        ChatGLMTokenizer(file)


def test_a_damaged_file_is_told_by_size_and_hash(small_pieces: bytes, tmp_path: Path):
    file = tmp_path / "ice_text.model"
    file.write_bytes(small_pieces[:2000])
    with pytest.raises(
        UserError, match=r"2000 bytes and the sha256 [0-9a-f]{64}\. .*2706249 bytes.*Download"
    ):
        ChatGLMTokenizer(file)


def test_damage_that_sentencepiece_cannot_quote_is_told_too(small_pieces: bytes, tmp_path: Path):
    """Two pieces alike, of bytes that are no text: its error is not UTF-8."""
    file = tmp_path / "ice_text.model"
    file.write_bytes(re.sub(rb"\x0a\x03[a-z\xe2-\xef].{2}", b"\x0a\x03\xb0ab", small_pieces, count=2))
    with pytest.raises(UserError, match="is damaged"):
        ChatGLMTokenizer(file)


def test_a_tokenizer_of_another_model(small_pieces: bytes, small_bpe: bytes, tmp_path: Path):
    file = tmp_path / "ice_text.model"
    file.write_bytes(small_pieces)
    with pytest.raises(UserError, match=r"other ids than config\.json"):
        ChatGLMTokenizer(file, {"bos_token_id": 130004, "eos_token_id": 130005, "vocab_size": 130528})
    with pytest.raises(UserError, match="more tokens than the model"):
        ChatGLMTokenizer(file, {"vocab_size": 300})
    with pytest.raises(UserError, match=r"has .* tokens and the model 65024"):
        ChatGLM2Tokenizer(file, "chatglm2", {"padded_vocab_size": 65024})
    file.write_bytes(small_bpe)
    with pytest.raises(UserError, match="it has no <sop>"):
        ChatGLMTokenizer(file)


def test_guard_token_is_the_space_wherever_the_vocabulary_has_it() -> None:
    folder = catalog.resolve(None).path
    pieces = SentencePieceProcessor(str(folder / "ice_text.model"))
    assert pieces.IdToPiece(load_tokenizer(folder).guard_id) == "▁"
