"""Pictures on the screen: made small off the UI thread, and drawn as the terminal can."""
