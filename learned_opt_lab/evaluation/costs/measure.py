"""Plans an evaluation: measures two steps of each cell that is not there.

What is compiled for it is the training loop that a cell times in any case; beside it there are two
small programs a task, which tell what many runs at once gain or lose.
"""

from collections.abc import Callable

from learned_opt_lab.evaluation.costs.plan import Measured, Plan, program_seconds, with_guesses
from learned_opt_lab.evaluation.costs.store import CellStore, Place
from learned_opt_lab.evaluation.suite.entries import Entry
from tasks import Suite


def make_plan(
    store: CellStore,
    suite: Suite,
    max_seconds: float | None,
    progress: Callable[[int, int, str], None],
    elapsed: Callable[[], float],
) -> Plan:
    """Measures what is missing, task by task, until the budget is planned for.

    Args:
      store: the cells.
      suite: the tasks.
      max_seconds: the budget, or None.
      progress: called with cells measured, cells in all, and what is being measured.
      elapsed: seconds since the evaluation began.
    """
    number = len(store.entries)
    seconds: list[float | None] = []
    guessed = []
    for row, task in enumerate(suite.tasks):
        known = sum(each for each in seconds if each)
        # A plan may be wrong by half, and the budget is not to end among guesses.
        if max_seconds is not None and known and elapsed() + known > 1.5 * max_seconds:
            guessed.append(task.name)
            seconds += [None] * number
            continue
        tell = lambda column, label, row=row, name=task.name: progress(
            row * number + column, len(suite.tasks) * number, f"measuring {name}: {label}"
        )
        place = store.place(task)
        seconds += [0.0] * number if place is None else _of_task(store, place, tell)
    return Plan(
        tuple(task.name for task in suite.tasks),
        tuple(entry.label for entry in store.entries),
        with_guesses(seconds, number),
        tuple(store.skipped),
        tuple(guessed),
        store.settings.num_seeds,
        max_seconds,
        elapsed(),
    )


def _of_task(store: CellStore, at: Place, tell: Callable[[int, str], None]) -> list[float]:
    """Planned seconds of the cells of a task; 0 for one that is there, or is a twin's."""
    to_make: list[tuple[int, Entry]] = []
    twins = set()
    for column, entry in enumerate(store.entries):
        twin = store.twin(entry)
        if store.stored(at, entry) is None and twin not in twins:
            to_make.append((column, entry))
        twins.add(twin)
    seconds = [0.0] * len(store.entries)
    if not to_make:
        return seconds
    tell(to_make[0][0], to_make[0][1].label)
    together = at.together()
    for number, (column, entry) in enumerate(to_make):
        if number:
            tell(column, entry.label)
        timing = store.timing(at, entry)
        plain = at.plain().seconds_per_step
        measured = Measured(*timing, plain, together.num_runs, together.seconds)
        programs = store.kind.programs(at, entry)
        seconds[column] = sum(program_seconds(program, measured) for program in programs)
    return seconds
