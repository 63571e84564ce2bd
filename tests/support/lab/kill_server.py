"""Starts commands of `learned-opt` as processes of their own, and kills them:
it has imported all, and forks.

It reads lines of JSON, `{"argv": [...], "log": path, "kill_after": seconds or null}`, and answers
each by `{"status": exit status, negative for a signal, "seconds": how long it ran}`. JAX starts in
the forked processes only.
"""

import json
import os
import signal
import sys
import time
import warnings

from configs import quadratic  # noqa: F401
from learned_opt_lab.ablation import runs  # noqa: F401
from learned_opt_lab.cli import main
from learned_opt_lab.evaluation.suite import _evaluate as evaluation  # noqa: F401
from learned_opt_lab.runs import course  # noqa: F401
from tasks import suite_tasks, suites
from tasks.analytic.random_quadratic import random_quadratic_family


def build(dim):
    """The family of a suite's task."""
    return random_quadratic_family(dim, min_curvature=0.1, max_curvature=1.0)


def add_tiny_suite() -> None:
    """Two quadratics of few steps, as `--suite tiny`."""
    tasks = tuple(
        suite_tasks.suite_task(f"tiny_{dim}", f"{dim} dimensions", build, dim, num_steps=10)
        for dim in (2, 3)
    )
    suites.SUITES["tiny"] = suites.Suite("tiny", 1, "Two quadratics.", tasks)


def start(argv: list[str], log: str) -> int:
    """Forks a process that runs the command; returns its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = main.main(argv)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        status = 70
    os._exit(status)


def wait(pid: int, kill_after: float | None) -> int:
    """Waits for the process, and kills it when its time is over."""
    deadline = None if kill_after is None else time.monotonic() + kill_after
    while True:
        done, status = os.waitpid(pid, 0 if deadline is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            deadline = None
        else:
            time.sleep(0.001)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="os.fork")
    add_tiny_suite()
    for line in sys.stdin:
        order = json.loads(line)
        began = time.monotonic()
        status = wait(start(order["argv"], order["log"]), order["kill_after"])
        print(json.dumps({"status": status, "seconds": time.monotonic() - began}), flush=True)
