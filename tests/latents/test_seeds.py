import numpy as np
import pytest

from facegen.errors import FacegenError
from facegen.latents.seeds import latents_of_seeds, parse_seeds


def test_ranges_and_numbers_mix_and_a_seed_twice_is_one_face():
    assert parse_seeds("0-3,7, 20 - 22,2") == [0, 1, 2, 3, 7, 20, 21, 22]
    assert parse_seeds("4294967295") == [2**32 - 1]


@pytest.mark.parametrize(
    "text", ["5-3", "-1", "4294967296", "1.5", "", "1,,2", "a", "0-999999999", "1-2-3", "9" * 5000]
)
def test_what_is_no_seed_is_refused_in_one_line(text):
    with pytest.raises(FacegenError) as error:
        parse_seeds(text)
    assert "\n" not in str(error.value)


def test_a_seed_is_the_ancestors_latent_alone_and_among_others():
    expected = np.random.RandomState(600).randn(1, 24)
    assert np.array_equal(latents_of_seeds([600], 24), expected.astype(np.float32))
    assert np.array_equal(latents_of_seeds([3, 600, 4], 24)[1:2], expected.astype(np.float32))
    assert latents_of_seeds([], 24).shape == (0, 24)
