"""The batches of a training, each by the seed and its number alone, for going on exactly."""

import itertools
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList
from detectron2.data.build import _train_loader_from_config, trivial_batch_collator
from detectron2.data.samplers import RandomSubsetTrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from .images import build_mapper

_SAMPLE, _STEP = 0, 1  # what random numbers are for: a sample's augmentation, a step of training
# A place in the endless sequence of samples, and the image there.
_Place = tuple[int, int]


class TrainingStream:
    """detectron2's training loader, whose random numbers depend on no history.

    The sampler's sequence is shared: of P processes, rank r takes places r, r + P, ... The seed
    and a sample's place alone decide its augmentation, in whatever worker; before each batch is
    given, the generators of Python, NumPy and torch of this process are seeded by the seed, its
    rank and the iteration.

    Args:
        cfg: of the data and the loader as in detectron2. ``SEED`` below 0: one is drawn.
        parts: what takes the place of that: ``dataset`` (a list of records), ``mapper``,
            ``sampler``, ``total_batch_size``, ``num_workers`` and ``aspect_ratio_grouping``, as
            detectron2's ``build_detection_train_loader`` has them.

    Attributes:
        images: how many the training sees.
        batch: the samples of the last batch given.

    Raises:
        ValueError: ``SOLVER.IMS_PER_BATCH`` cannot be shared among the processes.
    """

    def __init__(self, cfg: CfgNode, parts: dict[str, Any] | None = None):
        if parts is None:
            parts = _train_loader_from_config(cfg, mapper=build_mapper(cfg, is_train=True))
        self._rank, self._processes = comm.get_rank(), comm.get_world_size()
        total, grouped = parts["total_batch_size"], parts["aspect_ratio_grouping"]
        if total < 1 or total % self._processes:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH: {total} must be a multiple of the number of processes, "
                f"{self._processes}"
            )
        self._batch_size = total // self._processes
        self._workers = parts["num_workers"]
        dicts, self._sampler = parts["dataset"], parts["sampler"]
        self.images = len(dicts)
        self._subset_ratio = cfg.DATALOADER.get("RANDOM_SUBSET_RATIO")
        # Records of semantic segmentation may lack the size.
        self._wide = [grouped and d.get("width", 0) > d.get("height", 0) for d in dicts]
        self._samples = DatasetFromList(dicts, copy=False)
        self._mapper = parts["mapper"]
        # What the order depends on besides the seed.
        self._layout = {
            "processes": self._processes,
            "SOLVER.IMS_PER_BATCH": total,
            "images": self.images,
            "DATALOADER.SAMPLER_TRAIN": cfg.DATALOADER.SAMPLER_TRAIN,
            "DATALOADER.ASPECT_RATIO_GROUPING": grouped,
        }
        self._given_seed = cfg.SEED
        self._seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        # The sequence's place at which batches were first counted, and the iteration then.
        self._place = self._first = 0
        self._next = 0
        self.batch: list[dict[str, Any]] = []

    def start(self, iteration: int) -> None:
        """Let the next iterator begin with the batch of this iteration."""
        self._next = iteration
        logging.getLogger(__name__).info(
            f"The data's order and all random numbers are by seed {self._seed}."
        )

    def state_dict(self) -> dict[str, Any]:
        """The seed and what else decides the batch of any iteration; numbers and texts."""
        return {
            "seed": self._seed,
            "place": self._place,
            "first": self._first,
            "layout": self._layout,
        }

    def load_state_dict(self, state: dict[str, Any] | None, iteration: int) -> None:
        """Go on as a run did; with other processes or batches from the same place, if not exactly.

        Args:
            state: of :meth:`state_dict`, or None where a checkpoint has none.
            iteration: the first that is to come.
        """
        logger = logging.getLogger(__name__)
        if state is None:
            self._place, self._first = 0, iteration
            logger.warning(
                "The checkpoint has no seed and place in the data: the data's order begins anew."
            )
            return
        self._seed, self._place, self._first = state["seed"], state["place"], state["first"]
        if 0 <= self._given_seed != self._seed:
            logger.warning(
                f"SEED: {self._given_seed} is not used: the run began with seed {self._seed}."
            )
        before = state["layout"]
        changed = [key for key in self._layout if self._layout[key] != before.get(key)]
        if changed:
            self._place += (iteration - self._first) * before["SOLVER.IMS_PER_BATCH"]
            self._first = iteration
            what = ", ".join(f"{key} {before.get(key)} -> {self._layout[key]}" for key in changed)
            logger.warning(
                f"Resumed with other batches ({what}): the data go on after {self._place} samples, "
                "but losses are not those of an uninterrupted run."
            )

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        begin = self._next
        loader = DataLoader(
            _Mapped(self._samples, self._mapper, self._seed),
            batch_sampler=itertools.islice(self._batches(), begin - self._first, None),
            num_workers=self._workers,
            collate_fn=trivial_batch_collator,
            generator=torch.Generator(),  # else the process's own is asked for a number
        )
        for iteration, batch in enumerate(loader, begin):
            self.batch = batch
            seed_generators(self._seed, _STEP, self._rank, iteration)
            yield batch

    def _batches(self) -> Iterator[list[_Place]]:
        """This process's batches from the first on, tall and wide images apart if grouped."""
        sampler = self._sampler
        if isinstance(sampler, RandomSubsetTrainingSampler):
            sampler = RandomSubsetTrainingSampler(
                len(self._wide), self._subset_ratio, seed_shuffle=self._seed, seed_subset=self._seed
            )
        sampler._seed = self._seed
        places = enumerate(sampler._infinite_indices())
        own = itertools.islice(places, self._place + self._rank, None, self._processes)
        waiting: tuple[list[_Place], list[_Place]] = ([], [])
        for place, index in own:
            group = waiting[self._wide[index]]
            group.append((place, index))
            if len(group) == self._batch_size:
                yield group[:]
                group.clear()


class _Mapped(Dataset[dict[str, Any]]):
    def __init__(self, samples: Any, mapper: Callable[[Any], dict[str, Any]], seed: int):
        self._samples = samples
        self._mapper = mapper
        self._seed = seed

    def __getitem__(self, key: _Place) -> dict[str, Any]:
        place, index = key
        seed_cpu_generators(self._seed, _SAMPLE, place)  # images are made on the CPU
        return self._mapper(self._samples[index])


def seed_generators(*numbers: int) -> None:
    """Seed Python's, NumPy's and torch's generators by some numbers, none below 0, together."""
    torch.manual_seed(seed_cpu_generators(*numbers))


def seed_cpu_generators(*numbers: int) -> int:
    """The same but for torch's other devices, whose seeding takes 0.2 ms and more."""
    words = np.random.SeedSequence(numbers).generate_state(4)
    np.random.seed(words)
    random.seed(words.tobytes())
    seed = int(words[0]) << 32 | int(words[1])
    torch.default_generator.manual_seed(seed)
    return seed
