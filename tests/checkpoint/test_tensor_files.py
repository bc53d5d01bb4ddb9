"""Weights as .safetensors, and from a server that answers as the Hugging Face Hub does."""

import hashlib
import http.server
import threading

import pytest
import torch

from dnl_det.__main__ import main
from dnl_det.checkpoint import Checkpointer, DamagedCheckpointError, read_checkpoint

from .test_checkpointer import Detector
from .test_torchvision import torchvision_file

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture
def both(tmp_path):
    """torchvision's ResNet-18 converted: a .pth and a .safetensors."""
    _, file = torchvision_file(tmp_path, "resnet18")
    files = [tmp_path / "out.pth", tmp_path / "out.safetensors"]
    for out in files:
        assert main(["convert", str(file), str(out)]) == 0
    return files


def loaded(file):
    torch.manual_seed(1)
    detector = Detector(depth=18, attention=False, full_width=True)
    Checkpointer(detector).load(str(file))
    return detector.state_dict()


def test_both_formats_fill_a_model_alike(both):
    pth, tensors = map(loaded, both)
    assert pth.keys() == tensors.keys()
    assert all(torch.equal(value, tensors[key]) for key, value in pth.items())
    assert read_checkpoint(both[0])["model"].keys() == safetensors.load_file(both[1]).keys()


def test_a_file_of_another_project_is_converted(tmp_path, both):
    resnet, _ = torchvision_file(tmp_path, "resnet18")
    safetensors.save_file(resnet.state_dict(), tmp_path / "theirs.safetensors")
    out = tmp_path / "again.safetensors"
    words = ["convert", str(tmp_path / "theirs.safetensors"), str(out), "--format", "safetensors"]
    assert main(words) == 0
    found, expected = (read_checkpoint(file)["model"] for file in (out, both[0]))
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    with pytest.raises(SystemExit, match=r"OUT: .* must end with .pth; "):
        main([*words[:-1], "pth", "--overwrite"])


@pytest.mark.parametrize("kept", [0, 5, 20000])
def test_a_damaged_file_is_named(both, kept):
    cut = both[1].with_name("cut.safetensors")
    cut.write_bytes(both[1].read_bytes()[:kept])
    with pytest.raises(DamagedCheckpointError, match=r"cut.safetensors (is empty|cannot be read)"):
        read_checkpoint(cut)


def test_without_the_packages_it_says_what_to_install(both, tmp_path, monkeypatch):
    monkeypatch.setattr("dnl_det.checkpoint.tensor_files.find_spec", lambda _: None)
    needed = r"out.safetensors needs the package safetensors: pip install safetensors"
    with pytest.raises(ValueError, match=needed):
        loaded(both[1])
    with pytest.raises(SystemExit, match=r"new.safetensors needs the package safetensors"):
        main(["convert", str(tmp_path / "resnet18.pth"), str(tmp_path / "new.safetensors")])
    with pytest.raises(OSError, match=r"hf://a/b/c.pth needs the package huggingface_hub: pip"):
        loaded("hf://a/b/c.pth")


@pytest.mark.parametrize("path", ["hf://file.pth", "hf://owner/file.pth", "hf://owner//file.pth"])
def test_another_address_of_the_hub_is_named(path):
    with pytest.raises(OSError, match=rf"MODEL.WEIGHTS: {path} .*must be hf://OWNER/NAME/FILE"):
        loaded(path)


@pytest.fixture
def hub(both):
    """The address of a server with ``own/model`` and in it ``weights/out.safetensors``."""
    content = both[1].read_bytes()

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            there = self.path == "/own/model/resolve/main/weights/out.safetensors"
            self.send_response(200 if there else 404)
            if there:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", str(len(content) if there else 0))
            self.end_headers()
            return there

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_weights_of_the_hub_are_fetched_once(hub, both, start, tmp_path):
    pytest.importorskip("huggingface_hub")
    script = tmp_path / "load.py"
    script.write_text(
        "import sys, torch\n"
        "from detectron2.layers import ShapeSpec\n"
        "from dnl_det.checkpoint import Checkpointer\n"
        "from dnl_det.checkpoint.reading import read_checkpoint\n"
        "from detectron2.utils.file_io import PathManager\n"
        "model = torch.nn.Linear(1, 1)\n"
        "Checkpointer(model)._check_there(sys.argv[1])\n"
        "found = read_checkpoint(PathManager.get_local_path(sys.argv[1]))\n"
        "print('FOUND', len(found['model']))\n"
    )
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")}
    weights = "hf://own/model/weights/out.safetensors"
    expected = f"FOUND {len(read_checkpoint(both[0])['model'])}"
    assert expected in start(script, weights, **environment).finish()
    printed = start(script, "hf://own/model/gone.pth", **environment).finish(1)
    assert "MODEL.WEIGHTS: hf://own/model/gone.pth could not be fetched (" in printed
    hub.shutdown()
    hub.server_close()
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    assert expected in start(script, weights, **offline).finish()
    printed = start(script, "hf://own/model/other.pth", **offline).finish(1)
    assert "MODEL.WEIGHTS: hf://own/model/other.pth could not be fetched (" in printed
