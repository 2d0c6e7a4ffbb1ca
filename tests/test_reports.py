"""Reports: self-contained, escaped, the same bytes for the same input, and whole on whatever data they are given."""

import ast
import html.parser
import math
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from program import result, waves
from scipy.signal import welch

from aekit import reports
from aekit.picks import Pick
from aekit.reports.embedding import PROBES
from aekit.reports.images import paint, shrink
from aekit.reports.page import number
from aekit.reports.signals import denoised_figure, error_histograms, highest, picks_figure
from aekit.reports.style import BLUE, HUES, INK, PALETTE, RED, shown
from aekit.reports.traces import MOST_POINTS, thin, time_axis
from aekit.reports.values import bounds, classes, moments, snr_db, spectrogram, spectrum, spread

RNG = np.random.default_rng(0)
NASTY = ["<script>alert(1)</script>", "$x_2$", "_hidden", "", "a\x00b\nc", "q\"'&", "名前", "half \udcff", "x" * 300]
FEW = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
IMAGES, COLOURS = RNG.random((9, 1, 9, 7)), RNG.random((9, 3, 8, 8))
SERIES, TABLE = RNG.normal(size=(9, 1, 50)), RNG.normal(size=(9, 1, 4))
SAMPLES = {"image": IMAGES, "series": SERIES, "table": TABLE}


class Reader(html.parser.HTMLParser):
    """Keeps what a page refers to and its ids, and sees to it that tags are closed in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.links, self.ids, self.tags, self.text = [], [], [], set(), []

    def handle_starttag(self, tag, attrs, closed=False):
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "data", "action", "srcset", "poster"):
                self.links.append(value)
            self.links += re.findall(r"url\((.*?)\)", value or "")
        if not closed and tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs, closed=True)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def check(*sections, title="t", facts=None):
    """The page of these sections, read: nothing from outside, ids unique and every reference to one of them."""
    text = reports.page(title, facts or {}, sections)
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    assert not {"script", "link", "iframe", "object", "embed", "form"} & reader.tags
    assert len(set(reader.ids)) == len(reader.ids)
    for link in reader.links:
        assert link.startswith("data:image/png;base64,") or link.removeprefix("#") in reader.ids, link
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "nan" not in re.sub(r"base64,[\w+/=\s]*", "", text)
    text.encode("utf-8")
    return text, reader


def latent_sections(x, kind, labels):
    """What embed finds: neighbours, probes and clusters."""
    about = {"k": 2, "metric": "cosine", "count": 9, "among": 9, "source": NASTY[0], "accuracy": 0.5}
    found = np.stack([x[1:3], x[3:5]])
    accuracy = {"mean": 0.9, "std": 0.01, "pca_mean": 0.8, "pca_std": 0.02, "rows": 9}
    probes = {"rows": 9, "classes": 3, "folds": 5, "pca_dimension": 2, **dict.fromkeys(PROBES, accuracy)}
    sizes = {"cluster_sizes": {"0": 5, "1": 4, "2": 0}, "silhouette": 0.2, "silhouette_rows": 5}
    members = [x[:2], x[2:3], x[:0]]
    return [
        reports.neighbours_section(
            about, x[:2], found, np.ones((2, 2)), np.arange(2), kind, labels[:2], labels[:4].reshape(2, 2)
        ),
        reports.neighbours_section(about, x[:2], found, np.ones((2, 2)), np.arange(2), kind),
        reports.probe_section(probes, 20),
        reports.clusters_section(sizes, np.arange(9) % 2, members, kind, labels),
        reports.clusters_section({**sizes, "silhouette": None}, np.arange(9) % 2, members, kind),
    ]


def sections_of(kind, labels):
    """Every section there is, on a few samples of a kind."""
    x = SAMPLES[kind]
    scores = np.abs(x).mean(axis=(1, *range(2, x.ndim)))
    metrics = [
        {
            "epoch": e,
            "train_loss": 1 / e,
            "val_error": 1.1 / e,
            "penalty": 0.0,
            "seconds": 1.0,
            "samples_per_second": 9.0,
        }
        for e in (1, 2, 3)
    ]
    maps = {"PCA": x.reshape(9, -1)[:, :2], "t-SNE": x.reshape(9, -1)[:, 2:4]}
    return [
        reports.data_section(x, kind, labels, 100.0 if kind == "series" else None),
        reports.training_section(metrics, 3, 0.5),
        reports.progress_section(x[:3], [(1, 0 * x[:3]), (2, 0.5 * x[:3])], kind, labels[:3]),
        reports.reconstruction_section(x[:4], 0.9 * x[:4], kind, scores[:4], labels[:4], 0.8 * x[:4], x[:4] + 0.1),
        reports.denoising_section(x[:2] + 0.1, 0.9 * x[:2], kind, x[:2]),
        reports.scores_section(
            scores, scores, scores > np.median(scores), 0.5, "fpr=0.01", {"auroc": 0.9}, {"auroc": 0.8}
        ),
        reports.embedding_section(maps, labels, {"silhouette": 0.1}, clusters=np.arange(9) % 2, count=20),
        reports.units_section(np.abs(x.reshape(9, -1)), labels),
    ]


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_page_refers_to_nothing_outside_and_says_the_same_twice(kind):
    labels = np.array(["a", "b", "c"] * 3)
    facts = {"recipe": "conv", "parameters": 213013}
    first, reader = check(*sections_of(kind, labels), title="conv", facts=facts)
    second, _ = check(*sections_of(kind, labels), title="conv", facts=facts)
    assert first == second
    assert "213,013" in first
    assert "PCA" in "".join(reader.text)


@pytest.mark.parametrize("kind", SAMPLES)
def test_what_latents_tell_is_a_page_of_its_own(kind):
    text, _ = check(*latent_sections(SAMPLES[kind], kind, np.array(NASTY, object)))
    assert "<script" not in text
    assert "0.900 ± 0.010" in text


@pytest.mark.parametrize("kind", SAMPLES)
def test_names_are_escaped_wherever_they_stand(kind):
    labels = np.array(NASTY, object)
    sections = sections_of(kind, labels)
    sections.append(reports.data_section(TABLE, "table", labels, columns=NASTY[:4]))
    sections.append(reports.reconstruction_section(TABLE, TABLE, "table", columns=NASTY[:4]))
    name = NASTY[0]
    table = reports.Table([name, "b"], [[name, 1.5]], name)
    sections.append(reports.Section(name, name, [], [table]))
    text, _ = check(*sections, title=name, facts={name: name})
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_picture_does_not_depend_on_the_users_settings_and_leaves_them_alone():
    section = reports.data_section(SERIES, "series")
    plain = reports.page("t", {}, [section])
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "path", "savefig.dpi": 10}):
        mine = dict(matplotlib.rcParams)
        assert reports.page("t", {}, [reports.data_section(SERIES, "series")]) == plain
        assert dict(matplotlib.rcParams) == mine


def test_pyplot_is_never_imported():
    for path in Path(reports.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert not any("pyplot" in name or "pylab" in name for name in names), path


def test_figures_follow_the_theme_by_the_pages_variables():
    text, _ = check(reports.data_section(SERIES, "series", np.arange(9) % 2))
    drawing = text[text.index("<svg") : text.index("</main>")]
    assert "var(--blue)" in drawing
    assert "var(--muted)" in drawing
    assert not [light for light, _ in PALETTE.values() if f": {light}" in drawing]
    assert "prefers-color-scheme:dark" in text


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (IMAGES[:1], "image"),
        (COLOURS, "image"),
        (np.zeros((3, 1, 5, 5)), "image"),
        (np.full((2, 1, 4, 4), np.nan), "image"),
        (RNG.integers(0, 255, (5, 3, 300, 40), np.uint8), "image"),
        (RNG.random((4, 1, 1, 1)), "image"),
        (RNG.random((4, 2, 1, 200)), "image"),
        (SERIES[:1], "series"),
        (np.full((3, 1, 50), 7.0), "series"),
        (np.full((3, 2, 9), np.nan), "series"),
        (np.where(RNG.random((4, 1, 90)) < 0.2, np.inf, RNG.random((4, 1, 90))), "series"),
        (RNG.normal(size=(3, 3, 2500)).astype(np.float32), "series"),
        (RNG.normal(size=(2, 20, 30)), "series"),
        (RNG.normal(size=(3, 1, 1)), "series"),
        (RNG.integers(-9, 9, (3, 1, 20)), "series"),
        (RNG.normal(size=(5, 1, 2)), "table"),
        (RNG.normal(size=(5, 1, 300)), "table"),
        (np.concatenate([np.full((4, 1, 1), np.nan), np.zeros((4, 1, 2))], axis=2), "table"),
        (np.full((4, 1, 2), 1.7e9) + RNG.random((4, 1, 2)) * 1e-6, "table"),
        (np.array([[[1e38, -1e38, 1e-38]], [[3e38, 0, 1e-40]]], np.float32), "table"),
    ],
)
def test_sections_cope_with_odd_samples(x, kind):
    few = x[:2]
    check(
        reports.data_section(x, kind),
        reports.data_section(x, kind, np.arange(len(x)) % 2),
        reports.progress_section(few, [(1, few)], kind),
        reports.reconstruction_section(few, few[::-1], kind, np.arange(len(few)), few[:, 0].ravel()[: len(few)], few),
        reports.denoising_section(few[:1], few[-1:], kind),
        reports.denoising_section(few[-1:], few[:1], kind, few[-1:], 20.0),
    )


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(400) % 200,
        np.array([f"site {i % 200}" for i in range(400)]),
        np.linspace(0, 1, 400),
        np.where(np.arange(400) % 7, np.linspace(0, 1, 400), np.nan),
        np.ones(400),
        np.arange(400) % 2 == 0,
        np.array([b"caf\xe9", b"b"] * 200),
        np.array([1, "b", None, 2.5] * 100, object),
    ],
    ids=["ints", "strings", "floats", "gaps", "one", "bools", "bytes", "mixed"],
)
def test_sections_cope_with_odd_labels(labels):
    points, x = RNG.normal(size=(400, 2)), RNG.normal(size=(400, 1, 12))
    check(
        reports.data_section(x, "series", labels),
        reports.data_section(x, "table", labels),
        reports.data_section(x.reshape(400, 1, 4, 3), "image", labels),
        reports.embedding_section({"PCA": points, "t-SNE": points}, labels),
        reports.units_section(x[:, 0], labels),
    )


@FEW
@given(
    st.lists(st.floats(allow_nan=True, width=32), min_size=0, max_size=20),
    st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=20),
    st.none() | st.floats(allow_nan=False, width=32),
    st.none() | st.booleans(),
)
def test_scores_section_copes_with_any_scores(calibration, scores, threshold, split):
    scores = np.array(scores)
    anomalous = None if split is None else (np.arange(len(scores)) % 2 == 0) | split
    check(
        reports.scores_section(np.array(calibration), scores, anomalous, threshold, "auto", {"flagged": 0, "f1": None})
    )


@FEW
@given(npst.arrays(np.float32, npst.array_shapes(min_dims=3, max_dims=3, max_side=5)))
def test_series_of_any_values_are_drawn(x):
    check(reports.data_section(x, "series"), reports.reconstruction_section(x, x[::-1], "series"))


@FEW
@given(npst.arrays(np.float32, npst.array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_images_of_any_values_are_drawn(x):
    check(reports.data_section(x, "image"), reports.reconstruction_section(x, x[::-1], "image"))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"epoch": 1, "train_loss": 0.5, "val_error": None}],
        [
            {
                "epoch": "1",
                "train_loss": "0.5",
                "val_error": "",
                "penalty": "0",
                "seconds": "2",
                "samples_per_second": "9",
            }
        ],
        [{"epoch": e, "train_loss": -e, "val_error": math.nan, "penalty": 2.0} for e in range(300)],
        [{"epoch": e, "train_loss": 0.0, "val_error": 10.0**-e, "penalty": 0.0} for e in range(9)],
    ],
)
@pytest.mark.parametrize("best", [None, 1, 99])
def test_training_section_copes_with_odd_metrics(rows, best):
    check(reports.training_section(rows, best, None), reports.training_section(rows, best, 0.1))


def test_training_section_compares_with_pca():
    rows = [{"epoch": e, "train_loss": 1.0, "val_error": error} for e, error in ((1, 0.2), (2, 0.1))]
    text = reports.training_section(rows, 2, 0.4).text
    assert "epoch 2" in text
    assert "75 % below PCA's" in text
    assert "above PCA's" in reports.training_section(rows, 2, 0.05).text


def test_loss_and_validation_error_share_an_axis_where_they_are_of_one_kind():
    rows = [{"epoch": e, "train_loss": 1.0, "val_error": 0.1, "penalty": 0.0} for e in (1, 2)]
    penalised = [row | {"penalty": 2.0} for row in rows]
    (shared,) = reports.training_section(rows, 2, 0.4, 7).pictures
    assert len(shared.figure.axes[0].lines) == 4  # both curves, PCA's level and the best epoch
    assert shared.note == "PCA has 7 components."
    apart = reports.training_section(rows, 2, 0.4, 1, "Mean absolute error").pictures
    assert [p.title for p in apart] == ["Validation error", "Training loss"]
    assert [p.note for p in apart] == ["PCA has 1 component.", "Mean absolute error."]
    assert [p.figure.axes[0].get_ylabel() for p in apart] == ["mean squared error", "loss"]
    notes = [p.note for p in reports.training_section(penalised, 2).pictures]
    assert notes == ["", "Mean squared error, plus the weighted penalty.", ""]


@pytest.mark.parametrize(
    ("scale", "error", "says"),
    [
        (np.ones(2500), "mse", "Loss by epoch"),
        (np.ones(2500), "l1", "Mean absolute error."),
        (10.0 ** np.linspace(-2, 2, 2500), "mse", "Mean squared error, of each row in its own standard deviation."),
    ],
)
def test_a_training_report_says_what_it_shows(tmp_path, scale, error, says):
    np.savez(tmp_path / "a.npz", x=waves(2500, 16) * scale[:, None], y=np.repeat([3, 4], [2000, 500]))
    words = ("--data", "a.npz", "--error", error, "--steps", "3", "--latent", "9", "-o", "run")
    figures = result(tmp_path, "train", "stacked", *words)
    text = (tmp_path / "run" / "report.html").read_text()
    assert says in text
    assert ("Loss by epoch" in text) == (says == "Loss by epoch")
    assert figures["pca_components"] == 4  # a quarter of the values, though the latent has 9
    assert "PCA has 4 components." in text
    assert "2,500 samples of shape 1 × 16" in text
    assert "2,000 (80 %)" in text
    assert "Of 2,000 rows looked at." in text


def test_info_says_how_many_rows_it_looked_at(tmp_path):
    np.savez(tmp_path / "a.npz", x=waves(40_000, 4), y=np.repeat([0, 1], [30_000, 10_000]))
    facts = result(tmp_path, "info", "a.npz", "--report", "r.html")
    assert facts["rows"] == 40_000
    assert 1000 < facts["rows_looked_at"] < 4000
    text = (tmp_path / "r.html").read_text()
    assert "40,000 samples" in text
    assert "30,000 (75 %)" in text
    assert f"Of {facts['rows_looked_at']:,} rows looked at." in text


def test_scores_section_counts_what_lies_above_the_threshold():
    scores, anomalous = np.array([0.1, 0.2, 0.9, 0.8]), np.array([False, False, False, True])
    text = reports.scores_section(scores, scores, anomalous, 0.5, "auto", {}).text
    assert "2 of 4 samples above, 1 of 1 anomalous and 1 of 3 normal" in text


def test_tables_stand_beside_pcas_and_numbers_are_set_right():
    figures = {"auroc": 0.98765, "flagged": 12345}
    section = reports.scores_section(SERIES[:, 0, 0], SERIES[:, 0, 0], None, None, "auto", figures, {"auroc": 0.5})
    text, _ = check(section)
    assert '<td>AUROC</td><td class="n">0.9877</td><td class="n">0.5000</td>' in text
    assert '<td class="n">12,345</td><td class="n">–</td>' in text


def test_missing_values_are_counted():
    x = np.array([[[1.0, np.nan]], [[3.0, np.inf]]])
    ranges = reports.data_section(x, "table", columns=["a", "b"]).tables[0]
    assert ranges.rows[0] == ("a", 1.0, 2.0, 1.0, 3.0, 0)
    assert ranges.rows[1][-1] == 2
    assert ranges.note == ""


@pytest.mark.parametrize("kind", SAMPLES)
def test_of_large_data_all_rows_are_counted_and_some_are_drawn(kind):
    labels = np.repeat(["a", "b", "c"], [6000, 2000, 2000])
    rows = np.arange(9) * 800  # none of class c
    section = reports.data_section(SAMPLES[kind], kind, labels, rows=rows, count=10_000)
    assert section.text.startswith("10,000 samples of shape")
    assert "Pictures and ranges are of 9 of them." in section.text
    assert section.tables[0].note == "Of 9 rows looked at."
    counts = [text.get_text() for text in section.pictures[0].figure.axes[0].texts]
    assert counts == ["6,000 (60 %)", "2,000 (20 %)", "2,000 (20 %)"]
    check(section)
    assert "of them" not in reports.data_section(SAMPLES[kind], kind, labels[:9], rows=np.arange(9), count=9).text


def test_sample_grid_magnifies_pixels_whole(tmp_path):
    samples = RNG.integers(0, 256, (6, 1, 5, 7), np.uint8)
    samples[0, 0, 0, :2] = 0, 255
    reports.save_figure(reports.sample_grid(samples, "image", columns=3), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        sheet = np.asarray(picture.convert("L")).astype(int)
    times = (sheet.shape[1] - 4) // 3 // 7
    limits = bounds(samples, 0.002)
    for i, sample in enumerate(samples):
        top, left = 4 + (i // 3) * (5 * times + 4), 4 + (i % 3) * (7 * times + 4)
        cell = sheet[top : top + 5 * times, left : left + 7 * times]
        expected = paint(sample, limits, 99)[..., 0].astype(int).repeat(times, 0).repeat(times, 1)
        assert np.abs(cell - expected).max() <= 1
    assert (sheet[:4] == 255).all()


@pytest.mark.parametrize(("x", "kind"), [(IMAGES, "image"), (COLOURS, "image"), (SERIES, "series"), (TABLE, "table")])
def test_png_files_are_the_same_bytes_each_time(tmp_path, x, kind):
    titles = NASTY
    for name in ("a", "b"):
        reports.save_figure(reports.sample_grid(x, kind, titles=titles), tmp_path / f"{name}.png")
        reports.save_figure(reports.sample_grid(x, kind, columns=len(x)), tmp_path / f"{name}-row.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a-row.png").read_bytes() == (tmp_path / "b-row.png").read_bytes()
    check(reports.Section("Generated", pictures=[reports.Picture(reports.sample_grid(x, kind, titles=titles))]))


@pytest.mark.parametrize(
    ("labels", "clusters"),
    [
        *((labels, None) for labels in (None, np.arange(60) % 3, np.arange(60), np.array(NASTY * 20)[:60])),
        *((None, np.arange(60) % k) for k in (15, 60)),
    ],
)
def test_latent_picture_is_written(tmp_path, labels, clusters):
    maps = {"PCA": RNG.normal(size=(60, 2)), "t-SNE": np.zeros((60, 2))}
    for name in ("a.png", "b.png"):
        reports.save_figure(reports.latent_picture(maps, labels, clusters), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 1200
        assert picture.height == (736 if clusters is None else 1472)


def test_one_point_makes_a_map():
    check(
        reports.embedding_section({"PCA": np.zeros((1, 2))}, np.array(["a"])), reports.units_section(np.zeros((1, 1)))
    )


def test_many_points_are_drawn_once_as_a_picture():
    points = RNG.normal(size=(5000, 2))
    text, _ = check(reports.embedding_section({"PCA": points, "t-SNE": points}, np.arange(5000) % 10))
    assert len(text) < 1_000_000


def test_thinning_keeps_the_extremes():
    y = RNG.normal(size=10_000)
    t, thinned = thin(np.arange(10_000), y)
    assert len(t) == len(thinned) <= MOST_POINTS
    assert (thinned.min(), thinned.max()) == (y[: len(y) // 34 * 34].min(), y[: len(y) // 34 * 34].max())
    assert (np.diff(t) > 0).all()


def test_shrinking_takes_means_and_keeps_small_images():
    assert shrink(np.arange(16.0).reshape(1, 4, 4), 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert (shrink(IMAGES[0], 9) == IMAGES[0]).all()
    assert shrink(np.ones((1, 1, 500)), 100).shape == (1, 1, 100)


def test_painting_spans_black_to_white_and_leaves_gaps_clear():
    pixels = paint(np.array([[[0.0, 1.0, np.nan]]]), (0, 1), 9)
    assert pixels.tolist() == [[[0, 0, 0, 255], [255, 255, 255, 255], [0, 0, 0, 0]]]
    assert paint(np.array([[[1.0]], [[0.0]], [[0.0]]]), (0, 1), 9).tolist() == [[[255, 0, 0, 255]]]


def test_classes_are_the_most_frequent_in_natural_order():
    labels = np.array(["site 10", "site 2", "site 2", "site 3", "site 10"])
    groups = classes(labels, 5, most=2)
    assert (groups.names, groups.counts, groups.others) == (["site 2", "site 10"], [2, 2], (1, 1))
    assert groups.index.tolist() == [1, 0, 0, -1, 1]
    assert classes(np.array([10.0, 9.0]), 2, 5).names == ["9", "10"]
    assert len(HUES) == len(set(HUES)) == 10


def test_moments_leave_gaps_out_whatever_the_block():
    x = RNG.normal(size=(5, 3_000_000))
    x[2, 7] = np.nan
    mean, std = moments(x)
    assert mean[7] == pytest.approx(np.nanmean(x[:, 7]))
    assert std[:9] == pytest.approx(np.nanstd(x[:, :9], axis=0))
    assert moments(np.array([[1], [255]], np.uint8))[1].tolist() == [127.0]


def test_a_sine_peaks_at_its_frequency_and_a_grating_at_its_period():
    t = np.arange(1000) / 100
    frequency, power = spectrum(np.sin(2 * np.pi * 12 * t)[None, None], "series", 100.0)
    assert frequency[power.argmax()] == pytest.approx(12, abs=0.2)
    grating = np.tile(np.sin(2 * np.pi * np.arange(32) / 8), (32, 1))[None, None]
    radius, power = spectrum(grating, "image", None)
    assert radius[power.argmax()] == 1 / 8
    assert spectrum(np.zeros((1, 1, 4)), "series", None) is None


@pytest.mark.parametrize("points", [9, 513, 2_000_000])
def test_spectra_of_series_are_welchs(points):
    x = np.random.default_rng(0).normal(size=(1, 2, points)).astype(np.float32)
    frequency, power = welch(x.astype(float), 20.0, nperseg=min(points, 512))
    got = spectrum(x, "series", 20.0)
    assert got[0] == pytest.approx(frequency[1:])
    assert got[1] == pytest.approx(power.mean(axis=(0, 1))[1:])


@pytest.mark.parametrize("points", [512, 6000, 400_000])
def test_spectrograms_tell_when_and_at_which_frequency(points):
    rng = np.random.default_rng(0)
    trace = 0.01 * rng.normal(size=points)
    burst = slice(points // 2, points // 2 + points // 8)
    trace[burst] += np.sin(2 * np.pi * 30 / 100 * np.arange(points))[burst]
    power = spectrogram(trace, 100.0)
    frequency = (1 + np.arange(len(power))) * 50 / len(power)
    assert power.shape[1] <= 240
    inside = power[:, power.shape[1] * 9 // 16]
    assert frequency[inside.argmax()] == pytest.approx(30, abs=50 / len(power))
    assert (power[:, : power.shape[1] * 7 // 16] < 1e-2 * inside.max()).all()
    noise = spectrogram(rng.normal(size=points), 100.0)
    assert noise[1:-1].mean() == pytest.approx(2 / 100, rel=0.2)  # white: the variance over the Nyquist frequency
    assert np.isfinite(spectrogram(np.where(trace > 0.5, np.nan, trace), None)).all()


@pytest.mark.parametrize(("points", "rate", "drawn"), [(600, 1e6, 3), (600, None, 3), (500, 1e6, 0)])
def test_a_denoised_row_shows_traces_and_from_512_points_on_spectrograms_on_one_scale(points, rate, drawn):
    rng = np.random.default_rng(0)
    clean = np.sin(np.arange(2 * points).reshape(2, points))
    noisy = clean + rng.normal(size=clean.shape)
    figure = denoised_figure(noisy, 0.9 * clean, clean, "series", rate)
    pictures = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_extent()[1] > 1]
    assert len(pictures) == drawn
    assert len({picture.get_clim() for picture in pictures}) == min(drawn, 1)
    for picture in pictures:
        assert picture.get_extent()[1] == pytest.approx(599)  # points, or µs
        assert picture.get_extent()[3] == pytest.approx(0.5 if rate is None else 500, rel=0.05)
        assert picture.axes.get_ylim() == (0, 0.5 if rate is None else 500)  # cycles per point, or kHz
        assert picture.axes.get_ylabel() == ("1/point" if rate is None else "kHz")
    assert [len(axes.lines) for axes in figure.axes[:3]] == [6, 4, 2]  # two channels of three, two and one
    text, _ = check(reports.denoising_section(noisy[None], clean[None], "series", clean[None], rate))
    assert ("spectrogram" in text) == bool(drawn)
    assert "Spectrograms are of the first channel" in text or not drawn
    assert "spectrogram" not in check(reports.denoising_section(noisy[None], clean[None], "table"))[0]


def test_long_rows_are_drawn_whole_and_small():
    noisy = np.random.default_rng(0).normal(size=(1, 1, 3_000_000)).astype(np.float32)
    noisy[0, 0, 1_234_567] = 99
    figure = denoised_figure(noisy[0], 0.5 * noisy[0], None, "series", 100.0)
    for line in (line for axes in figure.axes[:3] for line in axes.lines):
        assert len(line.get_xdata()) <= MOST_POINTS
        assert line.get_xdata()[line.get_ydata().argmax()] == pytest.approx(12345.67 / 3600, abs=51 / 3600)  # hours
    text, _ = check(reports.denoising_section(noisy, 0.5 * noisy, "series", None, 100.0))
    assert len(text) < 500_000


def found_at(p, s, known=(-1, -1), first=0, points=3000):
    """A stretch at 100 Hz with picks at these seconds, and a detection between."""
    probability = np.zeros((3, points))
    picks = [Pick(7, "detection", p, s, 0.9, 0.1), Pick(7, "P", p, p, 0.8, 0.1), Pick(7, "S", s, s, 0.7, 0.1)]
    for i, second in ((0, p), (1, p), (2, s)):
        probability[i, round(second * 100) - first] = 0.8
    return reports.Found("row 7", RNG.normal(size=(3, points)), first, probability, 0.1 + 0 * probability, picks, known)


def test_picks_are_drawn_where_they_are():
    figure = picks_figure(found_at(105.0, 109.0, (10520, 10880), first=10_000), 100.0)
    for axes in figure.axes[:2]:
        upright = {
            (line.get_color(), round(line.get_xdata()[0], 6)) for line in axes.lines if len(line.get_xdata()) == 2
        }
        assert upright == {(BLUE, 105.0), (RED, 109.0), (INK, 105.2), (INK, 108.8)}
        (shaded,) = axes.patches
        assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == pytest.approx((105, 109))
        assert axes.get_xlim() == pytest.approx((100, 129.99))
    curves = [line for line in figure.axes[1].lines if len(line.get_xdata()) > 2]
    peaks = [line.get_xdata()[line.get_ydata().argmax()] for line in curves]
    assert peaks == pytest.approx([105.0, 105.0, 109.0])
    assert all(line.get_ydata().max() == 0.8 for line in curves)  # thinned, but not lowered
    (band, *_) = figure.axes[1].collections
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(0.9)
    assert highest(np.arange(7)).tolist() == list(range(7))
    assert highest(np.r_[np.zeros(1300), 1]).max() == 1300


def test_a_page_of_picks_tells_what_was_found_and_what_it_is_worth():
    found = found_at(5.0, 9.0, (520, 880))
    figures = {"p_precision": 0.5, "p_recall": 0.25, "p_mean_error_seconds": -0.125, "detection_f1": 1.0}
    errors = {"P": np.array([-0.2, 0.1, 7.0]), "S": np.array([0.2])}
    picks = reports.picks_section(1234, found.picks, (0.3, 0.1, 0.05), figures, errors)
    text, reader = check(picks, reports.stretches_section([found], 100.0))
    assert "1,234 rows: 1 detection, 1 pick of P, 1 of S." in picks.text
    assert "S 0.05" in picks.text
    assert picks.tables[0].rows[1] == ["P", 0.5, 0.25, None, -0.125, None]
    assert "P (3, 1 of them farther off)" in "".join(reader.text)
    assert text.count("<svg") == 2
    bars = error_histograms(list(errors.items()), 0.5).axes[0].patches[0].get_data()
    assert [float(bars.edges[i : i + 2].mean()) for i in np.flatnonzero(bars.values)] == pytest.approx([-0.2, 0.1])
    unknown = reports.picks_section(5, [], (0.3, 0.1, 0.1), {})
    assert unknown.text.startswith("Nothing was found in 5 rows.")
    assert not unknown.tables
    check(unknown, reports.stretches_section([found._replace(picks=[], known=[])], 100.0))
    check(reports.picks_section(5, [], (0.3, 0.1, 0.1), {}, {"P": np.zeros(0), "S": np.zeros(0)}))


def test_signal_to_noise_is_in_decibels():
    clean = np.ones((1, 100))
    assert snr_db(clean, clean + 0.1) == pytest.approx(20)
    assert snr_db(clean, clean) == math.inf
    assert math.isnan(snr_db(0 * clean, clean))
    bytes_clean, bytes_noisy = np.full((1, 4), 10, np.uint8), np.full((1, 4), 9, np.uint8)
    assert snr_db(bytes_clean, bytes_noisy) == pytest.approx(20)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (-5, "−5"),
        (0.012345678, "0.01235"),
        (61.3, "61.30"),
        (12345.6, "12,346"),
        (1.5e-7, "1.5e−7"),
        (0.0, "0"),
        (None, "–"),
        (math.nan, "–"),
        (True, "yes"),
        (np.float32(0.5), "0.5000"),
        ([1, "a"], "1, a"),
        ("<b>", "<b>"),
    ],
)
def test_numbers_are_written_to_four_figures(value, text):
    assert number(value) == text


def test_long_names_are_cut_in_the_middle():
    assert shown("abcdefghij", 5) == "ab…ij"
    assert shown("ab\x00c\n") == "ab c"
    assert shown("") == "(no name)"
    assert spread(100, 3).tolist() == [0, 50, 99]


def test_scores_above_the_threshold_are_counted_in_double_precision():
    scores = np.array([0.1, 0.2, 0.3], np.float32)
    threshold = math.nextafter(float(scores[1]), -math.inf)  # as float32 it is the score itself
    section = reports.scores_section(scores, scores, None, threshold, "auto", {})
    assert "2 of 3 samples above" in section.text


@pytest.mark.parametrize(("rate", "unit", "last"), [(None, "time point", 499), (1.8e8, "time (µs)", 499 / 180)])
def test_time_axes_have_readable_units(rate, unit, last):
    t, name = time_axis(500, rate, "series")
    assert name == unit
    assert t[-1] == pytest.approx(last)


@pytest.mark.parametrize(
    ("seconds", "unit"),
    [(1e6, "d"), (2e4, "h"), (6000, "s"), (1, "s"), (0.5, "ms"), (2e-5, "µs"), (1e-8, "ns"), (1e-12, "ns")],
)
def test_time_units_follow_the_length_of_a_trace(seconds, unit):
    assert time_axis(100, 100 / seconds, "series")[1] == f"time ({unit})"


def test_where_nothing_is_flagged_the_page_says_so_and_names_no_threshold():
    section = reports.scores_section(np.arange(3.0), np.arange(3.0), None, math.inf, "auto", {})
    assert section.text == "Rule auto: none of 3 samples is flagged."


def test_names_of_figures_are_words():
    text = reports.page("t", {"pca_auroc": 0.5, "snr_gain_db": 3.0, "calibration_rows": 9, "f1": None}, [])
    for words in ("PCA AUROC", "SNR gain dB", "calibration rows", "F1"):
        assert f"<dt>{words}</dt>" in text
