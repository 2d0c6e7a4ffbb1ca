"""Named data sets: found here or fetched, checked whatever the way, made on the spot, or missed in one line."""

import dataclasses
import gzip
import hashlib
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from aekit import datasets
from aekit.datasets import DATASETS, DataFile, Dataset, find_dataset, open_dataset
from aekit.errors import AekitError

NOWHERE = "https://127.0.0.1:9"  # nothing listens there: the network is never touched
TABLE = b"".join(b"\t".join([b"%d" % y, *(b"%.2f" % (y + t + 0.25) for t in range(140))]) + b"\n" for y in (1, 2, 1, 2))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no way out."""
    for name, dataset in list(DATASETS.items()):
        files = {
            part: tuple(dataclasses.replace(file, urls=(f"{NOWHERE}/{file.name}.gz",)) for file in each)
            for part, each in dataset.files.items()
        }
        monkeypatch.setitem(DATASETS, name, dataclasses.replace(dataset, files=files))
    monkeypatch.setattr(datasets, "_cache", lambda: tmp_path / "cache")
    monkeypatch.delenv("AEKIT_DATA", raising=False)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> DataFile:
    """A data set of four rows, `tiny-set`, whose file is TABLE."""
    packed = gzip.compress(TABLE, mtime=0)
    sums = (hashlib.sha256(TABLE).hexdigest(), hashlib.sha256(packed).hexdigest())
    file = DataFile("TINY_TRAIN.tsv", *sums, (f"{NOWHERE}/TINY_TRAIN.tsv", f"{NOWHERE}/other/TINY_TRAIN.tsv.gz"))
    dataset = Dataset("tiny-set", "four rows", "4 series of 140", "none", "nobody", files={"train": (file,)})
    monkeypatch.setitem(DATASETS, "tiny-set", dataset)
    return file


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "place", ["data/tiny-set", "data/tiny_set", "data", "cache/tiny-set", "cache"], ids=lambda place: place
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_files_are_taken_from_where_they_lie(tiny, tmp_path, monkeypatch, place, packed):
    monkeypatch.setenv("AEKIT_DATA", str(tmp_path / "data"))
    name, content = (f"{tiny.name}.gz", gzip.compress(TABLE)) if packed else (tiny.name, TABLE)
    put(tmp_path / place / name, content)
    record = open_dataset("tiny-set", "train")
    assert record.source == "tiny-set (train)"
    assert record.shape == (4, 140)
    assert record.labels.tolist() == [1, 2, 1, 2]
    np.testing.assert_allclose(record.read(1, 2)[0], 2.25 + np.arange(140))


def test_a_file_packed_anew_counts_by_its_content(tiny, cache):
    put(cache / f"{tiny.name}.gz", gzip.compress(TABLE, compresslevel=1, mtime=12345))
    assert len(open_dataset("tiny-set", "train")) == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("TINY_TRAIN.tsv", TABLE.replace(b"3.25", b"3.26", 1)),
        ("TINY_TRAIN.tsv", b""),
        ("TINY_TRAIN.tsv.gz", gzip.compress(TABLE + b"1")),
        ("TINY_TRAIN.tsv.gz", gzip.compress(TABLE)[:-20]),
        ("TINY_TRAIN.tsv.gz", b"<html>404</html>"),
    ],
    ids=["value", "empty", "more", "truncated", "not gzip"],
)
def test_a_wrong_file_is_named(tiny, tmp_path, monkeypatch, name, content):
    monkeypatch.setenv("AEKIT_DATA", str(tmp_path))
    path = put(tmp_path / "tiny_set" / name, content)
    with pytest.raises(AekitError) as caught:
        open_dataset("tiny-set", "train")
    message = str(caught.value)
    assert message.startswith(f"{path}: is not the TINY_TRAIN.tsv of tiny-set")
    assert "sha256" in message
    assert "\n" not in message


def test_without_file_or_network_one_line_says_what_to_put_where(cache, capfd):
    with pytest.raises(AekitError) as caught:
        open_dataset("fashion-mnist", "test")
    message = str(caught.value)
    assert message.startswith("fashion-mnist: t10k-images-idx3-ubyte could not be downloaded")
    assert "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz" in message
    assert str(cache / "fashion-mnist") in message
    assert "AEKIT_DATA" in message
    assert "\n" not in message
    assert "https" not in message
    assert not any(path.is_file() for path in cache.rglob("*"))
    assert capfd.readouterr() == ("", "")


def test_a_download_is_kept_only_if_it_is_the_right_file(tiny, cache, monkeypatch, capfd):
    """The first address gives another file, the second the right one, which is then found without a network."""
    import pooch

    class Server:
        asked: list[str] = []  # noqa: RUF012

        def __call__(self, url, output_file, pooch, check_only=False):
            self.asked.append(url)
            Path(output_file).write_bytes(b"wrong" if url.endswith("tsv") else gzip.compress(TABLE, mtime=0))

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, **_: Server())
    assert len(open_dataset("tiny-set", "train")) == 4
    assert Server.asked == list(tiny.urls)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["TINY_TRAIN.tsv.gz"]
    assert len(open_dataset("tiny-set", "train")) == 4
    assert len(Server.asked) == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mnits", "did you mean mnist"),
        ("Fashion_MNIST", "did you mean fashion-mnist"),
        ("ecg500", "did you mean ecg5000"),
        ("xyzzy", "no data set has that name; `aekit datasets`"),
        ("radio:gaussian", "choose one of original, uniform, cosine"),
        ("digits:small", "write digits alone"),
    ],
)
def test_unknown_names_and_options_are_answered_with_what_is_known(name, hint):
    with pytest.raises(AekitError) as caught:
        open_dataset(name, "train")
    assert str(caught.value).startswith(f"{name}: ")
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_part_that_a_data_set_lacks_is_none(tiny):
    assert open_dataset("tiny-set", "test") is None


def test_every_entry_is_whole():
    assert list(DATASETS) == [
        "mnist",
        "fashion-mnist",
        "ecg5000",
        "digits",
        "radio",
        "heartbeats",
        "seismic",
        "galaxies",
        "patterns",
    ]
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert dataset.about
        assert dataset.shape
        assert dataset.licence
        assert dataset.citation
        assert bool(dataset.files) == (dataset.make is None)
        assert dataset.make is None or dataset.counts
        assert find_dataset(name)[0] is dataset
        for each in dataset.files.values():
            assert all(len(f.sha256) == len(f.sha256_gz) == 64 and f.sha256 != f.sha256_gz for f in each)


def test_addresses_are_https_and_end_in_the_files_name():
    """Of the data sets as shipped, which the fixture above hides."""
    for mapping in (datasets._MNIST, datasets._FASHION, datasets._ECG5000):
        for files in mapping.values():
            for file in files:
                assert file.urls
                for url in file.urls:
                    assert url.startswith("https://")
                    assert url.rpartition("/")[2] in (file.name, f"{file.name}.gz")


def test_digits_are_split_by_class_and_for_good():
    train, test = open_dataset("digits", "train"), open_dataset("digits", "test", seed=5)
    assert (train.shape, test.shape) == ((1437, 8, 8), (360, 8, 8))
    assert train.kind == "image"
    values = np.concatenate([train.read(0, 1437), test.read(0, 360)])
    assert values.min() == 0
    assert values.max() == 16
    both = np.bincount(np.concatenate([train.labels, test.labels]))
    assert np.abs(np.bincount(test.labels) - 0.2 * both).max() < 1
    assert both.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    from sklearn.datasets import load_digits

    key = {image.tobytes() for image in load_digits().images}
    assert {row.tobytes() for row in values} == key  # every digit is in one part
    np.testing.assert_array_equal(test.read(0, 360), open_dataset("digits", "test", seed=0).read(0, 360))


def test_count_gives_the_first_rows(tiny, cache):
    put(cache / tiny.name, TABLE)
    assert open_dataset("tiny-set", "train", count=2).labels.tolist() == [1, 2]
    assert len(open_dataset("radio", "test", count=7)) == 7
    assert len(open_dataset("radio", "test", count=7).target) == 7
    some = open_dataset("digits", "test", count=9)
    np.testing.assert_array_equal(some.read(0, 9), open_dataset("digits", "test").read(0, 9))
    assert len(some.labels) == len(some) == 9
    with pytest.raises(AekitError, match="digits: has 360 rows, not 361"):
        open_dataset("digits", "test", count=361)


def test_options_choose_the_noise():
    plain = open_dataset("radio", "train", count=5).read(0, 5)
    np.testing.assert_array_equal(plain, open_dataset("radio:original", "train", count=5).read(0, 5))
    for option in ("uniform", "cosine"):
        record = open_dataset(f"radio:{option}", "train", count=5)
        assert record.source == f"radio:{option} (train)"
        assert record.sampling_rate == 180e6
        assert not np.isclose(plain, record.read(0, 5)).all(axis=1).any()


def test_made_data_has_its_default_size():
    for name in ("radio", "heartbeats", "seismic", "digits"):
        for part in ("train", "test"):
            assert len(open_dataset(name, part)) == DATASETS[name].counts[part]


DATA = os.environ.get("AEKIT_DATA", "")
REAL = {
    "mnist": ((60000, 28, 28), (10000, 28, 28), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    "fashion-mnist": ((60000, 28, 28), (10000, 28, 28), [1000] * 10),
    "ecg5000": ((500, 140), (4500, 140), [0, 2627, 1590, 86, 175, 22]),
}


@pytest.mark.skipif(not DATA, reason="AEKIT_DATA names no folder with the files of the data sets")
@pytest.mark.parametrize("name", REAL)
def test_real_data_has_its_shape_and_labels(name, monkeypatch):
    monkeypatch.setenv("AEKIT_DATA", DATA)
    train_shape, test_shape, counts = REAL[name]
    train, test = open_dataset(name, "train"), open_dataset(name, "test")
    assert train.shape == train_shape
    assert test.shape == test_shape
    assert len(train.labels) == len(train)
    assert np.bincount(test.labels.astype(int)).tolist() == counts
    assert np.isfinite(np.asarray(test.read(0, 100), float)).all()


def test_the_test_address_is_dead():
    with socket.socket() as probe, pytest.raises(OSError, match="refused"):
        probe.connect(("127.0.0.1", 9))
