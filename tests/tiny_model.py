"""A ChatGLM-6B folder with random weights and a tokenizer of its own, 200,000 times smaller."""

from __future__ import annotations

import io
import json
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file

from glmtui.models.chatglm import ChatGLM, ChatGLMConfig

SENTENCES = [
    "你好，我是一个小模型。",
    "How do I load a model? Press Return.",
    "答：问：[Round 0] 1 2 3 4 5 6 7 8 9",
]


def write_tiny_model(folder: Path, max_length: int = 256) -> Path:
    """Write the model into `folder`. What it says makes no sense, and it goes on until a limit ends it."""
    folder.mkdir(parents=True)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=written,
        vocab_size=380,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc",
        pad_id=3,
        user_defined_symbols=["<n>", "<|tab|>", *(f"<|blank_{k}|>" for k in range(2, 9))],
        control_symbols=["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"],
        minloglevel=2,
    )
    (folder / "ice_text.model").write_bytes(written.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
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
    (folder / "config.json").write_text(json.dumps(config))
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
    save_file(state, folder / "model.safetensors")
    return folder
