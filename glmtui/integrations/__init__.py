"""Other libraries' ways to our models."""
