from __future__ import annotations

import numpy as np
import pytest
from curves import SPECTRA, descended, descended_on_batches

from lrfinder.divergence import blow_up
from lrfinder.fit import fit_range, usable
from lrfinder.sweep import Ladder


def limit_of(curve):
    lr, loss, diverged = usable(curve)
    assert diverged
    return blow_up(lr, loss)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sharpness", [0.3, 70.0])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_limit_of_gradient_descent_is_two_over_the_sharpness(spectrum, sharpness, seed):
    found = limit_of(descended(sharpness * SPECTRA[spectrum], seed=seed))
    assert found.lr_limit == pytest.approx(2 / sharpness, rel=0.01)
    assert found.momentum == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spectrum", ["power law", "steep power law", "one above a bulk"])
def test_momentum_raises_the_limit_and_is_found_with_it(spectrum, seed):
    found = limit_of(descended(7.0 * SPECTRA[spectrum], momentum=0.5, seed=seed))
    assert found.lr_limit == pytest.approx(2 * 1.5 / 7.0, rel=0.06)
    assert found.momentum == pytest.approx(0.5, abs=0.06)


def test_a_finer_ladder_finds_it_better():
    errors = [
        abs(limit_of(descended(SPECTRA["power law"], 0.5, ladder=Ladder(1e-5, 1e2, steps))).lr_limit - 3.0)
        for steps in (150, 600)
    ]
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize(("scale", "shift"), [(1e6, 0.0), (1e-6, 0.0), (1.0, -100.0), (-3.0, 0.0)])
def test_the_unit_and_the_origin_of_the_loss_do_not_matter(scale, shift):
    lr, loss, _ = usable(descended(SPECTRA["power law"]))
    found = blow_up(lr, scale * loss + shift)
    if scale < 0:  # falling for ever is no blow-up
        assert found is None
    else:
        assert found.lr_limit == pytest.approx(2.0, rel=0.01)


def test_it_is_the_limit_that_the_fit_reports():
    fit = fit_range(descended(10 * SPECTRA["power law"]))
    assert fit.lr_diverge == fit.blow_up.lr_limit == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("batch", [4, 64])
def test_mini_batches_follow_no_such_law_and_give_no_number(batch, momentum):
    for seed in range(10):
        assert limit_of(descended_on_batches(batch, momentum, seed)) is None


def test_a_fit_without_such_a_law_reports_its_lowest_place():
    fit = fit_range(descended_on_batches(16, 0.0, 0))
    assert fit.blow_up is None
    assert fit.lr_diverge == fit.lr_lowest


@pytest.mark.parametrize(
    "end",
    [
        [2.0, 4.0, 8.0, 16.0],
        [1.0, 2.0, 4.0, 8.0, 16.0],
        [1.0, 2.0, 4.0, 3.0, 9.0, 30.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.1, 1.2, 1.3, 1.4, 1.5, 1.6],
        [1.0, 1.0, 1.1, 9.0, 9.1, 90.0],
    ],
    ids=["too few", "too few after the last lowest", "not monotone", "flat", "linear", "in jumps"],
)
def test_an_end_of_another_shape_gives_no_number(end):
    loss = np.array([3.0] * 10 + [1.0] + end)
    assert blow_up(np.geomspace(1e-3, 1, loss.size), loss) is None
