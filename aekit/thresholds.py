"""Scores -> p-values -> verdicts; a higher score is more anomalous, and a sample is flagged where score > threshold.

Scores of normal rows that the model did not train on, the calibration, say how high a normal score gets. They give
conformal p-values (Vovk, Gammerman & Shafer 2005, section 2; Bates et al. 2023, arXiv:2104.08279, eq. 1), exact for
any distribution but never below 1 / (rows + 1). Where a rule needs smaller ones, a generalised Pareto tail continues
them, which is an extrapolation: the verdict's notes say so.

`auto` flags what is more likely an anomaly than not: local false discovery rate pi0 f0(p) / f(p) below one half (Efron
2008, "Microarrays, empirical Bayes and the two-groups model"). With f the Grenander estimate, the slope of the least
concave majorant of the empirical distribution of p, the samples with fdr < 1/2 are those up to the p that maximises
count(p) - 2 pi0 N p, so nothing needs smoothing. Two cautions make it safe: null p-values are first corrected for an
optimistic calibration by the bulk of the scores (Efron's empirical null), and flagging starts only where so many small
p-values are no accident, that of having drawn these few calibration rows included.
"""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    precision_score,
    recall_score,
    roc_auc_score,
)

from aekit.empirical_null import Null, fit_null
from aekit.errors import UsageError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

RULES = "auto, fdr=0.05, fpr=0.01, quantile=0.99, mad=3.5, mean+2std or a number"
FEWEST = 20  # fewer samples tell nothing about the share of anomalies, fewer calibration rows nothing about a tail
FEW_FPR = 0.01  # what `auto` means for fewer samples
SMALLEST_SHARE = 0.01  # of anomalies that `auto` must be able to see; else the tail continues the p-values
DOUBT = 0.01  # chance of accident that `auto` accepts, for the scores as for the calibration
BULK_END = 0.84  # in normal scores: 80 % of the null lie below, of anomalies that stand out hardly any
LARGEST_SHIFT = 1.0  # in normal scores; what lies higher as a whole is anomalous, not a calibration's optimism
WIDER = 1.1  # times the spread of normal scores, in normal scores, may be what a fitted tail says
SMALLEST_P = 1e-12  # that a fitted tail is taken at its word
LEAST_BULK = 0.8  # share of the scores that tell the null, below which the strict rule flags nothing
TOLD_SHIFT = 0.25  # smaller ones are within the noise of a small calibration


@dataclass(frozen=True)
class Rule:
    """A parsed `--threshold`: name is auto, fdr, fpr, quantile, mad, mean (+ value * std) or number."""

    name: str
    value: float = math.nan

    def __str__(self) -> str:
        value = f"{self.value:.12g}"
        return {"auto": "auto", "number": value, "mean": f"mean+{value}std"}.get(self.name, f"{self.name}={value}")


@dataclass(frozen=True, eq=False)
class Verdict:
    """p_values (N,), flagged (N,), equal to scores > threshold; notes are sentences for the user, one line each.

    threshold is in the unit of the scores, inf where nothing is flagged by auto or fdr, or can be by fpr; `extended`
    tells whether the p-values go on below 1 / (calibration rows + 1) by a generalised Pareto tail; `null` is what they
    come from where no rows are known to be normal.
    """

    p_values: Floats
    flagged: Flags
    threshold: float
    rule: str
    notes: tuple[str, ...]
    extended: bool = False
    null: Null | None = None


@dataclass(frozen=True, eq=False)
class Tail:
    """p beyond `start`: log_p is piecewise linear in log(1 + (score - start) / scale), whose knots are `at`."""

    start: float
    scale: float
    at: Floats
    log_p: Floats

    def p_at(self, scores: Floats) -> Floats:
        return np.exp(np.interp(np.log1p((scores - self.start) / self.scale), self.at, self.log_p))

    def score_at(self, p: float) -> float:
        return self.start + self.scale * math.expm1(np.interp(math.log(p), self.log_p[::-1], self.at[::-1]))


def parse_rule(text: str) -> Rule:
    """The rule that `text` names; raises UsageError for any other word and for values out of bounds."""
    word = text.strip()
    if word == "auto":
        return Rule("auto")
    number = r"\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?"
    if match := re.fullmatch(rf"(fdr|fpr|quantile|mad)=({number})|(mean)\+({number})?std", word):
        name, value = match[1] or match[3], float(match[2] or match[4] or 1)
        below_one = value < 1 or (name == "quantile" and value == 1)  # the maximum is a rule in use
        if value == 0 or math.isinf(value) or (name in ("fdr", "fpr", "quantile") and not below_one):
            bounds = "between 0 and 1" if name in ("fdr", "fpr", "quantile") else "above 0"
            raise UsageError(f"threshold {text}: {name} takes a value {bounds}; the rules are {RULES}")
        return Rule(name, value)
    if re.fullmatch(rf"[+-]?(?:{number})", word) and math.isfinite(float(word)):
        return Rule("number", float(word))
    raise UsageError(f"threshold {text}: not a rule; the rules are {RULES}")


def fit_tail(calibration: ArrayLike) -> Tail | None:
    """A generalised Pareto tail from the upper calibration scores (Coles 2001, ch. 4); None where they are too few.

    Upper are the highest quarter, at most 3 sqrt(rows). p is the posterior predictive, the mean of the survival
    function over shape and scale, since at ten or twenty scores the best fit alone would promise far too small a p. The
    prior of the shape, normal (0.2, 0.3), covers exponential tails and the heavy ones of squared errors. p goes on from
    the conformal p at `start`, so it is continuous and monotone there.
    """
    rows = np.sort(_checked(calibration, "calibration"))
    count = min(math.ceil(len(rows) / 4), int(3 * math.sqrt(len(rows))))
    if len(rows) < FEWEST:
        return None
    start = rows[-count - 1]
    above = rows[rows > start] - start
    if len(above) < FEWEST // 4:
        return None  # ties
    unit = float(above.mean())
    shape, scale = (  # no shape is exactly 0, where the formulas below divide by it
        grid.reshape(-1, 1) for grid in np.meshgrid(np.linspace(-0.5, 1.2, 36), np.exp(np.linspace(-1.5, 1.5, 41)))
    )
    at = np.linspace(0, 30, 301)  # up to exp(30) units; straight lines between are right to 10 % of p at 1e-13
    with np.errstate(divide="ignore"):  # beyond the end point of a negative shape both become -inf
        log_density = -np.log(scale) - (1 + 1 / shape) * np.log(np.maximum(1 + shape * (above / unit) / scale, 0))
        log_survival = -np.log(np.maximum(1 + shape * np.expm1(at) / scale, 0)) / shape
    log_weight = log_density.sum(axis=1, keepdims=True) - ((shape - 0.2) / 0.3) ** 2 / 2
    log_weight -= special.logsumexp(log_weight)
    rate = np.count_nonzero(rows >= start) + 1
    log_p = special.logsumexp(log_weight + log_survival, axis=0) + math.log(rate / (len(rows) + 1))
    return Tail(float(start), unit, at, np.minimum.accumulate(log_p))


def p_values(scores: ArrayLike, calibration: ArrayLike, tail: Tail | None = None) -> Floats:
    """Conformal p-values (1 + #{calibration >= score}) / (rows + 1), (N,); with a tail, its p beyond its start.

    Raises ValueError for anything but one finite number per sample, and for an empty calibration.
    """
    values, rows = _checked(scores, "scores"), np.sort(_checked(calibration, "calibration"))
    if not len(rows):
        raise ValueError("p-values need calibration rows")
    p: Floats = np.subtract(1.0 + len(rows), np.searchsorted(rows, values, side="left"))
    p /= len(rows) + 1
    if tail is not None:
        beyond = values > tail.start
        p[beyond] = tail.p_at(values[beyond])
    return p


def judge(scores: ArrayLike, calibration: ArrayLike, rule: str | Rule = "auto") -> Verdict:
    """The verdict on scores (N,) by a rule, from the scores of normal rows that the model did not train on.

    Verdicts of auto, fdr and fpr depend on the order of scores and calibration alone, unless the verdict is extended.
    Raises UsageError for an unknown rule, ValueError for scores that are not one finite number per sample.
    """
    rule = parse_rule(rule) if isinstance(rule, str) else rule
    values, rows = _checked(scores, "scores"), np.sort(_checked(calibration, "calibration"))
    verdict = {"auto": _auto, "fdr": _fdr, "fpr": _fpr}.get(rule.name, _fixed)(values, rows, rule)
    notes = [f"calibration by {_rows(rows)}", *verdict.notes]
    if 2 * np.count_nonzero(verdict.flagged) > len(values) > 1:
        notes.append("more than half of the samples are flagged: most are anomalous, or unlike the calibration rows")
    return replace(verdict, notes=tuple(notes))


def judge_mixed(scores: ArrayLike, rule: str | Rule = "auto", among: ArrayLike | None = None) -> Verdict:
    """The verdict on scores (N,) where no rows are known to be normal: p-values come from the bulk of the scores.

    `among` are the scores that tell it, those of the rows trained on, some of them anomalous; else those judged. See
    `empirical_null`. All p-values are extrapolated, so that the verdict depends on more than the order of the scores.
    """
    rule = parse_rule(rule) if isinstance(rule, str) else rule
    values = _checked(scores, "scores")
    rows = values if among is None else _checked(among, "scores")
    if not len(values):
        return Verdict(values, np.zeros(0, bool), math.inf, str(rule), (), True)
    null = fit_null(rows)
    p = np.maximum(null.p_at(values), SMALLEST_P)
    notes = [
        f"no row is known to be normal: p-values come from the lowest {null.bulk:.0%} of the scores, which make "
        f"{1 - null.share:.1%} of the rows look anomalous"
    ]
    if null.bulk < LEAST_BULK:
        notes.append(
            "the scores look like more than one population of rows, so the verdict is uncertain: trust the order"
        )
    if rule.name == "auto" and len(rows) >= FEWEST:
        levels, counts = np.unique(p, return_counts=True)
        found = np.cumsum(counts)
        gain = found - 2 * null.share * len(p) * levels  # local false discovery rate below one half
        usual = len(p) * special.ndtr(special.ndtri(levels) / WIDER)
        gain[special.gammainc(found, usual) > DOUBT] = 0  # P(Poisson >= found)
        best = int(np.argmax(gain))
        is_most = among is None and 2 * found[best] > len(p)
        if gain[best] > 0 and is_most:
            notes.append(
                "nothing is flagged: more than half of the samples would be, and no rule can tell which half is "
                "normal; quantile=0.95, say, flags the highest scores"
            )
        verdict = _up_to(float(levels[best]) if gain[best] > 0 and not is_most else None, values, p, rule, (), True)
    elif rule.name == "fdr":
        is_told = null.bulk >= LEAST_BULK
        verdict = _up_to(_step_up(p, rule.value) if is_told else None, values, p, rule, (), True)
        if not verdict.flagged.any():
            others = np.count_nonzero(judge_mixed(values, "auto", rows).flagged)
            few = f"{null.bulk:.0%} of the scores are too few to promise a rate"
            why = f"the smallest p is {p.min():.2g}" if is_told else few
            notes.append(f"nothing is flagged: {why}; auto would flag {others}")
    elif rule.name in ("auto", "fpr"):
        limit = rule.value if rule.name == "fpr" else FEW_FPR
        if rule.name == "auto":
            notes.append(
                f"fewer than {FEWEST} samples do not tell the share of anomalies: flagged where p <= {limit:g}"
            )
        flagged = p <= limit
        verdict = _up_to(float(p[flagged].max()) if flagged.any() else None, values, p, rule, (), True)
    else:
        verdict = replace(_fixed(values, np.sort(rows), rule), p_values=p, extended=True)
    if among is not None and 2 * np.count_nonzero(verdict.flagged) > len(values) > 1:
        notes.append("more than half of the samples are flagged: most are anomalous, or unlike the rows learnt from")
    return replace(verdict, notes=(*notes, *verdict.notes), null=null)


def anomaly_figures(scores: ArrayLike, anomalous: ArrayLike, flagged: ArrayLike) -> dict[str, float | None]:
    """auroc, average_precision, f1, best_f1 (over all thresholds), precision, recall, false_discovery_rate.

    Empty where all samples are normal or all anomalous. Where nothing is flagged there is no precision and no false
    discovery rate: they are None.
    """
    score, truth, flags = _checked(scores, "scores"), np.asarray(anomalous, bool), np.asarray(flagged, bool)
    if truth.all() or not truth.any():
        return {}
    precisions, recalls, _ = precision_recall_curve(truth, score)
    precision = float(precision_score(truth, flags)) if flags.any() else None
    recall = float(recall_score(truth, flags))
    best = 2 * precisions * recalls / np.maximum(precisions + recalls, 1e-12)
    return {
        "auroc": float(roc_auc_score(truth, score)),
        "average_precision": float(average_precision_score(truth, score)),
        "f1": 2 * precision * recall / (precision + recall) if precision else 0.0,
        "best_f1": float(best.max()),
        "precision": precision,
        "recall": recall,
        "false_discovery_rate": None if precision is None else 1 - precision,
    }


def _checked(numbers: ArrayLike, name: str) -> Floats:
    array = np.asarray(numbers, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one finite number per sample")
    return array


def _rows(calibration: Floats) -> str:
    return f"{len(calibration)} held-out row{'s' if len(calibration) != 1 else ''}"


def _up_to(cut: float | None, scores: Floats, p: Floats, rule: Rule, notes: tuple[str, ...], extended: bool) -> Verdict:
    """Flags p <= cut, told as a threshold midway between flagged and other scores; cut None flags nothing."""
    threshold = math.inf
    if cut is not None:
        flagged = p <= cut
        lowest, others = float(scores[flagged].min()), scores[~flagged]
        below = math.nextafter(lowest, -math.inf)
        threshold = min(below, (lowest + float(others.max())) / 2) if len(others) else below
    return Verdict(p, scores > threshold, threshold, str(rule), notes, extended)


def _fixed(scores: Floats, calibration: Floats, rule: Rule) -> Verdict:
    """The rules whose threshold depends on the calibration alone, or on nothing."""
    p = p_values(scores, calibration)
    notes: tuple[str, ...] = ()
    threshold = rule.value
    if rule.name == "quantile":
        threshold = float(np.quantile(calibration, rule.value))
        if 0 < len(calibration) * (1 - rule.value) < 1:
            notes = (f"{_rows(calibration)} are few for {rule}: it lies near their maximum",)
    elif rule.name == "mad":
        median = np.median(calibration)
        threshold = float(median + rule.value * 1.4826 * np.median(np.abs(calibration - median)))
    elif rule.name == "mean":
        threshold = float(calibration.mean() + rule.value * calibration.std())
    return Verdict(p, scores > threshold, threshold, str(rule), notes)


def _fpr(scores: Floats, calibration: Floats, rule: Rule) -> Verdict:
    """Flags p <= value: a normal sample is flagged with at most this probability. The calibration comes sorted."""
    levels = np.arange(1, len(calibration) + 1) / (len(calibration) + 1)
    allowed = np.count_nonzero(levels <= rule.value)  # calibration rows that may lie at or above the threshold
    if allowed:
        threshold = float(calibration[-allowed])
        return Verdict(p_values(scores, calibration), scores > threshold, threshold, str(rule), ())
    needed = f"{rule} needs {math.ceil(1 / rule.value - 1 - 1e-9)} calibration rows"
    tail = fit_tail(calibration)
    threshold = tail.score_at(rule.value) if tail else math.inf
    note = f"{needed}: its threshold is extrapolated by a Pareto tail, approximate" if tail else f"{needed} to flag any"
    p = p_values(scores, calibration, tail)
    return Verdict(p, scores > threshold, threshold, str(rule), (note,), tail is not None)


def _fdr(scores: Floats, calibration: Floats, rule: Rule) -> Verdict:
    """Benjamini & Hochberg 1995; the tail comes in only where the conformal p-values flag nothing."""
    exact = p_values(scores, calibration)
    cut = _step_up(exact, rule.value)
    if cut is not None or not len(scores):
        return _up_to(cut, scores, exact, rule, (), False)
    smallest = 1 / (len(calibration) + 1)
    needed = math.ceil(len(scores) * smallest / rule.value)
    takes = f"{needed} anomalies" if needed <= len(scores) else f"{math.ceil(1 / rule.value - 1)} calibration rows"
    why = (
        f"{_rows(calibration)} give no p below {smallest:.2g}, with which {rule} on {len(scores)} samples takes {takes}"
    )
    p = p_values(scores, calibration, fit_tail(calibration))
    cut = _step_up(p, rule.value)
    if cut is not None:
        note = f"{why}: p is extrapolated by a Pareto tail, so the false discovery rate is approximate"
        return _up_to(cut, scores, p, rule, (note,), True)
    others = ["auto", f"fpr={max(0.01, math.ceil(100 * smallest) / 100):g}"]
    counts = [(other, np.count_nonzero(judge(scores, calibration, other).flagged)) for other in others]
    would = [f"{other} would flag {count}" for other, count in counts if count] or [f"nor would {' or '.join(others)}"]
    return _up_to(None, scores, exact, rule, (f"nothing is flagged: {why}; {would[0]}",), False)


def _step_up(p: Floats, q: float) -> float | None:
    ordered = np.sort(p)
    passed = np.flatnonzero(ordered <= q * np.arange(1, len(p) + 1) / len(p))
    return float(ordered[passed[-1]]) if len(passed) else None


def _auto(scores: Floats, calibration: Floats, rule: Rule) -> Verdict:
    if len(scores) < FEWEST:
        verdict = _fpr(scores, calibration, Rule("fpr", FEW_FPR))
        few = f"fewer than {FEWEST} samples do not tell the share of anomalies: flagged where p <= {FEW_FPR:g}"
        return replace(verdict, rule=str(rule), notes=(few, *verdict.notes))
    smallest = np.array([1 / (len(calibration) + 1)])
    visible = _no_accident(np.array([max(1, SMALLEST_SHARE * len(scores))]), smallest, len(scores), len(calibration))
    tail = None if visible.all() else fit_tail(calibration)
    p = p_values(scores, calibration, tail)
    notes = []
    if tail is not None:
        few = f"{_rows(calibration)} do not show {SMALLEST_SHARE:.0%} of anomalies among {len(scores)} samples"
        notes.append(f"{few}: p is extrapolated by a Pareto tail, approximate")
    levels, counts = np.unique(p, return_counts=True)
    shift = _shift(levels, counts, len(calibration))
    if shift >= LARGEST_SHIFT:
        notes.append("the bulk of the scores lies far above the calibration: the data is unlike the calibration rows")
    elif shift >= TOLD_SHIFT:
        notes.append(f"the bulk of the scores lies {shift:.1f} deviations above the calibration, which is allowed for")
    p_null = special.ndtr(special.ndtri(levels) + shift)
    found = np.cumsum(counts)
    share_null = min(1.0, (counts[p_null > 0.5].sum() + 1) / (0.5 * len(p)))  # Storey 2002, lambda = 1/2
    gain = found - 2 * share_null * len(p) * p_null
    gain[~_no_accident(found, p_null, len(p), len(calibration))] = 0
    best = int(np.argmax(gain))
    cut = float(levels[best]) if gain[best] > 0 else None
    return _up_to(cut, scores, p, rule, tuple(notes), tail is not None)


def _no_accident(found: NDArray[np.integer] | Floats, p: Floats, samples: int, rows: int) -> Flags:
    """Whether `found` samples with at most this p are more than chance gives among normal ones.

    Given the calibration, the k-th smallest conformal p stands for a probability that is Beta(k, rows + 1 - k) (Vovk
    2012, arXiv:1209.2673, prop. 2); below the smallest, its ratio to p is kept.
    """
    k = np.clip(p * (rows + 1), 1, rows)
    at_most = special.betaincinv(k, rows + 1 - k, 1 - DOUBT) * np.minimum(1, p * (rows + 1) / k)
    return np.asarray(special.gammainc(found, samples * at_most) <= DOUBT)  # P(Poisson >= found)


def _shift(levels: Floats, counts: NDArray[np.integer], rows: int) -> float:
    """How far the null lies above the calibration, in normal scores, >= 0: maximum likelihood from the bulk.

    Below its end the normal scores of normal samples follow a truncated normal (Efron 2004, section 4); its mean is all
    that the likelihood needs. Never negative, so that the correction can only spare samples. `levels` are the p-values
    in their order, each once, `counts` how many samples have it.
    """
    z, counts = -special.ndtri(np.clip(levels - 0.5 / (rows + 1), 1e-300, 1 - 1e-15))[::-1], counts[::-1]
    behind = np.cumsum(counts)
    places = np.column_stack([behind - counts, behind - 1]).ravel()  # the first and the last sample of each level
    end = max(BULK_END, float(np.interp(0.4 * (behind[-1] - 1), places, np.repeat(z, 2))))  # or the 0.4 quantile
    bulk = z <= end
    shifts = np.linspace(0, LARGEST_SHIFT, 101)
    likelihood = np.average(z[bulk], weights=counts[bulk]) * shifts - shifts**2 / 2 - special.log_ndtr(end - shifts)
    return float(shifts[np.argmax(likelihood)])
