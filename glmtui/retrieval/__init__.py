"""Answers with sources: documents on this machine and pages of the web, found, quoted and checked."""
