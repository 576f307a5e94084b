"""Formulas in Unicode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmtui.tui.transcript.typeset.latex import to_unicode


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (r"E = mc^2", "E = mc²"),
        (r"N \cdot b / 8", "N · b / 8"),
        (r"\frac{a+b}{2}", "(a+b)/2"),
        (r"\frac{w}{s}", "w/s"),
        (r"\sqrt{2} + \sqrt[3]{x} + \sqrt{x+1}", "√2 + ∛x + √(x+1)"),
        (r"\sum_{i=1}^{n} x_i^2 \le 1", "∑ᵢ₌₁ⁿ xᵢ² ≤ 1"),
        (r"e^{-x^2}", "e^(-x²)"),
        (r"w_q = \mathrm{round}\left(\frac{w}{s}\right)", "w_q = round(w/s)"),
        (r"\mathbb{R}^{n}, \hat{y}, \vec{v}", "ℝⁿ, ŷ, v⃗"),
        (r"\text{如果 } x \neq 0", "如果 x ≠ 0"),
        (r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}", "(a b; c d)"),
        (r"\begin{aligned} x &= 1 \\ y &= 2 \end{aligned}", "x = 1\ny = 2"),
        (r"\{x \mid x > 0\}", "{x ∣ x > 0}"),
        (r"90^\circ", "90°"),
        (r"\alpha + \beta = \gamma x", "α + β = γx"),
        (r"\lfloor x \rfloor \le x", "⌊x⌋ ≤ x"),
        (r"\|x\|_2 \in \triangle ABC", "‖x‖₂ ∈ △ABC"),
        (r"\underset{x}{\operatorname{argmin}} f(x)", "argmin_(x) f(x)"),
        (r"x \equiv 1 \pmod{7}, \boxed{42}", "x ≡ 1 (mod 7), 42"),
        (r"x \unknown{y}{z} w", r"x \unknown{y}{z} w"),
        (r"\frac{a}{", r"\frac{a}{"),
        ("a } b", "a } b"),
        ("{" * 100 + "}" * 100, "{" * 100 + "}" * 100),
    ],
)
def test_what_unicode_can_say_is_shown_so_and_the_rest_is_kept(source: str, shown: str) -> None:
    assert to_unicode(source) == shown


PIECES = ["\\frac", "\\sqrt", "{", "}", "^", "_", "[", "]", "x", " ", "&", "\\\\", "中", "\\begin{cases}",
          "\\end{cases}", "\\left", ".", "\\", "\\text", "\\hat"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_anything_can_be_read(pieces: list[str]) -> None:
    to_unicode("".join(pieces))
