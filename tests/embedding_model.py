"""A tiny model of random weights that makes vectors, as files on a disk."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers


def tiny_bert(path: Path, letters: str = "你好ab") -> Path:
    """Write a BERT of vectors of eight numbers that knows some letters, and return its folder."""
    path.mkdir(parents=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (path / "vocab.txt").write_text("\n".join([*special, *letters]), "utf-8")
    transformers.BertTokenizer(str(path / "vocab.txt"), model_max_length=16).save_pretrained(path)
    torch.manual_seed(1)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=len(special) + len(letters), **sizes)
    transformers.BertModel(config).save_pretrained(path)
    return path
