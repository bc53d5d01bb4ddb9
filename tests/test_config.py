"""What importing the package and adding its keys do to detectron2."""

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY

from dnl_det import add_dnl_config


def test_import_registers_backbones_and_data_sets():
    for name in ("resnet", "resnet_fpn", "retinanet_resnet_fpn"):
        builder = f"build_dnl_{name}_backbone"
        assert BACKBONE_REGISTRY.get(builder).__name__ == builder
    assert {"shapes_train", "shapes_val"} <= set(DatasetCatalog.list())


def test_adding_the_keys_again_keeps_what_was_set():
    cfg = get_cfg()
    add_dnl_config(cfg)
    assert (cfg.MODEL.DNL.BLOCK, cfg.MODEL.DNL.RES4, cfg.DATASETS.TRAIN_JSON) == ("dnl", [], "")
    cfg.MODEL.DNL.RES4 = [-2]
    cfg.DATASETS.TRAIN_JSON = "mine.json"
    before = cfg.dump()
    add_dnl_config(cfg)
    assert cfg.dump() == before


def test_keys_missing_from_an_older_config_are_filled_in():
    cfg = get_cfg()
    add_dnl_config(cfg)
    del cfg.MODEL.DNL["POSITION"]
    cfg.MODEL.DNL.BLOCK = "gc"
    add_dnl_config(cfg)
    assert (cfg.MODEL.DNL.POSITION, cfg.MODEL.DNL.BLOCK) == ("before_relu", "gc")


def test_configs_do_not_share_their_lists():
    first, second = get_cfg(), get_cfg()
    add_dnl_config(first)
    add_dnl_config(second)
    first.MODEL.DNL.RES4.append(0)
    assert second.MODEL.DNL.RES4 == []


def test_unknown_keys_are_refused():
    cfg = get_cfg()
    add_dnl_config(cfg)
    with pytest.raises(AssertionError, match=r"MODEL.DNL.RES6"):
        cfg.merge_from_list(["MODEL.DNL.RES6", [0]])
