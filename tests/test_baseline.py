"""PCA: as scikit-learn's where the data spans all components, and never more than the data spans."""

import pytest
import torch
from sklearn.decomposition import PCA as SklearnPCA

from aekit.baseline import fit_pca


@pytest.mark.parametrize("shape", [(300, 20), (20, 300)])
def test_components_and_errors_are_those_of_scikit_learn(shape: tuple[int, int]) -> None:
    x = torch.randn(shape) * torch.linspace(5, 0.1, shape[1]) + 3
    pca, other = fit_pca(x, 7), SklearnPCA(7, svd_solver="full").fit(x.numpy())
    alike = (pca.components @ torch.from_numpy(other.components_).float().T).abs()
    torch.testing.assert_close(alike, torch.eye(7), atol=1e-3, rtol=0)
    expected = torch.from_numpy(other.inverse_transform(other.transform(x.numpy())))
    torch.testing.assert_close(pca.reconstruct(x), expected.float(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("values", [30, 300])
def test_repeated_rows_give_no_more_components_than_they_span(values: int) -> None:
    x = torch.randn(5, values).repeat(20, 1)
    pca = fit_pca(x, 20)
    assert pca.components.shape == (4, values)
    torch.testing.assert_close(pca.components @ pca.components.T, torch.eye(4), atol=1e-4, rtol=0)


def test_constant_rows_are_reconstructed() -> None:
    x = torch.full((10, 6), 2.0)
    torch.testing.assert_close(fit_pca(x, 3).reconstruct(x), x)


def test_large_data_draws_nothing_from_the_global_generator() -> None:
    x = torch.randn(2100, 2100)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    fit_pca(x, 3)
    assert torch.equal(torch.rand(1), expected)
