"""Text, and the tasks made of it: a language model, word embeddings, fine-tuning."""

from tasks.language.byte_data import ByteText, byte_text
from tasks.language.fine_tuning import fine_tuning_family
from tasks.language.language_model import byte_transformer_family
from tasks.language.skip_gram import skip_gram_family
from tasks.language.transformer import ByteTransformer
from tasks.language.trunk import pretrained_trunk

__all__ = [
    "ByteText",
    "ByteTransformer",
    "byte_text",
    "byte_transformer_family",
    "fine_tuning_family",
    "pretrained_trunk",
    "skip_gram_family",
]
