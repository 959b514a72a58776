"""How an error reads: one line with the words that matter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from facegen.errors import FacegenError


def assert_refused(words: str, call: Callable, *arguments, error: type[Exception] = FacegenError, **options) -> str:
    """Assert that the call raises `error` with these words in its one line; return the message."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert words in message, message
    assert "\n" not in message, message
    return message
