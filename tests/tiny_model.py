"""Folders of ChatGLM-6B and ChatGLM2-6B with random weights and a tokenizer, 200,000 times smaller."""

from __future__ import annotations

import io
import json
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import load_file, save_file

from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.models.chatglm2 import ChatGLM2, ChatGLM2Config
from glmtui.models.visualglm import VisualGLM, VisualGLMConfig

SENTENCES = [
    "你好，我是一个小模型。",
    "How do I load a model? Press Return.",
    "答：问：[Round 0] 1 2 3 4 5 6 7 8 9",
]


def write_tiny_model(folder: Path, max_length: int = 256) -> Path:
    """Write a ChatGLM-6B into `folder`. It says letters, and goes on until a limit ends it."""
    pieces = _write_tokenizer(
        folder / "ice_text.model",
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        pad_id=3,
        user_defined_symbols=["<n>", "<|tab|>", *(f"<|blank_{k}|>" for k in range(2, 9))],
        control_symbols=["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"],
    )
    config = {
        "model_type": "chatglm",
        "vocab_size": len(pieces),
        "hidden_size": 32,
        "num_layers": 2,
        "num_attention_heads": 2,
        "inner_hidden_size": 64,
        "max_sequence_length": max_length,
        "bos_token_id": pieces.PieceToId("<sop>"),
        "eos_token_id": pieces.PieceToId("<eop>"),
        "mask_token_id": pieces.PieceToId("[MASK]"),
        "gmask_token_id": pieces.PieceToId("[gMASK]"),
    }
    torch.manual_seed(1)
    network = ChatGLM(ChatGLMConfig.from_dict(config))
    state = {name: tensor.detach().half() for name, tensor in network.named_parameters()}
    # The embedding is the output layer too: only letters are ever likely, and the end never is.
    letters = [token for token in range(len(pieces)) if pieces.IdToPiece(token).isalpha()]
    embedding = state["transformer.word_embeddings.weight"]
    state["transformer.final_layernorm.bias"][0] = 50.0
    embedding *= 0.3
    embedding[:, 0] = -1.0
    embedding[letters, 0] = 1.0
    return _write(folder, config, state)


def write_tiny_visualglm(folder: Path, max_length: int = 256) -> Path:
    """Write a VisualGLM-6B into `folder`: the model of `write_tiny_model`, with eyes."""
    write_tiny_model(folder, max_length)
    config = json.loads((folder / "config.json").read_text())
    encoder = {"num_layers": 2, "hidden_size": 24, "num_attention_heads": 2, "inner_hidden_size": 32}
    encoder |= {"patch_size": 14, "image_size": [56, 56], "max_sequence_length": 17}
    queries = {"num_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "vocab_size": 4}
    config |= {"image_length": 4, "eva_config": encoder, "qformer_config": queries}
    torch.manual_seed(2)
    network = VisualGLM(VisualGLMConfig.from_dict(config))
    state = {name: each.half() for name, each in load_file(folder / "model.safetensors").items()}
    for name, parameter in network.named_parameters():
        if name.startswith("image_encoder."):
            state[name] = parameter.detach().half()
    return _write(folder, config, state)


def write_tiny_model2(folder: Path, max_length: int = 256) -> Path:
    """Write a ChatGLM2-6B into `folder`."""
    pieces = _write_tokenizer(
        folder / "tokenizer.model", model_type="bpe", normalization_rule_name="identity"
    )
    config = {
        "_name_or_path": "chatglm2",
        "model_type": "chatglm",
        "padded_vocab_size": len(pieces) + 8,
        "hidden_size": 32,
        "ffn_hidden_size": 64,
        "kv_channels": 16,
        "num_layers": 2,
        "num_attention_heads": 4,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "seq_length": max_length,
        "add_qkv_bias": True,
        "eos_token_id": pieces.eos_id(),
    }
    torch.manual_seed(1)
    network = ChatGLM2(ChatGLM2Config.from_dict(config))
    state = {name: tensor.detach().half() for name, tensor in network.named_parameters()}
    return _write(folder, config, state)


def _write_tokenizer(file: Path, **options: object) -> sentencepiece.SentencePieceProcessor:
    file.parent.mkdir(parents=True)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=written,
        vocab_size=380,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
        **options,
    )
    file.write_bytes(written.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def _write(folder: Path, config: dict[str, object], state: dict[str, torch.Tensor]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    return folder
