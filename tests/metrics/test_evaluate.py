"""From generator and archive to numbers, with small random networks as judges."""

from __future__ import annotations

import math
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_judges import compute
from refusals import assert_refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.images import to_uint8
from facegen.metrics.evaluate import Evaluator, Latents, fake_features
from facegen.metrics.features import Detectors
from facegen.metrics.frechet import fid
from facegen.metrics.kernel import kid
from facegen.metrics.real_features import cache_key, real_features
from facegen.metrics.share import Share
from facegen.networks.generator import Generator

ALL = "fid40_full,kid40_full,pr403_full,is40,ppl2_wend12"


@pytest.fixture
def archive(faces):
    return FaceArchive(faces)


def test_all_metrics_at_once(generator, archive, detectors):
    results = compute(generator, archive, ALL, detectors=detectors, batch=7)
    assert list(results) == [
        "fid40_full",
        "kid40_full",
        "pr403_full_precision",
        "pr403_full_recall",
        "is40_mean",
        "is40_std",
        "ppl2_wend12",
    ]
    assert all(math.isfinite(value) for value in results.values())
    assert results["fid40_full"] > 0
    assert 1 <= results["is40_mean"] <= 4
    assert results["ppl2_wend12"] > 0


def test_numbers_are_those_of_the_features(generator, archive, detectors):
    results = compute(generator, archive, "fid40_full,kid20", detectors=detectors)
    extractor = detectors.inception
    fake = fake_features(Latents(generator, archive, None, 0), {"one": 40}, {"one": extractor}, progress=False)["one"]
    real = extractor.features(torch.from_numpy(archive.load_all(progress=False)))
    assert results["fid40_full"] == pytest.approx(fid(real, fake))
    # Not _full: twenty of each, the reals drawn by the seed.
    order = np.random.default_rng(0).permutation(len(archive))[:20]
    assert results["kid20"] == pytest.approx(kid(real[torch.from_numpy(order)], fake[:20]))


def test_a_generator_that_draws_the_data_is_perfect(archive, detectors):
    images = torch.from_numpy(archive.load_all(progress=False))

    class Copies(torch.nn.Module):
        z_dim, c_dim, img_resolution, img_channels = 4, 0, 16, 3
        drawn = 0

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros([]))

        def forward(self, z, c):
            start, self.drawn = self.drawn, self.drawn + len(z)
            return (images[start : self.drawn].float() - 127.5) / 127.5

    names = f"fid{len(archive)}_full,pr{len(archive)}3_full"
    results = compute(Copies(), archive, names, detectors=detectors)
    assert results[f"fid{len(archive)}_full"] == pytest.approx(0, abs=1e-5)  # pictures pass through 8 bits unchanged
    assert results[f"pr{len(archive)}3_full_precision"] == results[f"pr{len(archive)}3_full_recall"] == 1


def test_the_same_seed_gives_the_same_numbers_and_another_others(generator, archive, detectors):
    first, again = (compute(generator, archive, ALL, detectors=detectors) for _ in range(2))
    other = compute(generator, archive, ALL, detectors=detectors, seed=1)
    assert first == again
    assert first["fid40_full"] != other["fid40_full"]
    assert first["ppl2_wend12"] != other["ppl2_wend12"]


def test_measuring_leaves_no_trace(generator, archive, detectors):
    """Training must go on as if nothing had been measured."""
    generator.train()
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    compute(generator, archive, ALL, detectors=detectors)
    assert torch.equal(torch.rand(3), expected)
    assert generator.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


def test_labels_come_as_often_as_in_the_data(generator, archive):
    _, c = Latents(generator, archive, None, 0).draw(5000, 0)
    shares = np.bincount(archive.labels) / len(archive)
    assert c.mean(dim=0).numpy() == pytest.approx(shares, abs=0.03)  # four standard errors
    _, c = Latents(generator, archive, 1, 0).draw(50, 0)
    assert torch.equal(c.argmax(dim=1), torch.ones(50, dtype=torch.int64))


def test_batches_differ_and_so_does_their_noise(generator, archive, make_extractor):
    latents = Latents(generator, archive, None, 0)
    assert not torch.equal(latents.draw(4, 0)[0], latents.draw(4, 1)[0])
    extractor = make_extractor()
    first, again = (fake_features(latents, {"x": 6}, {"x": extractor}, 2, progress=False)["x"] for _ in range(2))
    assert torch.equal(first, again)
    assert len(first.unique(dim=0)) == 6


def test_path_length_of_a_network_that_is_linear(archive, detectors):
    """A step of epsilon in w moves a linear picture by epsilon times its whole way: the length is known."""

    class Linear(torch.nn.Module):
        z_dim, c_dim, img_resolution, img_channels = 4, 0, 16, 3

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn([4, 3 * 16 * 16]))
            self.synthesis = lambda w, **_: (w @ self.weight.double()).view(-1, 3, 16, 16)

        def mapping(self, z, c):
            return z.double()

    network = Linear()
    results = compute(network, archive, "ppl2_wend4", detectors=detectors)
    z, _ = Latents(network, archive, None, 0).draw(4, 0, paths=True)
    way = ((z[4:] - z[:4]).double() @ network.weight.double()).square().mean(dim=1)
    assert results["ppl2_wend4"] == pytest.approx(float(way.detach().mean()), rel=1e-4)


def test_path_lengths_of_the_middle_in_both_spaces(archive, detectors):
    """Pictures whose middle is the latent: a path in w is as long as the way, and one in z as the angle."""

    class Points(torch.nn.Module):
        z_dim, c_dim, img_resolution, img_channels = 4, 0, 16, 3

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros([]))

        def mapping(self, z, c):
            return z.double()

        def synthesis(self, w, **_):
            images = w.new_zeros([len(w), 3, 16, 16])
            images[:, 0, 6, 4:8] = w  # the corner of what is looked at: rows 6 to 13, columns 4 to 11
            images[:, 1, 5] = images[:, 2, :, 3] = images[:, 1, 14] = images[:, 2, :, 12] = 1000 * w[:, :1]
            return images

    network = Points()
    results = compute(network, archive, "ppl_wend4,ppl_wfull4,ppl_zend4,ppl_zfull4", detectors=detectors)
    start, end = Latents(network, archive, None, 0).draw(4, 0, paths=True)[0].double().chunk(2)
    ways = (end - start).square().sum(dim=1) / (3 * 8 * 8)
    angles = torch.nn.functional.cosine_similarity(start, end).acos().square() / (3 * 8 * 8)
    for name, lengths in (("wend", ways), ("wfull", ways), ("zend", angles), ("zfull", angles)):
        assert results[f"ppl_{name}4"] == pytest.approx(float(lengths.mean()), rel=2e-3), name


def test_where_paths_are_measured(generator, archive, detectors):
    """Anywhere on them is elsewhere than at their beginnings; with a picture's edge there is more to see."""
    names = ["ppl2_wend8", "ppl_wend8", "ppl_wfull8", "ppl_zend8", "ppl_zfull8"]
    results = compute(generator, archive, ",".join(names), detectors=detectors)
    assert list(results) == names
    assert len(set(results.values())) == len(names)
    assert all(value > 0 for value in results.values())


def test_flipped_faces_are_among_the_reals_of_metrics_that_are_not_full(generator, archive, detectors):
    count, extractor = len(archive), detectors.inception
    order = np.random.default_rng(0).permutation(2 * count)
    images = torch.from_numpy(archive.load_all(progress=False))
    both = extractor.features(torch.cat([images, images.flip(3)]))
    plain = compute(generator, archive, "kid20,fid20_full", detectors=detectors)
    flipped = compute(generator, archive, "kid20,fid20_full", detectors=detectors, mirror=True)
    fake = fake_features(Latents(generator, archive, None, 0), {"one": 20}, {"one": extractor}, progress=False)["one"]
    assert flipped["kid20"] == pytest.approx(kid(both[torch.from_numpy(order[:20])], fake))
    assert flipped["fid20_full"] == pytest.approx(plain["fid20_full"])
    assert Evaluator(archive, "kid9000", detectors, mirrory=True, progress=False)._order.max() >= 2 * count
    features = real_features(archive, [count, 2 * count, 3 * count], extractor, progress=False)
    first = images[:1]
    assert torch.equal(features, extractor.features(torch.cat([first.flip(3), first.flip(2), first.flip(2, 3)])))


# --- Groups ---------------------------------------------------------------------------------------------------------


def test_per_group(generator, archive, detectors):
    results = compute(generator, archive, "fid20_full,pr203_full", detectors=detectors, per_group=True)
    assert [name for name in results if name.startswith("fid")] == [
        "fid20_full",
        "fid20_full/0-20",
        "fid20_full/21-60",
        "fid20_full/61+",
    ]
    assert math.isfinite(results["fid20_full/61+"])
    assert math.isnan(results["pr203_full_recall/61+"])  # three faces have no third neighbor
    extractor = detectors.inception
    latents = Latents(generator, archive, 1, 0)
    fake = fake_features(latents, {"one": 20}, {"one": extractor}, progress=False)["one"]
    real = extractor.features(torch.from_numpy(archive.load_all(progress=False)[archive.labels == 1]))
    assert results["fid20_full/21-60"] == pytest.approx(fid(real, fake))


def test_per_group_needs_groups(generator, faces, archive, detectors):
    assert_refused("no labels", Evaluator, FaceArchive(faces, use_labels=False), "fid5", detectors, per_group=True)
    evaluator = Evaluator(archive, "fid5", detectors, per_group=True, progress=False)
    assert_refused("knows no groups", evaluator.measure, Generator(8, 0, 8, 16, 3))


# --- Several processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [2, 3, 9])
def test_any_number_of_processes_gives_the_same_numbers(world, generator, archive, detectors):
    alone = compute(generator, archive, ALL, detectors=detectors, batch=8, per_group=True)
    barrier = threading.Barrier(world)
    posted: list = [None] * world
    turn = threading.Lock()  # PyTorch's random state is one for all threads, but not for all processes

    def gather_of(rank):
        def gather(part):
            posted[rank] = part
            turn.release()
            barrier.wait()
            parts = [p for p in posted if p.numel()]
            barrier.wait()
            turn.acquire()
            return torch.cat(parts)

        return gather

    found: list = [None] * world

    def work(rank):
        with turn:
            found[rank] = compute(
                generator,
                archive,
                ALL,
                detectors=detectors,
                batch=8,
                per_group=True,
                share=Share(rank, world, gather_of(rank)),
            )

    threads = [threading.Thread(target=work, args=[rank]) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for numbers in found:
        assert numbers is not None
        assert numbers == pytest.approx(alone, nan_ok=True)


def test_shares_are_all_of_it_in_order():
    for count in (0, 1, 7, 100):
        for world in (1, 2, 3, 8):
            assert [i for rank in range(world) for i in Share(rank, world).of(count)] == list(range(count))


# --- The cache ------------------------------------------------------------------------------------------------------


def counting(extractor):
    """The extractor, and a list that grows by the number of pictures that it looks at."""
    seen = []
    return replace(extractor, features=lambda x: (seen.append(len(x)), extractor.features(x))[1]), seen


def test_reals_are_looked_at_once(archive, make_extractor, own_cache):
    extractor, seen = counting(make_extractor())
    indices = list(range(10))
    first = real_features(archive, indices, extractor, batch=4, progress=False)
    assert seen == [4, 4, 2]
    again = real_features(archive, indices, extractor, batch=4, progress=False)
    assert seen == [4, 4, 2]
    assert torch.equal(first, again)
    (file,) = (own_cache / "metrics").iterdir()
    assert load_file(file)["features"].shape == (10, 6)
    real_features(archive, indices[:9], extractor, progress=False)
    assert sum(seen) == 19


def test_another_network_or_other_pictures_are_another_entry(archive, faces, tmp_path, make_extractor):
    key = cache_key(archive, [0, 1], make_extractor())
    copy = tmp_path / "copy.zip"
    copy.write_bytes(faces.read_bytes())
    assert cache_key(FaceArchive(copy), [0, 1], make_extractor()) == key  # the content counts, not the place
    assert cache_key(archive, [1, 0], make_extractor()) != key
    assert cache_key(archive, [0, 1], make_extractor("other")) != key
    assert cache_key(FaceArchive(faces, max_images=5), [0, 1], make_extractor()) != key


def test_a_changed_folder_is_another_entry(archive, faces, tmp_path, make_extractor):
    import zipfile

    zipfile.ZipFile(faces).extractall(tmp_path)
    folder = FaceArchive(tmp_path)
    key = cache_key(folder, [0], make_extractor())
    name = tmp_path / folder.file_names[0]
    name.write_bytes((tmp_path / folder.file_names[1]).read_bytes())
    assert cache_key(FaceArchive(tmp_path), [0], make_extractor()) != key


def test_a_damaged_cache_is_made_again(archive, make_extractor, own_cache):
    extractor, seen = counting(make_extractor())
    first = real_features(archive, [0, 1], extractor, progress=False)
    (file,) = (own_cache / "metrics").iterdir()
    for content in (b"", file.read_bytes()[:-9]):
        file.write_bytes(content)
        assert torch.equal(real_features(archive, [0, 1], extractor, progress=False), first)
    assert seen == [2, 2, 2]


def test_a_cache_that_somebody_changed_is_made_again(archive, make_extractor, own_cache, tmp_path):
    extractor, seen = counting(make_extractor())
    first = real_features(archive, [0, 1], extractor, progress=False)
    (file,) = (own_cache / "metrics").iterdir()
    whole = file.read_bytes()
    with safe_open(file, "pt") as kept:
        told = kept.metadata()
    for other in (first + 1, first[:, :3], first[:, 0], first.double(), torch.full_like(first, torch.nan)):
        save_file({"features": other.contiguous()}, file, told)
        assert torch.equal(real_features(archive, [0, 1], extractor, progress=False), first)
    save_file({"features": first}, file)  # as earlier versions did
    assert torch.equal(real_features(archive, [0, 1], extractor, progress=False), first)
    assert seen == [2] * 7
    assert file.read_bytes() == whole


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_cache_is_for_its_owner(archive, make_extractor, monkeypatch, tmp_path):
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "a" / "cache"))
    real_features(archive, [0, 1], make_extractor(), progress=False)
    assert (tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o700


def test_a_cache_that_cannot_be_written_costs_a_warning(archive, make_extractor, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be cached"):
        features = real_features(archive, [0, 1], make_extractor(), progress=False)
    assert features.shape == (2, 6)


# --- What does not fit ----------------------------------------------------------------------------------------------


def test_errors(generator, archive, faces, detectors):
    assert_refused("unknown metric 'fod5'", compute, generator, archive, "fod5", detectors=detectors)
    with pytest.raises(FacegenError, match="pr53: needs the vgg extractor"):
        compute(generator, archive, "pr53", detectors=replace(detectors, vgg=None))
    with pytest.raises(FacegenError, match="ppl2_wend5: needs a perceptual distance"):
        compute(generator, archive, "ppl2_wend5", detectors=Detectors())
    no_logits = replace(detectors, inception=replace(detectors.inception, logits=None))
    assert_refused("is5: one gives no logits", compute, generator, archive, "is5", detectors=no_logits)
    with pytest.raises(FacegenError, match="16x16, the generator makes 32x32"):
        compute(Generator(8, 3, 8, 32, 3), archive, "fid5", detectors=detectors)
    with pytest.raises(FacegenError, match="has 3 classes, the generator 4"):
        compute(Generator(8, 4, 8, 16, 3), archive, "fid5", detectors=detectors)
    with pytest.raises(FacegenError, match="has 0 classes, the generator 3"):
        compute(generator, FaceArchive(faces, use_labels=False), "fid5", detectors=detectors)


def test_gray_networks_are_measured_too(archive, detectors):
    gray = Generator(8, 3, 8, 16, 1, synthesis_kwargs={"channel_base": 64, "channel_max": 8})
    results = compute(gray, archive, ALL, detectors=detectors)
    assert all(math.isfinite(value) for value in results.values())


def test_levels_are_those_of_files():
    images = torch.tensor([-2.0, -1, 0, 1, 2]).view(1, 1, 1, 5)
    assert to_uint8(images).flatten().tolist() == [0, 0, 128, 255, 255]
