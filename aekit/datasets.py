"""Named data sets: a dictionary from name to what it is, where its files come from, or how it is made on the spot.

Files are looked for in the folder AEKIT_DATA and in the user's cache, packed or not, and fetched into the cache where
they lie in neither. Whatever the way, nothing is read whose checksum is not the one recorded here.
"""

import difflib
import gzip
import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from aekit.errors import AekitError
from aekit.formats import open_record
from aekit.records import Record, record_of, select
from aekit.synthetic.galaxies import SIZES, galaxies
from aekit.synthetic.heartbeats import heartbeats
from aekit.synthetic.patterns import OPTIONS, patterns
from aekit.synthetic.radio import NOISES, radio
from aekit.synthetic.seismic import seismic

Part = Literal["train", "test"]


@dataclass(frozen=True)
class DataFile:
    """One file: its unpacked name, the sha256 unpacked and packed as distributed (.gz), and where it is fetched."""

    name: str
    sha256: str
    sha256_gz: str
    urls: tuple[str, ...]  # packed where the address ends in .gz


@dataclass(frozen=True)
class Dataset:
    """A data set has either `files`, for each part the data and then, if apart, the labels, or `make`.

    `make(part, seed, count, option)` gives `count` rows made on the spot, by default `counts[part]`; a name may carry
    one of `options` after a colon, the first is the default. `normal` are the labels of what is not an anomaly.
    """

    name: str
    about: str
    shape: str
    licence: str
    citation: str
    files: Mapping[str, tuple[DataFile, ...]] = field(default_factory=dict)
    make: Callable[[str, int, int, str], Record] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    normal: tuple[str, ...] = ()


def open_dataset(name: str, part: Part, seed: int = 0, count: int | None = None) -> Record | None:
    """The rows of one part of a named data set, the first `count` of them if given; None where it has no such part.

    `seed` chooses the rows of what is made on the spot and nothing else. Raises AekitError for a name or option that
    is not known, for files that are neither here nor to be had, or not the right ones, and for a count beyond them.
    """
    dataset, option = find_dataset(name)
    if dataset.make is not None:
        if part not in dataset.counts:
            return None
        return dataset.make(part, seed, dataset.counts[part] if count is None else count, option)
    if part not in dataset.files:
        return None
    data, *labels = [str(_path(dataset, part, file)) for file in dataset.files[part]]
    record = open_record(data, *labels)
    return replace(_first(record, name, count), source=f"{name} ({part})")


def find_dataset(name: str) -> tuple[Dataset, str]:
    """The data set that `name[:option]` names, and the option; raises AekitError where there is none."""
    word, _, option = name.partition(":")
    if word not in DATASETS:
        close = difflib.get_close_matches(word.lower().replace("_", "-"), DATASETS, n=2)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise AekitError(f"{name}: no file and no data set has that name; {meant}`aekit datasets` lists them")
    options = DATASETS[word].options
    if option and option not in options:
        known = f"choose one of {', '.join(options)}" if options else f"write {word} alone"
        raise AekitError(f"{name}: {word} knows no {option}; {known}")
    return DATASETS[word], option or (options[0] if options else "")


def _first(record: Record, name: str, count: int | None) -> Record:
    if count is None:
        return record
    if count > len(record):
        raise AekitError(f"{name}: has {len(record)} rows, not {count}; ask for fewer")
    labels = None if record.labels is None else record.labels[:count]
    return replace(record, shape=(count, *record.shape[1:]), labels=labels)


def digits(part: str, seed: int, count: int, option: str = "") -> Record:
    """scikit-learn's 1,797 digits, 8 x 8, values 0 to 16 as stored; the test part is 20 % of each class, fixed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    rows = np.arange(len(bunch.target))
    chosen = train_test_split(rows, test_size=0.2, stratify=bunch.target, random_state=0)[part == "test"]
    record = select(record_of(bunch.images, f"digits ({part})", labels=bunch.target), np.sort(chosen))
    return _first(record, "digits", count)


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("aekit"))


def _path(dataset: Dataset, part: Part, file: DataFile) -> Path:
    """Where the file lies on this machine, checked; it is fetched first if it must be."""
    places = [Path(os.environ["AEKIT_DATA"])] if os.environ.get("AEKIT_DATA") else []
    places.append(_cache())
    folders = [place / name for place in places for name in (dataset.name, dataset.name.replace("-", "_"))]
    for folder in [*folders, *places]:
        for path in (folder / f"{file.name}.gz", folder / file.name):
            if path.is_file():
                return _checked(path, file, dataset)
    return _fetched(dataset, part, file, _cache() / dataset.name)


def _checked(path: Path, file: DataFile, dataset: Dataset) -> Path:
    """The path, if its content is the recorded one; a file that somebody packed anew counts by what is in it."""
    content = path.read_bytes()
    right = hashlib.sha256(content).hexdigest() in (file.sha256, file.sha256_gz)
    if not right and path.suffix == ".gz":
        try:
            right = hashlib.sha256(gzip.decompress(content)).hexdigest() == file.sha256
        except (OSError, EOFError):
            right = False
    if not right:
        wrong = f"is not the {file.name} of {dataset.name} (its sha256 differs)"
        raise AekitError(f"{path}: {wrong}; remove it, or put the right file there")
    return path


def _fetched(dataset: Dataset, part: Part, file: DataFile, folder: Path) -> Path:
    """The file downloaded into `folder` from the first address that gives the right one."""
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)  # it would talk on stderr
    reason = "no address"
    for url in file.urls:
        known = file.sha256_gz if url.endswith(".gz") else file.sha256
        try:
            return Path(pooch.retrieve(url, f"sha256:{known}", fname=url.rpartition("/")[2], path=folder))
        except (OSError, ValueError) as error:  # no network, no such file, or another content
            reason = getattr(error, "strerror", None) or type(error).__name__
    names = " and ".join(f"{each.name}.gz" for each in dataset.files[part])
    raise AekitError(
        f"{dataset.name}: {file.name} could not be downloaded ({reason}); put {names} into {folder}, "
        f"or into a folder {dataset.name} of the one that AEKIT_DATA names"
    )


def _idx(names: Mapping[str, tuple[str, str]], mirrors: tuple[str, ...]) -> dict[str, tuple[DataFile, ...]]:
    """The four idx files of MNIST and its like, from name -> (sha256 unpacked, sha256 packed)."""
    files = {
        name: DataFile(name, plain, packed, tuple(f"{mirror}/{name}.gz" for mirror in mirrors))
        for name, (plain, packed) in names.items()
    }
    return {
        part: (files[f"{prefix}-images-idx3-ubyte"], files[f"{prefix}-labels-idx1-ubyte"])
        for part, prefix in (("train", "train"), ("test", "t10k"))
    }


_MNIST = _idx(
    {
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    },
    ("https://storage.googleapis.com/cvdf-datasets/mnist", "https://ossci-datasets.s3.amazonaws.com/mnist"),
)

_FASHION = _idx(
    {
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    },
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    ),
)

_ECG5000_FOLDER = (
    "https://raw.githubusercontent.com/femartip/XAI_time_series/1c73cd7bc47a72e33579934ced3ce907d47a7841/data/ECG5000"
)
_ECG5000 = {
    "train": (
        DataFile(
            "ECG5000_TRAIN.tsv",
            "df86ac15d7e283e731db6be7865f5004b65bc639014cb8b9753c26e24a9092a1",
            "916a8e9d714a1d6788169a0993b867a4dfc0ef8fe2548693535ffb7747e20536",
            (f"{_ECG5000_FOLDER}/ECG5000_TRAIN.tsv",),
        ),
    ),
    "test": (
        DataFile(
            "ECG5000_TEST.tsv",
            "0192997dd1793880633bfb34ae3ad5129c09a8e0f210c469225451b92cdd8548",
            "9c73a22358fb084f5a6784d2082f2309714f4ebb1d187f7f098afed48ac0c2a5",
            (f"{_ECG5000_FOLDER}/ECG5000_TEST.tsv",),
        ),
    ),
}

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "mnist",
            "handwritten digits, grey, 10 classes",
            "60,000 + 10,000 images of 28 x 28, uint8",
            "CC BY-SA 3.0, as commonly given (Y. LeCun, C. Cortes, C. Burges)",
            "LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86(11) 2278-2324",
            files=_MNIST,
        ),
        Dataset(
            "fashion-mnist",
            "articles of clothing, grey, 10 classes",
            "60,000 + 10,000 images of 28 x 28, uint8",
            "MIT (Zalando SE)",
            "Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747",
            files=_FASHION,
        ),
        Dataset(
            "ecg5000",
            "heartbeats of one patient, 5 classes, 1 is normal",
            "500 + 4,500 series of 140",
            "free for research with citation (UCR archive); the recording ODC-By 1.0 (PhysioNet)",
            "Chen et al., UCR archive (2018); record chf07 of BIDMC, Goldberger et al. 2000, Circulation 101(23) e215",
            files=_ECG5000,
            normal=("1",),
        ),
        Dataset(
            "digits",
            "small handwritten digits of scikit-learn, 10 classes, values 0 to 16",
            "1,437 + 360 images of 8 x 8, float64",
            "CC BY 4.0 (UCI Machine Learning Repository)",
            "Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, doi:10.24432/C50P49",
            make=digits,
            counts={"train": 1437, "test": 360},
        ),
        Dataset(
            "radio",
            "simulated radio pulses of cosmic rays under noise (original, uniform or cosine), with the clean signals",
            "40,000 + 10,000 pairs of series of 500, float32, 180 MHz",
            "made by aekit",
            "after Erdmann, Schlüter & Smida 2019, arXiv:1901.04079",
            make=radio,
            counts={"train": 40_000, "test": 10_000},
            options=NOISES,
        ),
        Dataset(
            "heartbeats",
            "simulated heartbeats with ECG5000's 5 classes, 1 is normal",
            "2,500 + 2,500 series of 140, float32, 250 Hz",
            "made by aekit",
            "after McSharry, Clifford, Tarassenko & Smith 2003, IEEE Trans. Biomed. Eng. 50(3) 289-294",
            make=heartbeats,
            counts={"train": 2500, "test": 2500},
            normal=("1",),
        ),
        Dataset(
            "seismic",
            "simulated local earthquakes and noise of seismic stations, components Z N E, with the clean earthquakes",
            "1,000 + 250 pairs of series of 3 x 6000, float32, 100 Hz",
            "made by aekit",
            "after Brune 1970, J. Geophys. Res. 75(26) 4997-5009; Sato 1977, J. Phys. Earth 25(1) 27-41; "
            "Peterson 1993, USGS Open-File Report 93-322",
            make=seismic,
            counts={"train": 1000, "test": 250},
        ),
        Dataset(
            "galaxies",
            "simulated colour pictures of galaxies, 3 classes, also smaller (galaxies:64, galaxies:32)",
            "4,000 + 1,000 images of 128 x 128 x 3, uint8",
            "made by aekit",
            "after Lupton et al. 2004, PASP 116, 133-137; Lintott et al. 2008, MNRAS 389, 1179-1189",
            make=galaxies,
            counts={"train": 4000, "test": 1000},
            options=SIZES,
        ),
        Dataset(
            "patterns",
            "simulated textures, half of the test part with a defect of 5 kinds (patterns:masks gives their masks)",
            "2,000 + 1,000 images of 64 x 64, uint8",
            "made by aekit",
            "after Bergmann, Fauser, Sattlegger & Steger 2019, CVPR 9592-9600",
            make=patterns,
            counts={"train": 2000, "test": 1000},
            options=OPTIONS,
            normal=("normal",),
        ),
    )
}
