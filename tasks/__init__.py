"""What is optimized: tasks, task families, data sets."""

from tasks.base import SPLITS, Task, TaskFamily
from tasks.classifiers import ACTIVATIONS, MLP, ConvNet, classification_task
from tasks.datasets import DatasetNotPrepared, digits, tfds_images
from tasks.families import class_split, class_subset_family, fixed_family
from tasks.image_data import FRACTIONS, ImageData, from_arrays, sample_images
from tasks.random_quadratic import Quadratic, random_quadratic_family
from tasks.synthetic import write_synthetic_imagenet

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
