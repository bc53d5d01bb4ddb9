"""The YAML config of this name in Python."""

from detectron2 import model_zoo

from ..common.attention import put_attention, read_files

_ZOO = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
model, optimizer, lr_multiplier = _ZOO.model, _ZOO.optimizer, _ZOO.lr_multiplier
dataloader, train = _ZOO.dataloader, _ZOO.train

for _part in ("mask_in_features", "mask_pooler", "mask_head"):
    del model.roi_heads[_part]
dataloader.train.mapper.use_instance_mask = False
put_attention(model)
read_files(dataloader)
