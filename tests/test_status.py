import io

import pytest

from facegen.status import status


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch, **options: bool) -> str:
    monkeypatch.setattr("sys.stderr", screen)
    with status("looking for faces ...", **options):
        pass
    return screen.getvalue()


def test_a_terminal_shows_it_while_it_lasts(monkeypatch):
    parts = shown(Screen(), monkeypatch).split("\r")
    assert "looking for faces ..." in parts
    assert parts[-2].strip() == ""  # and it is gone


def test_a_file_and_who_wants_nothing_get_nothing(monkeypatch):
    assert shown(io.StringIO(), monkeypatch) == ""
    assert shown(Screen(), monkeypatch, shown=False) == ""
