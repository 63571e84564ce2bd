"""A config's own search, from the config alone to a theta on disk."""

from collections.abc import Callable
from pathlib import Path

import learned_opt
from configs import base
from learned_opt.disk import files
from learned_opt_lab.results.folder import warn, write_result
from learned_opt_lab.runs.builders import builder_of
from learned_opt_lab.runs.config_json import to_json
from learned_opt_lab.runs.families import build_family
from learned_opt_lab.searches.candidates import Candidates, Distribution
from learned_opt_lab.searches.cross_entropy import Scores, minimize

RESULT = "search.json"


def run_search(
    config: base.TrainConfig, out: Path, *, trust: bool = False, tell: Callable[[str], None] = print
) -> tuple[Distribution, list[Scores]]:
    """Searches, and writes the theta of the distribution's mean
    and `search.json` after every generation.

    Args:
      config: its families are scored on; `search` says how, and where it starts.
      out: folder for `theta.npz`, `theta.json`, `search.json` and `config.json`.
      trust: run the code that the file `init_theta` names.
      tell: shows a line of progress.

    Returns:
      What the last generation left.

    Raises:
      ValueError: the config has no search, or one that does not fit its optimizer.
      OSError: nothing can be written.
    """
    if config.search is None:
        raise ValueError("the config has no `search`")
    candidates = builder_of(type(config.search))(config, trust=trust)
    families = [build_family(each)[0] for each in (config.family, *config.extra_families)]
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / "config.json", to_json(config))

    def report(now: Distribution, scores: list[Scores]) -> None:
        last, of = scores[-1], f"generation {len(scores)}/{config.search.num_generations}"
        tell(f"{of}  score of the mean before it {last.mean:.3f}, of the start {last.start:.3f}")
        try:
            _write(out, candidates, now, scores)
        except OSError as error:
            if len(scores) == config.search.num_generations:
                raise
            warn(f"generation {len(scores)} is not kept: {error}; the search goes on")

    return minimize(candidates, families, config.search, seed=config.seed, report=report)


def _write(out: Path, candidates: Candidates, now: Distribution, scores: list[Scores]) -> None:
    name, kwargs = candidates.saved_as(now.mean)
    learned_opt.save(out / "theta.npz", name, kwargs, candidates.to_theta(now.mean))
    found = {
        "mean": now.mean.tolist(),
        "std": now.std.tolist(),
        "scores": [each._asdict() for each in scores],
    }
    write_result(out / RESULT, candidates.describe(now.mean) | found)
