"""What a person at the terminal is told: lines, above the bars if there are any."""

from __future__ import annotations

import sys

from tqdm import tqdm

from facegen.text import visible


def say(*lines: str, err: bool = False) -> None:
    """Print lines on stdout or stderr; whatever strangers wrote in them is visible, line breaks too."""
    file = sys.stderr if err else sys.stdout
    tqdm.write("\n".join(map(visible, lines)), file=file)
    file.flush()


def status(words: str, shown: bool = True) -> tqdm:
    """What is going on, where it takes longer and no bar says so: a line as long as the `with` block runs.

    Where stderr is a file, nothing. It is a bar of tqdm, so other bars find their place below it;
    `set_description_str` changes the words.
    """
    return tqdm(desc=visible(words), bar_format="{desc}", leave=False, disable=None if shown else True)
