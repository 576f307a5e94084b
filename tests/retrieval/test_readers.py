"""Every format gives its headings, paragraphs and tables, and where they stand."""

from __future__ import annotations

import codecs
import io
import json
import time
import zipfile

import document_files as make
import pytest
from retrieval_support import texts

from glmtui.errors import BadFileError, UserError
from glmtui.retrieval import readers
from glmtui.retrieval.documents import Reading
from glmtui.retrieval.passages import cut
from glmtui.retrieval.readers import html, mail, packages, pdf
from glmtui.retrieval.readers.html import decode_page
from glmtui.retrieval.readers.tables import MOST_CELLS
from glmtui.text import encodings, json_values

from .conftest import Read

CHINESE = "员工每年有十五天年假。"


@pytest.mark.parametrize(
    "data",
    [
        CHINESE.encode(),
        codecs.BOM_UTF8 + CHINESE.encode(),
        CHINESE.encode("gb18030"),
        CHINESE.encode("utf-16"),
        codecs.BOM_UTF16_BE + CHINESE.encode("utf-16-be"),
        CHINESE.encode("utf-32"),
    ],
    ids=["utf-8", "utf-8 with its mark", "gb18030", "utf-16", "utf-16 big end first", "utf-32"],
)
def test_text_in_the_encodings_it_has(read: Read, data: bytes) -> None:
    assert texts(read("a.txt", data)) == [CHINESE]


def test_plain_text_has_paragraphs_chapters_and_lines(read: Read) -> None:
    blocks, _reading = read("a.txt", "第一章 总则\r\n\r\n一。\r\n二。\r\n\r\n三。".encode())
    assert [(block.kind, block.text, block.first, block.last) for block in blocks] == [
        ("heading", "第一章 总则", 1, 1),
        ("text", "一。\n二。", 3, 4),
        ("text", "三。", 6, 6),
    ]


def test_characters_that_steer_a_terminal_are_gone_and_lines_stay_as_editors_count_them(read: Read) -> None:
    (block, _last), _reading = read("a.txt", "a\x1b[31mb\u2028c\n\nd".encode())
    assert (block.text, block.first, block.last) == ("ab c", 1, 1)
    assert _last.first == 3


def test_markdown(read: Read) -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n"
    text = f"Title\n=====\nfirst\n\n## Sub *x*\n\n```py\n# no heading\n```\n\n{table}"
    blocks, _reading = read("a.md", text.encode())
    assert [(block.kind, block.level, block.text) for block in blocks] == [
        ("heading", 1, "Title"),
        ("text", 0, "first"),
        ("heading", 2, "Sub x"),
        ("code", 0, "# no heading"),
        ("table", 0, "1 | 2\n3 | 4"),
    ]
    assert (blocks[-1].header, blocks[-1].first, blocks[-1].last) == ("a | b", 13, 14)


def test_code_has_its_definitions_as_headings(read: Read) -> None:
    blocks, _reading = read(
        "a.py", b"import x\n\n\ndef one(a):\n    return a\n\n    # more\n\nclass Two:\n    pass\n"
    )
    assert [block.text for block in blocks if block.kind == "heading"] == ["def one(a)", "class Two"]
    assert [(block.first, block.last) for block in blocks if block.kind == "code"] == [
        (1, 1),
        (4, 5),
        (7, 7),
        (9, 10),
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_keep_their_header(read: Read, separator: str) -> None:
    rows = [["name", "price"], *([f"thing {n}", str(n)] for n in range(120))]
    blocks, _reading = read("a.csv", "\n".join(separator.join(row) for row in rows).encode())
    assert [block.header for block in blocks] == ["name | price"] * 3
    assert (blocks[1].first, blocks[1].last) == (52, 101)


def test_json_is_written_as_lines(read: Read) -> None:
    value = [{"q": "问", "a": {"text": "答", "tags": ["x", "y"]}}, {"q": 2}]
    assert texts(read("a.json", json.dumps(value).encode())) == ["q: 问\na.text: 答\na.tags: x, y", "q: 2"]


def test_wrong_lines_of_json_lines_are_named_and_cost_only_themselves(read: Read) -> None:
    blocks, reading = read("a.jsonl", b'{"a": 1}\n{broken\n{"a": 2}\n')
    assert [(block.text, block.first) for block in blocks] == [("a: 1", 1), ("a: 2", 3)]
    assert "2" in str(reading.notes[0])


def test_a_page_is_its_main_text(read: Read) -> None:
    page = """<html><head><title>T &amp; U</title><style>p{}</style></head><body><nav>Home</nav><h1>Head</h1>
    <p>One <b>two</b><br>three.</p><ul><li>item</li></ul><script>bad()</script><div hidden>unseen</div>
    <p><a href="#">a</a> | <a href="#">b</a></p>
    <table><tr><th>n</th><th>v</th></tr><tr><td>x</td><td>1</td></tr></table><pre>  code</pre>
    <footer>Imprint</footer></body></html>"""
    blocks, reading = read("a.html", page.encode())
    assert reading.title == "T & U"
    assert [(block.kind, block.text) for block in blocks] == [
        ("heading", "Head"), ("text", "One two\nthree."), ("text", "- item"), ("table", "x | 1"),
        ("code", "  code"),
    ]  # fmt: skip


def test_a_page_is_in_the_encoding_it_names() -> None:
    page = '<meta charset="gbk"><p>中文</p>'
    assert "中文" in decode_page(page.encode("gbk"))
    assert "中文" in decode_page("<p>中文</p>".encode("gbk"), "gb2312")
    assert "中文" in decode_page(page.encode("utf-8-sig")), "its mark says more than what it names"


def test_word(read: Read) -> None:
    data = make.docx((1, "总则"), "正文。", (2, "表"), [["名", "价"], ["甲", 1], ["乙", 2]])
    blocks, _reading = read("a.docx", data)
    assert [(block.kind, block.level, block.text, block.header) for block in blocks] == [
        ("heading", 1, "总则", ""), ("text", 0, "正文。", ""), ("heading", 2, "表", ""),
        ("table", 0, "甲 | 1\n乙 | 2", "名 | 价"),
    ]  # fmt: skip


def test_slides_come_in_the_order_they_are_shown_in(read: Read) -> None:
    blocks, reading = read("a.pptx", make.pptx(("One", ["a", "b"]), ("Two", ["c"])))
    assert reading.pages == 2
    assert [(block.kind, block.text, block.page) for block in blocks] == [
        ("heading", "One", 1), ("text", "a\nb", 1), ("heading", "Two", 2), ("text", "c", 2),
    ]  # fmt: skip


def test_sheets(read: Read) -> None:
    blocks, _reading = read("a.xlsx", make.xlsx({"价格": [["型号", "单价"], ["R20", 299], ["R50", 1899.5]]}))
    assert blocks[0].text == "价格"
    assert (blocks[1].header, blocks[1].text) == ("型号 | 单价", "R20 | 299\nR50 | 1899.5")
    assert (blocks[1].first, blocks[1].last) == (2, 3)


def test_cells_that_are_too_far_to_the_right_are_told(read: Read) -> None:
    wide = ["x"] * MOST_CELLS
    cells = "<th>x</th>" * (MOST_CELLS + 1)
    members = {
        "xl/workbook.xml": '<a xmlns:r="http://x/relationships"><sheet name="S" r:id="r1"/></a>',
        "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="r1" Target="s.xml"/></Relationships>',
        "xl/s.xml": '<worksheet><row r="1"><c r="A1"><v>1</v></c></row>'
        '<row r="1048576"><c r="XFD1048576"><v>2</v></c></row></worksheet>',
    }
    for name, data in (
        ("a.xlsx", make.package(members)),
        ("a.csv", ",".join([*wide, "y"]).encode()),
        ("a.docx", make.docx([wide, [*wide, "y"]])),
        ("a.html", f"<table><tr>{cells}</tr><tr>{cells}</tr></table>".encode()),
    ):
        assert len(read(name, data)[1].notes) == 1, name
    assert not read("a.csv", ",".join([*wide, "", ""]).encode())[1].notes


def test_dates_of_a_sheet_are_dates(read: Read) -> None:
    members = {
        "xl/workbook.xml": '<a xmlns:r="http://x/relationships"><sheet name="S" r:id="r1"/></a>',
        "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="r1" Target="s.xml"/></Relationships>',
        "xl/styles.xml": '<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
        "xl/s.xml": '<worksheet><row r="1"><c r="A1"><v>day</v></c></row>'
        '<row r="2"><c r="A2" s="1"><v>45536</v></c><c r="C2"><v>0.1000000000000000055</v></c></row>'
        "</worksheet>",
    }
    assert texts(read("a.xlsx", make.package(members)))[-1] == "2024-09-01 |  | 0.1"


def test_what_is_escaped_in_markdown_is_read_as_it_is_shown(read: Read) -> None:
    blocks, _reading = read("a.md", rb"# Evil \]0;pwn \[1\] \*c\* `d` *e*")
    assert blocks[0].text == "Evil ]0;pwn [1] *c* d e"


def test_opendocument(read: Read) -> None:
    blocks, _reading = read("a.odt", make.odt((2, "桥"), "永济桥长六十八米。"))
    assert [(block.kind, block.level, block.text) for block in blocks] == [
        ("heading", 2, "桥"), ("text", 0, "永济桥长六十八米。"),
    ]  # fmt: skip


def test_books(read: Read) -> None:
    blocks, reading = read("a.epub", make.epub("菜谱", [("红烧肉", ["切块。", "小火。"]), ("鱼", ["蒸。"])]))
    assert reading.title == "菜谱"
    assert [block.text for block in blocks] == ["红烧肉", "切块。", "小火。", "鱼", "蒸。"]


def test_notebooks(read: Read) -> None:
    blocks, reading = read("a.ipynb", make.notebook(("markdown", "# Head\ntext"), ("code", "x = 1")))
    assert [(block.kind, block.text, block.page) for block in blocks] == [
        ("heading", "Head", 1), ("text", "text", 1), ("code", "x = 1", 2),
    ]  # fmt: skip
    assert reading.pages == 2


def test_letters(read: Read) -> None:
    html = "<p>Seen by <b>others</b></p>"
    blocks, reading = read("a.eml", make.letter("预算", "a@b.c", "正文", html=html, attachment="x.zip"))
    assert reading.title == "预算"
    assert "From: a@b.c" in blocks[0].text
    assert blocks[1].text == "正文"
    assert "x.zip" in str(reading.notes[0])


def test_pdf_pages_are_put_together_and_scans_are_named(read: Read) -> None:
    pytest.importorskip("pypdfium2")
    blocks, reading = read("a.pdf", make.pdf("第一行没有写完，\n这里接着写。\nNext one.", "", "", "Last"))
    assert [(block.text, block.page) for block in blocks] == [
        ("第一行没有写完，这里接着写。", 1), ("Next one.", 1), ("Last", 4),
    ]  # fmt: skip
    assert "2-3" in str(reading.notes[0])
    assert pdf.ranges([1, 3, 4, 5, 9]) == "1, 3-5, 9"


def test_of_a_pdf_without_end_the_beginning_is_read_and_said_so(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pypdfium2")
    monkeypatch.setattr(pdf, "MOST_PAGES", 3)
    blocks, reading = read("a.pdf", make.pdf(*(f"page {number}" for number in range(5))))
    assert (len(blocks), reading.pages) == (3, 5)
    assert "3 of 5" in str(reading.notes[0])


def test_without_its_package_a_pdf_names_the_command(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pypdfium2", None)
    with pytest.raises(UserError, match=r"pip install 'glmtui\[docs\]'"):
        read("a.pdf", make.pdf("x"))


# --- what is made to do harm ---


def test_what_unpacks_to_too_much_is_refused(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MOST_TEXT", 1 << 20)
    bomb = make.package({"word/document.xml": b"<a>" + b" " * (4 << 20) + b"</a>"})
    assert len(bomb) < 10_000
    with pytest.raises(BadFileError, match="unpacks"):
        read("a.docx", bomb)


def test_what_lies_about_its_size_is_refused_too(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MOST_TEXT", 1 << 20)
    data = make.package({"content.xml": b" " * (2 << 20)})
    archive = zipfile.ZipFile(io.BytesIO(data))
    size = archive.infolist()[0].file_size.to_bytes(4, "little")
    with pytest.raises(UserError):
        read("a.odt", data.replace(size, (10).to_bytes(4, "little")))


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    ],
)
def test_entities_are_refused(read: Read, xml: str) -> None:
    with pytest.raises(BadFileError, match="entities"):
        read("a.docx", make.package({"word/document.xml": xml}))


def test_deep_nesting_is_refused(read: Read) -> None:
    with pytest.raises(BadFileError, match="deep"):
        read("a.docx", make.package({"word/document.xml": "<a>" * 1000 + "</a>" * 1000}))
    with pytest.raises(BadFileError):
        read("a.json", b"[" * 100_000)
    assert read("a.html", b"<div>" * 20_000 + b"text")[0][0].text == "text"


@pytest.mark.parametrize(
    "name", ["a.docx", "a.xlsx", "a.pptx", "a.odt", "a.epub", "a.ipynb", "a.json", "a.pdf"]
)
@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 not a package", b"\x00\x01\x02" * 50], ids=["empty", "cut", "binary"]
)
def test_what_is_none_of_its_kind_says_so(read: Read, name: str, data: bytes) -> None:
    if name == "a.pdf":
        pytest.importorskip("pypdfium2")
    with pytest.raises(UserError):
        read(name, data)


def test_files_of_old_programs_are_named(read: Read) -> None:
    with pytest.raises(BadFileError, match="2003"):
        read("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 100)


def test_a_letter_with_very_many_attachments_names_some(read: Read) -> None:
    parts = "".join(
        f"--x\r\nContent-Disposition: attachment; filename={number % 50}.bin\r\n\r\nx\r\n"
        for number in range(200)
    )
    letter = f"Subject: s\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n{parts}--x--\r\n"
    _blocks, reading = read("a.eml", letter.encode())
    assert str(reading.notes[0]).endswith(": " + ", ".join(f"{number}.bin" for number in range(10)) + ", …")


def test_a_list_of_members_that_is_too_long_is_not_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MOST_DIRECTORY", 4000)
    many = make.package({f"{number}.xml": b"" for number in range(100)})
    monkeypatch.setattr(packages.zipfile, "ZipFile", None)  # it would read it
    with pytest.raises(BadFileError, match="unpacks"):
        read("a.docx", many)


def test_of_a_letter_without_end_the_beginning_is_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "MOST_TEXT", 1000)
    head = "Subject: s\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhello\r\n--x\r\n"
    blocks, reading = read("a.eml", (head + "Content-Disposition: attachment\r\n\r\n" + "x" * 5000).encode())
    assert "hello" in texts((blocks, reading))
    assert "read up to" in str(reading.notes[0])


def test_json_that_would_fill_the_memory_is_read_as_text(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "MOST_VALUES", 100)
    points = json.dumps({"type": "points", "at": list(range(500))}, indent=1)
    blocks, reading = read("a.json", points.encode())
    assert '"type": "points"' in blocks[0].text
    assert "plain text" in str(reading.notes[0])


def test_a_page_that_is_parsed_in_pieces_is_read_as_a_whole(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = "<title>T</title><h1>A &amp; B</h1><p>text</p><table><tr><td>a<td>b</tr><tr><td>1<td>2</table>"
    whole, reading = read("a.html", page.encode())
    monkeypatch.setattr(html, "_PIECE", 1)
    assert texts(read("a.html", page.encode())) == texts((whole, reading))
    assert reading.title == "T"


def test_of_a_document_without_end_the_beginning_is_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST_CHARACTERS", 10)
    blocks, reading = read("a.txt", b"a line that goes on and on")
    assert [block.text for block in blocks] == ["a line tha"]
    assert reading.notes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", "# a" + " " * 19_000 + "b"),
        ("a.md", "# " + "[" * 19_000),
        ("a.md", "# " + "[](" * 6000),
        ("a.md", "# a" + "_" * 19_000 + "a"),
        ("a.md", "|a|b|\n" + " " * 19_000 + "|-x\n|c|d|"),
        ("a.txt", "x\n" + " " * 19_000 + "x"),
        ("a.txt", "x\n" + "*" * 19_000 + "x"),
        ("a.txt", "\x9d" * 19_000),
        ("a.html", "<p>" + "<b> </b>" * 19_000 + "x</p>"),
        ("a.eml", "To: " + '"a" <a@b.c>, ' * 20_000 + "\n\nhello"),
    ],
)
def test_no_line_takes_long(read: Read, name: str, text: str) -> None:
    """Patterns that look at a run of characters again from each of them took seconds and more."""
    began = time.process_time()
    list(cut(read(name, text.encode())[0]))
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "name", ["punycode", "idna", "undefined", "unicode_escape", "base64", "no such", "a\0b"]
)
def test_encodings_that_are_none_of_the_web_are_passed_over(name: str) -> None:
    assert html.decode_page("长颈鹿\\x41".encode(), name) == "长颈鹿\\x41"


@pytest.mark.parametrize(
    ("line", "title"),
    [("# C#", "C#"), ("## D ##", "D"), ("# # #", "#"), ("#\tE", "E"), ("# **F** [g](h)", "F g")],
)
def test_headings_of_markdown(read: Read, line: str, title: str) -> None:
    (block,) = read("a.md", line.encode())[0]
    assert (block.kind, block.text) == ("heading", title)


def test_what_is_named_often_is_read_once(read: Read) -> None:
    container = '<container><rootfile full-path="o.opf"/></container>'
    book = '<p><item id="a" href="a.html"/>' + '<itemref idref="a"/>' * 1000 + "</p>"
    members = {"META-INF/container.xml": container, "o.opf": book, "a.html": "<p>x</p>"}
    assert texts(read("a.epub", make.package(members))) == ["x"]
    names = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
    relation = '<R><Relationship Id="r1" Target="s.xml"/></R>'
    members = {
        "ppt/presentation.xml": f"<p {names}>" + '<sldId r:id="r1"/>' * 1000 + "</p>",
        "ppt/_rels/presentation.xml.rels": relation,
        "ppt/s.xml": "<s><sp><p><t>x</t></p></sp></s>",
    }
    assert texts(read("a.pptx", make.package(members))) == ["x"]
    members = {
        "xl/workbook.xml": f"<w {names}>" + '<sheet name="a" r:id="r1"/>' * 1000 + "</w>",
        "xl/_rels/workbook.xml.rels": relation,
        "xl/s.xml": '<d><row r="1"><c><v>1</v></c></row></d>',
    }
    assert texts(read("a.xlsx", make.package(members))) == ["a", "1"]


def test_a_word_that_a_pdf_breaks_is_one_word() -> None:
    text = "The pump is main\ufffetained by the HT\ufffe2024\x02team, well\x02known."
    assert [block.text for block in pdf._paragraphs(text, 1)] == [
        "The pump is maintained by the HT-2024team, wellknown."
    ]


@pytest.mark.parametrize("data", [b"\xd0\xcf\0", rb"{\rtf1 words}"])
def test_documents_of_other_programs_are_named_and_text_that_is_only_called_so_is_read(data: bytes) -> None:
    with pytest.raises(BadFileError):
        list(readers.read(Reading(io.BytesIO(data), "a.doc")))
    (block,) = readers.read(Reading(io.BytesIO(b"float32 speed"), "Speed.msg"))
    assert block.text == "float32 speed"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Die Größe der Bäckerei in Köln beträgt 30 m².", "cp1252"),
        ("L'été à la montagne, où l’on déjeune.", "cp1252"),
        ("第三条 员工请假须提前三天申请。", "gb18030"),
        ("The unit is ℃ and the “name” is 陶喆, with 5 μm.", "gb18030"),
        ("臺灣的首都臺北，繁體中文。", "gb18030"),
        ("\x1b]0;title\x07$ ls \x1b[31mred", "utf-8"),
    ],
)
def test_encodings_are_told_apart(text: str, encoding: str) -> None:
    assert encodings.decode(text.encode(encoding)) == text
