"""How long the light entrances take, each in a fresh interpreter, against `import torch` and `import lightning`.

python benchmarks/imports.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lrfinder import Curve, write_curve_csv

REPEATS = 5


def seconds(code: str) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curve.csv"
        lrs = [10 ** (-5 + i / 10) for i in range(60)]
        write_curve_csv(Curve(lrs, [2 - 1 / (1 + (0.01 / lr) ** 2) + min(lr**3, 9) for lr in lrs]), path)
        arguments = ["suggest", "--curve", str(path), "--report", str(path.with_suffix(".html"))]
        suggest = f"from lrfinder.cli.main import main; main({arguments!r})"
        rows = {
            "python, nothing": "pass",
            "import lrfinder": "import lrfinder",
            "lrfinder suggest --curve (with report)": suggest,
            "import scipy.optimize": "import scipy.optimize",
            "import torch": "import torch",
            "import lightning.pytorch": "import lightning.pytorch",
        }
        print(f"median of {REPEATS} fresh interpreters, seconds\n")
        for name, code in rows.items():
            print(f"{name:40s} {seconds(code):6.2f}")


if __name__ == "__main__":
    main()
