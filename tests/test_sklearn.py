"""Estimators of scikit-learn: they keep its contract, and do what the verbs do."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from program import aekit, table
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from aekit.sklearn import AutoencoderDetector, AutoencoderTransformer, Denoiser
from aekit.thresholds import judge_mixed

Floats = NDArray[np.float64]
FEW = {"steps": 10, "hidden": (8,), "restarts": 1}
SHORT: list[Any] = [
    AutoencoderDetector(threshold="quantile=0.95", options=FEW),
    AutoencoderTransformer(n_components=2, options={"steps": 5}),
    Denoiser(options={"steps": 5}),
]
FAR = [3, 50, 111]  # rows that are outliers


@parametrize_with_checks(SHORT)
def test_every_check_of_scikit_learn_passes(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


def plane(rows: int = 200, seed: int = 0) -> Floats:
    """Six columns of which two would do, and FAR rows off their plane."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2)) @ np.random.default_rng(9).normal(size=(2, 6)) + 0.1 * rng.normal(size=(rows, 6))
    for row in FAR if rows > max(FAR) else []:
        x[row] += 4 * rng.normal(size=6)
    return x


def detector(**parameters: Any) -> AutoencoderDetector:
    return AutoencoderDetector(**{"options": {"steps": 100, "restarts": 1}, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def fitted() -> AutoencoderDetector:
    return detector().fit(plane())


# --- the detector -----------------------------------------------------------------------------------------------------


def test_outliers_are_found_among_the_rows_fitted_to_and_others(fitted: AutoencoderDetector) -> None:
    planted = np.isin(np.arange(200), FAR)
    assert roc_auc_score(planted, fitted.decision_scores_) == 1
    np.testing.assert_array_equal(fitted.labels_, planted)
    new = plane(seed=1)
    assert roc_auc_score(~planted, fitted.score_samples(new)) > 0.99
    assert set(np.flatnonzero(fitted.predict(new) == -1)) >= set(FAR)
    assert (fitted.predict(new) == -1).mean() < 0.05


def test_the_names_of_pyod_say_the_same_as_those_of_scikit_learn(fitted: AutoencoderDetector) -> None:
    x = plane()
    np.testing.assert_array_equal(fitted.decision_scores_, -fitted.score_samples(x))
    np.testing.assert_array_equal(fitted.labels_, fitted.predict(x) == -1)
    assert fitted.threshold_ == -fitted.offset_
    np.testing.assert_array_equal(fitted.decision_function(x), fitted.score_samples(x) - fitted.offset_)


@pytest.mark.parametrize("rule", ["auto", "fdr=0.05", "quantile=0.9", "mad=3.5", "mean+2std", "1.5", 1.5])
def test_the_threshold_is_that_of_the_rule(rule: str | float) -> None:
    found = detector(threshold=rule, options=FEW).fit(plane())
    verdict = judge_mixed(found.decision_scores_, str(rule))
    if np.isfinite(verdict.threshold):
        np.testing.assert_array_equal(found.labels_, verdict.flagged)
    else:
        assert found.labels_.sum() == 2


def test_without_outliers_a_hundredth_of_the_rows_lies_beyond_the_threshold() -> None:
    found = detector(options=FEW).fit(np.random.default_rng(0).normal(size=(100, 3)))
    assert judge_mixed(found.decision_scores_).threshold == np.inf
    assert found.labels_.sum() == 1
    assert np.isfinite(found.offset_)


def test_contamination_beats_the_rule() -> None:
    found = detector(threshold="99", contamination=0.1, options=FEW).fit(plane())
    assert found.labels_.sum() == 20


def test_scores_and_verdicts_are_those_of_the_command(tmp_path: Path) -> None:
    x = plane().round(5)
    lines = ["a,b,c,d,e,f", *(",".join(map(str, row)) for row in x)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    aekit(tmp_path, "score", "t.csv", "--seed", "3")
    rows = table(tmp_path / "t.scores.csv")
    found = AutoencoderDetector(random_state=3).fit(x)
    np.testing.assert_allclose(found.decision_scores_, [float(row["score"]) for row in rows], rtol=1e-5)
    assert found.labels_.tolist() == [int(row["anomaly"]) for row in rows]


def test_a_whole_number_for_random_state_repeats_and_none_does_not() -> None:
    x, state = plane(40), np.random.RandomState(0)
    scores = [detector(options=FEW, random_state=seed).fit(x).decision_scores_ for seed in (1, 1, None, None, state)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[2], scores[3])
    again = detector(options=FEW, random_state=np.random.RandomState(0)).fit(x).decision_scores_
    np.testing.assert_array_equal(scores[4], again)


def test_the_score_of_a_row_depends_on_no_row_beside_it(fitted: AutoencoderDetector) -> None:
    x = plane()
    one_by_one = np.concatenate([fitted.score_samples(x[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(one_by_one, fitted.score_samples(x)[:20])


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_large_pictures_are_scored_by_their_worst_piece() -> None:
    rng = np.random.default_rng(0)
    pictures = 100 + 50 * np.sin(np.arange(40) / 4 + rng.uniform(0, 6, (60, 1, 1))) + rng.normal(0, 3, (60, 40, 40))
    pictures[5, 26:34, 3:11] = rng.uniform(0, 255, (8, 8))
    found = detector(sample_shape=(40, 40)).fit(pictures.reshape(60, -1))
    assert found.decision_scores_.argmax() == 5
    of_pieces = np.asarray(found.model_.score(pictures)).reshape(60, -1)
    assert of_pieces.shape[1] > 1
    np.testing.assert_allclose(found.decision_scores_, of_pieces.max(axis=1), rtol=1e-6)
    latents = found.transform(pictures.reshape(60, -1)[:2])
    assert latents.shape == (2, len(found.get_feature_names_out()))
    with pytest.raises(ValueError, match="rows are cut into windows"):
        found.inverse_transform(latents)


@pytest.mark.parametrize("shape", [(96,), (2, 48), (48, 2), (8, 12), (8, 4, 3), (3, 8, 4)])
def test_rows_of_every_shape_come_back_as_they_lie(shape: tuple[int, ...]) -> None:
    """What any autoencoder learns first is the mean of each value."""
    usual = np.random.default_rng(1).uniform(0, 9, 96)
    x = usual + np.random.default_rng(0).normal(size=(100, 96))
    coder = AutoencoderTransformer(sample_shape=shape, options={"steps": 100}, random_state=0).fit(x)
    back = coder.inverse_transform(coder.transform(x))
    assert back.shape == x.shape
    assert np.corrcoef(back.mean(axis=0), usual)[0, 1] > 0.95


@pytest.mark.parametrize("estimator", SHORT, ids=lambda e: type(e).__name__)
def test_one_column_two_rows_lists_and_half_precision(estimator: Any) -> None:
    with np.errstate(all="raise"):
        found = clone(estimator).set_params(random_state=0).fit([[1], [2]])
    assert np.isfinite(found.transform([[1.5]])).all()
    assert found.transform(np.ones((3, 1), np.float32)).dtype == np.float32
    assert found.transform(np.ones((3, 1), np.float16)).dtype == np.float64
    assert len(found.get_feature_names_out()) == found.transform([[1]]).shape[1]


# --- the transformer and the denoiser ---------------------------------------------------------------------------------


def test_latents_of_the_detector_decode(fitted: AutoencoderDetector) -> None:
    x = plane()[[i for i in range(200) if i not in FAR]]
    back = fitted.inverse_transform(fitted.transform(x))
    assert ((back - x) ** 2).mean() < 0.3 * x.var()


def test_noise_is_taken_out_of_columns_that_go_together() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 12))
    noisy = x + rng.normal(0, 0.5, x.shape) * x.std(axis=0)
    options = {"steps": 300, "corrupt": ["gaussian:0.5"]}
    cleaned = Denoiser(options=options, random_state=0).fit(x[:500]).transform(noisy[500:])
    assert ((cleaned - x[500:]) ** 2).mean() < 0.4 * ((noisy - x) ** 2).mean()


def test_noise_is_learnt_from_noisy_series_alone() -> None:
    rng = np.random.default_rng(0)
    x = np.sin(np.arange(64) / 5 + rng.uniform(0, 6, (60, 1)))
    noisy = x + rng.normal(0, 0.5, x.shape)
    cleaned = Denoiser("blind-spot", sample_shape=(64,), options={"steps": 100}, random_state=0).fit_transform(noisy)
    assert ((cleaned - x) ** 2).mean() < 0.5 * 0.25


# --- among their neighbours -------------------------------------------------------------------------------------------


def test_a_search_finds_the_share_of_outliers() -> None:
    y = np.where(np.isin(np.arange(200), FAR), -1, 1)
    grid = {"autoencoderdetector__contamination": [0.4, 0.015]}
    pipeline = make_pipeline(StandardScaler(), detector())
    scores = {"roc_auc": "roc_auc", "f1": make_scorer(f1_score, pos_label=-1)}
    search = GridSearchCV(pipeline, grid, scoring=scores, refit="f1", cv=[(np.arange(200), np.arange(200))])
    search.fit(plane(), y)
    assert search.best_params_ == {"autoencoderdetector__contamination": 0.015}
    assert search.best_score_ == 1
    assert min(search.cv_results_["mean_test_roc_auc"]) == 1


def test_latents_feed_a_classifier_in_a_search() -> None:
    x, y = load_digits(n_class=3, return_X_y=True)
    coder = AutoencoderTransformer(options={"epochs": 3}, random_state=0)
    search = GridSearchCV(
        make_pipeline(coder, LogisticRegression(max_iter=1000)), {"autoencodertransformer__n_components": [1, 12]}, cv=2
    )
    search.fit(x, y)
    assert search.best_params_ == {"autoencodertransformer__n_components": 12}
    assert search.best_score_ > 0.9


def test_frames_keep_their_names() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(plane(40), columns=list("abcdef"), index=range(100, 140))
    found = detector(options=FEW).set_output(transform="pandas").fit(frame)
    assert found.feature_names_in_.tolist() == list("abcdef")
    assert found.model_.trained.columns == tuple("abcdef")
    latents = found.transform(frame)
    assert latents.columns.tolist() == [f"autoencoderdetector{i}" for i in range(16)]
    assert latents.index.equals(frame.index)
    cleaned = Denoiser(options={"steps": 5}).set_output(transform="pandas").fit_transform(frame)
    assert cleaned.columns.equals(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(frame[list("fedcba")])


@pytest.mark.parametrize("recipe", ["ensemble", "conv1d", "mae"])
def test_a_pickle_gives_the_same_results_and_holds_no_network(recipe: str) -> None:
    x = plane(40)
    found = detector(recipe=recipe, sample_shape=(6,), options={"steps": 3}).fit(x)
    text = pickle.dumps(found)
    assert b"torch" not in text
    again = pickle.loads(text)  # noqa: S301 (made here)
    np.testing.assert_array_equal(again.score_samples(x), found.score_samples(x))
    np.testing.assert_array_equal(again.transform(x), found.transform(x))
    np.testing.assert_array_equal(again.predict(x), found.predict(x))
    assert not hasattr(pickle.loads(pickle.dumps(clone(found))), "model_")  # noqa: S301


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder, and one for temporary files, that are to be empty again."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "there"))
    yield tmp_path
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_fitting_leaves_nothing_behind(empty: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    detector(options=FEW).fit(plane(40)).predict(plane(40))
    assert torch.equal(torch.rand(3), expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"recipe": "nope"}, "no recipe is called 'nope'"),
        ({"recipe": "gan"}, "recipe=gan: does not score"),
        ({"options": {"nope": 1}}, "has no setting 'nope'"),
        ({"options": {"lr": "fast"}}, "lr=fast"),
        ({"options": {"seed": 1}}, "options: seed cannot be among them"),
        ({"threshold": "often"}, "threshold often: not a rule"),
        ({"contamination": 0.6}, "contamination=0.6"),
        ({"sample_shape": (2, 2)}, "sample_shape=2x2: rows of 6 values"),
        ({"random_state": -1}, "seed"),
    ],
)
def test_wrong_parameters_are_named_when_fitting(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        detector(**parameters).fit(plane(20))


def test_rows_that_hold_nothing_to_learn_or_to_score_are_refused(fitted: AutoencoderDetector) -> None:
    with pytest.raises(ValueError, match="constant data holds nothing to learn"):
        detector().fit(np.ones((20, 3)))
    with pytest.raises(ValueError, match="too far from the training data"):
        fitted.predict(np.full((1, 6), 1e300))
    with pytest.raises(ValueError, match="of shape"):
        fitted.inverse_transform([[1.0, 2.0]])
    with pytest.raises(ValueError, match="the recipe unet decodes none"):
        AutoencoderTransformer("unet", sample_shape=(8,), options={"steps": 1, "corrupt": ["gaussian:1"]}).fit(
            np.eye(8)
        ).inverse_transform(np.eye(8))
