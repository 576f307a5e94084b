"""Trains nano's sentencepiece model: ``python -m nano.tokenizer``.

The layout is that of ChatGLM-6B's: unigram with byte fallback; pieces for newline, tab and runs of blanks;
control pieces for the masks and for the start and end of an answer, under the published names.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import sentencepiece as spm

from nano.corpus import Corpus, texts
from nano.train import FOLDER

VOCABULARY = 5120
BLANKS = 80
SEED = 1
_CUT = "\u2582"  # a block element that no text has


def train(folder: Path = FOLDER, sentences: int = 120_000) -> None:
    """Write ``ice_text.model`` to `folder`."""
    corpus = Corpus()
    lines = []
    for text in texts(corpus, SEED, sentences):
        for line in text.split("\n"):
            lines.extend(cut_hanzi(line))
    lines += ["[Round 0]", "问:", "答:", *"0123456789"] * 200
    model = io.BytesIO()
    spm.SentencePieceTrainer.Train(
        sentence_iterator=iter(line for line in lines if line.strip()),
        model_writer=model,
        model_type="unigram",
        vocab_size=VOCABULARY,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="nmt_nfkc",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        user_defined_symbols=["<n>", "<|tab|>", *(f"<|blank_{k}|>" for k in range(2, BLANKS + 1))],
        control_symbols=["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"],
        pretokenization_delimiter=_CUT,
        num_threads=2,
        shuffle_input_sentence=False,
        minloglevel=2,
    )
    (folder / "ice_text.model").write_bytes(model.getvalue())


def cut_hanzi(line: str) -> list[str]:
    """Mark cuts in `line` so that no piece learnt from it is longer than two hanzi.

    The sentences are made from templates: whole phrases would become pieces, and a question put in other
    words would then share none of them. Returns the line with its hanzi paired in both ways.
    """

    def paired(first: int) -> str:
        def cut(run: re.Match[str]) -> str:
            hanzi = run[0]
            return _CUT.join(
                filter(None, (hanzi[:first], *(hanzi[i : i + 2] for i in range(first, len(hanzi), 2))))
            )

        return re.sub("[\u4e00-\u9fff]+", cut, line)

    return [paired(0), paired(1)] if re.search("[\u4e00-\u9fff]{2}", line) else [line]


if __name__ == "__main__":
    train()
