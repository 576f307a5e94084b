"""Model files and where they come from: the hub, its cache, folders. No torch here."""
