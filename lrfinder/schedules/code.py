"""The suggestion as a `configure_optimizers` that needs no lrfinder."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from lrfinder.schedules.policy import Policy

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def write_code(policy: Policy, lrs: Sequence[float], optimizer: str | None = None, title: str = "") -> str:
    """Return the source of a `configure_optimizers` that sets these rates and follows the policy exactly.

    It contains the source of the policy's own decay function, so the two cannot differ.

    Args:
        lrs: peak learning rate of every param group.
        optimizer: how the optimizer is made, as `describe_optimizer` returns it; for any other text, and for None, the
            user completes the line.

    Raises:
        OSError: the source of the decay is not available.
    """
    follows_metric = policy.shape.follows_metric
    body = _follow_metric(policy) if follows_metric else _FOLLOW_STEPS
    imports, definitions = ([], []) if follows_metric else _multiplier(policy)
    head = [f"# {title}"] if title else []
    head += [*imports, ""] if imports else []
    method = _function("configure_optimizers(self)", [*_optimizer(lrs, optimizer), *body])
    return "\n\n\n".join(["\n".join([*head, "import torch"]), *definitions, method]) + "\n"


_TORCH_OPTIMIZER = re.compile(r"(torch\.optim\.\w+)\(((?:\w+=[-+.\w]+(?:, )?|\w+=\((?:[-+.\w]+(?:, )?)+\)(?:, )?)*)\)")


def describe_optimizer(optimizer: Optimizer, module: nn.Module) -> str | None:
    """Return the call that makes an optimizer, without its rate, such as ``torch.optim.SGD(momentum=0.9)``.

    Returns:
        None if the class is not one of torch, if a param group has its own settings, if there are several groups, or if
        the group lacks trainable parameters of the module.
    """
    from torch import optim

    kind, group = type(optimizer), optimizer.param_groups[0]
    if getattr(optim, kind.__name__, None) is not kind or len(optimizer.param_groups) > 1:
        return None
    if any(group.get(name) != value for name, value in optimizer.defaults.items() if name != "lr"):
        return None
    if {id(p) for p in module.parameters() if p.requires_grad} - {id(p) for p in group["params"]}:
        return None
    parameters = inspect.signature(kind).parameters
    changed = {
        name: value
        for name, value in optimizer.defaults.items()
        if name != "lr" and name in parameters and value != parameters[name].default
    }
    text = f"torch.optim.{kind.__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"
    return text if _TORCH_OPTIMIZER.fullmatch(text) else None


def parse_optimizer(text: object) -> tuple[str, dict[str, Any]] | None:
    """Return class path and arguments from a text of `describe_optimizer`; None for any other value."""
    known = _TORCH_OPTIMIZER.fullmatch(text) if isinstance(text, str) else None
    if known is None:
        return None
    try:
        call = cast(ast.Call, ast.parse(known[0], mode="eval").body)
        return known[1], {one.arg: ast.literal_eval(one.value) for one in call.keywords if one.arg is not None}
    except (ValueError, SyntaxError):  # inf, a name
        return None


def _optimizer(lrs: Sequence[float], optimizer: object) -> list[str]:
    # A text from a file could be anything.
    known = _TORCH_OPTIMIZER.fullmatch(optimizer) if isinstance(optimizer, str) else None
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


_FOLLOW_STEPS = [
    "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)  # step it once per optimizer step",
    'return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}',
]


def _follow_metric(policy: Policy) -> list[str]:
    return [
        f"scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, {_arguments(policy)})",
        'monitor = "val_loss"  # yours; with mode="max" above, where more is better',
        'return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": monitor}}',
    ]


def _multiplier(policy: Policy) -> tuple[list[str], list[str]]:
    """Return the imports that the policy needs, and the definitions, of which the last is ``multiplier``."""
    warmup, total, decay = policy.warmup_steps, policy.total_steps, policy.shape.decay
    lines = [f'"""{policy.text[0].upper()}{policy.text[1:]}."""']
    if warmup:
        lines += [f"if step < {warmup}:", f"    return (step + 1) / {warmup + 1}"]
    imports: list[str] = []
    definitions: dict[str, str] = {}
    if decay is None or total is None:
        lines.append("return 1.0")
    else:
        _define(decay, imports, definitions)
        n, arguments = total - warmup, _arguments(policy)
        step = f"step - {warmup}" if warmup else "step"
        lines.append(f"return {decay.__name__}(min({step}, {n}), {n}{', ' if arguments else ''}{arguments})")
    return imports, [*definitions.values(), _function("multiplier(step)", lines)]


def _define(function: Callable[..., float], imports: list[str], definitions: dict[str, str]) -> None:
    """Add the source of a function, after that of everything it uses from its module."""
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function)).rstrip()
    for name in dict.fromkeys(re.findall(r"[^\W\d]\w*", source)):
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType) and f"import {name}" not in imports:
            imports.append(f"import {name}")
        elif isinstance(value, FunctionType) and value is not function and name not in definitions:
            _define(value, imports, definitions)
        elif isinstance(value, (int, float, tuple)):
            definitions[name] = f"{name} = {value!r}"
    definitions[function.__name__] = source


def _arguments(policy: Policy) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in policy.params.items())


def _function(head: str, lines: Sequence[str]) -> str:
    return "\n".join([f"def {head}:", *(f"    {line}" for line in lines)])
