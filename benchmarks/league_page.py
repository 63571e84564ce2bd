"""An evaluation as a page: `docs/results/NAME.json`, what is kept of it, `NAME.md` beside it, and
its figures in `docs/figures/results`.

python -m benchmarks.league_page DIR NAME

DIR is the folder of a complete `learned-opt evaluate ... --out DIR`.
"""

import argparse
import json
from pathlib import Path

from benchmarks.papers_figures import small
from learned_opt.disk import files
from learned_opt_lab.drawing import charts
from learned_opt_lab.evaluation.page import document
from learned_opt_lab.results import made

DOCS = Path(__file__).parents[1] / "docs"


def main(argv: list[str] | None = None) -> int:
    """Writes all of them; status 2 where there is no complete evaluation."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.league_page")
    parser.add_argument("evaluation", type=Path, help="holds report.json and made.json")
    parser.add_argument("name", help="of the page")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where all is written")
    args = parser.parse_args(argv)
    paths = [args.evaluation / name for name in ("report.json", made.NAME)]
    try:
        content = document.kept(*(json.loads(path.read_text(encoding="utf-8")) for path in paths))
    except KeyError as error:
        parser.error(f"{args.evaluation} is of another version: it says nothing of {error}")
    except (OSError, ValueError) as error:
        parser.error(f"{args.evaluation} holds no complete evaluation: {error}")
    for unit, chart in document.figures(content).items():
        picture = args.docs / "figures" / "results" / f"{args.name}_{unit}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(small(charts.png(chart)))
    files.write_json(args.docs / "results" / f"{args.name}.json", content, indent=1)
    page = args.docs / "results" / f"{args.name}.md"
    files.write_text(page, document.markdown(content, args.name))
    print(f"{page} has {len(content['tasks'])} tasks and {len(content['optimizers'])} optimizers")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
