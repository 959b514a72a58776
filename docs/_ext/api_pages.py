"""The pages of the public names: a page for every group in `facegen/__init__.py`, filled by autodoc."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import facegen

# A field of a dataclass as our docstrings describe it: `box: left, top, right, bottom in pixels of the photo.`
FIELD = re.compile(r"^(\w+(?:, \w+)*): (?=\S)")


def groups() -> dict[str, list[str]]:
    """Return the public names by the comments that they stand under in `facegen/__init__.py`."""
    text = Path(str(facegen.__file__)).read_text(encoding="utf-8").split("_DEFINED_IN = {")[1].split("\n}")[0]
    found: dict[str, list[str]] = {}
    for comment, name in re.findall(r"^    (?:# (.+)|\"(\w+)\":)", text, re.MULTILINE):
        if comment:
            found[comment] = []
        else:
            found[list(found)[-1]].append(name)
    return found


def pages() -> dict[str, str]:
    """Return the pages by the names of their files."""
    return {f"{slug(title)}.rst": page(title, names) for title, names in groups().items()}


def contents() -> str:
    """Return what goes to the end of docs/api.md: the pages below it."""
    return "\n".join(
        ["", "```{toctree}", ":hidden:", "", *[f"generated/api/{slug(title)}" for title in groups()], "```", ""]
    )


def slug(title: str) -> str:
    """Return the name of a group's page."""
    return re.sub(r"\W+", "-", title.lower())


def page(title: str, names: list[str]) -> str:
    """Return the page of one group."""
    title = title[0].upper() + title[1:]
    lines = [title, "=" * len(title), "", ".. currentmodule:: facegen", ""]
    for name in names:
        thing = getattr(facegen, name)
        if not inspect.isclass(thing):
            lines += [f".. autofunction:: facegen.{name}", ""]
        elif issubclass(thing, Exception):
            lines += [f".. autoexception:: facegen.{name}", ""]
        else:
            lines += [f".. autoclass:: facegen.{name}", "   :members:", "   :exclude-members: rules", ""]
    return "\n".join(lines)


def prepare(app: object, what: str, name: str, thing: Any, options: object, lines: list[str]) -> None:
    """Keep napoleon from finding types where our docstrings have none."""
    if what in ("property", "attribute"):  # before the colon in the first line; so that is an empty comment
        lines[:0] = ["..", ""]
    start = lines.index("Attributes:") if "Attributes:" in lines else len(lines)
    for index, line in enumerate(lines[start:], start):  # in `path, name: ...`
        match = FIELD.match(line.strip())
        if match:
            lines[index] = line.replace(match[1], match[1].replace(", ", ","), 1)


def improve(app: object, what: str, name: str, thing: Any, options: object, lines: list[str]) -> None:
    """Make a list of a dataclass's fields, a line each in our docstrings; options are described by their help."""
    if what != "class" or not dataclasses.is_dataclass(thing):
        return
    names = {field.name for field in dataclasses.fields(thing)}
    changed: list[str] = []
    in_list = False
    for line in lines:
        match = FIELD.match(line)
        if match and set(match[1].split(", ")) & names:
            changed += [] if in_list else [""]
            changed.append(f"* ``{match[1].replace(', ', '``, ``')}``: {line[match.end() :]}")
            in_list = True
        elif in_list and line and not line.startswith(" "):
            changed += ["", line]
            in_list = False
        elif in_list and line.startswith("    "):
            changed.append(f"  {line.strip()}")
        else:
            changed.append(line)
    lines[:] = changed
    if options_of(thing):
        lines += ["", "Its fields:", ""]
        for field in options_of(thing):
            required = field.default is dataclasses.MISSING
            usual = in_rst(field.metadata["unset"] or "") or f"``{field.default!r}``"
            value = "required" if required else f"default {usual}"
            lines.append(f"* ``{field.name}`` (``{field.type}``, {value}): {in_rst(field.metadata['help'])}")
        lines.append("")


def shorten(app: object, what: str, name: str, thing: Any, options: object, signature: str, returns: str) -> Any:
    """Leave out the arguments of a class of options: up to fifty, all of them in the list of its fields."""
    return ("(...)", returns) if what == "class" and options_of(thing) else None


def options_of(thing: Any) -> list[dataclasses.Field]:
    """Return the fields that are options, see `facegen.options`."""
    fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
    return [field for field in fields if field.metadata.get("help")]


def in_rst(text: str) -> str:
    """Return text so that reStructuredText shows it as it is."""
    return re.sub(r"([\\*_|])", r"\\\1", text)
