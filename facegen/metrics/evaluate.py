"""Metrics of a generator against an archive: draw fakes, look at them, compare them with the reals."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from tqdm import tqdm

from facegen.data.archive import FaceArchive, label_counts
from facegen.device import tf32
from facegen.errors import FacegenError
from facegen.images import to_uint8
from facegen.metrics.features import BATCH, Detectors, Extractor
from facegen.metrics.frechet import fid
from facegen.metrics.inception_score import inception_score
from facegen.metrics.kernel import kid
from facegen.metrics.names import Metric, parse_metrics
from facegen.metrics.path_length import mean_path_length, path_lengths, renew_noise
from facegen.metrics.precision_recall import precision_recall
from facegen.metrics.real_features import as_rgb, real_features
from facegen.metrics.share import ALONE, Share
from facegen.networks.generator import Generator
from facegen.networks.graphed import GraphedGenerator


class Evaluator:
    """Measures generators against an archive.

    Creating one computes the features of the real pictures, or finds them in the cache.

    Args:
        archive: The real faces, with labels if the generators are conditional.
        metrics: Names, see `names.parse_metrics`.
        detectors: The networks that the metrics use, see `features.load_detectors`.
        per_group: Also measure every class separately, with as many fakes against its own real pictures.
        mirror, mirrory: Metrics without `_full` take their real pictures from these and those flipped from left to
            right, from top to bottom, as the StyleGAN family does where a training flipped them.
        batch: Pictures per batch. The random noise depends on it, as on the seed.
        seed: Seeds latents, labels, noise and subsets.
        share: Which part of the pictures this process handles; all processes return the same numbers.
        progress: Show progress bars with the remaining time.

    Raises:
        FacegenError: an unknown metric, a missing detector, or an archive without groups to measure separately.

    Example:
        >>> measured = Evaluator(archive, "fid5k_full", detectors).measure(generator)
        >>> list(measured)
        ['fid5k_full']
    """

    def __init__(
        self,
        archive: FaceArchive,
        metrics: str | Iterable[str],
        detectors: Detectors,
        *,
        per_group: bool = False,
        mirror: bool = False,
        mirrory: bool = False,
        batch: int = BATCH,
        seed: int = 0,
        share: Share = ALONE,
        progress: bool = True,
    ) -> None:
        self.archive, self.metrics, self.detectors = archive, parse_metrics(metrics), detectors
        self.batch, self.seed, self.share, self.progress = batch, seed, share, progress
        if per_group and not archive.c_dim:
            raise FacegenError(f"{archive.path}: has no labels, so there are no groups to measure separately")
        self.groups = list(range(archive.c_dim)) if per_group else []
        _check_sources(self.metrics, detectors)
        self._order = self._choose_reals(mirror, mirrory)
        self._real: dict[str, torch.Tensor] = {}
        for metric in self.metrics:
            if metric.needs_real and (extractor := detectors.of(metric)).name not in self._real:
                with tf32(False):
                    self._real[extractor.name] = real_features(
                        archive, self._order.tolist(), extractor, batch=batch, share=share, progress=progress
                    )

    def _choose_reals(self, mirror: bool, mirrory: bool) -> np.ndarray:
        """Return which real pictures are looked at, int64 `[n]`, see `real_features`.

        Every metric takes the beginning of one random order, so that fewer pictures are a part of more.
        """
        count = len(self.archive)
        parts = [metric for metric in self.metrics if metric.needs_real and not metric.full]
        flips = [flip for flip in range(4) if (mirror or not flip & 1) and (mirrory or not flip & 2)] if parts else [0]
        pool = np.concatenate([np.arange(count) + flip * count for flip in flips])
        order = pool[np.random.default_rng(self.seed).permutation(len(pool))]
        if self.groups:
            return order
        whole = any(metric.full for metric in self.metrics)
        most = max((metric.images for metric in parts), default=0)
        return order[((order < count) & whole) | (np.arange(len(order)) < most)]

    def measure(self, generator: Generator) -> dict[str, float]:
        """Return the numbers of a generator, on its device; neither its state nor the random state changes.

        They are by name, `fid5k_full`, `pr5k3_full_precision`, ...; of a class `fid5k_full/0-10`, NaN where it has too
        few real pictures. Raises a FacegenError for a generator that does not fit the archive.
        """
        self._check_fit(generator)
        device = next(generator.parameters()).device
        was_training = generator.training
        results: dict[str, float] = {}
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad(), tf32(False):
            generator.eval()
            try:
                results |= self._measure(generator, None)
                for group in self.groups:
                    of_group = self._measure(generator, group)
                    results |= {f"{name}/{self.archive.class_names[group]}": x for name, x in of_group.items()}
            finally:
                generator.train(was_training)
        return results

    def _measure(self, generator: Generator, group: int | None) -> dict[str, float]:
        device = next(generator.parameters()).device
        counts: dict[str, int] = {}
        extractors: dict[str, Extractor] = {}
        numbers: dict[str, float] = {}
        possible = []
        for metric in self.metrics:
            if metric.needs_real and len(self._reals(metric, group)) <= max(metric.neighbors, 1):
                numbers |= dict.fromkeys(metric.results, math.nan)
                continue
            possible.append(metric)
            if metric.kind != "ppl":
                extractor = self.detectors.of(metric)
                extractors[extractor.name] = extractor
                counts[extractor.name] = max(counts.get(extractor.name, 0), metric.images)
        latents = Latents(generator, self.archive, group, self.seed)
        fakes = fake_features(latents, counts, extractors, self.batch, self.share, self.progress)
        for metric in possible:
            if metric.kind == "ppl":
                numbers[metric.name] = self._path_length(metric, latents)
                continue
            extractor = self.detectors.of(metric)
            fake = fakes[extractor.name][: metric.images].to(device)
            if metric.kind == "is":
                assert extractor.logits is not None  # `of` looks
                numbers |= zip(metric.results, inception_score(extractor.logits(fake)), strict=True)
                continue
            real = self._real[extractor.name][torch.from_numpy(self._reals(metric, group))].to(device)
            if metric.kind == "fid":
                numbers[metric.name] = fid(real, fake)
            elif metric.kind == "kid":
                numbers[metric.name] = kid(real, fake, seed=self.seed)
            else:
                found = precision_recall(real, fake, neighbors=metric.neighbors)
                numbers |= zip(metric.results, found, strict=True)
        return {name: numbers[name] for metric in self.metrics for name in metric.results}

    def _reals(self, metric: Metric, group: int | None) -> np.ndarray:
        """Return the places in `self._order` of a metric's real pictures, of a group or of all."""
        fitting = np.full(len(self._order), True)
        if group is not None:
            fitting &= self.archive.labels[self._order % len(self.archive)] == group
        if metric.full:
            return np.flatnonzero(fitting & (self._order < len(self.archive)))
        return np.flatnonzero(fitting)[: metric.images]

    def _path_length(self, metric: Metric, latents: Latents) -> float:
        distance, paths = self.detectors.distance, metric.paths
        assert distance is not None  # `_check_sources` looks
        assert paths is not None
        generator = copy.deepcopy(latents.generator)  # its constant noise is drawn again
        batches = [range(i, min(i + self.batch, metric.images)) for i in range(0, metric.images, self.batch)]
        lengths = []
        hidden = not self.progress or self.share.rank > 0
        for number in _bar(self.share.of(len(batches)), metric.name, self.batch, metric.images, hidden):
            torch.manual_seed(self.seed + 1 + number)
            renew_noise(generator)
            z, c = latents.draw(len(batches[number]), number, paths=True)
            t = latents.starts(len(batches[number]), number) * (not paths.ends)
            lengths.append(path_lengths(generator, z, c, distance, t=t, paths=paths).float().cpu())
        return mean_path_length(self.share.gather(torch.cat(lengths) if lengths else torch.empty([0])))

    def _check_fit(self, generator: Generator) -> None:
        archive = self.archive
        if any(m.needs_real for m in self.metrics) and generator.img_resolution != archive.resolution:
            side, other = archive.resolution, generator.img_resolution
            raise FacegenError(
                f"{archive.path}: its pictures are {side}x{side}, the generator makes {other}x{other}; "
                "prepare the archive at that --resolution"
            )
        if generator.c_dim and generator.c_dim != archive.c_dim:
            raise FacegenError(
                f"{archive.path}: has {archive.c_dim} classes, the generator {generator.c_dim}; use the archive with "
                "the groups that it was trained on"
            )
        if self.groups and not generator.c_dim:
            raise FacegenError("the generator knows no groups, so it cannot be measured per group")


class Latents:
    """Draws latents and labels: labels as often as the archive has them, or of one class."""

    def __init__(self, generator: Generator, archive: FaceArchive, group: int | None, seed: int) -> None:
        self.generator, self.seed = generator, seed
        self.weights = torch.zeros([generator.c_dim])
        if generator.c_dim and group is None:
            self.weights = torch.as_tensor(np.asarray(label_counts(archive.labels, archive.c_dim), np.float32))
        elif generator.c_dim:
            self.weights[group] = 1

    def draw(self, count: int, number: int, *, paths: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z `[count, z_dim]` (both ends of `paths`: `[2 count, z_dim]`) and c `[count, c_dim]` of a batch.

        Every batch has a seed of its own, so any process can draw any of them.
        """
        random = _generator(self.seed, number)
        device = next(self.generator.parameters()).device
        z = torch.randn([count * (2 if paths else 1), self.generator.z_dim], generator=random)
        c = torch.zeros([count, self.generator.c_dim])
        if self.generator.c_dim:
            classes = torch.multinomial(self.weights, count, replacement=True, generator=random)
            c.scatter_(1, classes[:, None], 1.0)
        return z.to(device), c.to(device)

    def starts(self, count: int, number: int) -> torch.Tensor:
        """Return places on the paths of a batch, `[count]`, from 0 to 1."""
        device = next(self.generator.parameters()).device
        return torch.rand([count], generator=_generator(self.seed, number, 1)).to(device)


def _generator(*numbers: int) -> torch.Generator:
    """A stream of random numbers for each batch, which any process can draw."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def fake_features(
    latents: Latents,
    counts: dict[str, int],
    extractors: dict[str, Extractor],
    batch: int = BATCH,
    share: Share = ALONE,
    progress: bool = True,
) -> dict[str, torch.Tensor]:
    """Generate pictures once; return each extractor's features of its first `counts` ones, `[count, D]`, on the CPU."""
    count, generate = max(counts.values(), default=0), GraphedGenerator(latents.generator)
    starts = range(0, count, batch)
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in counts}
    for number in _bar(share.of(len(starts)), "fakes", batch, count, not progress or share.rank > 0):
        size = min(batch, count - starts[number])
        torch.manual_seed(latents.seed + 1 + number)  # for the noise, on any device
        images = as_rgb(to_uint8(generate(*latents.draw(size, number))))
        for name, needed in counts.items():
            if (wanted := min(size, needed - starts[number])) > 0:
                parts[name].append(extractors[name].features(images[:wanted]).float().cpu())
    return {name: share.gather(torch.cat(part) if part else torch.empty([0, 0])) for name, part in parts.items()}


def _bar(numbers: Sequence[int], name: str, batch: int, count: int, hidden: bool) -> Iterable[int]:
    """Go through the numbers of batches of `count` pictures, with a bar that counts pictures."""
    sizes = [min(batch, count - number * batch) for number in numbers]
    with tqdm(total=sum(sizes), desc=name, unit="img", disable=hidden or not sizes) as bar:
        for number, size in zip(numbers, sizes, strict=True):
            yield number
            bar.update(size)


def _check_sources(metrics: Iterable[Metric], detectors: Detectors) -> None:
    for metric in metrics:
        if metric.kind != "ppl":
            detectors.of(metric)
        elif detectors.distance is None:
            raise FacegenError(f"{metric.name}: needs a perceptual distance, which was not given")
