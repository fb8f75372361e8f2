"""Pretrained vision networks below the networks of a comparison, frozen or fine-tuned."""

from .features import FeatureStore, FrozenFeatures
from .pretrained import Backbone, Pretrained, load_pretrained
from .spec import KINDS, BackboneSpec, parse_backbone

__all__ = [
    "KINDS",
    "Backbone",
    "BackboneSpec",
    "FeatureStore",
    "FrozenFeatures",
    "Pretrained",
    "load_pretrained",
    "parse_backbone",
]
