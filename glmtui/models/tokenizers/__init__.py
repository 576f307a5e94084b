"""Text to token ids and back, for each family."""
