"""What strangers call things, and what must not become of it in anything that facegen prints or writes."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

from facegen.text import visible

# Titles, colors, one-byte controls, directions, what has no width, another line, and markup; without a slash, so that
# files can be called so. Latin letters and others stay as they are.
ODD = "é\x1b]0;PWNED\x07\x1b[31m\x9b31m\x9d\x7f\u202e\u2066\u200b\u2028\nError: fake\rfake<img src=x onerror=y>'\"$"
BYTES = "" if sys.platform == "darwin" else "\udcff"  # of a file name that is not UTF-8
NAME = ODD + BYTES  # of a file
TEXT = ODD + "\ud800\x00</title><meta http-equiv=refresh content='0;url=http://a.b'><script>z</script>"  # in a file
LONG = TEXT + "x" * 10**6
ARGUMENT = NAME + TEXT.partition("\x00")[2]  # on a command line


def assert_clean(text: str) -> None:
    """Nothing but lines in which everything is visible."""
    odd = [line for line in text.split("\n") if visible(line) != line]
    assert odd == []
    assert "\nError: fake" not in text


class Page(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))


def assert_safe_page(path: Path) -> str:
    """Returns the page, in which strangers wrote no tag and no attribute, and whose policy forbids what it can."""
    text = path.read_text(encoding="utf-8")
    assert_clean(text)
    page = Page(text)
    names = [name for name, _ in page.tags]
    assert not {"script", "iframe", "form", "object", "embed", "base", "link"} & set(names)
    assert names.count("title") - sum("svg" in name or name == "rect" for name in names) <= 1
    assert [a["http-equiv"] for name, a in page.tags if "http-equiv" in a] == ["Content-Security-Policy"]
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    for rule in ("default-src 'none'", "base-uri 'none'", "form-action 'none'"):
        assert rule in policy
    for name, attributes in page.tags:
        assert not any(attribute.startswith("on") for attribute in attributes), (name, attributes)
        assert (attributes.get("src") or "data:").startswith("data:"), (name, attributes)
        assert (attributes.get("href") or "#").startswith("#"), (name, attributes)
    return text
