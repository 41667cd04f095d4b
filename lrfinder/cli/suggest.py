"""`lrfinder suggest`: its options, and what it prints and writes."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lrfinder.cli.code_ref import CodeRef, without_byte_code
from lrfinder.cli.options import DEFAULTS, with_requested_policy
from lrfinder.cli.suggest_target import build, chosen, config_arguments, facts, read_search_options, seed_of
from lrfinder.cli.terminal import answer_alone, name_options, render
from lrfinder.errors import InputError
from lrfinder.evidence.curve import read_curve
from lrfinder.files import check_writable, is_device, replace_file

if TYPE_CHECKING:
    from lrfinder.answer.comparison import Comparison
    from lrfinder.answer.suggestion import Suggestion
    from lrfinder.cli.jobs import Job, Suggest
    from lrfinder.probing.options import SearchOptions
    from lrfinder.probing.search import Journal


Found = list[tuple[str, "Suggestion"]]
"""The suggestion for every optimizer, with its name."""

_TRAINING = (
    "target", "data", "config", "epochs", "optimizer", "seed", "accelerator", "devices", "precision", "strategy",
    "method", "budget", "min_lr", "max_lr", "monitor", "mode", "journal", "dry_run", "write_config",
)  # fmt: skip
"""Options that decide how to train, and are therefore refused with a recorded curve."""

_WRITTEN = ("report", "plot", "out", "journal", "write_config")


def run(options: argparse.Namespace, command: str) -> int:
    """Search, write, print; return the exit code."""
    _check(options)
    with without_byte_code():
        if options.curve is not None:
            found, interrupted, prints = [("", _from_curve(options).with_environment(command=command))], False, True
        elif options.dry_run:
            return _dry_run(options)
        else:
            with answer_alone():
                found, interrupted, prints = _searched(options, command)
        if prints:
            comparison = None
            if len(options.optimizer) > 1:
                from lrfinder.answer.comparison import compare

                comparison = compare(found)
            _write(found, comparison, options, command)
            _print(found, comparison, options)
            if options.write_config is not None:  # last: if it fails, the answer has been printed already
                _write_config(found[0][1], options)
    if interrupted:
        return 130
    return 0 if any(suggestion.lr is not None for _, suggestion in found) else 1


def _check(options: argparse.Namespace) -> None:
    """Check the options before anything heavy is loaded."""
    _check_files(options)
    if options.curve is not None:
        for name in _TRAINING:
            value = getattr(options, name)
            if value != DEFAULTS.get(name) and value is not False and value not in (None, []):
                what = "a target" if name == "target" else _flag(name)
                got = value[0] if isinstance(value, list) else value
                raise InputError(f"{what} is for a training and must be left out with --curve, got {got}")
        for name, value in options.dotted:
            raise InputError(f"--{name} is for a training and must be left out with --curve, got {value}")
    if options.write_config is not None and not options.config:
        raise InputError("--write-config must be given with the --config to copy, got none")
    if options.write_config is not None and options.optimizer:
        raise InputError(f"--write-config must be given without --optimizer, got {options.optimizer[0]}")
    if options.write_config is not None and options.policy == "plateau" and options.monitor is None:
        raise InputError("--policy plateau with --write-config must be given with the --monitor to follow, got none")


def _check_files(options: argparse.Namespace) -> None:
    targets = [CodeRef.parse(*given) for given in ((options.target,), (options.data, "--data")) if given[0] is not None]
    code = {target.where for target in targets if target.is_file}
    paths = [path for path in (options.curve, *options.config, *code) if path is not None]
    for name in _WRITTEN:
        if (path := getattr(options, name)) is not None:
            check_writable(path, _flag(name))
            written = [path] if name in ("out", "write_config") else _paths(path, options)
            for one in written:
                check_writable(one, _flag(name))
            written += [path] if name == "report" else []  # the comparison, if there are several
            paths += dict.fromkeys(written)
    paths = list(map(os.path.abspath, paths))
    if len(set(paths)) < len(paths):
        raise InputError(
            "--curve, --report, --plot, --out and --journal must name different files, and so must --config,"
            f" --write-config and what is imported, got {', '.join(paths)}"
        )
    if options.plot is not None and not options.plot.lower().endswith(".png"):
        raise InputError(f"--plot must name a .png file, got {options.plot}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _searched(options: argparse.Namespace, command: str) -> tuple[Found, bool, bool]:
    """Search with every optimizer; return the suggestions, whether Ctrl-C ended it, and whether this process prints."""
    search = read_search_options(options)
    quiet = options.quiet or os.environ.get("LOCAL_RANK", "0") != "0"  # one process of several is enough
    found: Found = []
    choices, prints = chosen(options), True
    journals = [None] * len(choices) if options.journal is None else _paths(options.journal, options)
    if options.target is None and not options.config and not quiet:
        print("No target was given: tuning a small network on the bundled handwritten digits.", file=sys.stderr)
    for index, (choice, journal) in enumerate(zip(choices, journals, strict=True), start=1):
        if len(choices) > 1 and choice is not None and not quiet:
            print(f"Optimizer {index} of {len(choices)}: {choice.name}", file=sys.stderr)
        try:
            job = build(options, search, choice)
            suggestion = _suggested(job, search, journal, facts(options, choice), quiet)
            prints = job.is_main_process
        except KeyboardInterrupt:
            if not found:
                raise
            return found, True, prints
        environment = {"seed": seed_of(options) if job.seed is None else job.seed, "command": command}
        found.append(("" if choice is None else choice.name, suggestion.with_environment(**environment)))
        if suggestion.interrupted:
            return found, True, prints
    return found, False, prints


def _suggested(job: Job, search: SearchOptions, path: str | None, facts: dict[str, Any], quiet: bool) -> Suggestion:
    from lrfinder.probing.progress import progress_bar
    from lrfinder.probing.search import Journal

    def open_journal(asked: SearchOptions) -> Journal:
        assert path is not None
        opened = Journal(path, {**asked.journal_header(), **facts})
        if opened.resumed and not quiet:
            from tqdm.auto import tqdm

            tqdm.write(f"Resuming from {path}, which holds {opened.resumed} results.", file=sys.stderr)  # above the bar
        return opened

    def question(asked: SearchOptions, suggest: Suggest) -> Suggestion:
        with progress_bar(not quiet and job.is_main_process) as bar:
            return suggest(bar, None if path is None else open_journal)

    return job.ask(search, question)


def _dry_run(options: argparse.Namespace) -> int:
    search = read_search_options(options)
    with answer_alone():
        choices = chosen(options)
        job = build(options, search, choices[0])
        asked = job.ask(search, lambda asked, suggest: asked)
    if not job.is_main_process:
        return 0
    if options.json:
        print(json.dumps({**asked.dry_run(), "searches": len(choices)}, indent=2, allow_nan=False))
        return 0
    print(render(asked.dry_run_lines(), sys.stdout))
    if len(choices) > 1:
        print(f"Searches  {len(choices)} like this one: {', '.join(options.optimizer)}")
    return 0


def _from_curve(options: argparse.Namespace) -> Suggestion:
    from lrfinder.answer.choose import choose, suggest
    from lrfinder.answer.suggestion import Suggestion

    curve, document = read_curve(options.curve)
    horizon = document.get("horizon")
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
        raise InputError(f"{options.curve}: horizon must be a positive whole number or null, got {horizon!r:.60}")
    steps = options.steps if options.steps is not None else horizon
    again = None
    if document.get("probes"):
        before = Suggestion.from_dict(document, options.curve)
        again = choose(before.evidence, steps=steps)
        again = again.with_environment(**before.environment)
    return with_requested_policy(again or suggest(curve, steps=steps), read_search_options(options))


def _write(found: Found, comparison: Comparison | None, options: argparse.Namespace, command: str) -> None:
    from lrfinder.report.page import report_html, report_png

    if options.out is not None:
        replace_file(options.out, _document(found, comparison))
    if options.plot is not None:
        for path, (_, suggestion) in zip(_paths(options.plot, options), found, strict=False):  # fewer after Ctrl-C
            replace_file(path, report_png(suggestion))
    for path, (_, suggestion) in zip(_paths(options.report, options), found, strict=False):
        replace_file(path, report_html(suggestion, command))
    if comparison is not None:
        from lrfinder.report.comparison_page import comparison_html

        replace_file(options.report, comparison_html(comparison, command))


def _write_config(suggestion: Suggestion, options: argparse.Namespace) -> None:
    from lrfinder.cli.config_write import write_config

    aside = sys.stderr if options.json or options.code else sys.stdout
    if suggestion.lr is None:
        if not options.quiet:
            print(f"Config    {options.write_config} was not written: there is no rate to put there", file=aside)
        return
    *before, source = options.config
    with answer_alone():
        arguments = config_arguments(options, read_search_options(options), None)
        write_config(
            source, options.write_config, suggestion,
            before=before, monitor=options.monitor, mode=options.mode, **arguments,
        )  # fmt: skip
    if not options.quiet:
        print(f"Config    {options.write_config}", file=aside)


def _print(found: Found, comparison: Comparison | None, options: argparse.Namespace) -> None:
    best = found[0][1]
    if options.json:
        print(_document(found, comparison).decode(), end="")
    elif comparison is not None:
        best = comparison.first.suggestion
        if not options.code:
            print(comparison.table())
            print(_rendered(comparison.lines(), options), end="\n\n")
            print(f"With {comparison.first.name}:")
            print(_rendered(best.lines(options.verbose), options))
    elif not options.code:
        print(_rendered(best.lines(options.verbose), options))
    if options.code:
        _print_code(best, options)
    if not options.quiet:
        aside = sys.stderr if options.json or options.code else sys.stdout
        for path in dict.fromkeys((options.report, *_paths(options.report, options)[: len(found)])):
            print(f"Report    {path}", file=aside)


def _rendered(lines: Iterable[tuple[str, str]], options: argparse.Namespace, stream: TextIO | None = None) -> str:
    named = [(label, name_options(text, vars(options))) for label, text in lines]
    named = [(label, text.replace("with details()", "with --verbose")) for label, text in named]
    if options.curve is None:
        named = [(label, text.replace("Give --steps.", "Give --steps or --epochs.")) for label, text in named]
    return render(named, stream or sys.stdout)


def _print_code(suggestion: Suggestion, options: argparse.Namespace) -> None:
    if suggestion.lr is None:
        print(_rendered(suggestion.lines(), options, sys.stderr), file=sys.stderr)
    elif suggestion.policy is None:
        print(f"# {suggestion.headline()}; keep your own scheduler\nlr = {suggestion.lr!r}")
    else:
        print(suggestion.code(), end="")


def _document(found: Found, comparison: Comparison | None) -> bytes:
    document = found[0][1].to_dict() if comparison is None else comparison.to_dict()
    text = io.BytesIO()  # a long curve as one str, and the pieces it is joined from, would take five times the memory
    with io.TextIOWrapper(text, "utf-8", newline="") as file:
        json.dump(document, file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        return text.getvalue()


def _paths(path: str, options: argparse.Namespace) -> list[str]:
    """Return a path for each of several optimizers: ``report.html`` becomes ``report-sgd.html``."""
    whole = Path(path)
    if len(options.optimizer) < 2:
        return [path]
    if is_device(whole):
        return [path] * len(options.optimizer)
    return [str(whole.with_name(f"{whole.stem}-{name}{whole.suffix}")) for name in dict.fromkeys(options.optimizer)]
