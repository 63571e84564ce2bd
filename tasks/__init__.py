"""What is optimized: tasks, task families, data sets."""

from tasks.analytic.random_quadratic import Quadratic, random_quadratic_family
from tasks.base import (
    SPLITS,
    Batch,
    Data,
    Key,
    Params,
    StatefulTask,
    Task,
    TaskFamily,
    WindowIterator,
)
from tasks.control import policy_gradient_family
from tasks.host_data import Feed, Stream, as_feed
from tasks.images.class_subsets import class_split, class_subset_family, fixed_family
from tasks.images.datasets import DatasetNotPrepared, digits, tfds_images
from tasks.images.image_data import FRACTIONS, ImageData, from_arrays, sample_images
from tasks.images.networks import ACTIVATIONS, MLP, ConvNet, classification_task
from tasks.images.resnet import ResNet
from tasks.language import byte_transformer_family, fine_tuning_family, skip_gram_family
from tasks.model_state import as_stateful, check_model_state
from tasks.real_suites import noisy_labels_family
from tasks.suite_tasks import NUM_TRAIN_CLASSES, Suite, SuiteTask, task_key
from tasks.suites import suite
from tasks.tabular import regression_family, tabular_family
from tasks.text import char_family
from tasks.weight_scales import rescaled_weights

__all__ = [
    "ACTIVATIONS",
    "FRACTIONS",
    "MLP",
    "NUM_TRAIN_CLASSES",
    "SPLITS",
    "Batch",
    "ConvNet",
    "Data",
    "DatasetNotPrepared",
    "Feed",
    "ImageData",
    "Key",
    "Params",
    "Quadratic",
    "ResNet",
    "StatefulTask",
    "Stream",
    "Suite",
    "SuiteTask",
    "Task",
    "TaskFamily",
    "WindowIterator",
    "as_feed",
    "as_stateful",
    "byte_transformer_family",
    "char_family",
    "check_model_state",
    "class_split",
    "class_subset_family",
    "classification_task",
    "digits",
    "fine_tuning_family",
    "fixed_family",
    "from_arrays",
    "noisy_labels_family",
    "policy_gradient_family",
    "random_quadratic_family",
    "regression_family",
    "rescaled_weights",
    "sample_images",
    "skip_gram_family",
    "suite",
    "tabular_family",
    "task_key",
    "tfds_images",
]
