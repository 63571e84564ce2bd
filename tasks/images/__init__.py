"""Image sets, and the tasks made of them."""

from tasks.images import datasets
from tasks.images._mnist1d import mnist1d
from tasks.images.autoencoder import tfds_autoencoder_family
from tasks.images.class_subsets import class_split, class_subset_family, fixed_family
from tasks.images.datasets import DatasetNotPrepared, digits, tfds_images
from tasks.images.image_data import ImageData, from_arrays, sample_images
from tasks.images.networks import MLP, ConvNet, classification_task, softmax_cross_entropy
from tasks.images.resnet import ResNet, tfds_resnet_family

__all__ = [
    "MLP",
    "ConvNet",
    "DatasetNotPrepared",
    "ImageData",
    "ResNet",
    "class_split",
    "class_subset_family",
    "classification_task",
    "datasets",
    "digits",
    "fixed_family",
    "from_arrays",
    "mnist1d",
    "sample_images",
    "softmax_cross_entropy",
    "tfds_autoencoder_family",
    "tfds_images",
    "tfds_resnet_family",
]
