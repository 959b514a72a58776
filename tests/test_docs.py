"""The pages of docs/: links lead somewhere, lines for the shell are understood, the site is built without a warning."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest
from click.testing import CliRunner

import facegen
from facegen.cli import COMMANDS, main
from facegen.weights.locate import shipped_file

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^(```+|~~~+)(\w*)\n(.*?)^\1", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub, and myst-parser in its manner, give to the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", shown).replace(" ", "-"))
    return found


def links_of(page: Path) -> list[str]:
    """Where a page's links and pictures lead, but for those to the web."""
    text = text_of(page)
    found = re.findall(r"\]\(<?([^)\s>]+)", text) + re.findall(r"(?:href|src|srcset)=\"([^\"]+)\"", text)
    return [link for link in found if not urlsplit(link).scheme]


# --- Links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in links_of(page):
        place, _, anchor = link.partition("#")
        target = page.parent / unquote(place) if place else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), f"{link}: {target.name} has {sorted(anchors_of(target))}"


def test_links_are_found():
    assert sum(len(links_of(page)) for page in PAGES) > 100


# --- Lines for the shell --------------------------------------------------------------------------------------------


def shell_lines(page: Path) -> list[str]:
    """The lines of a page that begin with `facegen`, whole, without their comments."""
    blocks = [block for _, language, block in FENCED.findall(page.read_text(encoding="utf-8")) if language in SHELLS]
    lines = "".join(blocks).replace("\\\n", " ").split("\n")
    lines = [line.strip().removeprefix("$ ") for line in lines]
    return [line for line in lines if line.startswith("facegen ") and "$" not in line]


SHELLS = ("", "sh", "bash", "console", "shell")
LINES = sorted({(page.name, line) for page in PAGES for line in shell_lines(page)})


def parse(line: str) -> None:
    """Read a line as the command does, and do nothing; click.UsageError where it is not understood."""
    words = [word for word in shlex.split(line, comments=True)[1:] if word != "..."]
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        _, command, words = command.resolve_command(context, words)
    try:
        command.make_context("facegen", words, resilient_parsing=False)
    except click.exceptions.Exit:
        pass  # --help
    except click.BadParameter as error:
        if not isinstance(error.param.type, click.Path):  # a file that is not there
            raise


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda text: text[:60])
def test_a_line_is_understood(page, line):
    parse(line)


def test_a_line_that_is_not_understood():
    assert len(LINES) > 80
    for line in ("facegen transfer photo.jpg --age-s 3", "facegen walk --video mp3", "facegen nothing"):
        with pytest.raises(click.UsageError):
            parse(line)


# Pages whose lines are run in their order, in one folder with the files that they speak of.
RUN = ("start.md", "latents.md", "transfer.md")
NOT_RUN = {
    "facegen app": "serves until Ctrl-C",
    "facegen transfer ~/Pictures": "a folder of the home",
    "facegen transfer clip.mp4": "tests/clips runs it, with more time",
}


@pytest.fixture
def folder_of_the_docs(tmp_path, hopper, monkeypatch) -> Path:
    """What the lines of `RUN` speak of: photos and clips of one small face, and files of generators."""
    monkeypatch.chdir(tmp_path)
    small = hopper.crop((100, 60, 420, 380)).resize((160, 160))
    for name in ("photo.jpg", "family.png", "family.jpg"):
        small.save(name)
    small.save("party.gif", save_all=True, append_images=[small.rotate(5)], duration=200)
    for name in ("faces.safetensors", "toon.safetensors"):
        shutil.copy(shipped_file("generator"), name)
    return tmp_path


@pytest.mark.parametrize("page", ["latents.md", "photos.md", "transfer.md"])
def test_the_first_python_of_a_page_runs(page, folder_of_the_docs):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    block = next(block for _, language, block in FENCED.findall(text) if language == "python")
    names = {}
    exec(compile(block, page, "exec"), names)
    assert len(names.get("pictures") or names["photos"]) == 2


@pytest.mark.parametrize("page", RUN)
def test_the_lines_of_a_page_run(page, folder_of_the_docs):
    """In one process, as PyTorch takes seconds to load."""
    done = 0
    for line in shell_lines(ROOT / "docs" / page):
        if line.startswith(tuple(NOT_RUN)) or "..." in line:
            continue
        line = line.replace("--kimg 1", "--kimg 0.1")  # else a quarter of a minute
        result = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, f"{line}: {result.output[-500:]}"
        done += 1
    assert done >= 3


# --- The site -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page of the site loads by itself, where its links lead, and what can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        if tag == "a" or given.get("rel") in ("next", "prev", "index", "search", "author", "canonical"):
            self.links.append(given.get("href", ""))
        else:
            self.loads += [given[name] for name in ("src", "href", "data", "poster") if given.get(name)]
            self.loads += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]


def outside(address: str) -> bool:
    """Whether an address is not one of the site's own files; data: is part of the page."""
    return urlsplit(address).scheme not in ("", "data") or address.startswith("//")


def check_nothing_comes_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert [address for address in page.loads if outside(address)] == [], path
    styles = [(style, style.read_text(encoding="utf-8")) for style in site.rglob("*.css")]
    assert styles
    for style, text in styles:
        addresses = re.findall(r"(?:url\(|@import )\s*[\"']?([^\"')\s;]+)", text)
        assert [address for address in addresses if outside(address)] == [], style


def check_links(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.links + page.loads:
            if outside(link) or link.startswith("data:") or not link:
                continue
            address = urlsplit(link)
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert target.exists(), f"{path.relative_to(site)}: {link}"
            if address.fragment and target in pages and target.name != "search.html":
                known = pages[target].anchors
                assert unquote(address.fragment) in known, f"{path.relative_to(site)}: {link}"


def test_the_site_is_built(tmp_path):
    """One test, as building takes seconds: without a warning, whole, and without anything from elsewhere."""
    pytest.importorskip("furo", reason="the site needs pip install 'facegen[docs]'")
    pytest.importorskip("myst_nb", reason="the site needs pip install 'facegen[docs]'")
    site = tmp_path / "site"
    command = ["sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(tmp_path / "trees"), "docs", str(site)]
    built = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (built.returncode, built.stderr) == (0, "")
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    assert {"transfer.html", "api.html", "faq.html", "age_transfer.html"} <= {path.name for path in pages}
    check_nothing_comes_from_elsewhere(site, pages)
    check_links(site.resolve(), pages)
    anchors = set().union(*(page.anchors for page in pages.values()))
    assert {f"facegen.{name}" for name in facegen.__all__ if name != "__version__"} <= anchors
    assert {"facegen.AgeTransfer.transfer", "cmdoption-facegen-transfer-ages"} <= anchors
    assert {f"{name}.html" for name in COMMANDS} <= {path.name for path in pages}
