"""Sets of tensorflow-datasets that lie on this machine, opened without TensorFlow or network."""

import json
import os
import re
from pathlib import Path
from typing import Any

_FEATURES = "tensorflow_datasets.core.features."


class DatasetNotPrepared(ValueError):
    """The data set is not on this machine in a form that can be read.

    The message says how to prepare it.
    """


def prepared_dir(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where prepared sets lie: `data_dir`, or else `TFDS_DATA_DIR`, or else TFDS's own default."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def open_prepared(name: str, data_dir: Path) -> Any:
    """The read-only TFDS builder of a prepared set.

    Opening by directory, not by name: `tfds.builder(name)` asks a server about sets that it does
    not find.
    """
    base, _, version = name.partition(":")
    root = data_dir / base
    versions = [path.parent for path in root.glob("*/dataset_info.json")]
    versions = [
        path
        for path in versions
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and version in ("", path.name)
    ]
    if not versions:
        raise _not_prepared(f"data set {name!r} is not prepared in {data_dir}", base, data_dir)
    directory = max(versions, key=lambda path: [int(n) for n in path.name.split(".")])
    _check_features(directory / "features.json")
    import tensorflow_datasets as tfds  # Digits and user arrays should not pay for this import.

    builder = tfds.builder_from_directory(directory)
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        form = builder.info.file_format.value
        raise _not_prepared(
            f"data set {name!r} is prepared as {form}, not as array_record", base, data_dir
        )
    missing = [
        f
        for split in builder.info.splits.values()
        for f in split.filepaths
        if not os.path.isfile(f)
    ]
    if missing:
        raise _not_prepared(
            f"data set {name!r} lacks {len(missing)} files, such as {missing[0]}", base, data_dir
        )
    return builder


def _check_features(path: Path) -> None:
    """Raises `ValueError` for types of features that are not TFDS's own:
    it imports the modules that they name.
    """
    try:
        waiting = [json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting += value
            elif isinstance(value, dict):
                waiting += value.values()
                for key in ("pythonClassName", "python_class_name", "type"):
                    kind = value.get(key)
                    if isinstance(kind, str) and "." in kind and not kind.startswith(_FEATURES):
                        raise ValueError(
                            f"{kind[:100]!r} is no type of features of tensorflow-datasets"
                        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def _not_prepared(what: str, name: str, data_dir: Path) -> DatasetNotPrepared:
    return DatasetNotPrepared(
        f"{what}\n"
        "Prepare it once, with network and TensorFlow (reading it needs neither):\n"
        f"  tfds build {name} --file_format=array_record --data_dir={data_dir}\n"
        "or set TFDS_DATA_DIR to the directory that holds it."
    )
