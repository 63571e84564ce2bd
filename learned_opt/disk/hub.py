"""Theta on the Hugging Face hub: `hf://org/name`, and what may follow it.

`hf://org/name` is `theta.npz` and `theta.json` of the newest commit, `hf://org/name@REVISION` of a
branch, tag or commit, `hf://org/name/FILE` the pair of that name. Both files are of one commit.
Only these two are asked for, and they are read like all files that are anyone's; before they are
fetched, the sizes that the hub tells must be ones that could be read. Who one is (`HF_TOKEN`),
where files are kept (`HF_HOME`) and whether the network may be used (`HF_HUB_OFFLINE`) is told to
`huggingface_hub`, which is imported when the first address is read.
"""

import importlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from learned_opt.disk import reading, theta_file

SCHEME = "hf://"
MAX_BYTES = 8 * theta_file.MAX_ELEMENTS + (1 << 20)
"""Of an `.npz` file: the largest theta in float64."""
_WORD = r"[A-Za-z0-9_](?:[\w.-]{0,94}[\w])?"
_ADDRESS = re.compile(
    rf"{SCHEME}(?P<repo>{_WORD}/{_WORD})(?:@(?P<revision>{_WORD}))?(?:/(?P<file>{_WORD}(?:/{_WORD})*))?",
    re.ASCII,
)


class Address(NamedTuple):
    """What an address means.

    Attributes:
      repo: `org/name`.
      revision: a branch, tag or commit; None is the newest commit.
      file: path of the `.npz` file in it; its JSON lies beside it.
    """

    repo: str
    revision: str | None
    file: str

    @property
    def json_file(self) -> str:
        """Path of the JSON file."""
        return str(PurePosixPath(self.file).with_suffix(".json"))


def is_address(text: str) -> bool:
    """Whether a name or path is one of the hub."""
    return text.startswith(SCHEME)


def parse(text: str) -> Address:
    """Reads an address; raises `ValueError` for anything that is none."""
    match = _ADDRESS.fullmatch(text)
    if match is None or ".." in text or "--" in match["repo"]:
        raise ValueError(
            f"{text!r:.120} is no address of the hub; it must be hf://org/name, "
            "hf://org/name@revision or hf://org/name/file"
        )
    file = match["file"] or "theta.npz"
    return Address(
        match["repo"], match["revision"], file if file.endswith(".npz") else f"{file}.npz"
    )


def fetch(text: str) -> Path:
    """Brings both files to this machine, unless they are here.

    Where the hub does not answer, what was fetched before is taken.

    Returns:
      The path of the `.npz` file; the JSON lies beside it.

    Raises:
      ValueError: it is no address, a file is larger than any that could be read, or
        `huggingface_hub` is not installed.
      FileNotFoundError: there is no such repository, revision or file, or none that one may see.
      OSError: the hub does not answer, and nothing was fetched before.
    """
    address, hub = parse(text), _hub()
    names = (address.json_file, address.file)
    try:
        found = hub.HfApi().model_info(address.repo, revision=address.revision, files_metadata=True)
    except Exception as error:  # of the hub, or of whatever it sends requests with
        if getattr(error, "response", None) is not None:
            raise FileNotFoundError(f"{text} cannot be had: {_reason(error)}") from error
        return _fetched_before(hub, text, address, error)
    sizes = {each.rfilename: each.size for each in found.siblings or ()}
    for name, most in zip(names, (reading.MAX_JSON_BYTES, MAX_BYTES), strict=True):
        if name not in sizes:
            raise FileNotFoundError(f"{text}: there is no {name} in {address.repo}")
        if (size := sizes[name]) is not None and size > most:
            raise ValueError(f"{text}: {name} is too large: {size} bytes, at most {most}")
    try:
        paths = [hub.hf_hub_download(address.repo, name, revision=found.sha) for name in names]
        if address.revision != found.sha:
            # By its name, so that the cache knows which commit the name meant.
            hub.hf_hub_download(address.repo, names[0], revision=address.revision)
    except Exception as error:
        raise OSError(f"{text} cannot be fetched: {_reason(error)}") from error
    return Path(paths[-1])


def _fetched_before(hub: Any, text: str, address: Address, cause: Exception) -> Path:
    """The files of an earlier `fetch`; raises `OSError`, by what the hub did not answer."""
    try:
        paths = [
            hub.hf_hub_download(
                address.repo, name, revision=address.revision, local_files_only=True
            )
            for name in (address.json_file, address.file)
        ]
    except Exception:
        raise OSError(f"{text} cannot be had, and was not before: {_reason(cause)}") from cause
    return Path(paths[-1])


def upload(
    text: str, path: Path, *, private: bool | None, message: str | None, card: str | None
) -> str:
    """Puts a saved theta at an address, both files in one commit; see `learned_opt.push`."""
    address, hub = parse(text), _hub()
    with reading.open_regular(path) as file:
        header, same_bytes = theta_file.read_header(path, file)
        file.seek(0)
        content = file.read()
    if not same_bytes:
        raise ValueError(f"{path} and its JSON do not belong together")
    files = {
        address.file: content,
        address.json_file: (json.dumps(header, indent=2, allow_nan=False) + "\n").encode(),
    }
    if card is not None:
        files["README.md"] = card.encode()
    add = [hub.CommitOperationAdd(name, data) for name, data in files.items()]
    try:
        api = hub.HfApi()
        api.create_repo(address.repo, private=private, exist_ok=True)
        done = api.create_commit(
            address.repo,
            add,
            commit_message=message or f"Add {address.file}",
            revision=address.revision,
        )
    except Exception as error:
        raise OSError(f"{text} cannot be written: {_reason(error)}") from error
    return f"{SCHEME}{address.repo}@{done.oid}/{address.file}"


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ValueError(
            f'an address that starts with {SCHEME} needs huggingface_hub ({error}): pip install "'
            'learned-opt[hub]"'
        ) from error


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
