"""What is going on, where it takes longer and no bar says so."""

from __future__ import annotations

from tqdm import tqdm


def status(words: str, shown: bool = True) -> tqdm:
    """A line on the terminal that is there as long as the `with` block runs; where stderr is a file, nothing.

    It is a bar of tqdm, so other bars find their place below it; `set_description_str` changes the words.
    """
    return tqdm(desc=words, bar_format="{desc}", leave=False, disable=None if shown else True)
