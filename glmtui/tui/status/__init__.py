"""What the program is doing, in one line at the bottom."""
