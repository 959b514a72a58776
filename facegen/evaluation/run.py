"""The whole evaluation: systems, photos and judges from files; the report into a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from facegen.aging.edit import Edit, by_editor, parse_hold, parse_strength
from facegen.aging.transfer import AgeTransfer
from facegen.errors import FacegenError
from facegen.evaluation.evaluate import Evaluation, check_systems, evaluate
from facegen.evaluation.judges import Judges, load_age_judge, load_identity_judge, load_sex_judge
from facegen.evaluation.options import EvaluationOptions
from facegen.evaluation.photos import Photos, load_photos
from facegen.evaluation.reconstruction import Distance
from facegen.evaluation.report.page import About, plain_name, write_report
from facegen.evaluation.system import System
from facegen.files import at_home, check_free
from facegen.metrics.features import (
    LPIPS_URL,
    VGG_URL,
    Extractor,
    file_fingerprint,
    load_detectors,
    load_distance,
    locate_weights,
)
from facegen.metrics.names import parse_metrics
from facegen.weights.locate import locate, shipped_file
from facegen.weights.trained_for import own_generator

Reference = str | os.PathLike[str]
Found = TypeVar("Found")

SPEC = (
    "NAME=ENCODER, then any of ,generator= ,editor= ,method= ,layers= ,hold= ,strength= ,psi= ,refine= ,refine_seconds="
)
_SETTING = re.compile(r",\s*(generator|editor|method|layers|hold|strength|psi|refine|refine_seconds)=")
_KINDS: dict[str, Callable[[str], Any]] = {
    "psi": float,
    "refine": int,
    "refine_seconds": float,
    "hold": parse_hold,
    "strength": parse_strength,
}


@dataclass(frozen=True)
class SystemSpec:
    """A system by its options.

    Attributes:
        name: The name of its row.
        encoder: File, run folder or address; None for the one in the package.
        edit: How ages are changed.
        generator: Another one than that of the other systems, of its age groups and alignment; None for
            theirs.
        editor: For the method `editor`; None for the one in the package.
    """

    name: str
    encoder: Reference | None = None
    edit: Edit = field(default_factory=Edit)
    generator: Reference | None = None
    editor: Reference | None = None


def parse_system(text: str) -> SystemSpec:
    """Read a system as on the command line: `zmse=zmse.safetensors`, `refined=enc.safetensors,refine=500`.

    If nothing follows `NAME=`, the system uses the encoder in the package. Raises a FacegenError for text that is not
    understood.
    """
    name, equals, rest = text.partition("=")
    encoder, *settings = _SETTING.split(rest)
    if not equals or not name.strip():
        raise FacegenError(f"{text!r} does not name a system: write {SPEC}")
    found: dict[str, Any] = {}
    for key, value in zip(settings[::2], settings[1::2], strict=True):
        try:
            found[key] = _KINDS.get(key, str)(value.strip())
        except ValueError as error:
            raise FacegenError(f"{text!r}: {key} must be a number, not {value!r}") from error
    generator, editor = found.pop("generator", None), found.pop("editor", None)
    return SystemSpec(name.strip(), encoder.strip() or None, by_editor(Edit(**found), editor), generator, editor)


def run_evaluation(
    photos: Reference,
    outdir: Reference,
    systems: Sequence[SystemSpec],
    options: EvaluationOptions | None = None,
    *,
    generator: Reference | None = None,
    device: str | None = None,
    force: bool = False,
    progress: bool = True,
) -> tuple[Evaluation, Path]:
    """Evaluate systems on held-out photos, write the report and return what was measured, and the page.

    Args:
        photos: A training archive, or a folder or zip of photos.
        outdir: Where results.json, table.md, report.html and strips/ go.
        systems: The report is about the first; the others are for comparison.
        options: Target ages, how many faces, and the judges.
        generator: The generator for all systems that name none; None means the one that a system's encoder was trained
            for.
        device: None uses a GPU if there is one.
        force: Replace an existing report.
        progress: Show progress bars with the remaining time.

    Raises:
        FileNotFoundError, FacegenError, OSError: a missing or wrong file, no judge, no face, or an existing report.
    """
    outdir, options = at_home(outdir), options or EvaluationOptions()
    _check_names(outdir, systems)
    check_free(outdir / "results.json", force)
    tested = [_load_system(spec, spec.generator or generator, options.age_estimator, device) for spec in systems]
    _check_abilities(tested, options)
    first, notes = tested[0].renderer, list[str]()
    judges, independent = _load_judges(first, options, notes, progress)
    largest = max(system.renderer.size for system in tested)
    fit: Any = {"size": largest, "template": first.template, "groups": first.groups}
    ages, give_ages, seed = options.ages, not options.hide_ages, options.seed
    loaded = load_photos(photos, **fit, limit=options.photos_limit, seed=seed, progress=progress)
    _make_folder(outdir)
    evaluation = evaluate(tested, loaded, judges, ages=ages, give_ages=give_ages, seed=seed, progress=progress)
    in_words = {
        "age estimator": _name(options.age_estimator),
        "photos": str(photos),
        "limit": options.photos_limit,
        "seed": seed,
        "ages": "the middle of every group" if ages is None else list(ages),
        "ages of the faces are given": give_ages,
    }
    notes += _remarks(evaluation, loaded, give_ages)
    return evaluation, write_report(outdir, evaluation, _about(in_words, loaded, judges, independent, notes))


def _check_names(outdir: Path, systems: Sequence[SystemSpec]) -> None:
    if outdir.exists() and not outdir.is_dir():
        raise FacegenError(f"{outdir}: is a file; name a folder for the report")
    names = [spec.name for spec in systems]
    if len({plain_name(name) for name in names}) < len(names):
        raise FacegenError(f"two systems have the same name: {', '.join(names)}; rename one")


def _check_abilities(tested: Sequence[System], options: EvaluationOptions) -> None:
    """Raise a FacegenError for what cannot be compared, or what no system can do: judging takes minutes."""
    check_systems(tested)
    for system in tested:
        told = None if options.hide_ages else [float(system.renderer.groups.middle_age(0))]
        system.renderer.check("all" if options.ages is None else options.ages, input_ages=told, edit=system.edit)


def _make_folder(outdir: Path) -> None:
    """Make the report's folder before the judging, which takes minutes."""
    outdir.mkdir(parents=True, exist_ok=True)
    if not os.access(outdir, os.W_OK):
        raise FacegenError(f"{outdir}: nothing can be written there; name another folder with --outdir")


def _load_system(
    spec: SystemSpec, generator: Reference | None, age_estimator: Reference | None, device: str | None
) -> System:
    transfer = AgeTransfer.from_files(
        generator, spec.encoder, age_estimator=age_estimator, editor=spec.editor, device=device
    )
    description = {
        "generator": _own_generator_name(spec.encoder) if generator is None else str(generator),
        "encoder": _name(spec.encoder),
        "edit": asdict(spec.edit),
    }
    if transfer.method(spec.edit) == "editor":
        description["editor"] = _name(spec.editor)
    return System(spec.name, transfer, spec.edit, description)


def _own_generator_name(encoder: Reference | None) -> str:
    """Which generator `AgeTransfer.from_files` takes for an encoder alone."""
    path = shipped_file("encoder") if encoder is None else locate(encoder)
    generator = own_generator(path)
    if generator == path:
        return "the encoder's own"
    return _name(None if generator == shipped_file("generator") else generator)


def _load_judges(
    renderer: AgeTransfer, options: EvaluationOptions, notes: list[str], progress: bool
) -> tuple[Judges, str]:
    """Return the judges, and a sentence on what they had to do with the systems; note what is left out."""
    device = renderer.device
    age = load_age_judge(options.age_judge, device=device)
    identity = _load_identity(renderer, options, notes, progress)

    def load_inception() -> Extractor | None:
        fid = parse_metrics("fid5")
        return load_detectors(fid, inception=options.inception, device=device, progress=progress).inception

    def load_lpips() -> Distance:
        heads = locate_weights(options.lpips, LPIPS_URL, "--lpips", progress)
        network = load_distance(locate_weights(options.vgg, VGG_URL, "--vgg", progress), heads, device)
        return lambda one, other: network(one.to(device), other.to(device))

    has_lpips = options.vgg is not None or options.lpips is not None
    judges = Judges(
        age,
        identity,
        load_sex_judge(identity, device=device),
        _if_possible(load_inception, options.inception is not None, "FID and KID of Inception features", notes),
        _if_possible(load_lpips, has_lpips, "LPIPS (--lpips and --vgg)", notes),
    )
    estimator = shipped_file("age") if options.age_estimator is None else locate(options.age_estimator)
    return judges, _independence(
        file_fingerprint(estimator) in age.name,
        identity is not None and identity.name.startswith("facenet"),
        judges.sex is not None and not judges.sex.takes_features,
    )


def _load_identity(
    renderer: AgeTransfer, options: EvaluationOptions, notes: list[str], progress: bool
) -> Extractor | None:
    """Return the judge of identities; None where the user wants none."""
    if options.id_judge == "none":
        notes.append("Identity, and realism by features of its judge: left out (--id-judge none).")
        return None
    try:
        return load_identity_judge(options.id_judge, renderer.template, device=renderer.device, progress=progress)
    except FacegenError as error:
        raise FacegenError(f"{error}; or leave identity out: --id-judge none") from error


def _independence(own_estimator: bool, facenet: bool, own_sex: bool) -> str:
    """What the judges had to do with the systems.

    Args:
        own_estimator: The judge of ages is the systems' own age estimator.
        facenet: The judge of identities is a network that encoders may have learned from.
        own_sex: The judge of the sex is the network by which systems hold it.
    """
    if not own_estimator and not facenet and not own_sex:
        return "The judges were not used in any training: no loss and no transfer uses their weights."
    sentences = ["The age judge was not used in any training."]
    if own_estimator:
        sentences = [
            "The judge of ages is the age estimator of the systems themselves, so the numbers are too good.",
            "Use another one (--age-judge).",
        ]
    if facenet:
        sentences.append(
            "Encoders that began with the weights of the judge of identities (train-encoder --init vggface2) or "
            "learned from them (--recipe identity) are not independent of it."
        )
    if own_sex:
        sentences.append(
            "The judge of the sex is the network that it is held with (--hold), so its numbers are too good."
        )
    return " ".join(sentences)


def _if_possible(load: Callable[[], Found], asked: bool, what: str, notes: list[str]) -> Found | None:
    """Load what may be missing; what was asked for by name must be there."""
    try:
        return load()
    except (FacegenError, FileNotFoundError) as error:
        if asked:
            raise
        notes.append(f"{what}: left out. {error}")
        return None


def _remarks(evaluation: Evaluation, photos: Photos, give_ages: bool) -> list[str]:
    """What a reader of the numbers must know."""
    remarks = []
    if evaluation.systems[0].reconstruction.ssim is None:
        remarks.append("SSIM: left out. It needs torchmetrics: pip install torchmetrics")
    if photos.realigned:
        remarks.append("The photos have another alignment than the generator; they were warped to its own.")
    if photos.left_out:
        remarks.append(f"{len(photos.left_out):,d} pictures show no face or cannot be read; they are listed below.")
    unknown = int((~evaluation.faces.known).sum())
    if unknown:
        remarks.append(f"{unknown:,d} faces have no known age: the systems estimated it, and the judge grouped them.")
    if not give_ages:
        remarks.append("The systems were not told the ages of the faces: they estimated them.")
    few = [label for label, count in evaluation.group_counts.items() if 0 < count < 5]
    if few:
        remarks.append(f"Only few faces of {', '.join(few)} were evaluated, so their error is uncertain.")
    undefined = {s.name: sum(s.correlations != s.correlations) for s in evaluation.systems}
    remarks += [
        f"{name}: {count:,d} strips have no order, because all their ages were judged the same."
        for name, count in undefined.items()
        if count and len(evaluation.targets) > 1
    ]
    return remarks


def _about(options: dict[str, Any], photos: Photos, judges: Judges, independent: str, notes: list[str]) -> About:
    identity = None
    if judges.identity is not None:
        is_dlib = judges.identity.name.startswith("dlib")
        whose = "dlib's face recognition ResNet" if is_dlib else "InceptionResnetV1 of facenet-pytorch"
        identity = f"{whose} ({judges.identity.name})"
    return About(
        options=options,
        photos=options["photos"],
        available=photos.available,
        age_judge=judges.age.name,
        identity_judge=identity,
        independent=independent,
        sex_judge=None if judges.sex is None else judges.sex.name,
        notes=notes,
        left_out=photos.left_out,
    )


def _name(reference: Reference | None) -> str:
    return "the one in the package" if reference is None else str(reference)
