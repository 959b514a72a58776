from functools import partial

import pytest
import torch
import torch.nn.functional as F
from golden_numbers import TOLERANCE, assert_all_golden, assert_golden, golden

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.training.draws import BatchRandom
from facegen.training.generator import losses
from facegen.training.generator.losses import GanLoss
from facegen.training.generator.state import D_REG_INTERVAL, G_REG_INTERVAL, lazy_adam

LOSS, EXTRA = golden("loss"), golden("loss_extra")
NETWORKS = golden("networks_skip_resnet_cond32")


def golden_loss(**options) -> GanLoss:
    """The networks of the golden losses in training mode, everything random fixed."""
    G, D = Generator(**NETWORKS.about["G"]).train(), Discriminator(**NETWORKS.about["D"]).train()
    G.load_state_dict(NETWORKS.under("G"))
    D.load_state_dict(NETWORKS.under("D"))
    set_noise(G, "const")
    return GanLoss(G, D, **{"style_mixing_prob": 0, **options})


def set_noise(G: Generator, mode: str) -> None:
    """Let a generator take another kind of noise than the random one."""
    G.synthesis.forward = partial(G.synthesis.forward, noise_mode=mode)


def tiny_loss(noise_mode: str = "random", **options) -> GanLoss:
    synthesis = {"channel_base": 64, "channel_max": 8}
    G = Generator(6, 3, 6, 8, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=synthesis)
    D = Discriminator(3, 8, 3, channel_base=64, channel_max=8, mapping_kwargs={"num_layers": 2})
    set_noise(G, noise_mode)
    return GanLoss(G.train(), D.train(), **options)


def tiny_batch(number: int = 4) -> dict[str, torch.Tensor]:
    labels = torch.eye(3)[torch.arange(number) % 3]
    real = torch.rand(number, 3, 8, 8) * 2 - 1
    return {"z": torch.randn(number, 6), "c": labels, "real": real, "real_c": labels.roll(1, dims=1)}


def run_phase(loss: GanLoss, phase: str, gain: float, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Run a phase as the training loop does: only the network in training requires gradients."""
    loss.G.requires_grad_(phase[0] == "G")
    loss.D.requires_grad_(phase[0] == "D")
    z, c, real, real_c = (batch[name] for name in ("z", "c", "real", "real_c"))
    observed = {}
    if phase in ("Gmain", "Gboth"):
        observed |= loss.generator_main(z, c)
    if phase in ("Greg", "Gboth"):
        observed |= loss.generator_reg(z, c, gain)
    if phase in ("Dmain", "Dboth"):
        observed |= loss.discriminator_main(real, real_c, z, c)
    if phase in ("Dreg", "Dboth"):
        observed |= loss.discriminator_reg(real, real_c, gain)
    return observed


def gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


# --- Golden numbers -------------------------------------------------------------------------------------------------

PHASES = {  # name in the files: phase, gain, pl_mean at the start, stored terms, gradient norms
    **{phase: (phase, 1, 0.0, LOSS.under(phase), norms) for phase, norms in LOSS.about["phases"].items()},
    **{
        name: (name.split("_gain")[0], float(name.split("_gain")[1]), 0.5, EXTRA.under(name), norms)
        for name, norms in EXTRA.about["gradient_norms"].items()
    },
}


def test_every_golden_case_is_tested():
    stored = LOSS.names_under("Gmain") | {key.split("/")[0] for file in (LOSS, EXTRA) for key in file}
    assert stored - {"Loss"} == {*PHASES, "z", "c", "real", "pl_noise", "style_mixing"}


@pytest.mark.parametrize("name", PHASES)
def test_golden(name, monkeypatch):
    phase, gain, pl_mean, expected, norms = PHASES[name]
    loss = golden_loss(**{key: LOSS.about[key] for key in ("r1_gamma", "pl_weight")})
    loss.pl_mean.fill_(pl_mean)
    # The noise of the path lengths is the only thing that is still random.
    monkeypatch.setattr(torch, "randn_like", lambda like, **_: LOSS["pl_noise"].reshape(like.shape))
    batch = {**{key: LOSS[key] for key in ("z", "c", "real")}, "real_c": LOSS["c"]}
    observed = run_phase(loss, phase, gain, batch)
    if "pl_mean" in expected:
        observed["pl_mean"] = loss.pl_mean
    assert_all_golden(observed, expected)

    trained, other = (loss.G, loss.D) if phase[0] == "G" else (loss.D, loss.G)
    found = {key: float(p.grad.norm()) if p.grad is not None else 0.0 for key, p in trained.named_parameters()}
    assert set(found) == set(norms)
    # Norms go down to 0.0005, so the tolerance is relative to each one; what is 0 in the reference is rounding here.
    wrong = {key: (found[key], norm) for key, norm in norms.items() if abs(found[key] - norm) > TOLERANCE * norm + 1e-7}
    assert wrong == {}
    assert gradients(other) == {}


def test_the_constants_are_the_defaults():
    loss = tiny_loss()
    assert (loss.r1_gamma, loss.pl_weight) == (LOSS.about["r1_gamma"], LOSS.about["pl_weight"])
    assert (LOSS.about["pl_decay"], LOSS.about["pl_batch_shrink"]) == (losses.PL_DECAY, losses.PL_BATCH_SHRINK)
    assert float(loss.pl_mean) == 0
    assert loss.style_mixing_prob == 0.9


@pytest.mark.parametrize("seed", range(len(EXTRA.names_under("style_mixing"))))
def test_golden_style_mixing(seed):
    loss = golden_loss(style_mixing_prob=0.9)
    torch.manual_seed(seed)
    assert_golden(loss.map_latents(LOSS["z"], LOSS["c"]), EXTRA[f"style_mixing/seed{seed}/ws"])
    # The second mapping call leaves the average of w alone: it has seen one batch.
    assert_golden(loss.G.mapping.w_avg, NETWORKS["w_avg_after_one_training_batch"])


@pytest.mark.parametrize("phase", ["Gmain", "Dmain"])
def test_average_of_w_moves_in_the_phases_of_both_networks(phase):
    loss = golden_loss()
    run_phase(loss, phase, 1, {**{key: LOSS[key] for key in ("z", "c", "real")}, "real_c": LOSS["c"]})
    assert_golden(loss.G.mapping.w_avg, NETWORKS["w_avg_after_one_training_batch"])


@pytest.mark.parametrize("phase", ["Greg", "Dreg"])
def test_what_a_penalty_does_not_depend_on_gets_a_gradient_of_zero(phase):
    # Not None: for the reference's Adam such a phase is a step with gradient 0, which shrinks its second moment.
    loss = golden_loss()
    run_phase(loss, phase, 1, {**{key: LOSS[key] for key in ("z", "c", "real")}, "real_c": LOSS["c"]})
    network = loss.G if phase == "Greg" else loss.D
    assert set(gradients(network)) == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize(("name", "interval"), [("G", G_REG_INTERVAL), ("D", D_REG_INTERVAL)])
def test_lazy_regularization(name, interval):
    about = LOSS.about["lazy_regularisation"]
    assert interval == about[f"{name}_interval"]
    ratio = interval / (interval + 1)
    group = lazy_adam(torch.nn.Linear(2, 2), 0.002, interval).param_groups[0]
    assert group["lr"] == pytest.approx(0.002 * ratio)
    assert group["betas"] == pytest.approx([beta**ratio for beta in about["adam_betas"]])
    assert group["eps"] == about["adam_eps"]
    plain = lazy_adam(torch.nn.Linear(2, 2), 0.002, None).param_groups[0]
    assert (plain["lr"], list(plain["betas"])) == (0.002, about["adam_betas"])


# --- What the phases do ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["Greg", "Dreg"])
def test_gain_scales_the_gradient_and_not_what_is_observed(phase):
    results = []
    for gain in (1, 3):
        torch.manual_seed(1)
        loss = tiny_loss(style_mixing_prob=0)
        results.append((run_phase(loss, phase, gain, tiny_batch()), gradients(loss.G if phase == "Greg" else loss.D)))
    (observed, once), (again, thrice) = results
    for key in observed:
        torch.testing.assert_close(observed[key], again[key])
    for key in once:
        torch.testing.assert_close(once[key] * 3, thrice[key], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("first", "second"), [("Gmain", "Greg"), ("Dmain", "Dreg")])
def test_phases_add_to_the_gradients(first, second):
    batch = tiny_batch()
    loss = tiny_loss(style_mixing_prob=0, noise_mode="none")
    network = loss.G if first == "Gmain" else loss.D
    parts = []
    for phases in ([first], [second], [first, second]):
        network.zero_grad(set_to_none=True)
        loss.pl_mean.zero_()
        torch.manual_seed(1)
        for phase in phases:
            if phase == second:
                torch.manual_seed(2)
            run_phase(loss, phase, 1, batch)
        parts.append(gradients(network))
    for key, both in parts[2].items():
        total = sum(part[key] for part in parts[:2] if key in part)
        torch.testing.assert_close(both, total, atol=1e-5, rtol=1e-4)


def test_logistic_losses_by_hand():
    batch = tiny_batch()
    loss = tiny_loss(style_mixing_prob=0, noise_mode="none")
    with torch.no_grad():
        fake = loss.D(loss.G(batch["z"], batch["c"], noise_mode="none"), batch["c"])
        real = loss.D(batch["real"], batch["real_c"])
    observed = run_phase(loss, "Gmain", 1, batch)
    torch.testing.assert_close(observed["Loss/G/loss"], -F.logsigmoid(fake))
    observed = run_phase(loss, "Dmain", 1, batch)
    torch.testing.assert_close(observed["Loss/D/loss"], -F.logsigmoid(-fake) - F.logsigmoid(real))
    assert torch.equal(observed["Loss/signs/real"], real.sign())


def test_r1_by_hand():
    batch = tiny_batch()
    loss = tiny_loss(r1_gamma=4)
    # A discriminator whose gradient is known: scale * sum of the 192 numbers of a picture.
    scale = torch.nn.Parameter(torch.tensor(3.0))
    loss.D = lambda images, c: (images * scale).sum(dim=[1, 2, 3])[:, None]
    observed = loss.discriminator_reg(batch["real"], batch["real_c"])
    torch.testing.assert_close(observed["Loss/r1_penalty"], torch.full([4], 3.0**2 * 192))
    torch.testing.assert_close(observed["Loss/D/reg"], torch.full([4], 4 / 2 * 3.0**2 * 192))
    assert float(scale.grad) == pytest.approx(4 * 3 * 192)  # of 4 / 2 * scale^2 * 192


def test_reals_of_the_caller_stay_without_gradient():
    batch = tiny_batch()
    run_phase(tiny_loss(), "Dboth", 1, batch)
    assert not batch["real"].requires_grad
    assert batch["real"].grad is None


@pytest.mark.parametrize("number", [1, 2, 5])
def test_path_lengths_of_a_part_of_the_batch(number):
    observed = run_phase(tiny_loss(), "Greg", 4, tiny_batch(number))
    assert observed["Loss/pl_penalty"].shape == (max(number // 2, 1),)


def test_mean_path_length_approaches_the_paths(monkeypatch):
    monkeypatch.setattr(losses, "PL_DECAY", 0.5)
    loss, batch = tiny_loss(noise_mode="none", style_mixing_prob=0), tiny_batch(16)
    means, penalties = [], []
    for _ in range(8):
        penalties.append(float(run_phase(loss, "Greg", 1, batch)["Loss/pl_penalty"].mean()))
        means.append(float(loss.pl_mean))
    assert not loss.pl_mean.requires_grad
    assert 0 < means[0] < means[3]
    assert penalties[-1] < penalties[0]


# --- Style mixing ---------------------------------------------------------------------------------------------------


def test_style_mixing_by_chance():
    loss, batch = tiny_loss(style_mixing_prob=0.3), tiny_batch(2)
    mixed, cutoffs = 0, set()
    for _ in range(400):
        ws = loss.map_latents(batch["z"], batch["c"])
        same = (ws == ws[:, :1]).all(dim=2)
        assert torch.equal(same[0], same[1])  # one cutoff for the batch
        if not same.all():
            mixed += 1
            cutoffs.add(int(same[0].sum()))
    assert abs(mixed / 400 - 0.3) < 0.09  # four standard deviations
    assert cutoffs == {1, 2, 3}  # every layer but the first


def test_no_style_mixing_draws_nothing():
    loss, batch = tiny_loss(style_mixing_prob=0), tiny_batch()
    state = torch.get_rng_state()
    ws = loss.map_latents(batch["z"], batch["c"])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(ws, ws[:, :1].expand_as(ws))


def test_number_of_draws_does_not_depend_on_chance():
    states = []
    for probability in (1e-9, 1.0):
        torch.manual_seed(3)
        loss, batch = tiny_loss(style_mixing_prob=probability), tiny_batch()
        loss.map_latents(batch["z"], batch["c"])
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


# --- Augmentation ---------------------------------------------------------------------------------------------------


class Counting(torch.nn.Module):
    """Stands where the augmentation does: notes what it saw and darkens the pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def forward(self, images: torch.Tensor, random: BatchRandom) -> torch.Tensor:
        self.seen.append(images.detach().clone())
        return images * 0.5


@pytest.mark.parametrize(("phase", "calls"), [("Gmain", 1), ("Greg", 0), ("Dmain", 2), ("Dreg", 1)])
def test_all_that_the_discriminator_sees_is_augmented(phase, calls):
    augment, batch = Counting(), tiny_batch()
    judged: list[torch.Tensor] = []
    loss = tiny_loss(augment=augment)
    loss.D.register_forward_pre_hook(lambda _, args: judged.append(args[0].detach()))
    run_phase(loss, phase, 1, batch)
    assert len(augment.seen) == calls
    for seen, image in zip(augment.seen, judged, strict=True):
        assert torch.equal(image, seen * 0.5)
    if phase[0] == "D" and calls:
        assert torch.equal(augment.seen[-1], batch["real"])


def test_gradient_penalty_goes_through_the_augmentation():
    batch = tiny_batch()
    loss = tiny_loss()
    plain = run_phase(loss, "Dreg", 1, batch)["Loss/r1_penalty"]
    loss.augment = Shift()
    shifted = run_phase(loss, "Dreg", 1, {**batch, "real": batch["real"].roll(-1, dims=3)})["Loss/r1_penalty"]
    torch.testing.assert_close(shifted, plain)
    loss.augment = Counting()
    halved = run_phase(loss, "Dreg", 1, {**batch, "real": batch["real"] * 2})["Loss/r1_penalty"]
    torch.testing.assert_close(halved, plain / 4)  # same picture judged, half the slope


class Shift(torch.nn.Module):
    def forward(self, images: torch.Tensor, random: BatchRandom) -> torch.Tensor:
        return images.roll(1, dims=3)


# --- Reproducibility ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["Gboth", "Dboth"])
def test_same_seed_same_gradients(phase):
    def once(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        loss, batch = tiny_loss(), tiny_batch()
        torch.manual_seed(seed)
        run_phase(loss, phase, 1, batch)
        return gradients(loss.G if phase == "Gboth" else loss.D)

    first, again, other = once(5), once(5), once(6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("phase", ["Gboth", "Dboth"])
def test_every_parameter_gets_a_gradient(phase):
    loss = tiny_loss()
    run_phase(loss, phase, 1, tiny_batch())
    network = loss.G if phase == "Gboth" else loss.D
    assert set(gradients(network)) == {name for name, _ in network.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients(network).values())


def test_frozen_layers_take_part_in_both_phases_of_the_discriminator():
    loss = tiny_loss()
    loss.D = Discriminator(3, 8, 3, channel_base=64, channel_max=8, block_kwargs={"freeze_layers": 2}).train()
    before = loss.D.b8.conv0.weight.clone()
    observed = run_phase(loss, "Dboth", 1, tiny_batch())
    assert torch.equal(loss.D.b8.conv0.weight, before)
    assert float(observed["Loss/r1_penalty"].min()) > 0
    assert "b8.conv1.weight" in gradients(loss.D)
