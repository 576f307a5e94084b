"""The slash commands: one table, what they do, how their arguments are completed."""
