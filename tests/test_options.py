"""Progress as the program tells it: how much is done, how fast, and how long it will take."""

import pytest

from aekit.cli import _options


@pytest.mark.parametrize(
    ("done", "total", "seconds", "since", "line"),
    [
        (120_000, 2_000_000, 30, 120_000, "rows: 120,000 of 2,000,000, 4,000 a second, 8 min left"),
        (90, 100, 20, 5, "rows: 90 of 100, 0.25 a second, 40 s left"),
        (1_000, 1_000_000, 100, 1_000, "rows: 1,000 of 1,000,000, 10 a second, 27.8 h left"),
        (100, 100, 7, 60, "rows: 100 of 100, 8.57 a second, 0 s left"),
        (50, 100, 0, 0, "rows: 50 of 100"),
    ],
)
def test_a_line_of_progress_tells_rate_and_time_left(
    done: int, total: int, seconds: float, since: int, line: str
) -> None:
    assert _options.progress_line("rows", done, total, seconds, since) == line


@pytest.mark.parametrize("description", ["rows", "training"])
def test_a_log_gets_lines_and_the_first_call_is_where_it_begins(
    description: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for pause in ("SECONDS_BETWEEN_LINES", "SECONDS_OF_TRAINING"):
        monkeypatch.setattr(_options, pause, 0.0)
    with _options._plain_track(description, 1000) as advance:
        for done in (900, 950, 1000):
            advance(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{description}: 900 of 1,000"
    assert [line.split(", ")[0] for line in lines[1:]] == [f"{description}: {n} of 1,000" for n in ("950", "1,000")]
    assert all(line.endswith(" left") for line in lines[1:])
    monkeypatch.setattr(_options, "SECONDS_BETWEEN_LINES", 1000.0)
    monkeypatch.setattr(_options, "SECONDS_OF_TRAINING", 1000.0)
    with _options._plain_track(description, 1000) as advance:
        advance(10)
    assert capsys.readouterr().err == ""
