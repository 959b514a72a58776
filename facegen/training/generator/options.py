"""What a generator's training run is made of: every value decided, in one object that JSON can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facegen.errors import FacegenError
from facegen.metrics.names import parse_metrics
from facegen.options import MAX_BATCH, Options, option
from facegen.training.augment.strengths import AUGPIPE_PRESETS

# What each configuration decides; the names are fields of `TrainOptions`, which says what they are.
STYLEGAN2: dict[str, Any] = {
    "batch": 32,
    "batch_gpu": 4,  # here and below: what fell to each GPU of those that these settings were made on
    "mbstd_group": 4,
    "channel_base": 32768,
    "channel_max": 512,
    "lr": 0.002,
    "gamma": 10,
    "ema_kimg": 10,
    "ema_rampup": None,
    "map_layers": 8,
    "latent": 512,
    "num_fp16_res": 4,
    "conv_clamp": 256,
    "pl_weight": 2,
    "style_mixing": 0.9,
    "d_architecture": "resnet",
}
_PAPER = {"batch": 64, "batch_gpu": 8, "mbstd_group": 8, "lr": 0.0025, "ema_kimg": 20}
_CIFAR: dict[str, Any] = {"batch": 64, "batch_gpu": 32, "mbstd_group": 32, "lr": 0.0025, "gamma": 0.01}
_CIFAR |= {"ema_kimg": 500, "ema_rampup": 0.05}
_CIFAR_TUNED = {"map_layers": 2, "pl_weight": 0, "style_mixing": 0, "d_architecture": "orig"}
# Of dvschultz's fork: stylegan2 in the batches that a GPU of so much memory holds at 1024x1024, on one GPU or two.
_11GB = {"batch": 4, "batch_gpu": 4, "mbstd_group": 4}
_24GB = {"batch": 8, "batch_gpu": 8, "mbstd_group": 8}
_48GB = {"batch": 16, "batch_gpu": 16, "mbstd_group": 16}
# For days on a CPU, hours on a GPU: four times as wide as `tiny`, with what makes the latent space smooth.
_SMALL: dict[str, Any] = {"batch": 16, "batch_gpu": None, "channel_base": 4096, "channel_max": 128, "lr": 0.0025}
_SMALL |= {"gamma": 0.1, "ema_rampup": 0.05, "map_layers": 2, "latent": 256}
# Small enough for two CPU cores: narrow, a short latent, and neither of the two refinements that need extra passes.
_TINY = {"channel_base": 1024, "gamma": 0.05, "ema_kimg": 5, "latent": 128, "num_fp16_res": 0, "conv_clamp": None}
_TINY |= {"pl_weight": 0, "style_mixing": 0}
FIXED_PRESETS: dict[str, dict[str, Any]] = {
    "stylegan2": STYLEGAN2,
    "paper256": STYLEGAN2 | _PAPER | {"channel_base": 16384, "gamma": 1},
    "paper512": STYLEGAN2 | _PAPER | {"gamma": 0.5},
    "paper1024": STYLEGAN2 | {"gamma": 2},
    "cifar": STYLEGAN2 | _CIFAR | _CIFAR_TUNED,
    "cifarbaseline": STYLEGAN2 | _CIFAR | {"channel_base": 16384},
    "11gb-gpu": STYLEGAN2 | _11GB,
    "24gb-gpu": STYLEGAN2 | _24GB,
    "48gb-gpu": STYLEGAN2 | _48GB,
    "48gb-2gpu": STYLEGAN2 | _48GB | {"batch": 32},
    # Names alone: their values are those of others. What aydao's fork for TensorFlow did beside is in neither program.
    "11gb-gpu-complex": STYLEGAN2 | _11GB,
    "24gb-gpu-complex": STYLEGAN2 | _24GB,
    "24gb-2gpu-complex": STYLEGAN2 | _24GB | {"batch": 16},
    "aydao": STYLEGAN2 | _24GB | {"batch": 16},
    "small": STYLEGAN2 | _SMALL,
    "tiny": STYLEGAN2 | _SMALL | _TINY,
}
PRESETS = ("auto", *FIXED_PRESETS)

MOST_WORKERS, MAX_WORKERS = 8, 256  # processes that decode ahead, unless told otherwise; the most that can be told
AUGMENTATIONS = ("ada", "fixed", "noaug")
NONE_IS_A_VALUE = {"batch_gpu", "ema_rampup", "conv_clamp", "p"}  # among the options that `cfg` decides


def decided(help: str, **more: Any) -> Any:
    """Return an option that `cfg` decides; it is None until `TrainOptions.decide` was called."""
    return option(None, help, unset="by cfg", **more)


@dataclass(frozen=True)
class TrainOptions(Options):
    """All options of `train_generator`. Those that `cfg` decides may be left out: `train_generator` calls `decide`."""

    data: str = option(help="Training archive (zip or folder).", metavar="ARCHIVE", resumable=True)
    cfg: str = option(
        "auto",
        f"{', '.join(PRESETS)}. tiny is for a CPU, small for a GPU or for days on a CPU; 11gb-gpu and so on are for "
        "GPUs with that much memory. -complex changes nothing. aydao is the same as 24gb-2gpu-complex.",
        choices=PRESETS,
        metavar="NAME",
    )
    kimg: float = option(1000, "Length, in thousands of images.", above=0, resumable=True)
    nkimg: float | None = option(
        None,
        "Start counting at this many thousand images; --kimg is the total.",
        unset="what the weights of --resume have seen, else 0",
        min=0,
    )
    batch: int = decided("Images per step, all GPUs together.", min=1, resumable=True)
    batch_gpu: int | None = option(
        None, "Most images processed at once on a GPU; fewer need less memory.", unset="by cfg", min=1, resumable=True
    )
    gamma: float = decided("R1 weight.", min=0)
    mbstd_group: int = decided("Pictures per group of the minibatch standard deviation.", command=False)
    channel_base: int = decided("Width of the networks, see `SynthesisNetwork`.", command=False)
    channel_max: int = decided("Most channels of a layer.", command=False)
    lr: float = decided("Learning rate for both networks.", called="lrate", above=0)
    ema_kimg: float = decided("Half-life of the moving average of the generator's weights.", command=False)
    ema_rampup: float | None = decided(
        "Shorten that half-life to this fraction of the images seen so far; None does not.", command=False
    )
    map_layers: int = decided("Layers of the mapping network.", min=1, max=100, command=False)
    latent: int = decided("Length of z and of w.", min=1, command=False)
    num_fp16_res: int = decided("Resolutions that run in float16 on a GPU.", command=False)
    conv_clamp: float | None = decided("Limit of features, which float16 needs.", command=False)
    pl_weight: float = decided("Weight of path length regularization; 0 leaves it out.", command=False)
    style_mixing: float = decided("Probability of mixing two styles.", command=False)
    d_architecture: str = decided("Architecture of the discriminator.", command=False)
    cond: bool = option(True, "Condition on the labels.")
    mirror: bool = option(False, "Flip pictures at random.")
    mirrory: bool = option(False, "Turn pictures upside down at random.")
    subset: int | None = option(None, "Train on only this many pictures.", unset="all", min=1)
    balance: float = option(0, "How evenly to draw age groups: 0 as in the data, 1 all equally often.", min=0, max=1)
    even: str | None = option(
        None,
        "Within each age group, draw all values of this attribute (such as gender) equally often.",
        metavar="ATTRIBUTE",
        unset="as in the data",
    )
    t_start_kimg: float = option(0, "Train without labels up to here; needs --t-end-kimg.", metavar="KIMG", min=0)
    t_end_kimg: float | None = option(
        None,
        "Fade the labels in up to here. Helps against collapse of small groups.",
        metavar="KIMG",
        unset="use labels from the start",
    )
    aug: str = option(
        "ada", "Augmentation: ada adapts the strength, fixed keeps it at --p, noaug is none.", choices=AUGMENTATIONS
    )
    p: float | None = option(
        None,
        "Strength for --aug fixed, initial strength for ada.",
        unset="0, or the strength stored with the weights of --resume",
        min=0,
    )
    augpipe: str = option(
        "bgc", f"Set of augmentations: {', '.join(AUGPIPE_PRESETS)}.", choices=AUGPIPE_PRESETS, metavar="NAME"
    )
    target: float = option(0.6, "Mean sign of D(real) that ADA aims for.", min=-1, max=1)
    ada_kimg: float = decided("How fast ADA moves: kimg from 0 to 1.", command=False)
    resume: str | None = option(
        None,
        "Run folder to continue (latest: the newest in --outdir), or weights from which to start a new "
        "run: a file, a URL, ffhq256, a run folder of stylegan2-ada-pytorch, ...",
        metavar="RUN|FILE|URL",
    )
    freezed: int = option(0, "Number of layers of D whose weights stay fixed.", min=0)
    tick: float = option(4, "kimg between progress lines.", above=0)
    snap: int = option(10, "Ticks between snapshots.", above=0, resumable=True)
    snap_minutes: float | None = option(
        None, "Also take a snapshot each time this many minutes have passed.", unset="never", above=0, resumable=True
    )
    keep: int | None = option(
        None, "Keep only this many of the newest snapshots, and the best one.", unset="all", min=1, resumable=True
    )
    metrics: str = option(
        "none", "Metrics to compute at each snapshot, such as fid5k_full.", metavar="NAMES", resumable=True
    )
    inception: str | None = option(
        None, "Inception weights for fid, kid and is.", metavar="FILE", unset="downloaded", resumable=True
    )
    vgg: str | None = option(None, "VGG16 weights for pr and ppl.", metavar="FILE", unset="downloaded", resumable=True)
    lpips: str | None = option(None, "LPIPS weights for ppl.", metavar="FILE", unset="downloaded", resumable=True)
    seed: int = option(0, "Seed for all random choices.", min=0)
    fp32: bool = option(False, "Compute only in float32: no float16 on GPUs, no bfloat16 on CPUs.")
    allow_tf32: bool = option(
        False, "Let GPUs use TensorFloat-32 for float32: faster, but precise to three digits only.", resumable=True
    )
    workers: int | None = option(
        None,
        "Processes that decode pictures in advance if these do not fit in memory.",
        unset=f"one per core, at most {MOST_WORKERS}",
        min=0,
        max=MAX_WORKERS,
        resumable=True,
    )
    compile: bool = option(
        False, "Compile the networks with torch.compile: takes minutes at first, then steps are faster.", resumable=True
    )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainOptions:
        """Return the options that `to_json` gave; earlier versions also wrote the `outdir` among them."""
        return super().from_json({name: value for name, value in values.items() if name != "outdir"})

    def decide(self, resolution: int, processes: int = 1, *, on_gpu: bool = False) -> TrainOptions:
        """Return the options of a run at a resolution, with the values of `cfg` where nothing was chosen.

        Options that are decided already stay as they are.

        Args:
            resolution: side of the pictures.
            processes: how many train together, each on its own GPU; `auto` depends on it.
            on_gpu: the training runs on GPUs, so batches are split as `cfg` intends.
        """
        values = get_preset(self.cfg, resolution, self.batch, processes) | {"ada_kimg": 500, "p": 0}
        if not on_gpu or (self.batch, self.mbstd_group) != (None, None):
            values["batch_gpu"] = None  # on a CPU there is memory enough, and another batch was not made for any GPU
        if self.fp32:
            values |= {"num_fp16_res": 0, "conv_clamp": None}
        if self.resume:
            # A trained network needs no run-up, and ADA should find its strength soon; the file may say which.
            values |= {"ema_rampup": None, "ada_kimg": 100, "p": None}
        missing = {name: value for name, value in values.items() if getattr(self, name) is None}
        return replace(self, **missing) if missing.keys() - NONE_IS_A_VALUE else self

    def rules(self) -> Iterable[tuple[bool, str]]:
        parse_metrics(self.metrics)
        start, end = self.t_start_kimg, self.t_end_kimg
        if None not in (self.batch, self.mbstd_group):
            group = max(1, min(self.mbstd_group, self.batch))
            words = f"batch must be a multiple of {group} (minibatch-stddev group), got {self.batch}"
            yield self.batch % group == 0, words
        yield (self.batch or 0) <= MAX_BATCH, f"batch must be at most {MAX_BATCH:,}, got {self.batch}"
        words = "aug fixed needs p, the strength, above 0 and at most 1 (as in --p 0.2)"
        yield self.aug != "fixed" or 0 < (self.p or 0) <= 1, words
        nkimg = self.nkimg or 0
        yield nkimg < self.kimg, f"nkimg must be below kimg ({self.kimg:g}), which is the total, got {nkimg:g}"
        yield start < self.kimg, f"t-start-kimg must be below kimg ({self.kimg:g}), got {start}"
        yield end is not None or start == 0, "t-start-kimg needs t-end-kimg: when do labels count in full?"
        yield end is None or start < end, f"t-end-kimg must be above t-start-kimg ({start:g}), got {end}"
        yield end is None or self.cond, "t-end-kimg is for labels: leave out t-end-kimg or --cond=0"

    def left_aside(self, pictures: int) -> list[str]:
        """Return a line for each option that has no effect in a run on this many pictures."""
        unused = {
            f"--target {self.target:g}: only --aug ada has a target": self.aug != "ada" and self.target != 0.6,
            f"--augpipe {self.augpipe}: --aug noaug augments nothing": self.aug == "noaug" and self.augpipe != "bgc",
            f"--p {self.p or 0:g}: --aug noaug augments nothing": self.aug == "noaug" and (self.p or 0) > 0,
            f"--subset {self.subset}: there are {pictures} pictures; all are used": (self.subset or 0) > pictures,
        }
        return [line for line, holds in unused.items() if holds]

    def run_name(self) -> str:
        """Return the name of the run folder, without its number."""
        parts = [Path(self.data).stem, "cond" if self.cond else "", "mirror" if self.mirror else ""]
        parts += ["mirrory" if self.mirrory else "", self.cfg]
        parts += [f"batch{self.batch}", f"gamma{self.gamma:g}"]
        parts += [self.aug if self.aug != "fixed" else f"p{self.p or 0:g}"]
        parts += ["" if self.t_end_kimg is None else f"t{self.t_start_kimg:g}to{self.t_end_kimg:g}"]
        parts += ["" if self.even is None else f"even-{self.even}"]
        parts += [self.augpipe if self.aug != "noaug" and self.augpipe != "bgc" else ""]
        parts += ["resumed" if self.resume else ""]
        return "-".join(part for part in parts if part)


def get_preset(name: str, resolution: int, batch: int | None = None, processes: int = 1) -> dict[str, Any]:
    """Return what a configuration decides at a resolution; `auto` also adapts to the batch and the number of processes.

    Raises:
        FacegenError: there is no such preset.
    """
    if name not in PRESETS:
        raise FacegenError(f"unknown configuration {name!r}: choose one of {', '.join(PRESETS)}")
    if name != "auto":
        return FIXED_PRESETS[name] | ({} if batch is None else {"batch": batch})
    images = _auto_share(resolution, processes) * processes if batch is None else batch
    return STYLEGAN2 | {
        "batch": images,
        "batch_gpu": None,
        "mbstd_group": max(min(images // processes, 4), 1),
        "channel_base": 32768 if resolution >= 512 else 16384,
        "lr": 0.002 if resolution >= 1024 else 0.0025,
        "gamma": 0.0002 * resolution**2 / max(images, 1),
        "ema_kimg": images * 10 / 32,
        "ema_rampup": 0.05,
        "map_layers": 2,
    }


def _auto_share(resolution: int, processes: int) -> int:
    """Return the pictures that each process gets of a batch by `auto`: what a GPU can hold, 64 in all if that is less.

    As in stylegan2-ada-pytorch for a power of two of processes; for others 64 becomes a multiple of the
    minibatch-stddev groups below it.
    """
    share = min(max(min(4096 // resolution, 32), 4), max(64 // processes, 1))
    return share - share % 4 if share > 4 else share
