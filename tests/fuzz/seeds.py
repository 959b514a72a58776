"""Writes `corpus/TARGET/seed-*` where they are missing: small files as facegen and other programs write them.

PYTHONPATH=tests python -m fuzz.seeds
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from bundle_writers import array, idx, listed, pickled, text
from fuzz.containers import join_parts, zipped
from fuzz.states import age_training, generator_training, to_json
from fuzz.targets import pictures
from mxnet_writer import params
from pickle_writers import persistent, write_pickle
from PIL import Image

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.weights.native import save_networks

CORPUS = Path(__file__).parent / "corpus"
GROUPS = ["0-10", "11-20", "21+"]


def generator() -> Generator:
    """The smallest generator: one block, two numbers in z."""
    torch.manual_seed(0)
    return Generator(2, 3, 2, 4, 3, {"num_layers": 1}, {"channel_base": 8, "channel_max": 2}).eval()


def weights() -> Iterator[tuple[str, str, bytes]]:
    """A safetensors, a network pickle, files of torch."""
    G = generator()
    D = Discriminator(3, 8, 3, channel_base=8, channel_max=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.safetensors"
        told = {"groups": GROUPS, "kimg": 1.5, "license": "none", "training_options": {"batch": 4, "data": "a/b"}}
        save_networks(path, {"G_ema": G, "D": D}, told)
        yield "safetensors", "pair", path.read_bytes()
        torch.save({"g_ema": {"w": torch.ones(4)}, "state_dict": {"module.w": torch.ones(2, 2).half()}}, path)
        yield "torch_file", "new", path.read_bytes()
        torch.save(G.state_dict(), path, _use_new_zipfile_serialization=False)
        yield "torch_file", "old", path.read_bytes()
        for name, content in (("network", G.state_dict()), ("plain", {"optimizer": [1.5, {"a": torch.ones(3)}]})):
            torch.save(content, path)
            yield "torch_pickle", name, torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
    yield "mxnet_file", "two", params({"arg:w": torch.ones(2, 3), "aux:mean": torch.ones(2)})
    kwargs = {key: value for key, value in G.init_kwargs.items() if key != "kind"}
    yield "pickle", "family", write_pickle({"G_ema": persistent(G, kwargs), "training_set_kwargs": {"path": "x"}})


def data_sets() -> Iterator[tuple[str, str, bytes]]:
    """Archives, tables, pictures."""
    names = list(pictures())
    dataset = {"labels": [[name, label] for label, name in enumerate(names)], "classes": GROUPS}
    faces = [{"file": name, "age": 15, "source": "a.jpg", "person": "p", "gender": "female"} for name in names]
    template = [[0.3, 0.29], [0.69, 0.29], [0.5, 0.53], [0.32, 0.69], [0.67, 0.7]]
    extra = {"format": 1, "groups": GROUPS, "template": template, "faces": faces}
    files = {"dataset.json": json.dumps(dataset).encode(), "facegen.json": json.dumps(extra).encode()}
    yield "archive", "own", join_parts(files)
    vectors = {"labels": [[name, [0.0, 1.0]] for name in names]}
    yield "archive", "vectors", join_parts({"dataset.json": json.dumps(vectors).encode()})
    yield "zip_file", "own", zipped({**pictures(), **files})
    yield "names", "utkface", b"part1/26_1_2_20170116.jpg\n1_0_0_20161219140623097.jpg.chip.jpg\n"
    yield (
        "names",
        "others",
        b"001A02.JPG\n16_CaryGrant_40_m.jpg\nnm01_rm2_1955-1-6_2003.jpg\n20-29/a.png\n",
    )
    yield "table", "csv", b"file,age,person,gender\nimg0.png,20-29,p,f\nimg1.png,35.7,,male\nimg2.png,70+,q,\n"
    yield "table", "fairface", b"file,age,gender,race,service_test\nimg0.png,more than 70,Male,White,True\n"
    yield "table", "appa-real", b"file_name,apparent_age_avg,real_age\nimg0.png,5.1,4\n"
    yield "table", "excel", b"sep=;\nimage;age\nimg0.png;3\n"
    pixels = np.zeros((1, 3072), np.uint8)
    yield "bundle", "cifar", pickled(labels=listed([b"K\x07"]), label_names=listed([text("a")] * 8), data=array(pixels))
    yield "bundle", "mnist", idx(np.zeros((2, 28, 28), np.uint8))
    cropped = {"name": "a.jpg", "stamp": [1, 2], "offset": 0, "size": 9, "sha256": "0" * 64, "dhash": 5, "notes": []}
    dropped = {"name": "b.jpg", "reason": "no face", "detail": ""}
    lines = f"{json.dumps(cropped)}\n{json.dumps(dropped)}\n".encode()
    yield "spool", "two", join_parts({"outcomes.jsonl": lines})
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (6, 5, 4), generator=random, dtype=torch.uint8).numpy()
    for kind, mode in (("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("GIF", "P"), ("TIFF", "RGBA"), ("BMP", "RGB")):
        buffer = io.BytesIO()
        image = Image.fromarray(noise, "RGBA")
        image = image.convert("L").convert(mode) if mode.startswith("I") else image.convert(mode)
        image.save(buffer, kind)
        yield "picture", f"{mode}.{kind}".lower().replace(";", ""), buffer.getvalue()
    yield "picture", "heic", (Path(__file__).parents[1] / "face.heic").read_bytes()
    for kind in ("JPEG", "WEBP", "JPEG2000", "TGA", "PPM", "AVIF"):
        buffer = io.BytesIO()
        Image.fromarray(noise, "RGBA").convert("RGB").save(buffer, kind)
        yield "picture", kind.lower(), buffer.getvalue()


def tables_of_matlab() -> Iterator[tuple[str, str, bytes]]:
    """imdb.mat, plain and, by its first letter, to be compressed."""
    from dataset_layouts import imdb_entry, write_imdb_mat
    from scipy.io import loadmat, savemat

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imdb.mat"
        write_imdb_mat(path, [imdb_entry("00", "nm0000100_rm1", (1955, 1, 6), 2003)] * 2, ["face_location"])
        content = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
        savemat(path, content)
        data = path.read_bytes()
    yield "mat", "plain", data
    yield "mat", "compressed", b"m" + data[1:]


def runs() -> Iterator[tuple[str, str, bytes]]:
    """A run folder of each kind of training."""
    from facegen.training.age.options import AgeOptions
    from facegen.training.encoder.options import EncoderOptions
    from facegen.training.generator.options import TrainOptions

    kinds = {
        "generator": (TrainOptions("faces.zip", cfg="tiny").decide(64), {"Loss/G/loss": 0.5, "Progress/augment": 0.1}),
        "encoder": (EncoderOptions(generator="g.safetensors"), {"val_loss": 0.5, "val_mse": 0.4, "seconds": 3.0}),
        "age": (AgeOptions("faces.zip"), {"val_mae": 5.0, "loss": 3.0, "seconds_per_kimg": 2.0}),
    }
    status = {"state": "stopped", "reason": "", "pid": 1, "host": "h", "time": 1.7e9}
    metrics = {"snapshot": "network-snapshot-000001.safetensors", "kimg": 1.0, "fid50k_full": 12.5}
    best = {"snapshot": metrics["snapshot"], "kimg": 1.0, "metric": "fid50k_full", "value": 12.5}
    for kind, (options, numbers) in kinds.items():
        lines = [json.dumps({"step": float(step), "time": 1.7e9, **numbers}) + "\n" for step in range(1, 4)]
        files = {"training_options.json": json.dumps(options.to_json()), "status.json": json.dumps(status)}
        note = {"path": "faces.zip", "classes": GROUPS, "pictures": 3, "content": "1f"}
        files |= {"stats.jsonl": "".join(lines), "data.json": json.dumps({"data": note})}
        if kind == "generator":
            files |= {"metrics.jsonl": json.dumps(metrics) + "\n", "best.json": json.dumps(best)}
        yield "run", kind, join_parts({name: content.encode() for name, content in files.items()})


def states() -> Iterator[tuple[str, str, bytes]]:
    """What two trainings go on from."""
    from facegen.training.generator.checkpoint import STATE
    from facegen.training.run.session import _state_of

    with tempfile.TemporaryDirectory() as folder:
        generator_training(Path(folder))
        yield "state", "generator", to_json(torch.load(Path(folder) / STATE))
    yield "state", "age", to_json(_state_of(age_training().parts))


def texts() -> Iterator[tuple[str, str, bytes]]:
    """One of each kind."""
    for name, words in (
        ("ages", "1,5:90:5,62.5"),
        ("groups", "0-12,13-19,60+"),
        ("split", "train=0.9,val=0.1"),
        ("shard", "3/8"),
        ("system", "refined=enc.safetensors,refine=500"),
        ("metrics", "fid50k_full,kid50k_full"),
        ("age", "20-29"),
    ):
        yield "text", name, words.encode()


def main() -> None:
    """Write those that are not there: not every writer gives the same bytes each time."""
    for kind in (weights, data_sets, tables_of_matlab, runs, states, texts):
        for target, name, data in kind():
            path = CORPUS / target / f"seed-{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(data)


if __name__ == "__main__":
    main()
