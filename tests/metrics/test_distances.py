"""Numbers of the metrics against closed forms and against torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch

from facegen.metrics.frechet import fid, frechet_distance, moments
from facegen.metrics.inception_score import inception_score
from facegen.metrics.kernel import kid, polynomial, squared_mmd
from facegen.metrics.path_length import mean_path_length
from facegen.metrics.precision_recall import covered, neighbor_distances, precision_recall


def with_moments(mean, covariance, count=64):
    """`[count, D]` points that have exactly this mean and unbiased covariance."""
    points = torch.randn([count, len(mean)], dtype=torch.float64)
    points -= points.mean(dim=0)
    whiten = torch.linalg.inv(torch.linalg.cholesky(points.T @ points / (count - 1)))
    return points @ whiten.T @ torch.linalg.cholesky(covariance).T + mean


# --- Frechet --------------------------------------------------------------------------------------------------------


def test_frechet_of_gaussians_in_closed_form():
    # For covariances that commute: |m1 - m2|^2 + sum (s1 - s2)^2.
    mean1, mean2 = torch.tensor([0.0, 1, 2]).double(), torch.tensor([1.0, 1, 0]).double()
    s1, s2 = torch.tensor([1.0, 2, 3]).double(), torch.tensor([2.0, 2, 0.5]).double()
    rotation = torch.linalg.qr(torch.randn([3, 3], dtype=torch.float64)).Q
    real = with_moments(mean1, rotation @ torch.diag(s1**2) @ rotation.T)
    fake = with_moments(mean2, rotation @ torch.diag(s2**2) @ rotation.T)
    assert fid(real, fake) == pytest.approx(5 + 1 + 0 + 6.25, rel=1e-9)


def test_frechet_of_covariances_that_do_not_commute():
    # In two dimensions tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)).
    c1 = torch.tensor([[2.0, 0.5], [0.5, 1]]).double()
    c2 = torch.tensor([[1.0, -0.7], [-0.7, 3]]).double()
    product = c1 @ c2
    root_trace = math.sqrt(product.trace() + 2 * math.sqrt(torch.linalg.det(product)))
    zero = torch.zeros(2, dtype=torch.float64)
    assert frechet_distance(zero, c1, zero, c2) == pytest.approx(3 + 4 - 2 * root_trace, rel=1e-12)


def test_frechet_is_zero_for_equal_sets_symmetric_and_at_least_zero():
    x, y = torch.randn([40, 12]), torch.randn([50, 12]) + 1
    assert fid(x, x) == pytest.approx(0, abs=1e-6)
    assert fid(x, x.flip(0)) == pytest.approx(0, abs=1e-6)
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-9)
    assert fid(x, x) >= 0


def test_frechet_of_fewer_pictures_than_features():
    # Both covariances are singular; a root by way of complex numbers would be off or fail.
    x, y = torch.randn([5, 64]), torch.randn([7, 64])
    assert math.isfinite(fid(x, y))
    assert fid(x, x) == pytest.approx(0, abs=1e-5)  # the root of rounding errors of 64 eigenvalues


def test_moments_do_not_lose_digits_far_from_zero():
    points = torch.randn([9000, 3]) + 1000  # more than one chunk
    mean, covariance = moments(points)
    assert torch.allclose(mean, points.double().mean(dim=0))
    assert torch.allclose(covariance, torch.cov(points.double().T), rtol=1e-9)


# --- Kernel ---------------------------------------------------------------------------------------------------------


def test_squared_mmd_by_hand():
    # In one dimension, x = {0, 1}, y = {1, 2}: k(a, b) = (ab + 1)^3.
    x, y = torch.tensor([[0.0], [1]]), torch.tensor([[1.0], [2]])
    assert float(polynomial(x, y)[1, 1]) == 27
    assert float(squared_mmd(x, y)) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kid_is_unbiased():
    # Equal distributions: over many draws the mean is 0 within a few standard errors, though single values are not.
    values = torch.tensor([float(squared_mmd(torch.randn([8, 5]), torch.randn([8, 5]))) for _ in range(2000)])
    assert abs(values.mean()) < 4 * values.std() / len(values) ** 0.5
    assert (values < 0).any()


def test_kid_does_not_depend_on_the_number_of_pictures():
    def expected(size):
        values = [float(squared_mmd(torch.randn([size, 4]), torch.randn([size, 4]) + 0.5)) for _ in range(1500)]
        found = torch.tensor(values)
        return found.mean(), found.std() / len(found) ** 0.5

    (few, error1), (many, error2) = expected(6), expected(40)
    assert abs(few - many) < 4 * (error1**2 + error2**2) ** 0.5


def test_kid_of_subsets_is_steady():
    x, y = torch.randn([300, 6]), torch.randn([200, 6]) + 1
    assert kid(x, y, size=50) == kid(x, y, size=50)
    assert kid(x, y, size=50, seed=1) != kid(x, y, size=50)
    assert kid(x, y, size=1000, subsets=3) == pytest.approx(kid(x, y, size=200, subsets=3))
    assert kid(x, x.clone() + 0.01, size=100) < kid(x, y, size=100)


# --- Precision and recall -------------------------------------------------------------------------------------------


def test_radii_by_hand():
    points = torch.tensor([[0.0], [1], [3], [7]])
    assert neighbor_distances(points, 1).tolist() == [1, 1, 2, 4]
    assert neighbor_distances(points, 2).tolist() == [3, 2, 3, 6]
    assert neighbor_distances(points, 2, chunk=1).tolist() == [3, 2, 3, 6]


def test_precision_and_recall_of_made_up_sets():
    # Two clusters of reals; the fakes sit in one of them, with a third of them far from everything.
    square = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    real = torch.cat([square, square + 100])
    fake = torch.cat([square + 0.25, torch.tensor([[1000.0, 0], [1000, 50]])])
    precision, recall = precision_recall(real, fake, neighbors=3)
    assert precision == pytest.approx(4 / 6)
    assert recall >= 0.5  # the lonely fakes' balls are wide, as in the paper
    precision, recall = precision_recall(real, fake[:4], neighbors=3)
    assert (precision, recall) == (1.0, 0.5)


def test_precision_and_recall_of_equal_and_of_disjoint_sets():
    x = torch.randn([30, 5])
    assert precision_recall(x, x.clone()) == (1.0, 1.0)
    assert precision_recall(x, x + 1000) == (0.0, 0.0)


def test_chunks_change_nothing():
    real, fake = torch.randn([50, 8]), torch.randn([41, 8]) * 1.3
    assert precision_recall(real, fake, chunk=7) == precision_recall(real, fake)
    inside = covered(fake, real, neighbor_distances(real, 3), chunk=11)
    distances = torch.cdist(fake.double(), real.double())
    radii = torch.cdist(real.double(), real.double()).sort(dim=1).values[:, 3]
    assert torch.equal(inside, (distances <= radii).any(dim=1))


# --- Inception score ------------------------------------------------------------------------------------------------


def test_score_of_one_hot_predictions_is_the_number_of_classes():
    logits = torch.full([40, 5], -torch.inf)
    logits[torch.arange(40), torch.arange(40) % 5] = 0
    assert inception_score(logits, splits=4) == pytest.approx((5, 0))
    assert inception_score(torch.where(logits == 0, 100.0, 0.0), splits=4) == pytest.approx((5, 0))


def test_score_of_equal_predictions_is_one():
    assert inception_score(torch.randn([1, 7]).expand(30, 7)) == pytest.approx((1, 0), abs=1e-12)


def test_score_in_closed_form():
    # Two pictures, two classes, sure to 0.9: KL to the even mean is log 2 - H(0.9).
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).double()
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    mean, deviation = inception_score(p.log(), splits=1)
    assert mean == pytest.approx(2 * math.exp(-entropy))
    assert deviation == 0


# --- Path length ----------------------------------------------------------------------------------------------------


def test_outliers_do_not_count_in_the_mean_path_length():
    lengths = torch.cat([torch.full([998], 2.0), torch.tensor([1e9, -1e9])])
    assert mean_path_length(lengths) == 2
    assert mean_path_length(torch.tensor([3.0])) == 3


# --- torchmetrics ---------------------------------------------------------------------------------------------------


class Identity(torch.nn.Module):
    """Takes features for pictures."""

    num_features = 16

    def forward(self, x):
        return x


@pytest.fixture
def features():
    return torch.randn([120, 16]), torch.randn([90, 16]) * 1.2 + 0.3


def test_fid_is_that_of_torchmetrics(features):
    image = pytest.importorskip("torchmetrics.image.fid")
    real, fake = features
    theirs = image.FrechetInceptionDistance(Identity(), normalize=False).set_dtype(torch.float64)
    theirs.update(real.double(), real=True)
    theirs.update(fake.double(), real=False)
    assert fid(real, fake) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_kid_is_that_of_torchmetrics(features):
    image = pytest.importorskip("torchmetrics.image.kid")
    real, fake = (part[:90] for part in features)
    theirs = image.KernelInceptionDistance(Identity(), subsets=1, subset_size=90)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    # One subset of everything leaves nothing to chance; torchmetrics computes in float32.
    assert kid(real, fake, subsets=1) == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


def test_inception_score_is_that_of_torchmetrics(features):
    image = pytest.importorskip("torchmetrics.image.inception")
    theirs = image.InceptionScore(Identity(), splits=1)
    theirs.update(features[0])
    assert inception_score(features[0], splits=1)[0] == pytest.approx(float(theirs.compute()[0]), rel=1e-5)
