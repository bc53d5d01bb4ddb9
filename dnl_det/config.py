"""The config keys of dnl_det, added to detectron2's."""

from detectron2.config import CfgNode as CN


def add_dnl_config(cfg: CN) -> None:
    """Add ``MODEL.DNL`` and a few keys of the data to a detectron2 config.

    Keys that are there already keep their values, so that calling it twice changes nothing.

    Args:
        cfg: from ``detectron2.config.get_cfg()``; changed in place.
    """
    _add_missing(cfg.MODEL, "DNL", _dnl_defaults())
    for key in ("TRAIN_JSON", "TRAIN_IMAGES", "VAL_JSON", "VAL_IMAGES"):
        # One's own data, without code: a COCO-format JSON and the folder its file names are in.
        # Where set, it replaces DATASETS.TRAIN / DATASETS.TEST, and the class counts follow it.
        _add_missing(cfg.DATASETS, key, "")
    # The largest annotation file that is read, in MB of 10^6 bytes; checking takes about twelve
    # times as much memory. COCO's has 450, LVIS' 1100.
    _add_missing(cfg.DATASETS, "MAX_JSON_MB", 4096)
    # What reads and resizes images: "pillow", as detectron2 does, or "opencv", as mmdetection
    # does; both bilinear, but Pillow averages over the pixels that shrinking drops.
    _add_missing(cfg.INPUT, "IMAGE_LIBRARY", "pillow")
    # "SGD", as detectron2 has it, or "AdamW", whose steps do not shrink with the gradient: query
    # and key of an attention that is still near uniform get gradients close to 0.
    _add_missing(cfg.SOLVER, "OPTIMIZER", "SGD")
    # How many times the training sees each image. Sets MAX_ITER, and adapts STEPS and WARMUP_ITERS;
    # 0 leaves all three as they are.
    _add_missing(cfg.SOLVER, "EPOCHS", 0)
    # How many steps of a training whose loss or gradient is NaN or infinite are left out, in all,
    # before one stops it; 0 stops at the first. No such step changes the weights.
    _add_missing(cfg.SOLVER, "MAX_BAD_STEPS", 0)


def _add_missing(node: CN, key: str, value: object) -> None:
    if key not in node:
        node[key] = value
    elif isinstance(value, CN):
        for child_key, child_value in value.items():
            _add_missing(node[key], child_key, child_value)


def _dnl_defaults() -> CN:
    dnl = CN()

    # Which block: "dnl" (disentangled non-local), "nl" (non-local, self-attention), "snl"
    # (simplified non-local), "gc" (global context), or "none" for the plain ResNet.
    dnl.BLOCK = "dnl"
    # Indices of the residual blocks of a stage that carry attention, negative ones from the end,
    # so that they mean the same in R50 and R101. The paper: RES4 [-2], and RES5 [-3, -2, -1].
    dnl.RES2 = []
    dnl.RES3 = []
    dnl.RES4 = []
    dnl.RES5 = []
    # Where in the residual block: "before_relu", after the shortcut is added (the authors');
    # "after_relu" (Non-local networks); "before_add", on the residual alone (GCNet).
    dnl.POSITION = "before_relu"
    # Query, key (NL: value too) and GC's bottleneck have 1 / REDUCTION of the stage's channels.
    dnl.REDUCTION = 4

    # Whether attention in a stage that MODEL.BACKBONE.FREEZE_AT freezes learns all the same.
    dnl.TRAIN_IN_FROZEN = False

    # What computes the softmax attention of "dnl" and "nl", exactly all: "plain", "chunked" (memory
    # linear in the number of positions), "sdpa" (torch's), or "auto", by that number.
    dnl.BACKEND = "auto"

    # Standard deviation of the 1x1 convolutions' weights at the start, of "dnl", "nl" and "snl".
    # The authors' 0.01 adds little to the input; 1 / sqrt(channels) something of its size.
    dnl.INIT_STD = 0.01
    # Of "dnl": gamma at the start. With the authors' 0 its query and key learn nothing at first.
    dnl.INIT_GAMMA = 0.0

    # Stages, such as ["res3", "res4"], whose activations are computed again in the backward pass
    # instead of being kept: less memory, more time. Attention or not.
    dnl.CHECKPOINT = []

    # How often in a training, evenly, the attention's statistics and maps of two fixed images of
    # DATASETS.TEST go to TensorBoard; 0 for never. A turn is left out where it would bring the
    # whole above MONITOR_SHARE of the training's time.
    dnl.MONITOR_TIMES = 20
    dnl.MONITOR_SHARE = 0.02

    # Of "dnl": "disentangled" is the paper's block. The others are its ablation: "joint"
    # (self-attention), "pairwise" and "unary" alone, "add_shared" (their sum, one key for both).
    dnl.MODE = "disentangled"
    # Divides the logits, besides sqrt(channels of the query). The authors train DNL with 0.05 and
    # the single terms with 1.
    dnl.TEMPERATURE = 0.05
    # Subtract the queries' and keys' mean over positions in the pairwise term.
    dnl.WHITEN = True
    # Halve the keys' and values' height and width by max-pooling: a quarter of the products.
    dnl.DOWNSAMPLE = False
    # Values of C / REDUCTION channels and a convolution back to C after the sum of both terms.
    dnl.USE_OUT = False

    # Of "nl": "embedded_gaussian" (softmax), "gaussian" (softmax, no embedding) or "dot_product".
    dnl.NL_KERNEL = "embedded_gaussian"
    # Multiply the logits by sqrt(d) instead of dividing: only for checkpoints trained that way.
    dnl.NL_LEGACY_SCALE = False

    # Of "gc": how the context is pooled, "attention" or "average", and how it joins the input:
    # any of "add" and "mul".
    dnl.GC_POOLING = "attention"
    dnl.GC_FUSION = ["add"]
    return dnl
