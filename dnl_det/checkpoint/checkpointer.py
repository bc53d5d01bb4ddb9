"""detectron2's checkpointer, with an eye on the backbone and its attention."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.layers import FrozenBatchNorm2d

from ..files import remove_partial, write_whole
from .conversion import recognise
from .reading import DamagedCheckpointError, check_sums, read_checkpoint

# A parameter of a residual block: its stage, its index there, and its name within the block.
_BLOCK_KEY = re.compile(r"(?:^|\.)(res[2-5])\.(\d+)\.(.+)$")
# Checkpoints of a training, by the iteration they were made after.
_OF_TRAINING = re.compile(r"model_(\d+|final)\.pth")
# What a checkpoint may leave out: folded into the scale and shift by those who froze them.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class WeightsNotFetchedError(OSError):
    """Weights on the network could not be had."""


class Checkpointer(DetectionCheckpointer):
    """Loads a checkpoint whose ResNet is the model's, or says why it is not.

    A checkpoint without attention (ImageNet weights, a plain detector) is fine: the attention
    starts fresh, by design, and one log line says so. A backbone that does not fit is an error,
    since training or evaluating on it would go on with random layers. Heads may differ, as when
    the classes do; detectron2 logs those.

    Checkpoints are written whole or not at all, and resuming passes over damaged ones.

    Args:
        args: see fvcore's ``Checkpointer``.
        kwargs: see fvcore's ``Checkpointer``.
        complete: every parameter must come from the checkpoint, the attention's and the heads'
            too. For whatever uses a model without training it.
    """

    def __init__(self, *args: Any, complete: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._complete = complete

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``NAME.pth`` with all checkpointables and ``kwargs``, and tag it as the last.

        Raises:
            OSError: it cannot be written; earlier checkpoints stay as they were.
        """
        if "://" in self.save_dir:
            super().save(name, **kwargs)
        elif self.save_dir and self.save_to_disk:
            states = {key: value.state_dict() for key, value in self.checkpointables.items()}
            file = Path(self.save_dir, f"{name}.pth")
            self.logger.info(f"Saving checkpoint to {file}")
            with write_whole(file) as stream:
                torch.save({"model": self.model.state_dict(), **states, **kwargs}, stream)
            with write_whole(file.with_name("last_checkpoint")) as stream:
                stream.write(file.name.encode())

    def save_weights(self, name: str, **kwargs: Any) -> None:
        """Write ``NAME.pth`` with the model and ``kwargs`` alone; it is not one to resume from.

        Raises:
            OSError: it cannot be written; a file of that name stays as it was.
        """
        if self.save_dir and self.save_to_disk:
            with write_whole(Path(self.save_dir, f"{name}.pth")) as stream:
                torch.save({"model": self.model.state_dict(), **kwargs}, stream)

    def has_checkpoint(self) -> bool:
        """Whether there is one to resume from."""
        if "://" in self.save_dir:
            return bool(super().has_checkpoint())
        return bool(self._newest_first())

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last whole checkpoint, or load ``path`` if there is none.

        Raises:
            DamagedCheckpointError: no checkpoint of the training is whole.
            See :meth:`load` for others.
        """
        files = self._newest_first() if resume else []
        if files and self.save_to_disk:
            remove_partial(self.save_dir)
        for file in files:
            try:
                check_sums(file)
                self._complete = True  # the optimizer's state would belong to another model
                return self.load(str(file))
            except (DamagedCheckpointError, FileNotFoundError) as error:
                self.logger.error(f"Not resumed from the newest checkpoint: {error}")
        if files:
            raise DamagedCheckpointError(
                f"--resume: none of {', '.join(f.name for f in files)} in {self.save_dir} is "
                "whole. Put one there that is, or start without --resume."
            )
        return super().resume_or_load(path, resume=resume)

    def newest_finite(self) -> tuple[Path | None, Path | None]:
        """The checkpoint that resuming takes, and the newest whose parameters are all finite."""
        newest = None
        for file in self._newest_first():
            with suppress(ValueError, OSError):
                state = read_checkpoint(file)["model"]
                newest = newest or file
                if all(v.isfinite().all() for v in state.values() if isinstance(v, torch.Tensor)):
                    return newest, file
        return newest, None

    def _newest_first(self) -> list[Path]:
        """The training's checkpoints: first what is newer than the tag, then the tagged one."""
        folder = Path(self.save_dir)
        if not self.save_dir or not folder.is_dir():
            return []
        tag, tagged, since = folder / "last_checkpoint", "", float("-inf")
        with suppress(OSError):
            tagged, since = tag.read_text().strip(), tag.stat().st_mtime
        last = _iteration(folder / tagged) if tagged else -1.0

        def rank(file: Path) -> tuple[bool, bool, float]:
            iteration = _iteration(file)
            # Stopped after it was written and before it was tagged. In a folder that was copied,
            # the times alone say nothing.
            newer = iteration > last and file.stat().st_mtime > since
            return newer, file.name == tagged, iteration

        files = {file for file in folder.iterdir() if _OF_TRAINING.fullmatch(file.name)}
        first = [folder / tagged] if tagged and folder / tagged not in files else []
        return first + sorted(files, key=rank, reverse=True)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load ``path`` into the model.

        Args:
            path: a file, an address detectron2 can fetch, or "" for a random start.
            args: see fvcore's ``Checkpointer.load``.
            kwargs: see fvcore's ``Checkpointer.load``.

        Returns:
            What the file holds besides what was loaded, such as ``iteration``.

        Raises:
            WeightsNotFetchedError: an address that does not answer.
            FileNotFoundError: no such file.
            ValueError: the file cannot be read, would run code, has to be converted first, or its
                ResNet is not the model's; with ``complete``, it does not fill the model.
        """
        if path:
            self._check_there(path)
        self._path = path
        try:
            return super().load(path, *args, **kwargs)
        finally:
            self._parsed_url_during_load = None  # else nothing loads after an error

    def _check_there(self, path: str) -> None:
        file = path.split("?")[0]
        remote = "://" in file
        try:
            there = self.path_manager.isfile(self.path_manager.get_local_path(file))
        except Exception as error:  # the network's errors have no common type
            if not remote:
                raise
            raise WeightsNotFetchedError(
                f"MODEL.WEIGHTS: {path} could not be fetched ({error}). Fetch it where there is a "
                "network and set MODEL.WEIGHTS to that file, or to '' for a random start."
            ) from error
        if not there:
            raise FileNotFoundError(
                f"MODEL.WEIGHTS: there is no file {path}. Set it to a checkpoint, or to '' for a "
                "random start."
            )

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            loaded = _from_model_zoo(self._torch_load(filename))
        elif filename.endswith(".pyth"):  # of pycls
            loaded = {"model": self._torch_load(filename)["model_state"], "__author__": "pycls"}
            loaded["matching_heuristics"] = True
        else:
            loaded = super()._load_file(filename)
        if not loaded["model"]:
            raise ValueError(f"MODEL.WEIGHTS: {filename} holds no parameters")
        state = loaded["model"].get("state_dict", loaded["model"])
        if layout := recognise(state):
            raise ValueError(
                f"MODEL.WEIGHTS: {filename} is {layout.description}, which has other names than "
                f"detectron2. Convert it first: python -m dnl_det convert {filename} OUT.pth"
            )
        return loaded

    def _torch_load(self, f: str) -> dict[str, Any]:
        try:
            return read_checkpoint(f)
        except ValueError as error:
            raise type(error)(f"MODEL.WEIGHTS: {error}") from error

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        incompatible = super()._load_model(checkpoint)
        mismatch = self._backbone_mismatch(incompatible)
        if mismatch:
            raise ValueError(
                f"MODEL.WEIGHTS: {self._path} is of another architecture: {mismatch}. Compare "
                "MODEL.RESNETS (DEPTH, NUM_GROUPS, ...) and MODEL.DNL with those it was trained "
                "with, or give other weights."
            )
        if self._complete:
            self._check_complete(incompatible)
        self._report_fresh_attention(incompatible.missing_keys)
        return incompatible

    def _check_complete(self, incompatible: Any) -> None:
        wrong = [
            f"{key} is {tuple(theirs)} there and {tuple(ours)} in the model"
            for key, theirs, ours in incompatible.incorrect_shapes
        ]
        missing = [key for key in incompatible.missing_keys if self._is_needed(key)]
        if missing:
            wrong.append(f"it lacks {_some(missing)}")
        if wrong:
            raise ValueError(
                f"MODEL.WEIGHTS: {self._path} does not fill the model: {_some(wrong)}. The rest "
                "would be random numbers. Use the config it was trained with, such as config.yaml "
                "beside it, or weights of this config's training."
            )

    def _is_needed(self, key: str) -> bool:
        module, _, name = key.rpartition(".")
        frozen = isinstance(self.model.get_submodule(module), FrozenBatchNorm2d)
        return name != "num_batches_tracked" and not (frozen and name in _STATISTICS)

    def _backbone_mismatch(self, incompatible: Any) -> str:
        """The first few backbone parameters that do not fit, in words; "" if all do."""
        own_stages = {match[1] for key in self.model.state_dict() if (match := _block(key))}
        unexpected = [
            key for key in incompatible.unexpected_keys if (m := _block(key)) and m[1] in own_stages
        ]
        if unexpected:
            return f"it has {_some(unexpected)}, which the model has not"
        shapes = [item for item in incompatible.incorrect_shapes if _block(item[0])]
        if shapes:
            key, theirs, ours = shapes[0]
            return f"{key} is {tuple(theirs)} there and {tuple(ours)} in the model"
        missing = [
            key
            for key in incompatible.missing_keys
            if (m := _block(key)) and not _is_attention(m) and not key.endswith(_STATISTICS)
        ]
        return f"it lacks {_some(missing)}" if missing else ""

    def _report_fresh_attention(self, missing: list[str]) -> None:
        fresh = [key for key in missing if (m := _block(key)) and _is_attention(m)]
        if not fresh:
            return
        for key in fresh:
            missing.remove(key)
        places = sorted({".".join(m.groups()[:2]) for key in fresh if (m := _block(key))})
        self.logger.info(
            f"The attention parameters in {', '.join(places)} ({len(fresh)} tensors) are not in "
            "the checkpoint and start fresh, by design."
        )


def _from_model_zoo(content: dict[str, Any]) -> dict[str, Any]:
    """A .pkl of detectron2's model zoo, or of Caffe2, from which its ImageNet weights come."""
    if "model" in content and "__author__" in content:
        return content
    model = content.get("blobs", content)
    model = {key: value for key, value in model.items() if not key.endswith("_momentum")}
    return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}


def _iteration(file: Path) -> float:
    """The iteration that a training's checkpoint was made after; infinite if it cannot be told."""
    match = _OF_TRAINING.fullmatch(file.name)
    if match and match[1] != "final":
        return int(match[1])
    # A training that was continued has a final one of before.
    with suppress(ValueError, OSError):
        return int(read_checkpoint(file)["iteration"])
    return float("inf")


def _block(key: str) -> re.Match[str] | None:
    return _BLOCK_KEY.search(key)


def _is_attention(match: re.Match[str]) -> bool:
    return match[3].startswith("attention.")


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more
