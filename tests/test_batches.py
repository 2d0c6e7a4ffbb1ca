"""Normalisation and back, faults in the data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aekit import batches
from aekit.batches import (
    CHUNK_BYTES,
    Normalisation,
    as_tensor,
    check_finite,
    choose_normalisation,
    chunks,
    read_all,
    to_rows,
    undo,
)
from aekit.errors import AekitError
from aekit.records import guess_layout, record_of

KINDS = ("image", "series", "table")


@given(
    raw=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int16, np.int32, np.uint8]),
        st.tuples(st.integers(2, 12), st.integers(1, 3), st.integers(2, 9)),
        elements=st.integers(0, 200),
    ),
    offset=st.sampled_from([0, 50]),
    kind=st.sampled_from(KINDS),
)
@settings(max_examples=80, deadline=None)
def test_normalisation_is_undone_on_the_way_out(raw: np.ndarray, offset: int, kind: str) -> None:
    raw = raw + raw.dtype.type(offset)
    if raw.min() == raw.max():
        return
    normalisation = choose_normalisation(raw, kind, "x")  # type: ignore[arg-type]
    raw.flags.writeable = False  # as a memory map may be
    x, shift, scale = normalisation.apply(as_tensor(raw))
    assert x.dtype == torch.float32
    np.testing.assert_allclose(undo(x, shift, scale).numpy(), raw, atol=1e-4 * np.abs(raw).max())
    if normalisation.output == "sigmoid":
        assert 0 <= float(x.min()) <= float(x.max()) <= 1


@pytest.mark.parametrize(
    ("raw", "kind", "expected"),
    [
        (np.array([0, 200], np.uint8), "image", (0.0, 255.0)),
        (np.array([0, 16.0]), "image", (0.0, 16.0)),
        (np.array([0, 0.5]), "image", (0.0, 1.0)),
        (np.array([-1, 1.0]), "image", (-1.0, 2.0)),
        (np.array([0, 1], np.uint8), "image", (0.0, 1.0)),
    ],
)
def test_images_become_0_to_1(raw: np.ndarray, kind: str, expected: tuple[float, float]) -> None:
    normalisation = choose_normalisation(raw.reshape(2, 1, 1, 1), "image", "x")
    assert (normalisation.kind, normalisation.offset[0], normalisation.scale[0]) == ("range", *expected)


def test_series_of_several_channels_are_scaled_each() -> None:
    raw = np.random.default_rng(0).normal(size=(50, 2, 30)) * np.array([1, 1000])[:, None]
    x, _, _ = choose_normalisation(raw, "series", "x").apply(as_tensor(raw))
    np.testing.assert_allclose(x.std(dim=(0, 2), correction=0).numpy(), 1, rtol=1e-5)


def test_rows_that_differ_by_orders_of_magnitude_carry_a_scale_each() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(60, 1, 40)) * 10.0 ** rng.uniform(-5, 3, (60, 1, 1))
    normalisation = choose_normalisation(raw, "series", "x")
    x, offset, scale = normalisation.apply(as_tensor(raw))
    assert normalisation.kind == "sample"
    even = choose_normalisation(raw[:1].repeat(20, axis=0), "series", "x", per_sample=True)
    assert even.kind == "sample"
    np.testing.assert_allclose(x.flatten(1).std(dim=1, correction=0).numpy(), 1, rtol=1e-4)
    np.testing.assert_allclose(undo(x, offset, scale).numpy(), raw, rtol=1e-4, atol=1e-6 * np.abs(raw).max())


def test_errors_are_told_in_the_standard_deviation_of_the_training_data() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(60, 1, 40)) * 10.0 ** rng.uniform(-2, 2, (60, 1, 1))
    rows = to_rows(raw, choose_normalisation(raw, "series", "x"))
    batch = rows.batch(torch.arange(60))
    error = batch.x.flatten(1).square().mean(1) * rows.error_unit(batch)  # of the answer "zero"
    centred = raw - raw.mean(axis=2, keepdims=True)
    assert float(error.mean()) == pytest.approx((centred**2).mean() / raw.std() ** 2, rel=1e-4)


def test_large_offsets_lose_no_digits() -> None:
    raw = 1e9 + np.random.default_rng(0).normal(size=(20, 1, 50))
    x, _, _ = choose_normalisation(raw, "series", "x").apply(as_tensor(raw))
    np.testing.assert_allclose(x.numpy(), (raw - raw.mean()) / raw.std(), atol=1e-5)


def test_words_of_a_table_lie_a_standard_deviation_apart_however_rare_they_are() -> None:
    colours = np.eye(3)[np.random.default_rng(0).choice(3, 500, p=[0.7, 0.28, 0.02])]
    sizes = np.random.default_rng(1).normal(3, 5, 500)
    table = np.column_stack([sizes, colours])[:, None]
    normalisation = choose_normalisation(table, "table", "x")
    x = normalisation.apply(as_tensor(table))[0][:, 0]
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x[:, 0].std(correction=0), 1, rtol=1e-5)
    red, rare = (x[int(np.flatnonzero(colours[:, k])[0]), 1:] for k in (0, 2))
    assert float((red - rare).norm()) == pytest.approx(1, abs=1e-5)
    assert "words and columns of 0 and 1 of a fixed one" in normalisation.describe()


def test_constant_columns_stay_and_constant_data_is_refused() -> None:
    table = np.column_stack([np.arange(5.0), np.full(5, 7.0)])[:, None]
    x, _, _ = choose_normalisation(table, "table", "x").apply(as_tensor(table))
    assert torch.isfinite(x).all()
    with pytest.raises(AekitError, match="constant data"):
        choose_normalisation(np.ones((4, 1, 8)), "series", "flat.npy")


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_bad_values_are_named_with_row_and_place(value: float, word: str) -> None:
    array = np.zeros((100_000, 100), np.float32)  # more than one chunk
    array[90_003, 17] = value
    assert array.nbytes > CHUNK_BYTES
    with pytest.raises(AekitError, match=rf"x\.npy: row 90003, value 17 is {word}"):
        read_all(record_of(array, "x.npy"))


def test_sums_that_overflow_are_not_taken_for_infinity() -> None:
    check_finite(np.full((4, 1000), 3e38, np.float32), 0, record_of(np.zeros((4, 1000), np.float32)))


def test_chunks_cover_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CHUNK_BYTES", 7 * 24)
    array = np.arange(60.0).reshape(20, 3)
    parts = [(start, samples.copy()) for start, samples in chunks(record_of(array))]
    assert [start for start, _ in parts] == [0, 7, 14]
    np.testing.assert_array_equal(np.concatenate([s for _, s in parts])[:, 0], array)


@pytest.mark.parametrize(
    ("shape", "kind", "channels", "sample"),
    [
        ((5, 140), "series", None, (1, 140)),
        ((5, 3, 6000), "series", 1, (3, 6000)),
        ((5, 6000, 3), "series", 2, (3, 6000)),
        ((5, 28, 28), "image", None, (1, 28, 28)),
        ((5, 32, 32, 3), "image", 3, (3, 32, 32)),
        ((5, 3, 32, 32), "image", 1, (3, 32, 32)),
    ],
)
def test_layout_is_guessed_from_the_shape(
    shape: tuple[int, ...], kind: str, channels: int | None, sample: tuple[int, ...]
) -> None:
    assert guess_layout(shape) == (kind, channels)
    array = np.random.default_rng(0).normal(size=shape)
    record = record_of(array)
    assert record.sample_shape == sample
    assert record.to_samples(array).shape == (5, *sample)
    np.testing.assert_array_equal(record.from_samples(record.to_samples(array)), array)


def test_bytes_stay_bytes_on_the_device() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (10, 1, 4, 4)).astype(np.uint8)
    rows = to_rows(raw, Normalisation("range", (0.0,), (255.0,), 0, 255))
    assert rows.x.dtype == torch.uint8
    assert float(rows.batch(torch.tensor([3])).x.max()) == pytest.approx(raw[3].max() / 255)


def test_paired_rows_share_their_scale(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).normal(5, 2, (30, 1, 10))
    rows = to_rows(noisy, choose_normalisation(noisy, "series", "x"), noisy - 1)
    batch = rows.batch(torch.tensor([4, 7]))
    np.testing.assert_allclose(undo(batch.target, batch.offset, batch.scale).numpy(), noisy[[4, 7]] - 1, atol=1e-5)
