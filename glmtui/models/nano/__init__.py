"""nano, the built-in model."""
