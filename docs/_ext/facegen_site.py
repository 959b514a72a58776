"""What this site does that sphinx does not: pages made from the code, copied pages, and links between them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import api_pages
import command_pages
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config

import facegen
from facegen.cli import COMMANDS

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
MADE = DOCS / "generated"  # not in the repository

# Where a link out of docs/ leads on the site. All else outside of docs/ is offered as a download.
MOVED = (
    (re.compile(r"\]\(\.\./CONTRIBUTING\.md"), "](generated/contributing.md"),
    (re.compile(r"\]\(\.\./CHANGELOG\.md"), "](generated/changelog.md"),
    (re.compile(r"\]\(\.\./README\.md"), "](index.md"),
    (re.compile(r"\]\(\.\./notebooks/(?=\w+\.ipynb)"), "](generated/notebooks/"),
)

# Markdown that has no page on the site: myst-parser takes it for a page.
NO_PAGE = re.compile(r"\[([^\]]*)\]\((\.\./[^)#\s]+\.md)\)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by sphinx."""
    app.connect("config-inited", make_pages)
    app.connect("source-read", move_links)
    app.connect("doctree-read", link_public_names)
    app.connect("doctree-resolved", link_commands)
    app.connect("doctree-read", set_dashes)
    app.connect("autodoc-process-docstring", api_pages.prepare, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", api_pages.improve)
    app.connect("autodoc-process-signature", api_pages.shorten)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def make_pages(app: Sphinx, config: Config) -> None:
    """Write the pages that are made from the code, and copy those that lie elsewhere."""
    pages = {f"commands/{name}": text for name, text in command_pages.pages().items()}
    pages |= {f"api/{name}": text for name, text in api_pages.pages().items()}
    for name in ("contributing", "changelog"):
        text = (ROOT / f"{name.upper()}.md").read_text(encoding="utf-8")
        pages[f"{name}.md"] = text.replace("](docs/", "](../").replace("](README.md", "](../index.md")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        pages[f"notebooks/{path.name}"] = path.read_text(encoding="utf-8").replace("](../docs/", "](../../")
    for old in [path for path in MADE.rglob("*.*") if path.relative_to(MADE).as_posix() not in pages]:
        old.unlink()
    for name, text in pages.items():
        path = MADE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # what is older is not built again
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def move_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make links to what lies outside of docs/ lead to its page on the site; put the API's pages below `api.md`."""
    if docname == "index":
        source[0] += new_pages(source[0])
    if docname == "api":
        source[0] += api_pages.contents()
    if "/" not in docname:
        for pattern, place in MOVED:
            source[0] = pattern.sub(place, source[0])
        source[0] = NO_PAGE.sub(lambda match: f"{{download}}`{match[1].replace('`', '')} <{match[2]}>`", source[0])


def new_pages(index: str) -> str:
    """Return a table of contents of the pages in docs/ that the first page does not name yet."""
    named = ["index", *index.split("\n")]
    more = [path.stem for path in sorted(DOCS.glob("*.md")) if path.stem not in named]
    return "\n".join(["", "```{toctree}", ":caption: More", ":hidden:", "", *more, "```", ""]) if more else ""


def literals(doctree: nodes.document) -> list[nodes.literal]:
    """Return what a page shows as code within its text, and is no link yet."""
    inside = (nodes.reference, nodes.title, addnodes.pending_xref)
    return [literal for literal in doctree.findall(nodes.literal) if not isinstance(literal.parent, inside)]


def link_public_names(app: Sphinx, doctree: nodes.document) -> None:
    """Make `AgeTransfer.transfer` a link to its documentation."""
    for literal in literals(doctree):
        name = literal.astext().removeprefix("facegen.").removesuffix("()")
        if name.partition(".")[0] in facegen.__all__:
            target = {"refdomain": "py", "reftype": "obj", "reftarget": f"facegen.{name}"}
            link = addnodes.pending_xref("", **target, refwarn=False, refexplicit=True)
            literal.replace_self(link)
            link += literal


def link_commands(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Make `facegen train --cfg tiny` a link to the page of that command."""
    for literal in literals(doctree):
        words = literal.astext().split()
        page = f"generated/commands/{words[1]}" if words[:1] == ["facegen"] and len(words) > 1 else ""
        if page and words[1] in COMMANDS and page != docname:
            link = nodes.reference("", "", internal=True, refuri=app.builder.get_relative_uri(docname, page))
            literal.replace_self(link)
            link += literal


def set_dashes(app: Sphinx, doctree: nodes.document) -> None:
    """Set the dash between an argument and its description, which sphinx leaves to `smartquotes`."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))
