"""Limits of a quadratic with known eigenvalues, and torch's own optimizers on both sides of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lrfinder import InputError
from lrfinder.advice.curvature import limit_from, stability_constant, top_curvature

OPTIMIZERS = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.SGD, {"momentum": 0.8, "dampening": 0.5}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {"betas": (0.9, 0.0), "eps": 1e6}),  # so large an eps is the whole preconditioner
    (torch.optim.RMSprop, {"alpha": 0.0, "eps": 1e6}),
]


def test_the_top_eigenvalue_of_a_known_matrix():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    matrix = basis @ np.diag(np.linspace(-3.0, 7.0, 40)) @ basis.T
    value, vector = top_curvature(lambda v: matrix @ v, 40)
    assert value == pytest.approx(7.0, rel=1e-3)
    assert vector @ matrix @ vector == pytest.approx(7.0, rel=1e-3)


@pytest.mark.parametrize("share", [0.98, 1.02])
@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS)
def test_torch_converges_below_the_limit_and_diverges_above(kind, settings, share):
    curvature = 3.0
    constant, _, _ = stability_constant(kind.__name__, settings)
    limit = constant / curvature * settings.get("eps", 1.0)
    weight = torch.nn.Parameter(torch.tensor(1e-3, dtype=torch.float64))
    optimizer = kind([weight], lr=1e-9 * limit, **settings)
    for step in range(2000):
        if step == 200:  # by then Adam no longer corrects its bias
            optimizer.param_groups[0]["lr"] = share * limit
        optimizer.zero_grad()
        (0.5 * curvature * weight**2).backward()
        optimizer.step()
        if abs(weight.item()) > 1:
            break
    assert (abs(weight.item()) > 1) == (share > 1)


def test_the_interval_comes_from_the_batches():
    limit = limit_from([1.0, 3.0, 2.0, 2.0], "SGD", {"momentum": 0.9})
    assert (limit.lr, limit.sharpness, limit.form) == (1.9, 2.0, "heavy ball")
    assert limit.lr_low < limit.lr < limit.lr_high
    wide = limit_from([-5.0, 9.0], "SGD", {})
    assert wide.lr_high == math.inf
    assert wide.to_dict()["lr_high"] == "Infinity"


def test_what_has_no_limit_is_an_error():
    with pytest.raises(InputError, match="got Adagrad"):
        stability_constant("Adagrad", {})
    with pytest.raises(InputError, match="two batches"):
        limit_from([1.0], "SGD", {})
    with pytest.raises(InputError, match="positive"):
        limit_from([-1.0, -2.0], "SGD", {})
    with pytest.raises(InputError, match="blown up"):
        top_curvature(lambda v: v * math.nan, 10)
