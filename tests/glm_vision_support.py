"""Tiny newer GLMs that see, made by transformers itself: weights, processor, tokenizer, chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glm_support import make_tokenizer

IMAGE_TOKENS = (
    "<|begin_of_image|>",
    "<|image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
)
TEMPLATE = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for item in m.content %}"
    "{% if item.type == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% elif item.type == 'text' %}{{ item.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""As GLM-4.1V writes a conversation."""
_TEXT: dict[str, Any] = {
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
    "rope_parameters": {
        "rope_type": "default",
        "mrope_section": [2, 3, 3],
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    },
}
_EXPERTS = {"moe_intermediate_size": 128, "n_routed_experts": 6, "num_experts_per_tok": 2}
_EXPERTS |= {"n_shared_experts": 1, "attention_bias": True}
_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "out_hidden_size": 128,
    "intermediate_size": 64,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
KINDS = ("glm4v", "glm4v_moe", "glm46v", "glmga", "glm_ocr")


def make_seeing_model(kind: str, folder: Path) -> Any:
    """Write a random model of that `model_type`, with all its files; return it as transformers made it."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil

    make_tokenizer(folder, TEMPLATE)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens(
        {"extra_special_tokens": list(IMAGE_TOKENS)}, replace_extra_special_tokens=False
    )
    tokenizer.save_pretrained(folder)
    ids = dict(
        zip(
            (
                "image_start_token_id",
                "image_token_id",
                "image_end_token_id",
                "video_start_token_id",
                "video_end_token_id",
            ),
            tokenizer.convert_tokens_to_ids(list(IMAGE_TOKENS)),
            strict=True,
        )
    )
    text = {**_TEXT, **(_EXPERTS if kind == "glm4v_moe" else {})}
    settings = AutoConfig.for_model(kind, text_config=text, vision_config=_VISION, video_token_id=511, **ids)
    model = AutoModelForImageTextToText.from_config(settings).float().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "norm" in name:
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0, 0.08, generator=generator)
    model.generation_config.eos_token_id = [0, 4]
    model.save_pretrained(folder, max_shard_size="400KB")
    size = {"shortest_edge": 2 * 28 * 28, "longest_edge": 2 * 28 * 28 * 16}
    Glm4vImageProcessorPil(size=size).save_pretrained(folder)
    return model
