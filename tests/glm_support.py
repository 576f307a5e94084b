"""Tiny newer GLMs, made by transformers itself: weights, tokenizer, chat template."""

from pathlib import Path
from typing import Any

SPECIAL = ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
PLAIN = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}{# 'observation' #}"
)
"""As GLM-4 writes a conversation."""
THINKING = PLAIN.replace("<|assistant|>\n{%", "<|assistant|>\n<think>{%")
"""As GLM-Z1 does: the answer begins with a thought."""
_SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "eos_token_id": [0],
}
_EXPERTS = {"moe_intermediate_size": 128, "n_routed_experts": 6, "num_experts_per_tok": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "glm": {"attention_bias": True},
    "glm4": {"tie_word_embeddings": True},
    "glm4_moe": {**_EXPERTS, "use_qk_norm": True, "attention_bias": True},
    "glm4_moe_lite": {
        **_EXPERTS,
        "num_key_value_heads": 4,
        "head_dim": None,
        "q_lora_rank": 64,
        "kv_lora_rank": 48,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 32,
        "v_head_dim": 24,
    },
}


def make_model(kind: str, folder: Path) -> Any:
    """Write a random model of that `model_type` in several shards; return it as transformers made it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {name: value for name, value in (_SIZES | CONFIGS[kind]).items() if value is not None}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).float().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "norm" in name:
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0, 0.08, generator=generator)
    model.generation_config.eos_token_id = [0, 4]
    model.save_pretrained(folder, max_shard_size="400KB")
    return model


def make_tokenizer(folder: Path, template: str | None = PLAIN) -> None:
    """Write a byte-level tokenizer with GLM's special tokens and `template`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    backend.train_from_iterator(["你好，世界！", "How do I load a model? <think>well</think>"] * 6, trainer)
    prefix = [(name, backend.token_to_id(name)) for name in SPECIAL[1:3]]
    backend.post_processor = processors.TemplateProcessing("[gMASK] <sop> $A", special_tokens=prefix)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=SPECIAL[0],
        pad_token=SPECIAL[0],
        extra_special_tokens=list(SPECIAL[1:]),
    )
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)
