"""Weights for others: what `learned_opt.load("hf://org/name")` reads."""

import os

from learned_opt.catalog import Factory
from learned_opt.disk import hub
from learned_opt.saving import find, load_theta


def push(
    address: str,
    name_or_path: str | os.PathLike,
    *,
    private: bool | None = None,
    card: str | None = None,
    message: str | None = None,
    factory: Factory | None = None,
    trust: bool = False,
) -> str:
    """Puts a saved theta on the Hugging Face hub: its `.npz` and JSON file, in one commit.

    Nothing else of a run directory leaves the machine. What `load` would refuse is not pushed.
    Needs the extra `hub`, and a login: `hf auth login`, or `HF_TOKEN`.

    Args:
      address: `hf://org/name`, which is made if it is not there; `hf://org/name/FILE` for several
        thetas in one place; `hf://org/name@BRANCH` for a branch that is there.
      name_or_path: as in `load_theta`.
      private: whether a repository that is made is private; the hub's default if None.
      card: text of the repository's `README.md`, which is replaced; left alone if None.
      message: of the commit.
      factory: as in `load_theta`.
      trust: as in `load_theta`.

    Returns:
      The address of this very commit, which always gives the same weights.

    Raises:
      ValueError: as in `load_theta`; the address is none, or `huggingface_hub` is not installed.
      FileNotFoundError: there is no such name or path.
      OSError: the hub does not answer, or refuses.

    Example:
      `learned_opt.push("hf://me/my-optimizer", "runs/mine", card="Trained on digits.")`
    """
    hub.parse(address)
    load_theta(name_or_path, factory=factory, trust=trust)
    path = find(name_or_path)
    return hub.upload(address, path, private=private, message=message, card=card)
