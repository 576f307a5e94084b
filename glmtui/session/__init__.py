"""One chat without a screen.

`chat_session.ChatSession` leads it and publishes what happens (`events`); a program around it (the full
screen, the line mode, ``glmtui ask``) subscribes, and offers what needs a person by a small port (`ui`). The
slash commands are in `slash`. Nothing here imports Textual, torch or either program.
"""
