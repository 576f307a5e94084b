"""What a conversation is, and how it is kept. Knows nothing of models or terminals."""
