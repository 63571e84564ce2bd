"""Image sets, and the tasks made of them."""

from tasks.images import datasets
from tasks.images._host_images import from_host, host_images, host_images_family
from tasks.images._mnist1d import mnist1d
from tasks.images.autoencoder import tfds_autoencoder_family
from tasks.images.class_subsets import class_split, class_subset_family, fixed_family
from tasks.images.classifiers import ConvNeXt, ViT, conv_next_family, vit_family
from tasks.images.datasets import DatasetNotPrepared, digits, image_set, tfds_images
from tasks.images.degraded import with_few_examples, with_label_noise
from tasks.images.image_data import ImageData, from_arrays, sample_images
from tasks.images.networks import MLP, ConvNet, classification_task, softmax_cross_entropy
from tasks.images.resnet import ResNet, tfds_resnet_family
from tasks.images.vae import VAE, vae_family

__all__ = [
    "MLP",
    "VAE",
    "ConvNeXt",
    "ConvNet",
    "DatasetNotPrepared",
    "ImageData",
    "ResNet",
    "ViT",
    "class_split",
    "class_subset_family",
    "classification_task",
    "conv_next_family",
    "datasets",
    "digits",
    "fixed_family",
    "from_arrays",
    "from_host",
    "host_images",
    "host_images_family",
    "image_set",
    "mnist1d",
    "sample_images",
    "softmax_cross_entropy",
    "tfds_autoencoder_family",
    "tfds_images",
    "tfds_resnet_family",
    "vae_family",
    "vit_family",
    "with_few_examples",
    "with_label_noise",
]
