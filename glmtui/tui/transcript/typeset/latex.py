r"""Formulas for a terminal: LaTeX in Unicode where that can say the same, else as it is written.

``\frac{a+b}{2}`` is ``(a+b)/2``, ``x_i^2`` is ``xᵢ²``, ``\alpha \le \sqrt{2}`` is ``α ≤ √2``. What is not
known here stays LaTeX, so nothing of a formula is lost; what is copied as a message is always the source.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

_TOKEN = re.compile(r"\\[A-Za-z]+\*?[ \t]*|\\.|\s+|.", re.DOTALL)
DEEPEST = 40
"""Braces within braces that are followed; what is deeper stays as it is written."""

_TABLE = r"""
    alpha=α beta=β gamma=γ delta=δ epsilon=ϵ varepsilon=ε zeta=ζ eta=η theta=θ vartheta=ϑ iota=ι kappa=κ
    lambda=λ mu=μ nu=ν xi=ξ pi=π rho=ρ sigma=σ varsigma=ς tau=τ upsilon=υ phi=ϕ varphi=φ chi=χ psi=ψ omega=ω
    Gamma=Γ Delta=Δ Theta=Θ Lambda=Λ Xi=Ξ Pi=Π Sigma=Σ Upsilon=Υ Phi=Φ Psi=Ψ Omega=Ω
    sum=∑ prod=∏ coprod=∐ int=∫ iint=∬ iiint=∭ oint=∮ partial=∂ nabla=∇ infty=∞ hbar=ℏ ell=ℓ Re=ℜ Im=ℑ
    aleph=ℵ emptyset=∅ varnothing=∅ forall=∀ exists=∃ nexists=∄ neg=¬ lnot=¬ angle=∠ degree=° prime=′
    top=⊤ bot=⊥ dots=… ldots=… cdots=⋯ vdots=⋮ ddots=⋱ circ=∘ bullet=• star=⋆ ast=∗ dagger=† checkmark=✓
    times=× div=÷ pm=± mp=∓ cdot=· oplus=⊕ ominus=⊖ otimes=⊗ odot=⊙ cup=∪ cap=∩ setminus=∖ wedge=∧ land=∧
    vee=∨ lor=∨ sqcup=⊔ sqcap=⊓ le=≤ leq=≤ leqslant=≤ ge=≥ geq=≥ geqslant=≥ ne=≠ neq=≠ ll=≪ gg=≫ equiv=≡
    approx=≈ sim=∼ simeq=≃ cong=≅ propto=∝ in=∈ notin=∉ ni=∋ subset=⊂ subseteq=⊆ supset=⊃ supseteq=⊇
    perp=⊥ parallel=∥ mid=∣ vdash=⊢ models=⊨ prec=≺ succ=≻ to=→ rightarrow=→ leftarrow=← gets=←
    leftrightarrow=↔ Rightarrow=⇒ Leftarrow=⇐ Leftrightarrow=⇔ implies=⟹ iff=⟺ mapsto=↦ uparrow=↑
    downarrow=↓ longrightarrow=⟶ longleftarrow=⟵ hookrightarrow=↪ langle=⟨ rangle=⟩ lfloor=⌊ rfloor=⌋
    lceil=⌈ rceil=⌉ lVert=‖ rVert=‖ Vert=‖ lvert=| rvert=| vert=| |=‖
    lbrace={ rbrace=} therefore=∴ because=∵ triangle=△ square=□
"""
_SYMBOLS: Mapping[str, str] = dict(pair.split("=", 1) for pair in _TABLE.split())
_BINARY = frozenset("∣×÷±∓·⊕⊖⊗⊙∪∩∖∧∨≤≥≠≪≫≡≈∼≃≅∝∈∉∋⊂⊆⊃⊇⊥∥⊢⊨→←↔⇒⇐⇔⟹⟺↦⟶⟵=+-<>")
_SYMBOL_SIGNS = frozenset(_SYMBOLS.values()) - frozenset("⟩⌋⌉|‖})…⋯⋮⋱∣")
"""Those that can begin something."""
_FUNCTIONS = """
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp max min sup inf lim limsup
    liminf arg det dim ker gcd deg Pr mod bmod
"""
_NAMES = frozenset(_FUNCTIONS.split())
_SPACES = {"quad": "  ", "qquad": "    ", ",": " ", ";": " ", ":": " ", " ": " ", "!": "", "~": " "}
_FONTS = """
    text textrm textbf textit texttt mathrm mathbf mathit mathsf mathtt mathcal mathscr mathfrak boldsymbol bm
    operatorname operatorname* mbox hbox pmb boxed
"""
_PLAIN = frozenset(_FONTS.split())
_LAYOUT = """
    left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits nolimits nonumber notag
    hline cr
"""
_IGNORED = frozenset(_LAYOUT.split())
_ACCENTS = {"hat": "\u0302", "widehat": "\u0302", "bar": "\u0304", "overline": "\u0304", "tilde": "\u0303",
            "widetilde": "\u0303", "vec": "\u20d7", "dot": "\u0307", "ddot": "\u0308"}  # fmt: skip
_DOUBLE = dict(zip("CHNPQRZE", "ℂℍℕℙℚℝℤ𝔼", strict=True))
_UP = str.maketrans(
    "0123456789+-=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVWαβγδθφχ−",
    "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵅᵝᵞᵟᶿᵠᵡ⁻",
)
_DOWN = str.maketrans("0123456789+-=()aehijklmnoprstuvxβγρφχ−", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ₋")
_FENCES = {
    "pmatrix": "()",
    "bmatrix": "[]",
    "Bmatrix": "{}",
    "vmatrix": "||",
    "Vmatrix": "‖‖",
    "matrix": "  ",
}


def to_unicode(source: str) -> str:
    """Return the formula in Unicode; what cannot be read as one is returned as it is."""
    try:
        text = _Reader(source).all()
    except _UnreadableError:
        return source
    text = re.sub(r"(?<=[⟨(\[⌊⌈]) +| +(?=[⟩)\]⌋⌉])", "", text)
    lines = (re.sub(" {2,}", lambda run: run.group()[:4], line).rstrip() for line in text.split("\n"))
    return "\n".join(lines).strip()


class _UnreadableError(Exception):
    """Braces that do not match, or are too many."""


class _Reader:
    def __init__(self, source: str) -> None:
        self.tokens = [match.group() for match in _TOKEN.finditer(source)]
        self.at = 0
        self.depth = 0
        self.before = ""
        """What stands before the command that is being read, in its group."""

    def all(self) -> str:
        text = self.group(end=None)
        if self.at < len(self.tokens):
            raise _UnreadableError
        return text

    def next(self) -> str | None:
        if self.at >= len(self.tokens):
            return None
        self.at += 1
        return self.tokens[self.at - 1]

    def group(self, *, end: str | None) -> str:
        """Read up to `end` (over it), or to the end of everything."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise _UnreadableError
        parts: list[str] = []
        while (token := self.next()) is not None:
            if end and token.rstrip() == end:
                if end == r"\end":
                    self.raw_argument()
                break
            if token == "}":
                raise _UnreadableError
            parts.append(self.piece(token, parts))
        else:
            if end:
                raise _UnreadableError
        self.depth -= 1
        return "".join(parts)

    def piece(self, token: str, before: list[str]) -> str:
        if token.isspace():
            return " " if before and not before[-1].endswith((" ", "\n")) else ""
        if token == "{":
            return self.group(end="}")
        if token in "^_":
            return self.script(token)
        if token == "&":
            return "" if before and before[-1].endswith(" ") else " "
        if token.startswith("\\") and len(token) > 1:
            self.before = before[-1] if before else ""
            return self.command(token[1:].rstrip() or " ", token)
        return token

    def command(self, name: str, token: str) -> str:
        if name == "\\":
            return "\n"
        if (symbol := _SYMBOLS.get(name)) is not None:
            spaced = token[-1].isspace() and (symbol in _BINARY or self.before_binary())
            apart = spaced and symbol in _BINARY and (self.before[-1:].isalnum() or self.before.endswith(")"))
            return f"{' ' * apart}{symbol}{' ' * spaced}"
        if name in _NAMES:
            apart = _ends_a_factor(self.before)
            return f"{' ' * apart}{name.removeprefix('b')}{' ' * token[-1].isspace()}"
        if name in _SPACES:
            return _SPACES[name]
        if name in _IGNORED:
            following = self.tokens[self.at] if self.at < len(self.tokens) else ""
            if name in ("left", "right") and following == ".":
                self.at += 1
            return ""
        if handler := _COMMANDS.get(name):
            return handler(self)
        if name in _PLAIN:
            return self.raw_argument() if name.startswith("text") or name == "mbox" else self.argument()
        if mark := _ACCENTS.get(name):
            inner = self.argument()
            return unicodedata.normalize("NFC", inner + mark) if len(inner) == 1 else f"{name}({inner})"
        if not name[0].isalnum():
            return name  # \{ is {
        while self.at < len(self.tokens) and self.tokens[self.at] == "{":
            token += f"{{{self.raw_argument()}}}"
        return token  # what is unknown stays

    def argument(self) -> str:
        self.skip_blanks()
        token = self.next()
        if token is None or token == "}":
            raise _UnreadableError
        return self.piece(token, [])

    def raw_argument(self) -> str:
        self.skip_blanks()
        if self.next() != "{":
            raise _UnreadableError
        depth = 1
        parts: list[str] = []
        while (token := self.next()) is not None:
            depth += (token == "{") - (token == "}")
            if not depth:
                return "".join(parts)
            parts.append(token)
        raise _UnreadableError

    def option(self) -> str:
        self.skip_blanks()
        if self.at < len(self.tokens) and self.tokens[self.at] == "[":
            self.at += 1
            return self.group(end="]")
        return ""

    def before_binary(self) -> bool:
        """Tell whether the next token stands between two things: a space before it belongs to it."""
        following = self.tokens[self.at] if self.at < len(self.tokens) else ""
        return _SYMBOLS.get(following[1:].rstrip(), following) in _BINARY

    def skip_blanks(self) -> None:
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1

    def script(self, token: str) -> str:
        inner = self.argument().strip()
        if inner in ("′", "∘", "°"):
            return "°" if inner == "∘" else inner
        table = _UP if token == "^" else _DOWN
        if inner and all(ord(character) in table for character in inner):
            return inner.translate(table)
        if len(inner) != 1:
            return f"{token}({inner})"
        return f"{token}{inner}{' ' * _begins_a_factor(self.following(blanks=False))}"

    def fraction(self) -> str:
        """Read a fraction, with brackets around it where what is next to it would be read into it."""
        before = self.before
        above, below = self.argument().strip(), self.argument().strip()
        found = f"{_bracketed(above)}/{_bracketed(below, divides=True)}"
        following = self.following()
        if _begins_a_factor(following) or following in _AFTER_FACTOR or following == "/":
            apart = not before.endswith(" ") and before[-1:].isalpha()
        elif before[-1:].isdigit() and above.isdigit() and below.isdigit():
            return f" {found}"  # a mixed number
        elif before.rstrip().endswith("/") or before.rstrip() in _NAMES or _ends_a_factor(before):
            apart = False
        else:
            return found
        return f"{' ' * apart}({found})"

    def following(self, *, blanks: bool = True) -> str:
        """Return the next token that is more than layout, as a symbol where it is one; none is empty.

        Args:
            blanks: look behind blanks too.
        """
        for at in range(self.at, len(self.tokens)):
            token = self.tokens[at]
            name = token[1:].rstrip() if token.startswith("\\") else ""
            blank = token.isspace() or name in _SPACES or token == "\\ "
            if name == "right":  # something closes
                return ")"
            if not (blank and blanks) and name not in _IGNORED:
                return _SYMBOLS.get(name, token.rstrip() or token)
        return ""

    def root(self) -> str:
        degree = self.option()
        inner = self.argument().strip()
        sign = {"": "√", "2": "√", "3": "∛", "4": "∜"}.get(degree)
        if sign is None:
            raised = all(ord(character) in _UP for character in degree)
            sign = degree.translate(_UP) + "√" if raised else f"({degree})√"
        found = sign + (inner if len(inner) == 1 or inner.isdigit() else f"({inner})")
        following = self.following(blanks=False)
        if following in _AFTER_FACTOR:
            return f"({found})"
        return f"{found} " if following[-1:].isalnum() and not found.endswith(")") else found

    def double(self) -> str:
        inner = self.argument()
        return _DOUBLE.get(inner, inner)

    def binomial(self) -> str:
        return f"C({self.argument()}, {self.argument()})"

    def environment(self) -> str:
        name = self.raw_argument()
        if name == "array":
            self.skip_blanks()
            self.raw_argument()
        body = self.group(end=r"\end")
        rows = [" ".join(row.split()) if name in _FENCES else row.strip() for row in body.split("\n")]
        rows = [row for row in rows if row]
        if name in _FENCES:
            fences = _FENCES[name]
            return f"{fences[0]}{'; '.join(rows)}{fences[1]}".strip()
        return ("{ " if name == "cases" else "") + ("\n  " if name == "cases" else "\n").join(rows)

    def tag(self) -> str:
        return f"   ({self.raw_argument()})"

    def dropped(self) -> str:
        self.raw_argument()
        return ""

    def over(self) -> str:
        above, base = self.argument(), self.argument()
        return f"{base}^({above})"

    def under(self) -> str:
        below, base = self.argument(), self.argument()
        return f"{base}_({below})"

    def modulus(self) -> str:
        return f"(mod {self.argument()})"


_COMMANDS: Mapping[str, Callable[[_Reader], str]] = {
    "frac": _Reader.fraction, "dfrac": _Reader.fraction, "tfrac": _Reader.fraction, "cfrac": _Reader.fraction,
    "sqrt": _Reader.root, "mathbb": _Reader.double, "binom": _Reader.binomial, "begin": _Reader.environment,
    "tag": _Reader.tag, "label": _Reader.dropped, "overset": _Reader.over, "stackrel": _Reader.over,
    "underset": _Reader.under, "pmod": _Reader.modulus,
}  # fmt: skip


_AFTER_FACTOR = frozenset("^_!'")
"""What belongs to all that is before it."""
_SCRIPTS = r"[′'₀-₎ₐ-ₜᵢⱼᵣ⁰-ⁿ²³¹ᵃ-ᵡ]*"
_FACTOR = re.compile(
    rf"\d+(\.\d+)?|[d∂Δδ]?{_SCRIPTS}[^\W\d_]{_SCRIPTS}|[\u3400-\u9fff]+|√?[A-Za-z]*\([^()]*\)|√\w|√\(\w*\(.*\)\)|."
)
"""What one divides by without brackets: a number, a letter with scripts, a differential, a root, f(x)."""
_PRODUCT = re.compile(r"(√?[∂∇]?\w[′'⁺⁻⁼⁽⁾₊₋₌₍₎]*)+")
"""What one divides without brackets, too."""


def _bracketed(text: str, *, divides: bool = False) -> str:
    """Put brackets around what is more than one thing; a product is more only where it `divides`."""
    short = len(text) <= 100
    simple = short and (_FACTOR.fullmatch(text) or (not divides and _PRODUCT.fullmatch(text)))
    return text if simple or not text else f"({text})"


def _begins_a_factor(token: str) -> bool:
    """Whether `token`, behind something, multiplies it."""
    if token.startswith("\\"):
        return len(token) > 1 and token[1].isalpha() and token[1:] not in ("end", "tag", "label")
    return (
        token[:1].isalnum() or token in ("(", "[", "{") or (token in _SYMBOL_SIGNS and token not in _BINARY)
    )


def _ends_a_factor(text: str) -> bool:
    """Whether what would follow `text` at once is multiplied by it."""
    return text[-1:].isalnum() or text.endswith((")", "]", "'"))
