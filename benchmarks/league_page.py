"""An evaluation as a page: `docs/results/NAME.json`, what is kept of it, and `NAME.md` beside it.

python -m benchmarks.league_page DIR NAME

DIR is the folder of a complete `learned-opt evaluate ... --out DIR`.
"""

import argparse
import json
from pathlib import Path

from learned_opt.disk import files
from learned_opt_lab.evaluation.page import document
from learned_opt_lab.results import made

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def main(argv: list[str] | None = None) -> int:
    """Writes both files; status 2 where there is no complete evaluation."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.league_page")
    parser.add_argument("evaluation", type=Path, help="holds report.json and made.json")
    parser.add_argument("name", help="of the page")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the page is written")
    args = parser.parse_args(argv)
    paths = [args.evaluation / name for name in ("report.json", made.NAME)]
    try:
        content = document.kept(*(json.loads(path.read_text(encoding="utf-8")) for path in paths))
    except (OSError, ValueError) as error:
        parser.error(f"{args.evaluation} holds no complete evaluation: {error}")
    files.write_json(args.results / f"{args.name}.json", content, indent=1)
    page = args.results / f"{args.name}.md"
    files.write_text(page, document.markdown(content))
    print(f"{page} has {len(content['tasks'])} tasks and {len(content['optimizers'])} optimizers")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
