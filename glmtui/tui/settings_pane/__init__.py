"""The settings on the right."""
