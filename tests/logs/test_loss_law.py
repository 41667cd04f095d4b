from __future__ import annotations

import numpy as np
import pytest
from support.losslogs import PEAK, STEPS, TRUTH, losses, rates

from lrfinder.logs.loss_law import LossLaw, exposure, law_and_gradient


def by_the_formula(p, lr, t):
    """The law as it is printed, sum by sum."""
    floor, (a, alpha, b, c, beta, gamma), d = p[0], np.exp(p[1:7]), p[7]
    eta = lr / PEAK
    travelled = eta[: t + 1].sum() / STEPS
    start = int(np.argmax(eta >= eta.max()))
    gained = sum(
        (eta[k - 1] - eta[k])
        * (eta[:k].sum() / STEPS) ** -d
        * (1 - (1 + c * eta[k] ** -gamma * eta[k : t + 1].sum() / STEPS) ** -beta)
        for k in range(start + 1, t + 1)
    )
    return floor + a * travelled**-alpha - b * gained


@pytest.mark.parametrize("kind", ["constant", "two-stage", "cosine", "late", "rewarmed"])
def test_the_law_is_as_printed(kind):
    lr = rates(kind)
    for t in (300, 2500, STEPS):
        assert losses(lr, np.array([t]))[0] == pytest.approx(by_the_formula(TRUTH, lr, t), abs=1e-4)


def test_falls_are_gathered_into_few():
    e = exposure(rates("cosine"), np.array([STEPS]), PEAK, 1.0)
    assert e.fall.size <= 400
    assert e.fall.sum() == pytest.approx(0.9)


@pytest.mark.parametrize("kind", ["constant", "two-stage", "cosine"])
def test_the_gradient_is_that_of_the_law(kind):
    e = exposure(rates(kind), np.array([500, 2100, STEPS]), PEAK, STEPS)
    _, gradient = law_and_gradient(TRUTH, e)
    for i in range(8):
        up, down = (law_and_gradient(TRUTH + sign * 1e-6 * np.eye(8)[i], e)[0] for sign in (1, -1))
        np.testing.assert_allclose(gradient[:, i], (up - down) / 2e-6, atol=1e-8)


def test_a_rate_that_falls_to_zero_overflows_nothing():
    lr = rates("constant") * np.r_[np.linspace(1, 0, STEPS), 0]
    law = LossLaw(TRUTH + np.r_[np.zeros(6), 2.0, 0.0], np.eye(8), 1.0, PEAK, STEPS, 0.0, True)
    assert np.isfinite(law(lr, np.arange(1, STEPS + 1, 7)).loss).all()


def test_long_predictions_are_made_in_parts():
    law = LossLaw(TRUTH, np.eye(8), 1.0, PEAK, STEPS, 0.0, True)
    steps = np.arange(1, STEPS)
    whole = law(rates("two-stage"), steps)
    assert whole.gradient.shape == (STEPS - 1, 8)
    np.testing.assert_allclose(whole.loss[[0, 1234]], losses(rates("two-stage"), steps[[0, 1234]]), rtol=1e-6)


def test_the_interval_holds_noise_and_fit():
    law = LossLaw(TRUTH, np.eye(8) * 0.01, 1.0, PEAK, STEPS, 0.3, True)
    gradient = np.eye(8)[0]
    assert law.half_width_of_loss(gradient) == pytest.approx(np.hypot(1, 3) * law.half_width(gradient))
