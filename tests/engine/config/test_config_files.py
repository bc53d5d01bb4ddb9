"""Config files and overrides that are wrong, and what is said of them: real files."""

import os

import pytest
import yaml
from detectron2.config import get_cfg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnl_det import add_dnl_config
from dnl_det.engine import load_config
from dnl_det.engine.config.config_files import merge_file, merge_overrides

# Lists in tuples, which `!!pairs` makes.
PAIRS = "SEED: [&a [1, 1, 1], "
PAIRS += ", ".join(
    f"&{b} !!pairs [{', '.join(['k: *' + a] * 9)}]" for a, b in zip("abcdef", "bcdefg", strict=True)
)
LINES = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
LINES += [f"{b}: &{b} [{', '.join(['*' + a] * 10)}]" for a, b in zip("abcd", "bcde", strict=True)]
ALIASES = "\n".join(LINES)


@pytest.fixture
def cfg():
    config = get_cfg()
    add_dnl_config(config)
    return config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: must be keys with values"),
        ("- 1", "is a list: must be keys"),
        ("MODEL: {\n  MASK_ON: True", r"is not YAML: line 2: expected ',' or '}'"),
        ("SEED: 1\nMODEL:\n  MASK_ON: True\nSEED: 2", "line 4: SEED is given twice"),
        ("MODEL:\n  DNL: {MODE: joint, MODE: unary}", "line 2: MODE is given twice"),
        ("_BASE_: config.yaml", "is based on itself"),
        ("_BASE_: gone.yaml", r"gone.yaml, _BASE_ of .*config.yaml, does not exist"),
        ("_BASE_: 3", "_BASE_: 3 must be a file's name"),
        ("SEED: " + "[" * 5000, "has values in values without end"),
        ("SEED: &a [*a]", "has values in values without end"),
        (PAIRS + "]", r"has 3,811,413 values, more than 100,000"),
        (ALIASES, r"has 12\d,\d{3} values, more than 100,000"),
        ("MODEL: {DNL: {MOOD: joint}}", r"no key MODEL.DNL.MOOD; did you mean MODEL.DNL.MODE\?"),
        ("MODEL: {DNL: {mode: joint}}", r"no key MODEL.DNL.mode; did you mean MODEL.DNL.MODE\?"),
        ("DNL: {MODE: joint}", r"no key DNL.MODE; did you mean MODEL.DNL.MODE\?"),
        ("1: 2", "there is no key 1$"),
        ("SOLVER: {BASE_LR: 1}", "SOLVER.BASE_LR: 1 must be a number with a point, such as 1.0"),
        ("SOLVER: {MAX_ITER: 1.5}", "SOLVER.MAX_ITER: 1.5 must be a whole number"),
        ("MODEL: {DNL: {RES4: -2}}", r"MODEL.DNL.RES4: -2 must be a list, such as \[1, 2\]"),
        ("MODEL: {DNL: {WHITEN: 1}}", "MODEL.DNL.WHITEN: 1 must be True or False"),
        ("OUTPUT_DIR: 7", "OUTPUT_DIR: 7 must be a text, in quotes where"),
        ("MODEL: 3", "MODEL: 3 cannot be set: it is a group of keys, such as MODEL"),
        ("MODEL:", "MODEL: None cannot be set: it is a group"),
        ("SEED: {A: 1}", "there is no key SEED.A"),
        ("VERSION: 3", "VERSION: 3 must be a whole number from 0 to 2"),
        ("VERSION: 1\nMODEL: {DNL: {MOOD: joint}}", r"did you mean MODEL.DNL.MODE\?"),
        ("VERSION: 1\nTEST: {DETECTIONS_PER_IMG: 7}\nSEED: x", "SEED: 'x' must be a whole number"),
        ("MODEL.DNL.MODE: joint", "no key MODEL.DNL.MODE: in a file a key stands below its group"),
        ("MODEL: {DEVICE: }", "MODEL.DEVICE: None must be a text"),
        ("MODEL: {FPN: {IN_FEATURES: ~}}", "MODEL.FPN.IN_FEATURES: None must be a list"),
        ("SEED: 1\nOUTPUT_DIR: 2020-99-99", "line 2: '2020-99-99' is no timestamp"),
        ("SEED: !!timestamp foo", "line 1: 'foo' is no timestamp"),
        ("SEED: !!bool foo", "line 1: 'foo' is no bool"),
        ("SEED: !!int ''", "line 1: '' is no int"),
        ("SEED: " + "9" * 5000, r"line 1: '9{200}...' is no int"),
        (f"OUTPUT_DIR: '{'-' * 100_000}1'", "OUTPUT_DIR: '-{199}... must be a text"),
        ("SEED: [" + "1," * 5000 + "]", r"SEED: \[1, 1, .*\.\.\. must be a whole number"),
        ("x" * 900 + ": 1", "there is no key x{200}..."),
        ("_BASE_: ./config.yaml", "is based on itself: .*/config.yaml -> .*/./config.yaml"),
        ("_BASE_: [" + "empty.yaml, " * 101 + "]", "is based on more than 100 others"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_config_is_named_with_the_place(cfg, tmp_path, text, message):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    (tmp_path / "empty.yaml").write_text("{}")
    with pytest.raises(ValueError, match=message) as error:
        merge_file(cfg, str(file))
    assert str(file) in str(error.value)
    assert len(str(error.value)) < 1000


def test_files_that_cannot_be_read(cfg, tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="bytes.yaml is not YAML: 'utf-8' codec can't decode"):
        merge_file(cfg, str(tmp_path / "bytes.yaml"))
    with pytest.raises(ValueError, match="cannot be read: it is a folder, or no file"):
        merge_file(cfg, str(tmp_path))
    os.mkfifo(tmp_path / "pipe.yaml")  # would be waited for
    with pytest.raises(ValueError, match="pipe.yaml cannot be read: it is a folder, or no file"):
        merge_file(cfg, str(tmp_path / "pipe.yaml"))


def test_files_that_are_based_on_each_other_very_often(cfg, tmp_path):
    for k in range(20):  # 2^20 to be read
        (tmp_path / f"{k}.yaml").write_text(f"_BASE_: [{k + 1}.yaml, {k + 1}.yaml]")
    (tmp_path / "20.yaml").write_text("SEED: 1")
    with pytest.raises(ValueError, match="0.yaml is based on more than 100 others"):
        merge_file(cfg, str(tmp_path / "0.yaml"))
    for k in range(200):
        (tmp_path / f"{k}.yaml").write_text(f"_BASE_: {k + 1}.yaml")
    with pytest.raises(ValueError, match="0.yaml is based on more than 100 others"):
        merge_file(cfg, str(tmp_path / "0.yaml"))


def test_none_where_detectron2_has_it(cfg, tmp_path):
    (tmp_path / "config.yaml").write_text("SOLVER: {WEIGHT_DECAY_BIAS: }\n")
    cfg.merge_from_list(["SOLVER.WEIGHT_DECAY_BIAS", 0.5])
    merge_file(cfg, str(tmp_path / "config.yaml"))
    assert cfg.SOLVER.WEIGHT_DECAY_BIAS is None
    merge_overrides(cfg, ["SOLVER.WEIGHT_DECAY_BIAS", "0.5", "SOLVER.WEIGHT_DECAY_BIAS", "None"])
    assert cfg.SOLVER.WEIGHT_DECAY_BIAS is None


@pytest.mark.parametrize("kind", ["object/apply", "object/new", "name", "module"])
def test_yaml_that_runs_code_is_refused_and_not_run(cfg, tmp_path, kind):
    file, made = tmp_path / "config.yaml", tmp_path / "made"
    arguments = f" [{made}]" if kind.startswith("object") else " ''"
    file.write_text(f"OUTPUT_DIR: !!python/{kind}:os.mkdir{arguments}\n")
    with pytest.raises(ValueError, match=r"line 1: .*could run code and are refused"):
        merge_file(cfg, str(file))
    (tmp_path / "above.yaml").write_text("_BASE_: config.yaml\n")
    with pytest.raises(ValueError, match=r"config.yaml: line 1: .*could run code"):
        merge_file(cfg, str(tmp_path / "above.yaml"))
    assert not made.exists()


def test_an_error_names_the_file_that_has_the_key(cfg, tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL: {DNL: {REDUCTON: 2}}\n")
    (tmp_path / "config.yaml").write_text("_BASE_: base.yaml\nSEED: 1\n")
    with pytest.raises(ValueError, match=r"base.yaml: .*did you mean MODEL.DNL.REDUCTION\?"):
        merge_file(cfg, str(tmp_path / "config.yaml"))


def test_what_yaml_and_detectron2_know_is_loaded_as_ever(cfg, tmp_path):
    (tmp_path / "first.yaml").write_text("MODEL: {DNL: {MODE: joint, RES4: [0]}}\n")
    (tmp_path / "second.yaml").write_text("SEED: 5\n")
    (tmp_path / "config.yaml").write_text(
        "_BASE_: [first.yaml, second.yaml]\n"
        "MODEL:\n  RESNETS: &wide {WIDTH_PER_GROUP: 8, NUM_GROUPS: 32}\n"
        "  DNL: {RES4: [-2]}\n  ROI_HEADS: {<<: {NUM_CLASSES: 3}, BATCH_SIZE_PER_IMAGE: 4}\n"
    )
    merge_file(cfg, str(tmp_path / "config.yaml"))
    assert (cfg.MODEL.DNL.MODE, cfg.MODEL.DNL.RES4, cfg.SEED) == ("joint", [-2], 5)
    heads = cfg.MODEL.ROI_HEADS
    assert (cfg.MODEL.RESNETS.NUM_GROUPS, heads.NUM_CLASSES, heads.BATCH_SIZE_PER_IMAGE) == (
        32,
        3,
        4,
    )
    # A config of detectron2's first version, whose keys have been renamed since.
    (tmp_path / "old.yaml").write_text("VERSION: 1\nTEST: {DETECTIONS_PER_IMG: 7}\n")
    merge_file(cfg, str(tmp_path / "old.yaml"))
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MAX_ITER", "3"], r"there is no key MAX_ITER; did you mean SOLVER.MAX_ITER\?"),
        (["MODEL.DNL.MODE.X", "3"], "there is no key MODEL.DNL.MODE.X"),
        (["MODEL.DNL", "joint"], "MODEL.DNL: 'joint' cannot be set: it is a group of keys"),
        (["SOLVER.BASE_LR", "one"], "SOLVER.BASE_LR: 'one' must be a number with a point"),
        (["_BASE_", "x.yaml"], "there is no key _BASE_"),
        (["", "x"], "there is no key"),
        (["OUTPUT_DIR", "-" * 100_000 + "1"], "OUTPUT_DIR: '-{199}... must be a text"),
        (["SEED", "1" + "+1" * 20_000], r"SEED: '1(\+1){99}.*\.\.\. must be a whole number"),
        (["SEED", "{[]: 1}"], "SEED: '{\\[\\]: 1}' must be a whole number"),
        (["MODEL.DEVICE", "None"], "MODEL.DEVICE: 'None' must be a text"),
        (
            ["SEED", "1", "--num-gpus", "2"],
            "--num-gpus comes too late: options go before the first",
        ),
        (["SEED", "1", "--resume"], "--resume comes too late"),
        (["SEED"], r"must be pairs KEY VALUE, and \['SEED'\] are not"),
    ],
)
def test_overrides_are_named(cfg, overrides, message):
    with pytest.raises(ValueError, match=message):
        merge_overrides(cfg, overrides)


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["MODEL", "DNL", "SOLVER", "RES4", "_BASE_", "VERSION", "SEED", "x"])
            | st.integers(),
            children,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(content=st.binary(max_size=60) | st.text(max_size=60) | YAML)
def test_any_file_is_loaded_or_one_error_names_it(tmp_path, content):
    file = tmp_path / "any.yaml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        file.write_text(text, encoding="utf-8", errors="replace")
    before = set(os.listdir(tmp_path))
    message = ""
    try:
        load_config(str(file))
    except ValueError as error:
        message = str(error)
    assert not message or str(file) in message or message.startswith(("MODEL.", "SOLVER."))
    assert set(os.listdir(tmp_path)) == before
