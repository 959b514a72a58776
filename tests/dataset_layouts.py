"""The data sets of faces, laid out as they ship but small: files with real JPEG content, tables and `.mat` files.

`LAYOUTS` has a function for each source, by its name: (folder, face) -> the folder, filled.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

NO_FACE = float("-inf")
NO_SECOND = float("nan")


def jpeg(face: Image.Image, index: int = 0, size: int = 64) -> bytes:
    """The face as a JPEG file, `size` pixels wide and high, tinted by `index` so that no two are the same."""
    gains = np.random.default_rng(index).uniform(0.5, 1.0, 3)
    small = np.asarray(face.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    buffer = io.BytesIO()
    Image.fromarray((small * gains).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def png(face: Image.Image, index: int = 0, size: int = 64) -> bytes:
    """As `jpeg`, but a PNG file."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg(face, index, size))).save(buffer, "PNG")
    return buffer.getvalue()


def write_pictures(root: Path, names: Sequence[str], face: Image.Image) -> Path:
    """Write a picture for each name, PNG or JPEG by its ending."""
    for index, name in enumerate(names):
        write(root / name, (png if name.endswith(".png") else jpeg)(face, index))
    return root


def write(path: Path, content: bytes | str) -> None:
    """Write a file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


# --- IMDB-WIKI


def serial_date(year: int, month: int, day: int) -> int:
    """MATLAB's serial date: 1 is 1 January of the year 0."""
    return date(year, month, day).toordinal() + 366


@dataclass(frozen=True)
class ImdbEntry:
    """An entry of imdb.mat or wiki.mat."""

    full_path: str
    dob: float
    photo_taken: int
    gender: float = 0.0
    name: str = "Fred Astaire"
    face_score: float = 4.3
    second_face_score: float = NO_SECOND
    celeb_id: int = 1


def imdb_entry(folder: str, identity: str, born: tuple[int, int, int], taken: int, **fields) -> ImdbEntry:
    """An entry whose file name and fields agree; `fields` sets others."""
    year, month, day = born
    return ImdbEntry(f"{folder}/{identity}_{year}-{month}-{day}_{taken}.jpg", serial_date(*born), taken, **fields)


def write_imdb_mat(path: Path, entries: Sequence[ImdbEntry], leave_out: Sequence[str] = ()) -> None:
    """Write imdb.mat or wiki.mat (by the name of `path`) of MATLAB version 5, compressed, with the fields that ship."""
    from scipy.io import savemat

    variable = path.stem
    fields = {
        "dob": _row(entries, "dob", np.float64),
        "photo_taken": _row(entries, "photo_taken", np.uint16),
        "full_path": _cells([np.array([entry.full_path]) for entry in entries]),
        "gender": _row(entries, "gender", np.float64),
        "name": _cells([np.array([entry.name]) if entry.name else np.zeros((0, 0)) for entry in entries]),
        "face_location": _cells([np.array([[1.0, 1.0, 64.0, 64.0]])] * len(entries)),
        "face_score": _row(entries, "face_score", np.float64),
        "second_face_score": _row(entries, "second_face_score", np.float64),
    }
    if variable == "imdb":
        fields["celeb_names"] = _cells([np.array([name]) for name in sorted({entry.name for entry in entries})])
        fields["celeb_id"] = _row(entries, "celeb_id", np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {variable: {k: v for k, v in fields.items() if k not in leave_out}}, do_compression=True)


def _row(entries: Sequence[ImdbEntry], field: str, dtype: type) -> np.ndarray:
    return np.array([[getattr(entry, field) for entry in entries]], dtype=dtype)


def _cells(items: Sequence[np.ndarray]) -> np.ndarray:
    cells = np.empty((1, len(items)), dtype=object)
    for index, item in enumerate(items):
        cells[0, index] = item
    return cells


IMDB_ENTRIES = (
    imdb_entry("01", "nm0000001_rm124825600", (1899, 5, 10), 1968, gender=1.0),
    imdb_entry("01", "nm0000001_rm3343756032", (1899, 5, 10), 1970, gender=1.0),
    imdb_entry("00", "nm0000100_rm46373120", (1955, 1, 6), 2003, gender=1.0, name="Rowan Atkinson", celeb_id=2),
    imdb_entry("02", "nm0000002_rm221957120", (1924, 9, 16), 1974, name="Lauren Bacall", celeb_id=3),
)
WIKI_ENTRIES = (
    imdb_entry("17", "10000217", (1981, 5, 5), 2009, gender=1.0, name="Sami Jauhojärvi"),
    imdb_entry("48", "10000548", (1925, 4, 4), 1964, gender=float("nan"), name="Dettmar Cramer"),
)


def make_imdb_wiki(root: Path, face: Image.Image) -> Path:
    """`imdb_crop/imdb.mat`, `imdb_crop/00/nm0000100_....jpg`, and so for `wiki`."""
    for part, entries in (("imdb", IMDB_ENTRIES), ("wiki", WIKI_ENTRIES)):
        write_imdb_mat(root / f"{part}_crop" / f"{part}.mat", entries)
        write_pictures(root / f"{part}_crop", [entry.full_path for entry in entries], face)
    return root


def make_big_imdb_wiki(root: Path, face: Image.Image, count: int, *, size: int = 64, seed: int = 0) -> dict[str, int]:
    """A made-up IMDB-WIKI of `count` pictures, no two files the same, with what is wrong with the real one.

    Seven of eight are of `imdb`. One in twenty shows no face by the metadata, another one a second face; one in a
    hundred has dates that disagree, or is not there, or is a truncated JPEG.

    Returns how many there are of each kind, by the reason of being left out; `""` for those that are fine.
    """
    random = np.random.default_rng(seed)
    shapes = [jpeg(face, index, size) for index in range(32)]
    kinds = ("no face", "second face", "dates disagree", "file missing", "unreadable picture", "")
    drawn = random.choice(len(kinds), count, p=(0.05, 0.05, 0.01, 0.01, 0.01, 0.87))
    ages, years = random.integers(0, 101, count), random.integers(1990, 2015, count)
    entries: dict[str, list[ImdbEntry]] = {"imdb": [], "wiki": []}
    for index in range(count):
        kind, part = kinds[drawn[index]], "wiki" if index % 8 == 7 else "imdb"
        person = index // 25
        born = (int(years[index] - ages[index]), 1 + index % 6, 1 + index % 28)  # had their birthday before July
        identity = f"nm{person:07d}_rm{index:09d}" if part == "imdb" else f"{10_000_000 + index}"
        entry = imdb_entry(
            f"{person % 100:02d}", identity, born, int(years[index]), gender=float(person % 2), name=f"Person {person}"
        )
        if kind == "no face":
            entry = replace(entry, face_score=NO_FACE)
        elif kind == "second face":
            entry = replace(entry, second_face_score=2.5)
        elif kind == "dates disagree":
            entry = replace(entry, dob=entry.dob + 1)
        entries[part].append(entry)
        if kind != "file missing":
            content = _with_comment(shapes[index % len(shapes)], f"{index}")
            content = content[: len(content) // 2] if kind == "unreadable picture" else content
            write(root / f"{part}_crop" / entry.full_path, content)
    for part, list_of_part in entries.items():
        write_imdb_mat(root / f"{part}_crop" / f"{part}.mat", list_of_part)
    counts = np.bincount(drawn, minlength=len(kinds)).tolist()
    return dict(zip(kinds, counts, strict=True))


def _with_comment(data: bytes, text: str) -> bytes:
    """The JPEG with a comment, which makes it another file that shows the same."""
    return data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text.encode() + data[2:]


# --- The others


def make_utkface(root: Path, face: Image.Image) -> Path:
    """`26_1_2_20170116174525125.jpg.chip.jpg`"""
    names = [f"{age}_{age % 2}_{age % 5}_201701161745251{age:02d}.jpg.chip.jpg" for age in (3, 26, 26 + 15, 80)]
    return write_pictures(root, names, face)


def make_fg_net(root: Path, face: Image.Image) -> Path:
    """`FGNET/images/001A02.JPG`, and landmarks in `FGNET/points`."""
    stems = ("001A02", "001A43a", "001A43b", "082A18")
    for stem in stems:
        write(root / "FGNET" / "points" / f"{stem.lower()}.pts", "version: 1\nn_points: 68\n{\n1.0 2.0\n}\n")
    return write_pictures(root, [f"FGNET/images/{stem}.JPG" for stem in stems], face)


FFHQ_HEADER = (
    "image_number,age_group,age_group_confidence,gender,gender_confidence,head_pitch,head_roll,head_yaw,"
    "left_eye_occluded,right_eye_occluded,glasses\n"
)
FFHQ_REST = "0.99,-8.91,1.6,-1.8,0.0,100.0,None\n"


def make_ffhq_aging(root: Path, face: Image.Image) -> Path:
    """`ffhq_aging_labels.csv` beside `00000/00000.png`."""
    labels = ("0-2,0.99,male", "20-29,0.75,male", "70-120,1.0,female", "30-39,0.42,female")
    rows = [f"{number},{label},{FFHQ_REST}" for number, label in enumerate(labels)]
    write(root / "ffhq_aging_labels.csv", FFHQ_HEADER + "".join(rows))
    return write_pictures(root, [f"00000/{number:05d}.png" for number in range(len(labels))], face)


def make_agedb(root: Path, face: Image.Image) -> Path:
    """`AgeDB/0_MariaCallas_35_f.jpg`"""
    names = ("0_MariaCallas_35_f", "10000_GlennClose_62_f", "1000_StephenHawking_1_m", "2_PeterO'Toole_40_m")
    return write_pictures(root, [f"AgeDB/{name}.jpg" for name in (*names, "7_ÉdithPiaf_20_f")], face)


def make_appa_real(root: Path, face: Image.Image) -> Path:
    """`appa-real-release/train/000000.jpg` with `.jpg_face.jpg` and `.jpg.mat`, `gt_avg_train.csv` and more tables."""
    base = root / "appa-real-release"
    for part, number, apparent, real in (("train", 0, 5.18, 4), ("valid", 4113, 34.5, 28), ("test", 5613, 61.49, 70)):
        name = f"{number:06d}.jpg"
        header = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n"
        write(base / f"gt_avg_{part}.csv", f"{header}{name},36,{apparent},1.2,{real}\n")
        write(base / f"gt_{part}.csv", f"file_name,apparent_age,real_age\n{name},{round(apparent)},{real}\n")
        header = "file,gender,race,happiness,makeup\n"
        write(base / f"allcategories_{part}.csv", f"{header}{name},male,caucasian,neutral,nomakeup\n")
        write_pictures(base / part, [name, f"{name}_face.jpg"], face)
        write(base / part / f"{name}.mat", b"MATLAB 5.0 MAT-file")
    return root


def make_cacd(root: Path, face: Image.Image) -> Path:
    """`CACD2000/53_Robin_Williams_0001.jpg`"""
    names = ("14_Aaron_Johnson_0001", "53_Robin_Williams_0001", "53_Robin_Williams_0002", "40_Penélope_Cruz_0011")
    write(root / "celebrity2000_meta.mat", b"MATLAB 5.0 MAT-file")
    return write_pictures(root, [f"CACD2000/{name}.jpg" for name in names], face)


def make_fairface(root: Path, face: Image.Image) -> Path:
    """`fairface_label_train.csv` beside `train/1.jpg`, and so for `val`."""
    header = "file,age,gender,race,service_test\n"
    train = ("50-59,Male,East Asian,True", "0-2,Female,Indian,False", "more than 70,Female,White,True")
    rows = "".join(f"train/{number}.jpg,{row}\n" for number, row in enumerate(train, start=1))
    write(root / "fairface_label_train.csv", header + rows)
    write(root / "fairface_label_val.csv", header + "val/1.jpg,3-9,Male,Black,False\n")
    return write_pictures(root, ["train/1.jpg", "train/2.jpg", "train/3.jpg", "val/1.jpg"], face)


def make_csv(root: Path, face: Image.Image) -> Path:
    """`labels.csv` beside `images/a.jpg`."""
    rows = ("a.jpg,35,ann,f", "b.jpg,20-29,bob,m", "c.png,70+,,")
    write(root / "labels.csv", "path,age,person,gender\n" + "".join(f"images/{row}\n" for row in rows))
    return write_pictures(root, ["images/a.jpg", "images/b.jpg", "images/c.png"], face)


def make_folders(root: Path, face: Image.Image) -> Path:
    """`025/a.jpg`, `0-10/b.jpg`, `60+/c.jpg`"""
    return write_pictures(root, ["025/a.jpg", "025/b.jpg", "0-10/b.jpg", "60+/c.jpg"], face)


LAYOUTS: dict[str, Callable[[Path, Image.Image], Path]] = {
    "agedb": make_agedb,
    "appa-real": make_appa_real,
    "cacd": make_cacd,
    "csv": make_csv,
    "fairface": make_fairface,
    "ffhq-aging": make_ffhq_aging,
    "fg-net": make_fg_net,
    "folders": make_folders,
    "imdb-wiki": make_imdb_wiki,
    "utkface": make_utkface,
}
