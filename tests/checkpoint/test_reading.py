"""What is read of a checkpoint file, and what is refused before it can run."""

import os
import pickle

import numpy as np
import pytest
import torch

from dnl_det.checkpoint import UnsafeCheckpointError, read_checkpoint

CONTENT = {"state_dict": {"w": torch.arange(3000.0)}, "meta": {"epoch": 12, "classes": ("a", "b")}}


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def save(path, content, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_both_formats_of_torch_are_read(tmp_path, zipped):
    content = read_checkpoint(save(tmp_path / "a.pth", CONTENT, zipped))
    assert torch.equal(content["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert content["meta"] == CONTENT["meta"]


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_arrays_is_read(tmp_path, protocol):
    file = tmp_path / "a.pkl"
    arrays = {"w": np.ones((2, 3), np.float32), "s": np.float32(2), "b": b"\x00\xff"}
    file.write_bytes(pickle.dumps(arrays, protocol=protocol))
    content = read_checkpoint(file)
    assert content["w"].dtype == np.float32
    assert (content["w"] == 1).all()
    assert (content["s"], content["b"]) == (2, b"\x00\xff")


def test_numpy_values_in_a_torch_file_are_read(tmp_path):
    arrays = {"a": np.arange(3), "f": np.float64(0.5), "h": np.ones(2, np.float16)}
    content = read_checkpoint(save(tmp_path / "a.pth", arrays))
    assert content["a"].tolist() == [0, 1, 2]
    assert content["f"] == 0.5


@pytest.mark.parametrize("name", ["zip.pth", "old.pth", "zoo.pkl"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, name):
    mark, file = tmp_path / "run", tmp_path / name
    content = {"w": torch.ones(1).numpy(), "x": Hostile(mark)}
    if name == "zoo.pkl":
        file.write_bytes(pickle.dumps(content))
    else:
        save(file, content, zipped=name == "zip.pth")
    with pytest.raises(UnsafeCheckpointError, match=rf"{name} is refused: .*posix.system") as info:
        read_checkpoint(file)
    assert "DNL_DET_TRUST_WEIGHTS=1" in str(info.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "eval"), ("builtins", "getattr"), ("numpy", "load"), ("os", "system")],
)
def test_globals_beside_arrays_are_refused(tmp_path, module, name):
    file = tmp_path / "a.pkl"
    file.write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(UnsafeCheckpointError, match=f"refers to {module}.{name}"):
        read_checkpoint(file)


def test_an_encoding_other_than_that_of_bytes_is_refused(tmp_path):
    file = tmp_path / "a.pkl"
    file.write_bytes(b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.")
    with pytest.raises(UnsafeCheckpointError, match=r"_codecs.encode\(hex\)"):
        read_checkpoint(file)


def test_trust_is_an_explicit_choice(tmp_path, monkeypatch, caplog):
    mark, file = tmp_path / "run", tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps({"x": Hostile(mark)}))
    monkeypatch.setenv("DNL_DET_TRUST_WEIGHTS", "1")
    read_checkpoint(file)
    assert mark.exists()
    assert "without restrictions" in caplog.text
    whole = torch.nn.Linear(2, 2)
    assert isinstance(read_checkpoint(save(tmp_path / "m.pth", {"m": whole}))["m"], type(whole))


@pytest.mark.parametrize("name", ["zip.pth", "old.pth", "zoo.pkl"])
def test_a_cut_off_file_is_said_to_be_truncated(tmp_path, name):
    whole, cut = tmp_path / f"whole_{name}", tmp_path / name
    if name == "zoo.pkl":
        whole.write_bytes(pickle.dumps({"w": np.ones(3000)}))
    else:
        save(whole, CONTENT, zipped=name == "zip.pth")
    data = whole.read_bytes()
    for length in (10, 100, 1000, len(data) // 2, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match=rf"{name} is truncated: it ends after {length:,} by"):
            read_checkpoint(cut)
    cut.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        read_checkpoint(cut)


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_checkpoint(tmp_path / "gone.pth")
    page = tmp_path / "page.pth"
    page.write_text("<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(ValueError, match="is a web page, not a checkpoint"):
        read_checkpoint(page)
    noise = tmp_path / "noise.pth"
    noise.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(ValueError, match=r"noise.pth cannot be read as a checkpoint"):
        read_checkpoint(noise)
    with pytest.raises(ValueError, match="holds a list, not a dictionary"):
        read_checkpoint(save(tmp_path / "list.pth", [torch.ones(1)]))
