"""Runs a model: devices, loading, generation, and the worker thread that does it in the background."""
