"""scikit-learn's own checks of estimators, by name, beside PyOD's AutoEncoder -> results/sklearn.csv.

    python bench/sklearn_checks.py                              # three minutes on one core

No failure is expected of any. Ours learn for 100 steps, else everything is as shipped.
"""

import csv
import warnings
from collections import Counter

from common import RESULTS
from pyod.models.auto_encoder import AutoEncoder
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import check_estimator

from aekit.sklearn import AutoencoderDetector, AutoencoderTransformer, Denoiser

OPTIONS = {"steps": 100}
ESTIMATORS = {
    "AutoencoderDetector": AutoencoderDetector(options=OPTIONS),
    "AutoencoderTransformer": AutoencoderTransformer(options=OPTIONS),
    "Denoiser": Denoiser(options=OPTIONS),
    "PyOD AutoEncoder": AutoEncoder(verbose=0),
}


def checked(estimator: BaseEstimator) -> dict[str, str]:
    """passed, failed or skipped by the name of the check; one that is made again has a number."""
    found: dict[str, str] = {}
    times: Counter[str] = Counter()
    for result in check_estimator(estimator, on_fail=None, on_skip=None):
        name = result["check_name"]
        times[name] += 1
        found[name if times[name] == 1 else f"{name} ({times[name]})"] = result["status"]
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    results = {}
    for name, estimator in ESTIMATORS.items():
        results[name] = checked(estimator)
        print(name, dict(Counter(results[name].values())), flush=True)
    checks = dict.fromkeys(check for found in results.values() for check in found)
    with (RESULTS / "sklearn.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["check", *results])
        for status in ("passed", "failed", "skipped"):
            writer.writerow([status, *(list(found.values()).count(status) for found in results.values())])
        writer.writerows([check, *(found.get(check, "") for found in results.values())] for check in checks)


if __name__ == "__main__":
    main()
