"""The full-screen app. Knows the engine only through `glmtui.engine.events` and its worker."""
