"""Fresh Python processes."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "lightning", "pytorch_lightning", "scipy", "matplotlib", "jinja2", "jsonargparse", "yaml", "ruamel")


def loaded_by(code: str) -> set[str]:
    """Which heavy packages a fresh Python holds after running ``code``."""
    report = f"\nimport sys; print('HEAVY', *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def run(code):
    """The names that the code defines, where lrfinder cannot be imported."""
    names = {}
    held = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "lrfinder"}
    sys.modules.update(dict.fromkeys(held))  # None: an import of it is an error
    try:
        exec(compile(code, "printed", "exec"), names)
    finally:
        sys.modules.update(held)
    return names
