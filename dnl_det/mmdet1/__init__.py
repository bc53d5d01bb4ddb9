"""What mmdetection 1.x, in which the authors trained, computes otherwise than detectron2.

Chosen by config: ``MODEL.META_ARCHITECTURE: MMDet1RCNN`` (boxes, detections, masks) and
``MODEL.ANCHOR_GENERATOR.NAME: MMDet1AnchorGenerator``. Its boxes are in pixels and include their
last one: (x1, y1, x2, y2) there is (x1, y1, x2 + 1, y2 + 1) in detectron2, and in all of ours.
"""

from .anchors import MMDet1AnchorGenerator
from .masks import PixelMasks
from .rcnn import MMDet1RCNN, box_scale, in_original_image
from .resizing import InclusiveResize

__all__ = [
    "InclusiveResize",
    "MMDet1AnchorGenerator",
    "MMDet1RCNN",
    "PixelMasks",
    "box_scale",
    "in_original_image",
]
