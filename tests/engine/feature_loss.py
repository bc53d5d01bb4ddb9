"""``train_net.py`` with a model whose loss is a mean over images, in float64.

A detector's losses are means over what is found in the images of a process, which several processes
share out otherwise than one. Of this loss the mean over processes is that over all images.
"""

import runpy

import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import nn


@META_ARCH_REGISTRY.register()
class FeatureLoss(nn.Module):
    """The backbone's features, weighted by place and channel and squared."""

    def __init__(self, cfg):
        super().__init__()
        self.backbone = build_backbone(cfg).double()

    def forward(self, batch):
        images = torch.stack([sample["image"] for sample in batch]).double() / 128 - 1
        losses = {}
        for name, feature in self.backbone(images).items():
            weights = torch.cos(torch.arange(feature[0].numel())).view_as(feature[0])
            losses[f"loss_{name}"] = (weights * feature).square().mean()
        return losses


if __name__ == "__main__":
    runpy.run_path("train_net.py", run_name="__main__")
