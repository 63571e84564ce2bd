"""What is optimized: tasks, task families, data sets."""

from tasks.analytic.random_quadratic import Quadratic, random_quadratic_family
from tasks.base import SPLITS, Task, TaskFamily
from tasks.images.class_subsets import class_split, class_subset_family, fixed_family
from tasks.images.datasets import DatasetNotPrepared, digits, tfds_images
from tasks.images.image_data import FRACTIONS, ImageData, from_arrays, sample_images
from tasks.images.networks import ACTIVATIONS, MLP, ConvNet, classification_task
from tests.support.synthetic import write_synthetic_imagenet

__all__ = [
    "ACTIVATIONS",
    "FRACTIONS",
    "MLP",
    "SPLITS",
    "ConvNet",
    "DatasetNotPrepared",
    "ImageData",
    "Quadratic",
    "Task",
    "TaskFamily",
    "class_split",
    "class_subset_family",
    "classification_task",
    "digits",
    "fixed_family",
    "from_arrays",
    "random_quadratic_family",
    "sample_images",
    "tfds_images",
    "write_synthetic_imagenet",
]
