"""The config keys of dnl_det, added to detectron2's."""

from detectron2.config import CfgNode as CN


def add_dnl_config(cfg: CN) -> None:
    """Add ``MODEL.DNL``, and keys of semantic segmentation, data and training, to a config.

    Keys that are there already keep their values, so that calling it twice changes nothing.

    Args:
        cfg: from ``detectron2.config.get_cfg()``; changed in place.
    """
    _add_missing(cfg.MODEL, "DNL", _dnl_defaults())
    _add_missing(cfg.MODEL, "RESNETS", _dilated_resnet_defaults())
    _add_missing(cfg.MODEL, "SEM_SEG_HEAD", _sem_seg_head_defaults())
    for split in ("TRAIN", "VAL"):
        # One's own data, without code: a COCO-format JSON and the folder its file names are in.
        # Where set, it replaces DATASETS.TRAIN / DATASETS.TEST, and the class counts follow it.
        # For semantic segmentation: the folder of the images, and that of the labels, a PNG of
        # the same name for each, with CLASSES: their names in the order of the labels from 0 on,
        # separated by commas, or a text file with a name on each line.
        for kind in ("JSON", "IMAGES", "LABELS"):
            _add_missing(cfg.DATASETS, f"{split}_{kind}", "")
    _add_missing(cfg.DATASETS, "CLASSES", "")
    # The largest annotation file that is read, in MB of 10^6 bytes; checking takes about twelve
    # times as much memory. COCO's has 450, LVIS' 1100.
    _add_missing(cfg.DATASETS, "MAX_JSON_MB", 4096)
    # What reads and resizes images: "pillow", as detectron2 does, or "opencv", as mmdetection
    # does; both bilinear, but Pillow averages over the pixels that shrinking drops.
    _add_missing(cfg.INPUT, "IMAGE_LIBRARY", "pillow")
    # Two factors, such as [0.5, 2.0]: each training image is resized to MIN_SIZE_TRAIN and
    # MAX_SIZE_TRAIN times a random number between them. [] for none.
    _add_missing(cfg.INPUT, "SCALE_RANGE", [])
    # Random brightness, contrast, saturation and hue, as SSD has them.
    _add_missing(cfg.INPUT, "COLOR_AUG_SSD", False)
    # A crop is drawn again, up to ten times, while one class has more than this share of its
    # labelled pixels. Semantic segmentation; 1.0: any crop will do.
    _add_missing(cfg.INPUT.CROP, "SINGLE_CATEGORY_MAX_AREA", 1.0)
    # Of semantic segmentation: height and width in pixels of the windows that a test image is cut
    # into, and how far they are apart. [] for the whole image at once.
    _add_missing(cfg.TEST, "SLIDING_WINDOW", CN({"SIZE": [], "STRIDE": []}))
    # Test-time augmentation of semantic segmentation: factors of the test size.
    _add_missing(cfg.TEST.AUG, "SCALES", [0.5, 0.75, 1.0, 1.25, 1.5, 1.75])
    # A number of the evaluations, such as "segm/AP" or "sem_seg/mIoU": the weights at which it was
    # largest are kept as model_best.pth. "" for none.
    _add_missing(cfg.TEST, "BEST_METRIC", "")
    # A training ends where so many evaluations, each TEST.EVAL_PERIOD iterations, had no better
    # BEST_METRIC. 0: it does not.
    _add_missing(cfg.SOLVER, "EARLY_STOPPING_PATIENCE", 0)
    # Of LR_SCHEDULER_NAME WarmupPolyLR: the rate is BASE_LR times
    # (1 - FLOOR) * (1 - iteration / MAX_ITER) ** POWER + FLOOR.
    _add_missing(cfg.SOLVER, "POLY_LR_POWER", 0.9)
    _add_missing(cfg.SOLVER, "POLY_LR_FLOOR", 0.0)
    # Weight decay of query's and key's convolutions; None: that of the others.
    _add_missing(cfg.SOLVER, "WEIGHT_DECAY_QUERY_KEY", None)
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


def _dilated_resnet_defaults() -> CN:
    """Of build_dnl_resnet_deeplab_backbone, besides detectron2's own RES5_DILATION."""
    resnets = CN()
    # "basic", one convolution of 7 x 7, or "deeplab", three of 3 x 3.
    resnets.STEM_TYPE = "basic"
    # Of res4: 2 keeps the resolution of res3; RES5_DILATION is 4 then.
    resnets.RES4_DILATION = 1
    # Multiplies RES5_DILATION in the three blocks of res5.
    resnets.RES5_MULTI_GRID = [1, 1, 1]
    # Halves the dilation in the first block of a dilated stage, as mmsegmentation does.
    resnets.CONTRACT_DILATION = False
    return resnets


def _sem_seg_head_defaults() -> CN:
    """Of DNLSemSegHead, besides detectron2's keys of the node."""
    head = CN()
    # The attention between the two convolutions: the keys that MODEL.DNL has for a block.
    head.DNL = _block_defaults()
    # Concatenate the head's input with what comes out of its convolutions.
    head.CONCAT = True
    # Probability with which a channel is left out before the classifier in training.
    head.DROPOUT = 0.1
    # Whether resized logits keep the corner pixels' centres.
    head.ALIGN_CORNERS = False
    # "all": the loss is a mean over all pixels, in which ignored ones count as 0; or "labelled".
    head.LOSS_MEAN = "all"
    # Learn only from pixels whose class has a probability below OHEM_THRESHOLD, at least
    # OHEM_MIN_PIXELS of a batch. Their mean is the loss.
    head.OHEM = False
    head.OHEM_THRESHOLD = 0.7
    head.OHEM_MIN_PIXELS = 100000
    # The loss' weight of each class; [] for 1.
    head.CLASS_WEIGHTS = []
    # A second head, in training alone, on the feature AUX.IN_FEATURE: a convolution to CONVS_DIM
    # channels and a classifier. LOSS_WEIGHT 0: none.
    head.AUX = CN({"IN_FEATURE": "res4", "CONVS_DIM": 256, "LOSS_WEIGHT": 0.0})
    return head


def _block_defaults() -> CN:
    """What a block is built with, wherever it is."""
    dnl = CN()

    # Which block: "dnl" (disentangled non-local), "nl" (non-local, self-attention), "snl"
    # (simplified non-local), "gc" (global context), or "none" for the plain ResNet.
    dnl.BLOCK = "dnl"
    # Query, key (NL: value too) and GC's bottleneck have 1 / REDUCTION of the stage's channels.
    dnl.REDUCTION = 4

    # What computes the softmax attention of "dnl" and "nl", exactly all: "plain", "chunked" (memory
    # linear in the number of positions), "sdpa" (torch's), or "auto", by that number.
    dnl.BACKEND = "auto"

    # Standard deviation of the 1x1 convolutions' weights at the start, of "dnl", "nl" and "snl".
    # The authors' 0.01 adds little to the input; 1 / sqrt(channels) something of its size.
    dnl.INIT_STD = 0.01
    # Of "dnl": gamma at the start. With the authors' 0 its query and key learn nothing at first.
    dnl.INIT_GAMMA = 0.0

    # Of "dnl": "disentangled" is the paper's block. The others are its ablation: "joint"
    # (self-attention), "pairwise" and "unary" alone, "add_shared" (their sum, one key for both).
    dnl.MODE = "disentangled"
    # Divides the logits, besides sqrt(channels of the query). The authors train DNL with 0.05 and
    # the single terms with 1.
    dnl.TEMPERATURE = 0.05
    # Subtract a mean of queries and keys in the pairwise term, as WHITENING says.
    dnl.WHITEN = True
    # "in_nostd": the mean of each channel over positions (the paper's); "ln_nostd": one mean over
    # channels and positions; "in", "ln": the same, divided by the standard deviation; "spatial":
    # the mean over channels at each position.
    dnl.WHITENING = "in_nostd"
    # Divide the pairwise logits by sqrt(d), d the channels of query and key.
    dnl.SCALE = True
    # Divide the unary logits of "unary" and "add_shared" by sqrt(d) * TEMPERATURE too.
    dnl.UNARY_SCALE = True
    # Multiply the pairwise term by gamma, a number that is learned.
    dnl.USE_GAMMA = True
    # Halve the keys' and values' height and width by max-pooling: a quarter of the products.
    dnl.DOWNSAMPLE = False
    # Values of C / REDUCTION channels and a convolution back to C after the sum of both terms.
    dnl.USE_OUT = False
    # Of "dnl" with USE_OUT, and of "nl": a norm on the output convolution, of the kind that the
    # head or the ResNet around it has.
    dnl.OUT_NORM = False

    # Of "nl" and "dnl": "embedded_gaussian" (softmax), "dot_product" (no softmax), and of "nl"
    # "gaussian" (softmax, no embedding).
    dnl.NL_KERNEL = "embedded_gaussian"
    # Multiply the logits by sqrt(d) instead of dividing: only for checkpoints trained that way.
    dnl.NL_LEGACY_SCALE = False

    # Of "gc": how the context is pooled, "attention" or "average", and how it joins the input:
    # any of "add" and "mul".
    dnl.GC_POOLING = "attention"
    dnl.GC_FUSION = ["add"]
    return dnl


def _dnl_defaults() -> CN:
    """Which residual blocks of the backbone carry which block."""
    dnl = _block_defaults()

    # Indices of the residual blocks of a stage that carry attention, negative ones from the end,
    # so that they mean the same in R50 and R101. The paper: RES4 [-2], and RES5 [-3, -2, -1].
    dnl.RES2 = []
    dnl.RES3 = []
    dnl.RES4 = []
    dnl.RES5 = []
    # Where in the residual block: "before_relu", after the shortcut is added (the authors');
    # "after_relu" (Non-local networks); "before_add", on the residual alone (GCNet).
    dnl.POSITION = "before_relu"

    # Whether attention in a stage that MODEL.BACKBONE.FREEZE_AT freezes learns all the same.
    dnl.TRAIN_IN_FROZEN = False

    # Stages, such as ["res3", "res4"], whose activations are computed again in the backward pass
    # instead of being kept: less memory, more time. Attention or not.
    dnl.CHECKPOINT = []

    # How often in a training, evenly, the attention's statistics and maps of two fixed images of
    # DATASETS.TEST go to TensorBoard; 0 for never. A turn is left out where it would bring the
    # whole above MONITOR_SHARE of the training's time.
    dnl.MONITOR_TIMES = 20
    dnl.MONITOR_SHARE = 0.02
    return dnl
