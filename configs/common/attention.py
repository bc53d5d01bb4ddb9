"""What the Python configs share: DNL c4+c5 in a model of detectron2, and this project's reading."""

from detectron2.config import LazyCall as L

from dnl_det.data import FileMapper
from dnl_det.modeling import insert_attention


def put_attention(model, stages=None, **options):
    """DNL in res4[-2] and all of res5, or elsewhere, of a config's ResNet with FPN."""
    backbone = model.backbone
    backbone.in_features = list(backbone.in_features)  # they are written as the ResNet's
    backbone.bottom_up = L(insert_attention)(
        resnet=backbone.bottom_up,
        stages=stages or {"res4": [-2], "res5": [-3, -2, -1]},
        **options,
    )


def read_files(dataloader):
    """Read images as this project does, and evaluate by it."""
    for split in (dataloader.train, dataloader.test):
        split.mapper._target_ = FileMapper
    del dataloader.evaluator
