"""The papers' claims beside our numbers: `docs/papers.json`, `docs/papers.md`, and small figures.

python -m benchmarks.papers_page DIR

DIR holds a folder for each result, named like its experiment, as `learned-opt reproduce NAME --out
DIR/NAME` makes it. What has no folder there stays on the page as it is.
"""

import argparse
import json
from pathlib import Path

from benchmarks.papers_figures import copy_figures, with_figures
from learned_opt.disk import files
from learned_opt_lab.papers.claims import page

DOCS = Path(__file__).parents[1] / "docs"


def main(argv: list[str] | None = None) -> int:
    """Writes the page and says what it holds; status 2 where there is nothing to read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.papers_page")
    parser.add_argument("results", type=Path, help="holds NAME/result.json")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the page is written")
    args = parser.parse_args(argv)
    if not any(args.results.glob("*/*.json")):
        parser.error(f"{args.results} holds no results, as NAME/result.json")
    path = args.docs / "papers.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    content = page.collect(args.results, earlier)
    num_figures = 0
    for name, about in content["results"].items():
        figures = copy_figures(args.results, name, args.docs / "figures" / "gallery")
        num_figures += len(figures)
        if figures and about:
            about["figures"] = [figure.name for figure in figures]
    files.write_json(path, content)
    (args.docs / "papers.md").write_text(page.markdown(content), encoding="utf-8")
    gallery = args.docs / "gallery" / "index.md"
    if gallery.exists():
        drawn = with_figures(gallery.read_text(encoding="utf-8"), args.docs / "figures" / "gallery")
        gallery.write_text(drawn, encoding="utf-8")
    words = [row["word"] for rows in content["papers"].values() for row in rows]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    print(f"{len(words)} rows ({counts}) and {num_figures} figures are in {args.docs}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
