"""The Markdown that chat models write, in Chinese and English: CommonMark with tables and strikethrough, but

- emphasis works next to Chinese punctuation: ``**中文（带括号）。**后面`` is bold;
- a line end stays a line end;
- a bare URL ends where Chinese text begins, and nothing but ``http(s)://`` is taken for one (``main.py`` is a
  file, not a site in Paraguay);
- mathematics (``\\(…\\)``, ``\\[…\\]``, ``$…$``, ``$$…$$``) is kept as it is written instead of losing its
  backslashes and underscores;
- HTML is text: ``List<String>`` keeps its ``<String>``;
- a fence with a sentence right behind it (```` ```这样就完成了。 ````) ends the code, and code that is
  Markdown may have fences of its own;
- a line of dashes under a line of text is a rule, not a heading.

Works with markdown-it-py 3 and 4.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline, image, link
from markdown_it.rules_inline.state_inline import Delimiter
from markdown_it.token import Token

from glmtui.text.clean import clean

MATH_LANGUAGE = "latex"
"""The language of the code block that a displayed formula becomes."""


def make_parser() -> MarkdownIt:
    """Return a new parser. Parsers keep no state between texts, so one serves a widget for its life."""
    parser = MarkdownIt("commonmark", {"html": False})
    parser.enable(["table", "strikethrough"])
    parser.disable(["lheading", "html_block", "html_inline"])
    parser.inline.ruler.at("emphasis", _emphasis)
    parser.inline.ruler.at("strikethrough", _strikethrough)
    parser.inline.ruler.before("escape", "math", _inline_math)
    parser.inline.ruler.before("escape", "bare_url", _bare_url)
    parser.block.ruler.before(
        "fence", "math", _block_math, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.block.ruler.at("fence", _fence, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    for name, rule in (("link", link), ("image", image)):
        parser.inline.ruler.at(name, partial(_bracketed, rule))
    parser.core.ruler.push("keep_breaks", _keep_all_breaks)
    return parser


@lru_cache(maxsize=1)
def shared_parser() -> MarkdownIt:
    """Return the parser of all who read on one thread."""
    return make_parser()


def code_blocks(text: str) -> list[str]:
    """Return the content of the code blocks of a Markdown text, without the blank lines at their ends."""
    tokens = shared_parser().parse(clean(text))
    return [token.content.rstrip("\n") for token in tokens if token.type in ("fence", "code_block")]


def links(text: str) -> list[str]:
    """Return the addresses that a Markdown text links to, each once."""
    inlines = (token.children or () for token in shared_parser().parse(clean(text)) if token.type == "inline")
    found = (
        child.attrs.get("href") for children in inlines for child in children if child.type == "link_open"
    )
    return list(dict.fromkeys(str(address) for address in found if address))


# --- emphasis ---


@lru_cache(maxsize=4096)
def _kind(character: str) -> tuple[bool, bool, bool]:
    """Return whether a character is white space, punctuation that is not Chinese, Chinese of any sort.

    "Chinese" stands for every script written without blanks that has wide characters and punctuation;
    the rule is the one proposed for CommonMark (commonmark/commonmark-spec#650).
    """
    wide = unicodedata.east_asian_width(character) in "WFH" and unicodedata.category(character) != "So"
    punctuation = isMdAsciiPunct(ord(character)) or isPunctChar(character)
    return isWhiteSpace(ord(character)), punctuation and not wide, wide


def _scan(state: StateInline, *, splits_words: bool) -> tuple[int, bool, bool]:
    """Return length of the delimiter run at the position, and whether it can open and close emphasis."""
    start, source = state.pos, state.src
    end = start
    while end < state.posMax and source[end] == source[start]:
        end += 1
    space_before, punctuation_before, wide_before = _kind(source[start - 1] if start else " ")
    space_after, punctuation_after, wide_after = _kind(source[end] if end < state.posMax else " ")
    opens = not space_after and (not punctuation_after or space_before or punctuation_before or wide_before)
    closes = not space_before and (not punctuation_before or space_after or punctuation_after or wide_after)
    if splits_words:
        return end - start, opens, closes
    return (
        end - start,
        opens and (not closes or punctuation_before),
        closes and (not opens or punctuation_after),
    )


def _push_delimiter(state: StateInline, text: str, *, length: int, opens: bool, closes: bool) -> None:
    token = state.push("text", "", 0)
    token.content = text
    state.delimiters.append(
        Delimiter(
            marker=ord(text[0]), length=length, token=len(state.tokens) - 1, end=-1, open=opens, close=closes
        )
    )


def _emphasis(state: StateInline, silent: bool) -> bool:
    marker = state.src[state.pos]
    if silent or marker not in "*_":
        return False
    length, opens, closes = _scan(state, splits_words=marker == "*")
    for _each in range(length):
        _push_delimiter(state, marker, length=length, opens=opens, closes=closes)
    state.pos += length
    return True


def _strikethrough(state: StateInline, silent: bool) -> bool:
    if silent or state.src[state.pos] != "~":
        return False
    length, opens, closes = _scan(state, splits_words=True)
    if length < 2:
        return False
    if length % 2:
        state.push("text", "", 0).content = "~"
    for _each in range(length // 2):
        _push_delimiter(state, "~~", length=0, opens=opens, closes=closes)  # 0: no rule of three
    state.pos += length
    return True


# --- lines, links ---


@lru_cache(maxsize=8)
def _last(text: str, mark: str) -> int:
    return text.rfind(mark)


def keep_breaks(tokens: Iterable[Token]) -> None:
    """Turn the line ends in the content of a paragraph into line breaks."""
    for token in tokens:
        if token.type == "softbreak":
            token.type = "hardbreak"


def _keep_all_breaks(state: StateCore) -> None:
    for token in state.tokens:
        keep_breaks(token.children or ())


SCHEME_LENGTH = len(" https")


def _bracketed(rule: Callable[[StateInline, bool], bool], state: StateInline, silent: bool) -> bool:
    """Look for a link only where a bracket closes: else each of many would be looked for up to the end."""
    return state.pos < _last(state.src, "]") and rule(state, silent)


_SCHEME = re.compile(r"(?:^|[^a-z0-9.+-])(https?)$", re.IGNORECASE)
_URL = re.compile(r"://[!-'(-;=?-_a-~]+")
"""Printable ASCII but no ``<``, ``>``, backtick: Chinese text and full-width punctuation end a URL."""


def _bare_url(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != ":" or state.linkLevel > 0:
        return False
    scheme = _SCHEME.search(state.pending[-SCHEME_LENGTH:])
    match = _URL.match(state.src, state.pos, state.posMax)
    if scheme is None or match is None:
        return False
    rest = match.group().rstrip("*_~.,:;!?'\"|")
    while rest.endswith(")") and rest.count(")") > rest.count("("):
        rest = rest[:-1].rstrip("*_~.,:;!?'\"|")
    if len(rest) <= 3:
        return False
    if not silent:
        start = len(state.pending) - len(scheme.group(1))
        url = state.pending[start:] + rest
        state.pending = state.pending[:start]
        state.push("link_open", "a", 1).attrs = {"href": state.md.normalizeLink(url)}
        state.push("text", "", 0).content = url
        state.push("link_close", "a", -1)
    state.pos += len(rest)
    return True


# --- code ---

_FENCE = re.compile(r"(?P<marks>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)")
_PROSE = re.compile(r"[^\x00-\x7f].*[。！？，、；：…]")
"""What is no name of a language, but text right behind the end of the code."""
NESTING = ("markdown", "md")
"""Languages in which code may have fences."""


def _fence(state: StateBlock, startLine: int, endLine: int, silent: bool) -> bool:  # noqa: N803
    """Code between fences; still being written, or cut off, it goes to the end."""
    opening = _fence_at(state, startLine)
    if opening is None:
        return False
    marks, info = opening
    if _PROSE.match(info):  # of code that began in another block
        if not silent:
            _skip_marks(state, startLine, marks)
        return False
    if silent:
        return True
    inner, line, closing = 0, startLine + 1, 0
    nests = info.lower().startswith(NESTING)
    while line < endLine and (state.isEmpty(line) or state.sCount[line] >= state.blkIndent):
        other, rest = _fence_at(state, line) or ("", "")
        if other[:1] == marks[0]:
            if inner and not rest:
                inner -= 1
            elif not inner and len(other) >= len(marks) and (not rest or _PROSE.match(rest)):
                closing = 0 if rest else 1  # what is behind it is read as text
                break
            elif nests and rest:
                inner += 1
        line += 1
    token = state.push("fence", "code", 0)
    token.info, token.markup = info, marks
    token.content = state.getLines(startLine + 1, line, state.sCount[startLine], True)
    state.line = line + closing
    token.map = [startLine, state.line]
    return True


def _fence_at(state: StateBlock, line: int) -> tuple[str, str] | None:
    """Return the marks of a fence in `line` and what stands behind them."""
    if state.is_code_block(line):
        return None
    match = _FENCE.fullmatch(state.src, state.bMarks[line] + state.tShift[line], state.eMarks[line])
    return (match["marks"], match["info"].strip()) if match else None


def _skip_marks(state: StateBlock, line: int, marks: str) -> None:
    """Let what reads `line` next begin behind the marks."""
    state.bMarks[line] += state.tShift[line] + len(marks)
    state.tShift[line] = 0


# --- mathematics ---

_INLINE_MATH = re.compile(
    r"\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]|\$\$(?P<double>[^$]+?)\$\$"
    # Pandoc's rule for single dollars, so that "$5 and $10" stays money; no Chinese inside.
    r"|(?<![\\$\w])\$(?P<single>(?!\s)[!-#%-~ ]{1,200}?)(?<![\s\\])\$(?![\w$])",
    re.DOTALL,
)


_LINE_CLOSERS = {"\\(": "\\)", "\\[": "\\]"}


def _inline_math(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "\\$":
        return False
    opener = state.src[state.pos : state.pos + 2]
    if opener in _LINE_CLOSERS and _last(state.src, _LINE_CLOSERS[opener]) < state.pos:
        return False  # else each of many openers would be looked for an end up to the end of the text
    match = _INLINE_MATH.match(state.src, state.pos, state.posMax)
    if match is None:
        return False
    if not silent:
        token = state.push("code_inline", "code", 0)
        token.markup = "$"
        token.content = " ".join((match[match.lastgroup or 0] or "").split())
    state.pos = match.end()
    return True


_CLOSERS = {"$$": "$$", "\\[": "\\]"}


def _block_math(state: StateBlock, startLine: int, endLine: int, silent: bool) -> bool:  # noqa: N803
    """A formula on lines of its own: from ``$$`` or ``\\[`` to its end, but never over an empty line."""
    lines: list[str] = []
    first = state.src[state.bMarks[startLine] + state.tShift[startLine] : state.eMarks[startLine]].rstrip()
    closer = _CLOSERS.get(first[:2])
    if closer is None or state.is_code_block(startLine):
        return False
    line, text = startLine, first[2:]
    while not text.rstrip().endswith(closer):
        if closer in text:
            return False  # text goes on after the formula: it stands in a line
        lines.append(text)
        line += 1
        if line >= endLine:
            break  # still being written
        if state.isEmpty(line) or state.sCount[line] < state.blkIndent:
            return False
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
    else:
        lines.append(text.rstrip()[: -len(closer)])
        line += 1
    if silent:
        return True
    token = state.push("fence", "code", 0)
    token.info = MATH_LANGUAGE
    token.content = "\n".join(part.strip() for part in lines).strip("\n") + "\n"
    token.map = [startLine, line]
    state.line = line
    return True
