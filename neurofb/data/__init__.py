"""Image sets for training and measuring: procedural, natural, and readers for your own files."""

from typing import Annotated

from pydantic import Discriminator

from neurofb.data.augment import Augmentation, augment
from neurofb.data.cache import default_cache
from neurofb.data.cifar import Cifar
from neurofb.data.folder import ImageFolder
from neurofb.data.idx import FashionMNIST, Idx
from neurofb.data.images import ImageSet, ImageSplits
from neurofb.data.natural import NaturalPatches
from neurofb.data.normalise import Normalisation, normalise
from neurofb.data.npz import Npz
from neurofb.data.shapes import ShapesOnLeaves

#: Any data source; its field `source` says which.
DataSource = Annotated[
    ShapesOnLeaves | NaturalPatches | FashionMNIST | Cifar | Idx | Npz | ImageFolder,
    Discriminator("source"),
]

__all__ = [
    "Augmentation",
    "Cifar",
    "DataSource",
    "FashionMNIST",
    "Idx",
    "ImageFolder",
    "ImageSet",
    "ImageSplits",
    "NaturalPatches",
    "Normalisation",
    "Npz",
    "ShapesOnLeaves",
    "augment",
    "default_cache",
    "normalise",
]
