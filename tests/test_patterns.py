"""Made textures: the masks tell where a defect is, and nothing else differs from the normal texture."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from aekit.datasets import DATASETS, open_dataset
from aekit.synthetic import patterns as module
from aekit.synthetic.patterns import DEFECTS, LABELS, ROWS, SIZE, TEXTURES, patterns


def test_seed_part_and_count_choose_the_rows_and_masks_belong_to_them():
    long, masks = patterns("test", 1, 2 * ROWS + 3), patterns("test", 1, 2 * ROWS + 3, "masks")
    assert (long.shape, long.dtype, long.kind) == ((103, SIZE, SIZE), np.uint8, "image")
    pictures = long.read(0, 103)
    assert len(np.unique(pictures.reshape(103, -1), axis=0)) == 103
    for count in (1, ROWS, ROWS + 1):
        np.testing.assert_array_equal(patterns("test", 1, count).read(0, count), pictures[:count])
    for other in (patterns("train", 1, 1), patterns("test", 2, 1)):
        assert (other.read(0, 1) != pictures[:1]).mean() > 0.9
    np.testing.assert_array_equal(masks.labels, long.labels)
    values = masks.read(0, 103)
    assert set(np.unique(values)) == {0, 255}
    np.testing.assert_array_equal(values.any(axis=(1, 2)), long.labels != "normal")


def test_the_training_part_is_normal_and_half_of_the_test_part_is_not():
    assert set(patterns("train", 0, 100).labels) == {"normal"}
    assert not patterns("train", 0, 100, "masks").read(0, 100).any()
    names, counts = np.unique(open_dataset("patterns", "test").labels, return_counts=True)
    assert set(names) == set(LABELS)
    assert counts[names == "normal"] == pytest.approx(500, abs=50)
    assert counts[names != "normal"].min() > 70
    assert DATASETS["patterns"].normal == ("normal",)


@pytest.mark.parametrize("number", range(len(DEFECTS)), ids=DEFECTS)
def test_a_mask_is_where_the_picture_was_changed(number):
    made = [module._made(np.full(ROWS, kind), *np.random.default_rng(5).spawn(2)) for kind in (number, len(DEFECTS))]
    (pictures, masks), (normal, none) = made
    assert not none.any()
    change = np.abs(pictures.astype(int) - normal)
    for row in range(ROWS):
        inside = masks[row] > 0
        assert 0.002 < inside.mean() < 0.25
        assert not change[row][~binary_dilation(inside, iterations=2)].any()
        assert change[row][inside].mean() > 10


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_repeat_on_the_lattice(texture):
    a, b = np.random.default_rng(0).uniform(-9, 9, (2, 1, 40, 40))
    grey = texture(a, b)
    assert grey.min() >= 0
    assert grey.max() <= 1
    assert np.ptp(grey) > 0.9
    for da, db in ((1, 1), (2, 0), (-3, 5)):
        np.testing.assert_allclose(texture(a + da, b + db), grey, atol=1e-9)


def test_rows_are_the_same_on_every_machine():
    """Values of the first release: whoever changes them changes figures."""
    record = patterns("test", 0, 4)
    assert record.labels.tolist() == ["normal", "normal", "blob", "scratch"]
    np.testing.assert_allclose(record.read(0, 4)[:, 32, 32], [66, 95, 90, 76], atol=1)
