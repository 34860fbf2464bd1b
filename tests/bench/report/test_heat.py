"""The (R, W) table: predicted everywhere, measured where it was."""

from __future__ import annotations

import random

from made_run import made_curve, made_prediction, made_predictions

from bench.report.heat import heat_maps, shade, told


def test_every_cell_is_predicted_and_the_measured_one_is_marked() -> None:
    predictions = [one.prediction for one in made_predictions()]
    maps = heat_maps(predictions, [made_curve(random.Random(1))])
    assert [one.title for one in maps] == [f"t = {t}\N{NO-BREAK SPACE}ms" for t in ("0", "5", "10")]
    cells = {(r, w): cell for r, row in enumerate(maps[0].rows, 1) for w, cell in enumerate(row, 1)}
    assert len(cells) == 9
    assert all(cell.text for cell in cells.values())
    assert [where for where, cell in cells.items() if cell.measured] == [(1, 1)]
    assert cells[3, 3].text == "100\N{NO-BREAK SPACE}%"
    assert cells[1, 1].color != cells[3, 3].color
    assert told(predictions) == "measured (/admin/wars), whole vectors"


def test_of_many_times_some_far_apart_are_shown() -> None:
    predictions = [made_prediction(r, 1, "iid").prediction for r in (1, 2)]
    for one in predictions:
        one.p_fresh.update({str(t): 1.0 for t in (60, 70, 80, 90, 100)})
    titles = [one.title.replace("\N{NO-BREAK SPACE}", " ") for one in heat_maps(predictions, [])]
    assert titles == ["t = 0 ms", "t = 50 ms", "t = 80 ms"]


def test_one_cell_makes_no_table() -> None:
    assert heat_maps([made_prediction(1, 1, "iid").prediction], []) == []
    assert heat_maps([], []) == []


def test_the_colours_run_from_dark_to_light() -> None:
    light = [sum(shade(part / 10)) for part in range(11)]
    assert light == sorted(light)
    assert shade(-1) == shade(0)
    assert shade(2) == shade(1)
