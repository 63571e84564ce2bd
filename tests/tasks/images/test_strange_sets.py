"""A prepared data set of a stranger does not get its author's modules imported."""

import json
import sys

import pytest

from tasks.images.datasets import tfds_images

OWN = "tensorflow_datasets.core.features"
FEATURES = {
    "as TFDS writes it": {
        "pythonClassName": f"{OWN}.features_dict.FeaturesDict",
        "featuresDict": {
            "features": {
                "image": {"pythonClassName": "stranger.Image", "image": {"dtype": "uint8"}}
            }
        },
    },
    "as it did before": {
        "type": f"{OWN}.features_dict.FeaturesDict",
        "content": {"image": {"type": "stranger.Image", "content": {}}},
    },
    "in a list": [{"python_class_name": "stranger.Image"}],
}


@pytest.mark.parametrize("form", FEATURES)
def test_types_of_features_are_tfds_s_own(form, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    version = tmp_path / "photos" / "1.0.0"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text("{}")
    (version / "features.json").write_text(json.dumps(FEATURES[form]))
    with pytest.raises(
        ValueError, match=r"'stranger\.Image' is no type of features of tensorflow-datasets"
    ) as error:
        tfds_images("photos", data_dir=tmp_path)
    assert str(version / "features.json") in str(error.value)
    assert "stranger" not in sys.modules
