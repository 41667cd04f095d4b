"""A `Suggestion`, or a `Comparison`, as Markdown that reads as plain text too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrfinder.report.comparison_page import list_commands
from lrfinder.report.summary import Findings, report_values

if TYPE_CHECKING:
    from lrfinder.answer.comparison import Comparison
    from lrfinder.answer.suggestion import Suggestion


_SAVED = (
    "The loss saved is the share of the final loss of a constant rate, each at its own best peak, on average over other"
    " trainings. Nothing of it was measured on this model."
)


def report_markdown(suggestion: Suggestion, command: str | None = None) -> str:
    """Return the report as Markdown: tables and text; every string in it is escaped."""
    values = report_values(Findings.of(suggestion), command)
    lines = ["# Which learning rate, and how should it decay?", ""]
    if (reason := suggestion.reason) is None:
        lines += _answer(suggestion, values)
    else:
        lines += [f"**Refused.** {_escaped(reason.why)}", "", f"What to do: {_escaped(suggestion.remedy)}", ""]
        lines += ["What was seen:", "", *(f"- {_escaped(sentence)}" for sentence in values["seen"]), ""]
    if values["probes"]:
        rows = [_probe_row(probe) for probe in values["probes"]]
        lines += ["## Every probe", "", *_table(("probe", "steps", "lr", "held-out loss", "standard error"), rows), ""]
    if suggestion.alternatives:
        rows = [(one.policy.name, f"{one.lr:.3g}", *_gains(one)) for one in suggestion.alternatives]
        lines += [
            "## Every policy",
            "",
            *_table(("policy", "peak", "loss saved", "90% interval"), rows),
            "",
            _SAVED,
            "",
        ]
    if values["moves"]:
        lines += [f"## {values['moves_title']}", "", *_table(("change", "peak", "90% interval"), values["moves"]), ""]
        lines += [*(f"- {_escaped(note)}" for note in values["moves_notes"]), ""]
    if suggestion.caveats:
        lines += ["## Before you trust it", "", *(f"- {_escaped(caveat)}" for caveat in suggestion.caveats), ""]
    spent = [(*one[:2], one.steps, "" if one.seconds is None else f"{one.seconds:.1f}") for one in values["spent"]]
    lines += ["## What was spent", "", *_table(("for", "trainings", "steps", "seconds"), spent), ""]
    lines += ["## How to repeat it", "", *_code(values["command"])]
    environment = [(name, "not installed" if value is None else value) for name, value in values["environment"]]
    return "\n".join([*lines, *_table(("", ""), environment)]).rstrip() + "\n"


def comparison_markdown(comparison: Comparison, command: str | None = None) -> str:
    """Return a comparison as Markdown: a table and text; every string in it is escaped."""
    lines = ["# Which learning rate? Results side by side", "", _escaped(comparison.verdict), ""]
    names = [entry.name for entry in comparison.entries]
    lines += [*_table(("", *names), [(name, *texts) for name, texts in comparison.rows]), ""]
    lines += ["## Before you trust them", ""]
    if comparison.caveats:
        lines += [*(f"- {_escaped(text)}" for text in comparison.caveats), ""]
    for entry in comparison.entries:
        reason = entry.suggestion.reason
        texts = [f"Refused. {reason.why} {entry.suggestion.remedy}"] if reason is not None else []
        lines += [f"### {_escaped(entry.name)}", ""]
        lines += [*(f"- {_escaped(text)}" for text in (*texts, *entry.suggestion.caveats)), ""]
    lines += ["## How to repeat it", "", *_code(command)]
    for made, made_by in list_commands(comparison, command):
        lines += [f"### {_escaped(made)}", "", *_code(made_by)]
    return "\n".join(lines).rstrip() + "\n"


def _answer(suggestion: Suggestion, values: Mapping[str, Any]) -> list[str]:
    chosen, policy = suggestion.chosen, suggestion.policy
    rows = [
        ("peak learning rate", f"{suggestion.lr:.3g}"),
        *([("of the param groups", values["groups"])] if len(suggestion.param_group_lrs) > 1 else []),
        ("90% interval", values["interval"]),
        ("confidence", suggestion.confidence.capitalize()),
        ("for a training of", "unknown length" if suggestion.horizon is None else f"{suggestion.horizon:,} steps"),
        ("policy", "your own schedule" if policy is None else policy.text),
        *((f"loss at {cost.words}", cost.text) for cost in values["costs"]),
    ]
    sentences = [*([] if chosen is None else [chosen.reason]), *values["confidence"], *values["seen"]]
    return [*_table(("", ""), rows), "", *(f"- {_escaped(sentence)}" for sentence in sentences), ""]


def _probe_row(probe: Mapping[str, Any]) -> tuple[str, ...]:
    loss = ("blew up", "") if probe["loss"] is None else (f"{probe['loss']:.4g}", f"{probe['error']:.2g}")
    return (probe["stage"], str(probe["steps"]), f"{probe['lr']:.3g}" if probe["steps"] else "", *loss)


def _gains(one: Any) -> tuple[str, str]:
    if one.gain is None:
        return "", ""
    return f"{one.gain:+.1%}", f"{one.gain_low:+.0%} to {one.gain_high:+.0%}"


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table whose columns stand below each other."""
    cells = [[_escaped(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _code(command: object) -> list[str]:
    if not command:
        return ["It was made from Python; the same call with the same model, data and seed gives the same result.", ""]
    text = str(command)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", text, fence, ""]


def _escaped(text: str) -> str:
    """Return a text on one line, in which nothing is markup."""
    flat = " ".join(text.split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))", r"\\\1", flat)
