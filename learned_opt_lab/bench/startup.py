"""Seconds from the start of `learned-opt train quickstart` to its first outer step,
cold and with the cache.

    python -m learned_opt_lab.bench.startup

The first start finds an empty compilation cache, the second the one that the first has filled.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST = "outer step 1/"
"""What the line of plain progress on the first outer step starts with."""


def run(config: str = "quickstart", timeout: float = 300.0) -> dict[str, float]:
    """Seconds of a cold start, of a second one, and of importing what the command needs.

    Raises:
      RuntimeError: the command ended before its first outer step.
    """
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "XDG_CACHE_HOME": directory}
        cold, warm = (
            _first_step(config, Path(directory, name), environment, timeout)
            for name in ("cold", "warm")
        )
    start = time.perf_counter()
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import learned_opt_lab.cli.commands.train, learned_opt_lab.runs.course",
        ],
        check=True,
    )
    imports = time.perf_counter() - start
    return {"cold_seconds": cold, "warm_seconds": warm, "import_seconds": imports}


def _first_step(config: str, run_dir: Path, environment: dict[str, str], timeout: float) -> float:
    command = [
        sys.executable,
        "-m",
        "learned_opt_lab.cli.main",
        "train",
        config,
        "--run-dir",
        str(run_dir),
    ]
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, encoding="utf-8", env=environment
    ) as process:
        try:
            for line in process.stdout:
                if line.startswith(FIRST):
                    return time.perf_counter() - start
                if time.perf_counter() - start > timeout:
                    break
        finally:
            process.kill()
    raise RuntimeError(f"{' '.join(command)} showed no outer step within {timeout} s")


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
