"""Formulas in Unicode."""

from __future__ import annotations

import time

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


FORMULAS = [
    (r"\alpha = \sqrt{2N}", "α = √(2N)"),
    (r"\frac{1}{Z}\exp(-E(x))", "(1/Z) exp(-E(x))"),
    (r"\frac{1}{Z} e^{-\beta H}", "(1/Z) e⁻ᵝᴴ"),
    (r"\frac{1}{2}mv^2", "(1/2)mv²"),
    (r"\frac{1}{2} x", "(1/2) x"),
    (r"x\frac{1}{2}", "x(1/2)"),
    (r"a \frac{b}{c} d", "a (b/c) d"),
    (r"2\frac{1}{3}", "2 1/3"),
    (r"\frac{a}{b}\cdot\frac{c}{d}", "a/b·c/d"),
    (r"\frac{a}{b}\frac{c}{d}", "(a/b)(c/d)"),
    (r"\frac{\frac{a}{b}}{c}", "(a/b)/c"),
    (r"\frac{a}{\frac{b}{c}}", "a/(b/c)"),
    (r"\frac{ab}{cd}", "ab/(cd)"),
    (r"\frac{2a}{3b}", "2a/(3b)"),
    (r"\frac{1}{2\pi i}\oint f(z)\,dz", "(1/(2πi))∮f(z) dz"),
    (r"\frac{1}{\sqrt{2\pi\sigma^2}}e^{-\frac{(x-\mu)^2}{2\sigma^2}}", "(1/√(2πσ²))e^(-((x-μ)²)/(2σ²))"),
    (r"\frac{d}{dx} f(x)", "(d/dx) f(x)"),
    (r"\frac{\partial^2 u}{\partial t^2} = c^2 \nabla^2 u", "(∂² u)/∂t² = c² ∇² u"),
    (r"\frac{dy}{dx}", "dy/dx"),
    (r"x = \frac{-b \pm \sqrt{b^2-4ac}}{2a}", "x = (-b ± √(b²-4ac))/(2a)"),
    (r"\left(\frac{a}{b}\right)^2", "(a/b)²"),
    (r"\frac{a}{b}^2", "(a/b)²"),
    (r"\sqrt{x}^2", "(√x)²"),
    (r"\sqrt{\frac{a}{b}}", "√(a/b)"),
    (r"\sqrt{2}x", "√2 x"),
    (r"\sqrt2 x", "√2 x"),
    (r"x^{\frac{1}{2}}", "x^(1/2)"),
    (r"x^{2^3}", "x^(2³)"),
    (r"x_{i_j}", "x_(iⱼ)"),
    (r"x_i^{(t)}", "xᵢ⁽ᵗ⁾"),
    (r"f'(x), f''(x), f^{\prime}(x)", "f'(x), f''(x), f′(x)"),
    (r"\hat{x}_i, \bar{x}, \tilde{\theta}, \hat{AB}, \overline{AB}", "x̂ᵢ, x̄, θ̃, hat(AB), overline(AB)"),
    (r"\dot{x}, \ddot{x}, \vec{F} = m\vec{a}", "ẋ, ẍ, F⃗ = ma⃗"),
    (r"\lim_{x \to 0} \frac{\sin x}{x} = 1", "lim_(x → 0) (sin x)/x = 1"),
    (r"\sum_{n=0}^{\infty} \frac{x^n}{n!}", "∑ₙ₌₀^∞ xⁿ/(n!)"),
    (r"\prod_{i=1}^n p_i", "∏ᵢ₌₁ⁿ pᵢ"),
    (r"\int_0^1 x^2 \, dx = \frac{1}{3}", "∫₀¹ x²  dx = 1/3"),
    (r"\int_{-\infty}^{\infty} e^{-x^2} dx = \sqrt{\pi}", "∫_(-∞)^∞ e^(-x²) dx = √π"),
    (r"f(x) = \begin{cases} x & x > 0 \\ -x & x \le 0 \end{cases}", "f(x) = { x  x > 0\n  -x  x ≤ 0"),
    (
        r"f(x) = \begin{cases} 1, & \text{如果 } x>0 \\ 0, & \text{否则} \end{cases}",
        "f(x) = { 1,  如果 x>0\n  0,  否则",
    ),
    (r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}^{-1}", "[1 2; 3 4]⁻¹"),
    (r"\begin{vmatrix} a & b \\ c & d \end{vmatrix} = ad - bc", "|a b; c d| = ad - bc"),
    (r"A^T A, A^\top, A^{-1}, A^\dagger, A^*", "Aᵀ A, A^⊤, A⁻¹, A^†, A^*"),
    (r"\mathcal{L}(\theta) = -\sum_i y_i \log \hat{y}_i", "L(θ) = -∑ᵢ yᵢ log ŷᵢ"),
    (r"\text{softmax}(x_i) = \frac{e^{x_i}}{\sum_j e^{x_j}}", "softmax(xᵢ) = (e^(xᵢ))/(∑ⱼ e^(xⱼ))"),
    (
        r"\text{Attention}(Q,K,V) = \text{softmax}\left(\frac{QK^T}{\sqrt{d_k}}\right)V",
        "Attention(Q,K,V) = softmax(QKᵀ/√(dₖ))V",
    ),
    (r"\nabla \times \mathbf{E} = -\frac{\partial \mathbf{B}}{\partial t}", "∇ × E = -∂B/∂t"),
    (r"i\hbar\frac{\partial}{\partial t}\psi = \hat{H}\psi", "iℏ (∂/∂t)ψ = Ĥψ"),
    (r"E = \frac{1}{2}kT", "E = (1/2)kT"),
    (r"\theta_{t+1} = \theta_t - \eta \nabla_\theta L", "θₜ₊₁ = θₜ - η∇_θ L"),
    (r"P(A|B) = \frac{P(B|A)P(A)}{P(B)}", "P(A|B) = (P(B|A)P(A))/P(B)"),
    (r"\mathbb{E}_{x \sim p}[f(x)]", "𝔼_(x ∼ p)[f(x)]"),
    (r"D_{KL}(p \| q)", "D_(KL)(p ‖ q)"),
    (r"\sin^2\theta + \cos^2\theta = 1", "sin²θ + cos²θ = 1"),
    (r"\sin 2x = 2\sin x \cos x", "sin 2x = 2 sin x cos x"),
    (r"\log_2 n, \ln x, O(n \log n)", "log₂ n, ln x, O(n log n)"),
    (r"a \bmod b", "a mod b"),
    (r"\binom{n}{k} = \frac{n!}{k!(n-k)!}", "C(n, k) = (n!)/(k!(n-k)!)"),
    (r"x \in [0, 1), A \subseteq B", "x ∈ [0, 1), A ⊆ B"),
    (r"\forall \epsilon > 0, \exists \delta > 0", "∀ϵ > 0, ∃δ > 0"),
    (r"|x - a| < \delta \Rightarrow |f(x) - L| < \epsilon", "|x - a| < δ ⇒ |f(x) - L| < ϵ"),
    (r"\left. \frac{df}{dx} \right|_{x=0}", "df/dx |ₓ₌₀"),
    (r"\angle ABC = 90^\circ", "∠ABC = 90°"),
    (r"\triangle ABC \cong \triangle DEF", "△ABC ≅ △DEF"),
    (r"m/s^2, 9.8\,\mathrm{m/s^2}", "m/s², 9.8 m/s²"),
    (r"v = v_0 + at", "v = v₀ + at"),
    (r"S_{\text{圆}} = \pi r^2", "S_圆 = πr²"),
    (r"\overbrace{a+b}^{n}", "\\overbrace{a+b}ⁿ"),
    (r"\underbrace{a+b}_{n}", "\\underbrace{a+b}ₙ"),
    (r"\vec{AB} \cdot \vec{CD}", "vec(AB) · vec(CD)"),
    (r"\alpha x, \alpha\beta, 2\pi r, \pi r^2", "αx, αβ, 2πr, πr²"),
    (r"x\to\infty", "x→∞"),
    (r"a\times b", "a × b"),
    (r"-\frac{a+b}{c}", "-(a+b)/c"),
    (r"a - \frac{b}{c}", "a - b/c"),
    (r"\frac{a}{b}!", "(a/b)!"),
    (r"\frac{1}{n}\sum_{i=1}^n x_i", "(1/n)∑ᵢ₌₁ⁿ xᵢ"),
    (r"\frac{1}{4\pi\varepsilon_0}\frac{q_1q_2}{r^2}", "(1/(4πε₀))(q₁q₂/r²)"),
    (r"\sqrt[n]{x}, \sqrt[n+1]{a}", "ⁿ√x, ⁿ⁺¹√a"),
    (r"a/\frac{b}{c}", "a/(b/c)"),
    (r"1/\sqrt{x}", "1/√x"),
    (r"\frac{1}{x}/y", "(1/x)/y"),
    (r"\frac{\sin x}{x}", "(sin x)/x"),
    (r"\frac{f(x)}{g(x)}", "f(x)/g(x)"),
    (r"\frac{x!}{y}", "(x!)/y"),
    (r"\frac{-a}{b}", "(-a)/b"),
    (r"\frac{1}{-2}", "1/(-2)"),
    (r"\frac{|x|}{y}", "(|x|)/y"),
    (r"e^{i\pi} + 1 = 0", "e^(iπ) + 1 = 0"),
    (r"e^{x+y}z", "eˣ⁺ʸz"),
    (r"10^{-3}", "10⁻³"),
    (r"2^{n}m", "2ⁿm"),
    (r"a_{n+1}", "aₙ₊₁"),
    (r"x^{ab}c", "xᵃᵇc"),
    (r"\frac{x_{max}}{2}", "xₘₐₓ/2"),
    (r"\frac12", "1/2"),
    (r"\frac ab c", "(a/b) c"),
]
"""Of physics, learning machines and school: none may come to mean something else."""


@pytest.mark.parametrize(("source", "shown"), FORMULAS)
def test_no_formula_changes_its_meaning(source: str, shown: str) -> None:
    assert to_unicode(source) == shown


def test_long_runs_are_read_at_once() -> None:
    started = time.perf_counter()
    for run in (
        "ⁿ" * 20000 + "+",
        "Δ" * 20000 + "+",
        r"\frac{1}{2}" * 2000,
        r"\sqrt" * 30 + "x",
        r"\," * 5000,
    ):
        to_unicode(rf"\frac{{{run}}}{{{run}}}")
    assert time.perf_counter() - started < 5


PIECES = ["\\frac", "\\sqrt", "{", "}", "^", "_", "[", "]", "x", " ", "&", "\\\\", "中", "\\begin{cases}",
          "\\end{cases}", "\\left", ".", "\\", "\\text", "\\hat"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_anything_can_be_read(pieces: list[str]) -> None:
    to_unicode("".join(pieces))
