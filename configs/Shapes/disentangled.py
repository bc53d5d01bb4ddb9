"""The YAML config of this name in Python: it trains on a CPU in minutes."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from detectron2.solver.lr_scheduler import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from dnl_det.engine import clip_whole_gradient

from ..common.attention import put_attention, read_files

_ZOO = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
model, dataloader, train = _ZOO.model, _ZOO.dataloader, _ZOO.train

model.pixel_mean, model.pixel_std, model.input_format = [127.5] * 3, [64.0] * 3, "RGB"
model.backbone.update(out_channels=64, norm="BN")
model.backbone.bottom_up.freeze_at = 0
model.backbone.bottom_up.stem.update(out_channels=32, norm="BN")
model.backbone.bottom_up.stages = [
    L(ResNet.make_stage)(
        block_class=BottleneckBlock,
        num_blocks=blocks,
        stride_per_block=[stride] + [1] * (blocks - 1),
        in_channels=max(32, width),
        bottleneck_channels=width,
        out_channels=2 * width,
        stride_in_1x1=False,
        norm="BN",
    )
    for blocks, stride, width in ((3, 1, 16), (4, 2, 32), (6, 2, 64), (3, 2, 128))
]
put_attention(model, {"res3": [-1], "res4": [-1]})

_RPN = model.proposal_generator
_RPN.update(
    in_features=["p3", "p4", "p5"],
    batch_size_per_image=64,
    pre_nms_topk=(200, 200),
    post_nms_topk=(100, 100),
)
_RPN.head.update(in_channels=64, num_anchors=3)
_RPN.anchor_generator.update(sizes=[[18, 26, 36]], aspect_ratios=[1.0], strides=[8, 16, 32])

_HEADS = model.roi_heads
_HEADS.update(
    num_classes=10,
    batch_size_per_image=16,
    positive_fraction=0.5,
    box_in_features=["p2"],
    mask_in_features=["p2"],
)
for _pooler, _size in ((_HEADS.box_pooler, 7), (_HEADS.mask_pooler, 10)):
    _pooler.update(output_size=_size, scales=(0.25,), sampling_ratio=1)
_HEADS.box_head.update(
    input_shape=ShapeSpec(channels=64, height=7, width=7), conv_dims=[], fc_dims=[256, 256]
)
_HEADS.box_predictor.input_shape = ShapeSpec(channels=256)
_HEADS.mask_head.update(
    input_shape=ShapeSpec(channels=64, height=10, width=10),
    num_classes=1,  # the outline shows, whatever the class is
    conv_dims=[32, 32, 32],
)

dataloader.train.dataset.names = "shapes_train"
dataloader.test.dataset.names = "shapes_val"
dataloader.train.total_batch_size = 8
dataloader.train.mapper.augmentations[0].update(short_edge_length=[128], max_size=128)
dataloader.test.mapper.augmentations[0].update(short_edge_length=128, max_size=128)
dataloader.train.mapper.image_format = "RGB"
read_files(dataloader)

optimizer = L(clip_whole_gradient)(optimizer=_ZOO.optimizer, max_norm=10.0)
optimizer.optimizer.lr = 0.04
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_factor=0.001,
    warmup_length=100 / 2000,
    warmup_method="linear",
)
train.update(init_checkpoint="", max_iter=2000, eval_period=0, output_dir="output/lazy")
train.checkpointer.period = 500
