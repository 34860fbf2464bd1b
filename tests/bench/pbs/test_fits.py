"""Fits: the format of `wars.toml`, what is no fit, and what is drawn from one."""

from __future__ import annotations

import numpy as np
import pytest

from bench.pbs.fits import (
    NOTHING,
    BadFits,
    decode_fits,
    decode_mix,
    exponential,
    find_model,
)

LEG = '[[1, "constant", 1.0]]'


def test_a_model_has_its_legs_apart_or_three_of_them_as_one() -> None:
    text = f'[a]\nW = {LEG}\nARS = [[1, "exponential", 2.0]]\n'
    model = decode_fits(text, "x")["a"]
    assert model.a == model.r == model.s == exponential(2.0) != model.w
    apart = f"[a]\nW = {LEG}\nA = {LEG}\nR = {LEG}\nS = {LEG}\nOWN = {LEG}\n"
    assert decode_fits(apart, "x")["a"].own == model.w
    assert model.own == NOTHING


def test_a_model_may_be_based_on_another_that_comes_later() -> None:
    text = f'[far]\nbase = "near"\nremote_one_way_ms = 75\n[near]\nW = {LEG}\nARS = {LEG}\n'
    models = decode_fits(text, "x")
    assert models["far"] == models["near"]._replace(name="far", remote_ms=75.0)


def test_a_model_is_found_whatever_its_case() -> None:
    models = decode_fits(f"[Some]\nW = {LEG}\nARS = {LEG}\n", "x")
    assert find_model(models, "sOME").name == "Some"
    with pytest.raises(BadFits, match=r"no model 'other'; there are Some"):
        find_model(models, "other")


BAD = {
    "": "no model",
    "x = 1": "x is not a table",
    "[a": "not TOML",
    "[a]": "misses W, A, R, S",
    f"[a]\nW = {LEG}": "misses A, R, S",
    f"[a]\nARS = {LEG}": "misses W",
    f"[a]\nW = {LEG}\nARS = {LEG}\nR = {LEG}": "has ARS, and R too",
    f"[a]\nW = {LEG}\nARS = {LEG}\nZ = {LEG}": "unknown field 'Z'",
    '[a]\nbase = "b"\nremote_one_way_ms = 1': "no model 'b'",
    '[a]\nbase = "a"\nremote_one_way_ms = 1': "based on itself",
    '[a]\nbase = "b"\nremote_one_way_ms = 1\n[b]\nbase = "a"\nremote_one_way_ms = 1': "itself",
    f'[a]\nbase = "b"\n[b]\nW = {LEG}\nARS = {LEG}': "misses remote_one_way_ms",
    f'[a]\nbase = "b"\nremote_one_way_ms = -1\n[b]\nW = {LEG}\nARS = {LEG}': "is -1",
    f'[a]\nbase = "b"\nremote_one_way_ms = true\n[b]\nW = {LEG}\nARS = {LEG}': "no number",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_fit_is_told_clearly(text: str) -> None:
    with pytest.raises(BadFits) as caught:
        decode_fits(text, "f.toml")
    assert str(caught.value).startswith("f.toml: ")
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "list of rows"),
        ("pareto", "list of rows"),
        ([1.0, "constant", 1.0], "row 1"),
        ([[1.0]], r"\[weight, kind"),
        ([[1.0, "gauss", 1.0, 1.0]], "no kind 'gauss'; there are pareto"),
        ([[1.0, ["pareto"], 1.0, 1.0]], "no kind"),
        ([[1.0, "pareto", 1.0]], "takes xm and alpha"),
        ([[1.0, "exponential", 1.0, 2.0]], "takes rate"),
        ([[0.5, "constant", 1.0]], "sum to 0.5"),
        ([[0.6, "constant", 1.0], [0.6, "constant", 1.0]], "sum to 1.2"),
        ([[-1.0, "constant", 1.0], [1.0, "constant", 1.0]], "the weight is -1"),
        ([[0.0, "constant", 1.0], [1.0, "constant", 1.0]], "the weight is 0"),
        ([[float("nan"), "constant", 1.0]], "the weight is nan"),
        ([[True, "constant", 1.0]], "no number"),
        ([[1.0, "exponential", 0]], "rate is 0"),
        ([[1.0, "exponential", -0.1]], "rate is -0.1"),
        ([[1.0, "exponential", float("nan")]], "rate is nan"),
        ([[1.0, "exponential", "fast"]], "no number"),
        ([[1.0, "pareto", float("inf"), 1.0]], "xm is inf"),
        ([[1.0, "pareto", 1.0, 0.0]], "alpha is 0"),
        ([[1.0, "pareto", 1.0, 1e-6]], "alpha is 1e-06"),
        ([[1.0, "constant", -1.0]], "ms is -1"),
        ([[1.0, "constant", 10**400]], "ms is too large"),
        ([[1 / 99, "constant", 1.0]] * 99, "99 rows"),
    ],
)
def test_what_is_no_distribution_is_told_clearly(rows: object, told: str) -> None:
    with pytest.raises(BadFits, match=told):
        decode_mix(rows, "leg")


def test_samples_have_the_distribution() -> None:
    rows = [[0.5, "pareto", 2.0, 3.0], [0.3, "exponential", 0.1], [0.2, "constant", 1.5]]
    drawn = decode_mix(rows, "leg").draw(np.random.default_rng(1), (400_000,))
    for x in (1.4, 1.6, 3.0, 20.0):
        wanted = 0.3 * (1 - np.exp(-0.1 * x)) + 0.2 * (x >= 1.5)
        wanted += 0.5 * (1 - (2.0 / x) ** 3 if x > 2 else 0)
        assert (drawn <= x).mean() == pytest.approx(wanted, abs=0.003)
