"""What surrounds the code says the same thing everywhere, and is what its readers can parse."""

import configparser
import re
import shlex

import pytest
import yaml

from tests.modes.test_environments import VERSIONS
from tests.support.rules import ROOT

FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
PYTHON = "Programming Language :: Python :: 3."
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def yaml_of(name: str):
    return yaml.safe_load(text_of(name))


@pytest.fixture(scope="module")
def metadata() -> configparser.SectionProxy:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["metadata"]


def test_one_version(metadata):
    newest = re.search(r"^## \[(.+?)\]", text_of("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert {newest[1], yaml_of("CITATION.cff")["version"]} == {metadata["version"]}


def test_the_citation_is_of_this_software(metadata):
    citation = yaml_of("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format asks
    assert citation["title"] == metadata["name"]
    assert citation["abstract"].rstrip(".") == metadata["description"]
    assert citation["license"] == metadata["license_expression"]
    assert [author["name"] for author in citation["authors"]] == [metadata["author"]]


def test_the_pythons_are_the_same_everywhere(metadata):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = metadata["classifiers"].split("\n")
    pythons = [name.removeprefix(PYTHON) for name in listed if name.startswith(PYTHON)]
    assert tuple(f"3.{minor}" for minor in pythons) == VERSIONS
    assert setup["options"]["python_requires"] == f">={VERSIONS[0]}"
    matrix = yaml_of(".github/workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert tuple(matrix["python"]) == VERSIONS
    assert [each["libraries"] for each in matrix["include"]] == ["oldest"]
    assert listed[1:] == sorted(set(listed[1:]))


def test_the_workflow_runs_what_there_is():
    workflow = yaml_of(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    jobs = workflow["jobs"].values()
    steps = [step for job in jobs for step in job["steps"]]
    runs = [step["run"] for step in steps if "run" in step]
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]
    runs += [*matrix["run"], *(each["run"] for each in matrix["include"])]
    targets = {words[1] for run in runs if (words := shlex.split(run))[0] == "make"}
    assert targets == {"coverage", "docs", "test-oldest", "test-slow"}
    assert targets <= set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))
    assert ".ci/run" in runs
    assert all(("run" in step) != ("uses" in step) for step in steps)
    assert all("timeout-minutes" in job for job in jobs)


def test_the_hooks_fetch_nothing():
    hooks = [hook for repo in yaml_of(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [repo["repo"] for repo in yaml_of(".pre-commit-config.yaml")["repos"]] == ["local"]
    assert [hook["id"] for hook in hooks] == ["ruff", "ruff-format", "basedpyright"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_each_thing_once(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(form)
    asked = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(asked) == len(set(asked)) > 2
    assert all(field["attributes"] for field in form["body"])


def test_a_package_index_shows_no_relative_link(metadata):
    """It has neither the pictures nor the pages of a checkout."""
    page = text_of(metadata["long_description"].removeprefix("file:").strip())
    targets = [a or b for a, b in LINK.findall(page)]
    assert [target for target in targets if not target.startswith("https://")] == []
    assert len(targets) > 3
    assert LINK.findall("![a](docs/a.png)") == [("docs/a.png", "")]


@pytest.mark.parametrize("name", ["SECURITY.md", "CONTRIBUTING.md", "README.md"])
def test_links_in_the_checkout_lead_somewhere(name):
    targets = [a or b for a, b in LINK.findall(text_of(name))]
    paths = [target.partition("#")[0] for target in targets if "://" not in target]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_image_is_built_of_files_that_are_there(metadata):
    sent = [line[1:] for line in text_of(".dockerignore").splitlines() if line.startswith("!")]
    assert [name for name in sent if not (ROOT / name).exists()] == []
    needed = {metadata["long_description"].removeprefix("file:").strip(), metadata["license_files"]}
    assert needed | {"setup.cfg", "pyproject.toml"} <= set(sent)
    extras = re.search(r"/source\[([\w,]+)\]", text_of("Dockerfile"))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert extras is not None
    assert set(extras[1].split(",")) <= set(setup["options.extras_require"])
