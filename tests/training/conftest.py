"""A small archive of real face pictures, and the four trainings, for their tests."""

from __future__ import annotations

from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
from helpers import small_generator, write_faces
from PIL import Image
from trainings import SHALLOW, Training, narrow_options

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.training.age.loop import train_age
from facegen.training.age.options import AgeOptions
from facegen.training.editor.loop import train_editor
from facegen.training.editor.options import EditorOptions
from facegen.training.encoder.loop import train_encoder
from facegen.training.encoder.options import EncoderOptions
from facegen.training.generator.loop import train_generator
from facegen.weights.native import save_networks

GROUP_SIZES = {"0-20": 10, "21-60": 6, "61+": 4}


@pytest.fixture(scope="session")
def face_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty crops of one photo, 16x16, in three unevenly filled age groups."""
    path = tmp_path_factory.mktemp("archive") / "faces.zip"
    groups = AgeGroups.from_labels(list(GROUP_SIZES))
    random = np.random.default_rng(0)
    with (
        Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as photo,
        ArchiveWriter(path, groups=groups, template=UTKFACE_TEMPLATE) as writer,
    ):
        for label, count in enumerate(GROUP_SIZES.values()):
            for i in range(count):
                left, top = random.integers(150, 220), random.integers(40, 110)
                crop = photo.crop((left, top, left + 200, top + 200)).resize((16, 16))
                writer.add(f"{label}-{i}.jpg", crop, label=label, age=label * 30 + 5)
    return path


@pytest.fixture(scope="module", params=["generator", "encoder", "age", "editor"])
def training(request: pytest.FixtureRequest, face_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    folder = tmp_path_factory.mktemp("data")
    if request.param == "generator":
        options = narrow_options(face_archive, cfg="auto", p=0.3, mirror=True, balance=0.5)
        losses = ("Loss/G/loss", "Loss/D/loss")
        length = ("kimg", 0.016)
        return Training("train", options, length, "training-state.pt", losses, train_generator)
    if request.param == "encoder":
        save_networks(folder / "g.safetensors", {"G_ema": small_generator(4)}, {})
        options = EncoderOptions(str(folder / "g.safetensors"), recipe="zmse", pairs=10, batch=4, **SHALLOW)
        losses = ("train_loss", "val_mse")
        length = ("epochs", 1)
        return Training("train-encoder", options, length, "encoder-state.pt", losses, train_encoder)
    data = str(write_faces(folder / "aged.zip", range(0, 80, 4)))
    if request.param == "editor":
        groups = {"groups": list(GROUP_SIZES)}
        save_networks(folder / "g.safetensors", {"G_ema": small_generator(len(GROUP_SIZES))}, groups)
        small = {"widths": (8, 8), "inner_size": 16, "batch": 8, "snap": 0.016, "face_network": "none", "coarse": 0.0}
        options = EditorOptions(data, str(folder / "g.safetensors"), kimg=0.032, license="none", **small)
        losses = ("loss", "val_age_error")
        return Training("train-editor", options, ("kimg", 0.016), "editor-state.pt", losses, train_editor)
    small = {"widths": (8, 12), "depths": (1, 1), "size": 16, "batch": 8, "snap": 0.04}
    options = AgeOptions(data=data, val=data, kimg=0.08, license="none", **small)
    return Training("train-age", options, ("kimg", 0.04), "age-state.pt", ("loss", "val_mae"), train_age)


@pytest.fixture(scope="module")
def finished(training: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.train(tmp_path_factory.mktemp("runs"))
