"""Runs models: devices, loading, generation, and the thread that does it in the background."""
