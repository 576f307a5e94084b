"""What the rooms of glmtui say to each other: messages, requests, events, and the engine they go through.

Plain data that every room may import. Nothing here imports another room, torch or gettext.
"""
