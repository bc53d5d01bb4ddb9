"""Disentangled Non-Local attention for detectron2.

Importing it registers the backbones and the Shapes data sets in detectron2::

    import dnl_det

    dnl_det.add_dnl_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_dnl_resnet_fpn_backbone"
    cfg.MODEL.DNL.RES4 = [-2]
"""

__version__ = "0.1.0"

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "dnl_det extends detectron2, which is not installed in this environment. Either run "
        "`make test` or `make demo` in the dnl_det checkout, which installs it into .venv, or "
        "install it here: pip install --no-build-isolation "
        "'git+https://github.com/facebookresearch/detectron2.git'"
    ) from error

from . import data, mmdet1, modeling  # noqa: F401  register data sets, backbones, detectors
from .config import add_dnl_config

__all__ = ["add_dnl_config"]
