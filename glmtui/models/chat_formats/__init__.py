"""How each family writes a conversation, and reads an answer."""
