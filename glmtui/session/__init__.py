"""A session of chatting, without a screen: what the full screen and the line mode have in common.

The flow of a conversation (`controller`), the slash commands (`commands`, `handlers`, `completers`), what is
open and being written (`desk`), and the app's end of the worker (`model_link`, `model_shelf`). What the
program around them must offer is written down in two protocols: `view.ChatView` shows what happens,
`front.Front` does what the commands need. `glmtui.tui` and `glmtui.plain` are two such programs.

Nothing here imports Textual, torch or either program.
"""
