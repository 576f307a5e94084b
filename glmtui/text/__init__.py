"""Text that people and models wrote: made safe, measured, broken, read."""
