"""Python that does what a suggestion says, without lrfinder: for those who keep the answer and drop the tool."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrfinder.schedules import Policy, part

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

__all__ = ["constructed_from", "constructor", "snippet"]

Lines = Callable[[int, Mapping[str, Any]], list[str]]
"""From the steps of the decay and its parameters: the lines that compute it from ``t`` and return it."""


def snippet(policy: Policy, lrs: Sequence[float], constructed: str | None = None, title: str = "") -> str:
    """Return the `configure_optimizers` that sets these rates and follows the policy, to the last bit.

    Args:
        policy: what to follow.
        lrs: peak learning rate of every param group.
        constructed: how the optimizer is made, as `constructor` gives it; what is none is left to the person.
        title: a first line of comment.
    """
    plateau = policy.name == "plateau"
    body = _plateau(policy) if plateau else _following()
    multiplier = [] if plateau else _multiplier(policy)
    imports = ["import math", ""] if any("math." in line for line in multiplier) else []
    lines = [f"# {title}"] if title else []
    lines += [*imports, "import torch", "", ""]
    lines += [*multiplier, "", ""] if multiplier else []
    lines += ["def configure_optimizers(self):", *(f"    {line}" for line in [*_optimizer(lrs, constructed), *body])]
    return "\n".join(lines) + "\n"


_TORCHS_OWN = re.compile(r"(torch\.optim\.\w+)\(((?:\w+=[-+.\w]+(?:, )?|\w+=\((?:[-+.\w]+(?:, )?)+\)(?:, )?)*)\)")


def constructor(optimizer: Optimizer, module: nn.Module) -> str | None:
    """Return how an optimizer of all of a module's parameters was made, such as ``torch.optim.SGD(momentum=0.9)``.

    None for other optimizers, where param groups have settings of their own, or hold only some of the parameters.
    """
    from torch import optim

    kind, group = type(optimizer), optimizer.param_groups[0]
    if getattr(optim, kind.__name__, None) is not kind or len(optimizer.param_groups) > 1:
        return None
    if any(group.get(name) != value for name, value in optimizer.defaults.items() if name != "lr"):
        return None
    if {id(p) for p in module.parameters() if p.requires_grad} - {id(p) for p in group["params"]}:
        return None
    usual = inspect.signature(kind).parameters
    set_ = {
        name: value
        for name, value in optimizer.defaults.items()
        if name != "lr" and name in usual and value != usual[name].default
    }
    text = f"torch.optim.{kind.__name__}({', '.join(f'{name}={value!r}' for name, value in set_.items())})"
    return text if _TORCHS_OWN.fullmatch(text) else None


def constructed_from(text: object) -> tuple[str, dict[str, Any]] | None:
    """Return class path and arguments of what `constructor` gave; None for anything else, from a file for one."""
    known = _TORCHS_OWN.fullmatch(text) if isinstance(text, str) else None
    if known is None:
        return None
    try:
        call = ast.parse(known[0], mode="eval").body
        return known[1], {str(one.arg): ast.literal_eval(one.value) for one in getattr(call, "keywords", ())}
    except (ValueError, SyntaxError):  # inf, a name
        return None


def _optimizer(lrs: Sequence[float], constructed: str | None) -> list[str]:
    known = _TORCHS_OWN.fullmatch(constructed) if constructed else None  # from a file, it could be anything
    if len(lrs) == 1 and known is not None:
        more = f", {known[2]}" if known[2] else ""
        return [f"optimizer = {known[1]}(self.parameters(), lr={lrs[0]!r}{more})"]
    if len(lrs) == 1:
        return [f"optimizer = ...  # yours, with lr={lrs[0]!r}"]
    rates = ", ".join(repr(lr) for lr in lrs)
    return [
        f"optimizer = ...  # yours, with its {len(lrs)} param groups",
        f"for group, lr in zip(optimizer.param_groups, [{rates}]):",
        '    group["lr"] = lr',
    ]


def _following() -> list[str]:
    return [
        "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)  # step it once per optimizer step",
        'return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}',
    ]


def _plateau(policy: Policy) -> list[str]:
    arguments = ", ".join(f"{name}={value!r}" for name, value in policy.params.items())
    return [
        f"scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, {arguments})",
        'monitor = "val_loss"  # yours; with mode="max" above, where more is better',
        'return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": monitor}}',
    ]


def _multiplier(policy: Policy) -> list[str]:
    """Return the policy as a function, its shares worked out to steps."""
    warmup, total = policy.warmup_steps, policy.total_steps
    lines = [f'"""{policy.text[0].upper()}{policy.text[1:]}."""']
    if warmup:
        lines += [f"if step < {warmup}:", f"    return (step + 1) / {warmup + 1}"]
    if total is None or policy.name == "constant":
        lines.append("return 1.0")
    else:
        n = total - warmup
        lines += [f"t = min({f'step - {warmup}' if warmup else 'step'}, {n})", *_DECAYS[policy.name](n, policy.params)]
    return ["def multiplier(step):", *(f"    {line}" for line in lines)]


def _to(end: float, shape: str) -> list[str]:
    return [f"return {shape}" if end == 0 else f"return {end!r} + (1 - {end!r}) * {shape}"]


def _multi_step(n: int, p: Mapping[str, Any]) -> list[str]:
    milestones = ", ".join(str(part(milestone, n)) for milestone in p["milestones"])
    return [f"return {p['gamma']!r} ** sum(t >= milestone for milestone in [{milestones}])"]


def _cosine_restarts(n: int, p: Mapping[str, Any]) -> list[str]:
    parts = 2 ** p["cycles"] - 1
    bounds = [round(n * (2**cycle - 1) / parts) for cycle in range(p["cycles"] + 1)]
    return [
        f"bounds = {bounds}",
        f"start = max(bound for bound in bounds if bound <= min(t, {n - 1}))",
        "end = min(bound for bound in bounds if bound > start)",
        "return 0.5 * (1 + math.cos(math.pi * (t - start) / (end - start)))",
    ]


def _one_cycle(n: int, p: Mapping[str, Any]) -> list[str]:
    top, last = max(p["rise"] * n - 1, 0.0), max(n - 1, 1)
    start, end = 1 / p["div_factor"], 1 / p["div_factor"] / p["final_div_factor"]
    return [
        f"start, top, down, end = {start!r}, {top!r}, {(last - top) or 1.0!r}, {end!r}",
        "if t < top:",
        "    return 1 + (start - 1) * 0.5 * (1 + math.cos(math.pi * t / top))",
        "return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min((t - top) / down, 1.0)))",
    ]


def _wsd_sqrt(n: int, p: Mapping[str, Any]) -> list[str]:
    cooldown = part(p["cooldown"], n)
    return [f"return 1 - math.sqrt(max(t - {n - cooldown}, 0) / {cooldown})"]


def _inverse_sqrt(n: int, p: Mapping[str, Any]) -> list[str]:
    timescale = part(p["timescale"], n)
    return [f"return math.sqrt({timescale} / ({timescale} + t))"]


_DECAYS: Mapping[str, Lines] = {
    "step": lambda n, p: [f"return {p['gamma']!r} ** (t // {part(p['step_size'], n)})"],
    "multi-step": _multi_step,
    "exponential": lambda n, p: [f"return {p['end']!r} ** (t / {n})"],
    "polynomial": lambda n, p: [f"return (1 - t / {n}) ** {p['power']!r}"],
    "cosine": lambda n, p: _to(p["end"], f"0.5 * (1 + math.cos(math.pi * t / {n}))"),
    "cosine-restarts": _cosine_restarts,
    "linear": lambda n, p: _to(p["end"], f"(1 - t / {n})"),
    "wsd": lambda n, p: _to(p["end"], f"min(1.0, ({n} - t) / {part(p['cooldown'], n)})"),
    "wsd-sqrt": _wsd_sqrt,
    "one-cycle": _one_cycle,
    "inverse-sqrt": _inverse_sqrt,
}
"""The formulas of `lrfinder.schedules`, in the same order of operations; a test compares them bit for bit."""
