"""What is mended in Textual until Textual does it: nothing else in glmtui reaches into its private parts.

Each module names the defect, the releases it was seen in and where it is reported. In other releases a module
does nothing, since what it reaches into may be gone; its test fails as soon as the defect is gone.
"""

from __future__ import annotations

from functools import cache

SEEN = (8, 2)
"""The releases that were looked at (major, minor)."""


@cache
def textual_is(*releases: tuple[int, int]) -> bool:
    """Whether the installed Textual is one of these releases."""
    from importlib.metadata import version

    major, minor = version("textual").split(".")[:2]
    return (int(major), int(minor)) in (releases or (SEEN,))
