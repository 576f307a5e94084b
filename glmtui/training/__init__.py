"""Teaching a model: data, P-tuning v2 and LoRA, evaluation. No screen in here."""
