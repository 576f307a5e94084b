"""The web as a source: off until a person chooses who is asked."""
