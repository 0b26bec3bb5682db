"""Image sets for training and measuring: procedural, natural, and readers for your own files."""

from neurofb.data.images import ImageSet, ImageSplits
from neurofb.data.shapes import ShapesOnLeaves

#: Any data source; its field `source` says which. The other sources join here as they are built.
DataSource = ShapesOnLeaves

__all__ = ["DataSource", "ImageSet", "ImageSplits", "ShapesOnLeaves"]
