"""What is put right in Textual, each in its own module."""
