"""The model family: architectures, checkpoints, tokenizers and prompts."""
