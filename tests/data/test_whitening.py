"""ZCA whitening: closed forms, and scikit-learn's PCA rotated back."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from zoo.data.whitening import ZCA, attach
from zoo.errors import DataError


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(24, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Correlated float images, N 2 3 4, with a mean."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(24, 24, generator=generator)
    return (torch.randn(3000, 24, generator=generator) @ mixing + 5).view(-1, 2, 3, 4)


def test_whitened_images_have_mean_zero_and_the_identity_as_covariance(images):
    white = ZCA.fit(images, eps=0.0)(images).flatten(1).double()
    assert white.mean(0).abs().max() < 1e-4
    assert (white.T @ white / len(white) - torch.eye(24)).abs().max() < 1e-4


def test_the_matrix_is_the_inverse_square_root_of_the_covariance(images):
    matrix = ZCA.fit(images, eps=0.1).matrix.double()
    covariance = torch.from_numpy(np.cov(images.flatten(1).T.double().numpy(), bias=True))
    assert torch.allclose(matrix, matrix.T)
    assert torch.allclose(matrix @ matrix @ (covariance + 0.1 * torch.eye(24)), torch.eye(24).double(), atol=1e-3)


def test_it_is_scikit_learns_whitening_pca_rotated_back(images):
    decomposition = pytest.importorskip("sklearn.decomposition")
    flat = images.flatten(1).double().numpy()
    pca = decomposition.PCA(whiten=True, svd_solver="full").fit(flat)
    # PCA divides by n - 1, the covariance here by n.
    expected = pca.transform(flat) @ pca.components_ * (len(flat) / (len(flat) - 1)) ** 0.5
    ours = ZCA.fit(images, eps=0.0)(images).flatten(1).numpy()
    assert np.abs(ours - expected).max() < 2e-3


def test_batches_fit_as_the_whole_does(images):
    whole, parts = ZCA.fit(images), ZCA.fit(iter(images.split(700)))
    assert torch.allclose(whole.mean, parts.mean, atol=1e-5)
    assert torch.allclose(whole.matrix, parts.matrix, atol=1e-4)  # small eigenvalues magnify how sums are rounded


def test_eps_bounds_the_gain_where_pixels_are_constant_or_images_few(images):
    few = images[:10].clone()
    few[:, 0, 0, 0] = 3.0
    matrix = ZCA.fit(few, eps=0.01).matrix
    assert torch.linalg.eigvalsh(matrix.double()).max() <= 10.0001  # 1 / sqrt(eps)


def test_it_is_the_identity_until_it_is_fitted(images):
    assert torch.equal(ZCA((2, 3, 4))(images), images)


def test_no_images_and_other_shapes_are_refused(images):
    with pytest.raises(DataError, match="no images"):
        ZCA.fit([])
    with pytest.raises(DataError, match=r"\(2, 3, 4\), got \(2, 4, 3\)"):
        ZCA.fit(images)(images.transpose(2, 3))


def test_bfloat16_images_are_whitened_in_float32_under_autocast(images):
    zca = ZCA.fit(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(zca(images), zca.forward(images))
        assert zca(images[:2].bfloat16()).dtype == torch.bfloat16
    assert torch.equal(zca(images[:2].bfloat16()), zca(images[:2].bfloat16().float()).bfloat16())


def test_an_attached_whitening_is_applied_saved_and_loaded_with_the_network(images):
    zca = ZCA.fit(images)
    network = _Network()
    plain = copy.deepcopy(network)
    attach(network, zca)
    expected = plain(zca(images))
    assert torch.equal(network(images), expected)

    attach(plain, ZCA((2, 3, 4)))
    plain.load_state_dict(load(save(network.state_dict())))
    assert torch.equal(plain(images), expected)
    assert {"whitening.mean", "whitening.matrix"} < set(plain.state_dict())
    assert not {"whitening.mean", "whitening.matrix"} & {name for name, _ in plain.named_parameters()}


def test_a_sequence_that_would_whiten_twice_is_refused():
    with pytest.raises(DataError, match="Sequential"):
        attach(nn.Sequential(nn.Identity()), ZCA((2, 3, 4)))


def test_a_second_attachment_replaces_the_first(images):
    network = nn.Identity()
    attach(network, ZCA.fit(images))
    attach(network, ZCA((2, 3, 4)))
    assert torch.equal(network(images), images)


def test_a_deep_copy_whitens_with_its_own_buffers(images):
    network = nn.Identity()
    attach(network, ZCA((2, 3, 4)))
    twin = copy.deepcopy(network)
    network.whitening.mean += 100
    assert torch.equal(twin(images), images)
