"""Where messages are written, and those that wait to be sent."""
