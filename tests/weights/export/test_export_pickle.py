import ast
import pickletools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_numbers import assert_golden, golden
from golden_pairs import CONFIGS, golden_pair
from refusals import assert_refused
from small_networks import assert_same_weights
from torch import nn

from facegen.networks.generator import Generator
from facegen.weights.export.pickle import SOURCE, write_pickle
from facegen.weights.family.pickle_note import NOTE_KEY, read_note
from facegen.weights.family.pickles import read_networks
from facegen.weights.family.records import read_records

TOOLS = Path(__file__).parents[1].joinpath("family_tools.py")
# The networks compute the same in another order.
ROUNDING = 2e-5


def small_generator() -> Generator:
    return golden_pair("gray_nonoise8")[0]


def use(path: Path, config: str, program: str = "stylegan2-ada-pytorch") -> dict[str, torch.Tensor]:
    """What the family's tools make of a pickle and the golden inputs of this configuration."""
    inputs, outputs = path.with_name("inputs.npz"), path.with_name("outputs.npz")
    np.savez(inputs, **{name: golden(f"networks_{config}")[name].numpy() for name in "zcx"})
    command = [sys.executable, str(TOOLS), str(path), str(inputs), str(outputs), program]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: torch.from_numpy(array) for name, array in np.load(outputs).items()}


@pytest.mark.parametrize(
    ("config", "program"),
    [(CONFIGS[0], "stylegan2-ada-pytorch"), (CONFIGS[0], "stylegan3"), (CONFIGS[1], "stylegan3")],
)
def test_the_familys_tools_run_it(tmp_path, config, program):
    file, (G, D, _) = golden(f"networks_{config}"), golden_pair(config)
    write_pickle(tmp_path / "networks.pkl", {"G": G, "D": D, "G_ema": G}, training_set_kwargs={"resolution": 32})
    results = use(tmp_path / "networks.pkl", config, program)
    assert_golden(results["img"], file["img_const"])
    expected = G(file["z"], file["c"], truncation_psi=0.5, noise_mode="const")
    torch.testing.assert_close(results["img_psi"], expected, rtol=0, atol=ROUNDING)
    assert_golden(results["logits"], file["logits"])


def test_a_program_without_the_familys_networks_is_told_so(tmp_path):
    write_pickle(tmp_path / "networks.pkl", {"G_ema": small_generator()})
    with pytest.raises(AssertionError, match=r"ImportError: .*training\.networks"):
        use(tmp_path / "networks.pkl", "gray_nonoise8", "nothing")


def test_a_generator_alone_stands_for_both_and_says_that_there_is_no_discriminator(tmp_path):
    write_pickle(tmp_path / "networks.pkl", {"G_ema": small_generator()})
    results = use(tmp_path / "networks.pkl", "gray_nonoise8")
    assert_golden(results["img"], golden("networks_gray_nonoise8")["img_const"])
    assert "logits" not in results


@pytest.mark.parametrize("config", CONFIGS)
def test_reads_back_exactly(tmp_path, config):
    (G, D, _), (G_ema, _, _) = golden_pair(config), golden_pair(config)
    G_ema.mapping.w_avg.add_(1)
    networks = {"G": G, "D": D, "G_ema": G_ema}
    write_pickle(tmp_path / "networks.pkl", networks, training_set_kwargs={"path": "faces.zip", "use_labels": True})
    again, about = read_networks(tmp_path / "networks.pkl")
    assert set(again) == set(networks)
    for name, network in networks.items():
        assert_same_weights(again[name], network)
        assert again[name].init_kwargs == network.init_kwargs
    assert set(about["networks"]) == set(networks)
    assert read_records(tmp_path / "networks.pkl")["training_set_kwargs"] == {"path": "faces.zip", "use_labels": True}


def test_the_same_networks_give_the_same_bytes_and_no_random_number_is_used(tmp_path):
    G, state = small_generator(), torch.get_rng_state()
    for name in "ab":
        write_pickle(tmp_path / name, {"G_ema": G}, metadata={"kimg": 1.5})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert torch.equal(torch.get_rng_state(), state)


def test_names_nothing_of_facegen_and_holds_the_source_once(tmp_path):
    G, D, _ = golden_pair("gray_nonoise8")
    write_pickle(tmp_path / "networks.pkl", {"G": G, "D": D})
    data = (tmp_path / "networks.pkl").read_bytes()
    names, texts = set(), []
    for opcode, argument, _ in pickletools.genops(data):
        assert opcode.name not in ("GLOBAL", "INST", "REDUCE_EX", "EXT1")
        if isinstance(argument, str):
            texts.append(argument)
        if opcode.name == "STACK_GLOBAL":
            names.add(texts[-1])
    assert names == {"_reconstruct_persistent_obj", "OrderedDict", "_rebuild_tensor_v2", "_load_from_bytes"}
    assert texts.count(SOURCE) == 1
    assert "from facegen" not in SOURCE
    assert "import facegen" not in SOURCE
    ast.parse(SOURCE, feature_version=(3, 7))  # which the family's tools were made for


@pytest.mark.parametrize(
    "note",
    [None, 3, "", "[]", "{}", '{"networks": 1, "metadata": {}}', '{"networks": ["os"], "metadata": {}}', "[" * 9999],
)
def test_a_note_of_another_layout_is_none(note):
    assert read_note({NOTE_KEY: note}) is None
    assert read_note({}) is None


def test_refuses_what_the_layout_has_no_place_for(tmp_path):
    G, D, _ = golden_pair("gray_nonoise8")
    path = tmp_path / "networks.pkl"
    for networks, message in (
        ({"D": D}, "needs a generator"),
        ({}, "needs a generator"),
        ({"G_ema": G, "encoder": nn.Linear(1, 1)}, "encoder: a network pickle holds G, D and G_ema, no Linear"),
        ({"G": D}, "no Discriminator"),
    ):
        assert_refused(message, write_pickle, path, networks)
    with pytest.raises(TypeError):
        write_pickle(path, {"G": G}, metadata={"what": {1, 2}})  # JSON has no sets
    assert list(tmp_path.iterdir()) == []
