"""Pages as a browser would build them, and as a reader would read them."""

import re
from html import unescape
from html.parser import HTMLParser
from typing import NamedTuple

VOID = {"meta", "br", "wbr", "path", "circle", "line", "use"}
"""Elements without an end tag, in HTML or because the page closes them at once."""
BLOCKS = {
    "caption", "dd", "desc", "div", "dl", "dt", "figcaption", "footer", "h1", "h2", "h3", "h4", "header", "li", "p",
    "section", "summary", "text", "title", "tr", "ul",
}  # fmt: skip
"""Elements that begin a line of text."""


class Page(HTMLParser):
    """Elements in order, ids, links and text by element."""

    def __init__(self, text):
        super().__init__()
        self.markup = text
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def find(self, tag):
        return [attrs for name, attrs, _ in self.elements if name == tag]

    @property
    def ids(self):
        return [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]

    @property
    def text(self):
        return " ".join(data for tag, data in self.texts if tag != "style")

    @property
    def style(self):
        return re.search(r"<style>(.*?)</style>", self.markup, re.DOTALL)[1]


class _Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.lines, self.hidden = [""], 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.hidden += tag == "style"
        if tag in BLOCKS:
            prefix = f"\n{'#' * int(tag[1])} " if re.fullmatch(r"h\d", tag) else "- " if tag == "li" else ""
            self.lines.append(prefix)
        elif tag in ("td", "th"):
            self.lines[-1] += " | " if self.lines[-1] else ""

    def handle_endtag(self, tag):
        self.hidden -= tag == "style"
        if tag in BLOCKS:
            self.lines.append("")

    def handle_data(self, data):
        if not self.hidden:
            self.lines[-1] += re.sub(r"\s+", " ", data)


def readable(page):
    """The text of a page, a line for each block of it."""
    lines = (line.rstrip() for line in _Reader(page).lines)
    return "\n".join(line for line in lines if line.strip(" -#|"))


class Table(NamedTuple):
    """A table of a page."""

    caption: str
    header: list[str]
    rows: list[list[str]]


def tables(page):
    """Every table of a page by its caption; cells joined from the texts in them."""
    found = []
    for body in re.findall(r"<table[^>]*>(.*?)</table>", page, re.DOTALL):
        caption = re.search(r"<caption>(.*?)</caption>", body, re.DOTALL)[1]
        lines = [
            [words(cell) for cell in re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", line, re.DOTALL)]
            for line in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
        ]
        found.append(Table(unescape(caption), lines[0], lines[1:]))
    return found


def table(page, caption):
    """The one table whose caption begins so."""
    (found,) = [each for each in tables(page) if each.caption.startswith(caption)]
    return found


def words(markup):
    """The texts of some markup."""
    parts = re.split(r"<[^>]*>", markup)
    return " | ".join(unescape(part).strip() for part in parts if part.strip())


def section(page, anchor):
    """The markup from a heading on, to the end of its section."""
    return page[page.index(f'<h2 id="{anchor}">') :].partition("</section>")[0]
