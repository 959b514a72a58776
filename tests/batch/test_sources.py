from __future__ import annotations

from facegen.batch.sources import unique_stems


def test_unique_stems_number_what_is_equal():
    assert unique_stems(["a/x.jpg", "b/x.jpg", "b/X.png", "y.jpg"]) == ["x", "x", "X-2", "y"]
    assert unique_stems(["x.jpg", "x.png", "x-2.jpg"]) == ["x", "x-2", "x-2-2"]
