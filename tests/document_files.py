"""Documents of every format, made with Python alone: what the programs they are named after would write."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage
from html import escape

Row = Sequence[str | int | float]


def package(members: dict[str, str | bytes]) -> bytes:
    """A zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def docx(*blocks: tuple[int, str] | str | Sequence[Row]) -> bytes:
    """A text: headings as (level, text), paragraphs, and tables as rows."""
    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = []
    for block in blocks:
        if isinstance(block, str):
            body.append(f"<w:p><w:r><w:t>{escape(block)}</w:t></w:r></w:p>")
        elif isinstance(block, tuple) and isinstance(block[0], int):
            style = f'<w:pPr><w:pStyle w:val="H{block[0]}"/></w:pPr>'
            body.append(f"<w:p>{style}<w:r><w:t>{escape(str(block[1]))}</w:t></w:r></w:p>")
        else:
            rows = (
                "<w:tr>"
                + "".join(f"<w:tc><w:p><w:r><w:t>{escape(str(c))}</w:t></w:r></w:p></w:tc>" for c in row)  # type: ignore[union-attr]
                + "</w:tr>"
                for row in block
            )
            body.append(f"<w:tbl>{''.join(rows)}</w:tbl>")
    styles = "".join(
        f'<w:style w:styleId="H{n}"><w:name w:val="heading {n}"/></w:style>' for n in range(1, 4)
    )
    return package(
        {
            "word/document.xml": f"<w:document {word}><w:body>{''.join(body)}</w:body></w:document>",
            "word/styles.xml": f"<w:styles {word}>{styles}</w:styles>",
        }
    )


def pptx(*slides: tuple[str, Sequence[str]]) -> bytes:
    """A presentation of slides with a title and lines, stored in another order than they are shown in."""
    names = 'xmlns:a="urn:a" xmlns:p="urn:p"'
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    members: dict[str, str | bytes] = {}
    shown, targets = [], []
    for number, (title, lines) in enumerate(slides):
        stored = len(slides) - number
        paragraphs = "".join(f"<a:p><a:r><a:t>{escape(line)}</a:t></a:r></a:p>" for line in lines)
        members[f"ppt/slides/slide{stored}.xml"] = (
            f'<p:sld {names}><p:sp><p:nvPr><p:ph type="title"/></p:nvPr>'
            f"<a:p><a:t>{escape(title)}</a:t></a:p></p:sp>"
            f"<p:sp>{paragraphs}</p:sp></p:sld>"
        )
        shown.append(f'<p:sldId id="{256 + number}" r:id="r{number}"/>')
        targets.append(f'<Relationship Id="r{number}" Target="slides/slide{stored}.xml"/>')
    members["ppt/presentation.xml"] = (
        f'<p:presentation {names} xmlns:r="{relations}">{"".join(shown)}</p:presentation>'
    )
    members["ppt/_rels/presentation.xml.rels"] = f"<Relationships>{''.join(targets)}</Relationships>"
    return package(members)


def xlsx(sheets: dict[str, Sequence[Row]]) -> bytes:
    """A workbook: text in the shared strings, numbers in their cells."""
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    strings: list[str] = []
    members: dict[str, str | bytes] = {}
    for at, rows in enumerate(sheets.values(), 1):
        lines = []
        for number, row in enumerate(rows, 1):
            cells = []
            for column, value in enumerate(row):
                place = f"{chr(65 + column)}{number}"
                if isinstance(value, str):
                    strings.append(value)
                    cells.append(f'<c r="{place}" t="s"><v>{len(strings) - 1}</v></c>')
                else:
                    cells.append(f'<c r="{place}"><v>{value}</v></c>')
            lines.append(f'<row r="{number}">{"".join(cells)}</row>')
        members[f"xl/worksheets/sheet{at}.xml"] = (
            f"<worksheet><sheetData>{''.join(lines)}</sheetData></worksheet>"
        )
    shared = "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
    names = "".join(f'<sheet name="{escape(name)}" r:id="r{at}"/>' for at, name in enumerate(sheets, 1))
    targets = "".join(
        f'<Relationship Id="r{at}" Target="worksheets/sheet{at}.xml"/>' for at in range(1, len(sheets) + 1)
    )
    return package(
        {
            **members,
            "xl/sharedStrings.xml": f"<sst>{shared}</sst>",
            "xl/workbook.xml": f'<workbook xmlns:r="{relations}"><sheets>{names}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f"<Relationships>{targets}</Relationships>",
        }
    )


def odt(*blocks: tuple[int, str] | str) -> bytes:
    """A text in OpenDocument."""
    body = "".join(
        f"<text:p>{escape(block)}</text:p>"
        if isinstance(block, str)
        else f'<text:h text:outline-level="{block[0]}">{escape(block[1])}</text:h>'
        for block in blocks
    )
    names = 'xmlns:office="urn:o" xmlns:text="urn:t"'
    return package(
        {"content.xml": f"<office:document {names}><office:body>{body}</office:body></office:document>"}
    )


def epub(title: str, chapters: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """A book."""
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfile full-path="OEBPS/book.opf"/></container>',
    }
    items = []
    for number, (name, paragraphs) in enumerate(chapters):
        items.append(f'<item id="c{number}" href="c{number}.xhtml"/>')
        text = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)
        members[f"OEBPS/c{number}.xhtml"] = (
            f"<!DOCTYPE html><html><head><title>{escape(name)}</title></head>"
            f"<body><h1>{escape(name)}</h1>{text}</body></html>"
        )
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(len(chapters)))
    members["OEBPS/book.opf"] = (
        f"<package><metadata><title>{escape(title)}</title></metadata><manifest>{''.join(items)}</manifest>"
        f"<spine>{spine}</spine></package>"
    )
    return package(members)


def notebook(*cells: tuple[str, str]) -> bytes:
    """A Jupyter notebook of (kind, source)."""
    return json.dumps(
        {
            "cells": [
                {"cell_type": kind, "source": source.splitlines(keepends=True)} for kind, source in cells
            ]
        },
        ensure_ascii=False,
    ).encode()


def letter(subject: str, sender: str, text: str, *, html: str = "", attachment: str = "") -> bytes:
    """A mail."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, sender, "team@example.com"
    message["Date"] = "Mon, 02 Sep 2024 09:30:00 +0800"
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    if attachment:
        message.add_attachment(b"data", maintype="application", subtype="octet-stream", filename=attachment)
    return message.as_bytes()


def pdf(*pages: str) -> bytes:
    """A PDF of lines of text, Chinese or Latin; an empty page has none, as a scan."""
    objects: list[bytes] = [b"", b""]  # catalogue and pages, written last

    def add(content: bytes) -> int:
        objects.append(content)
        return len(objects)

    descriptor = add(
        b"<</Type/FontDescriptor/FontName/STSong-Light/Flags 6/FontBBox[-25 -254 1000 880]/ItalicAngle 0"
        b"/Ascent 880/Descent -120/CapHeight 880/StemV 93>>"
    )
    inner = add(
        b"<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong-Light/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)"
        b"/Supplement 2>>/FontDescriptor %d 0 R>>" % descriptor
    )
    font = add(
        b"<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UCS2-H/DescendantFonts[%d 0 R]>>"
        % inner
    )
    kids = []
    for page in pages:
        lines = page.split("\n") if page else []
        shown = b" T* ".join(b"<%s> Tj" % line.encode("utf-16-be").hex().encode() for line in lines)
        content = b"BT /F1 11 Tf 14 TL 40 780 Td %s ET" % shown if lines else b""
        stream = add(b"<</Length %d>>\nstream\n%s\nendstream" % (len(content), content))
        kids.append(
            add(
                b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents %d 0 R"
                b"/Resources<</Font<</F1 %d 0 R>>>>>>" % (stream, font)
            )
        )
    objects[0] = b"<</Type/Catalog/Pages 2 0 R>>"
    objects[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (
        len(kids),
        b" ".join(b"%d 0 R" % kid for kid in kids),
    )
    data = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(data)
