"""Classifiers of images that people train."""

from tasks.images.classifiers.conv_next import ConvNeXt, conv_next_family
from tasks.images.classifiers.vit import ViT, vit_family

__all__ = ["ConvNeXt", "ViT", "conv_next_family", "vit_family"]
