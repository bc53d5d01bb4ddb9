"""How much the queries of an attention block differ: has the block degenerated?

Definitions with equations: docs/DIAGNOSE.md. L: positions, S: key positions, Q: chosen queries,
C: channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from ..recording.geometry import Frame
from ..recording.record import BUDGET, BlockRecord, QueryAttention

# Queries of an image, where not all are asked for.
QUERIES = 256
# Pairs of queries whose divergence is taken: exact up to 64 queries, beyond it an even choice.
_PAIRS = 2048
# A context below this many rounding errors of the block's input has no direction.
_ROUNDING_ERRORS = 100


@dataclass(frozen=True)
class BlockStatistics:
    """One block on one image; None where a block has no such term, or it is not defined.

    Distances are of cosines, between 0 (all queries the same) and 1 (opposite); 0.5 is orthogonal.
    Divergences are in bits, 0 (the same) to 1 (disjoint). Entropies are divided by that of uniform
    attention: 0 (one position) to 1.

    Attributes:
        queries: Q, the rows that attention's numbers are of.
        gamma: the factor of DNL's pairwise term.
        input_distance, output_distance: of the block's input x and output y, over all positions.
        context_distance: of what the block adds, ``y - x``; None where that is nothing.
        context_share: mean of ``|y - x| / |x|``.
        pairwise_distance, pairwise_divergence, pairwise_entropy: of the pairwise term's rows.
        combined_distance: of the rows that the values are weighted with, gamma * pairwise + unary.
        unary_entropy: of the unary term.
        pairwise_share: of the pairwise term in DNL's context, mean of
            ``|gamma P v| / (|gamma P v| + |U v|)``.
    """

    queries: int
    gamma: float | None
    input_distance: float | None
    output_distance: float | None
    context_distance: float | None
    context_share: float | None
    pairwise_distance: float | None
    pairwise_divergence: float | None
    pairwise_entropy: float | None
    combined_distance: float | None
    unary_entropy: float | None
    pairwise_share: float | None


@torch.no_grad()
def block_statistics(
    record: BlockRecord,
    image: int,
    frame: Frame | None = None,
    *,
    queries: Sequence[int] | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> BlockStatistics:
    """The statistics of a recorded block on one image.

    Args:
        record: of the block.
        image: index in the batch.
        frame: the image's, ``AttentionRecord.frames[image]``: what lies in the batch's padding is
            left out, as query and as key, and attention renormalised. All counts if None.
        queries: positions ``row * W + column``; by default 256 random ones in the image.
        generator: of that choice, on the CPU; seeded with 0 if None.

    Raises:
        ValueError, IndexError: see :meth:`BlockRecord.attention`.
    """
    x = record.input[image]
    inside = torch.ones(x.shape[1] * x.shape[2], dtype=torch.bool)
    keys_inside = torch.ones(record.key_positions, dtype=torch.bool)
    if frame is not None:
        inside, keys_inside = record.grid.inside(frame), record.key_grid.inside(frame)
    if queries is None:
        queries = choose_positions(inside, QUERIES, generator)
    attention = record.attention(image, queries, 4 * BUDGET)
    inside, keys_inside = inside.to(x.device), keys_inside.to(x.device)
    dtype = attention.combined.dtype
    x, y = (v.to(dtype).flatten(1)[:, inside].T for v in (x, record.output(image)))  # (L, C)
    context, norms = y - x, x.norm(dim=1)
    rounding = _ROUNDING_ERRORS * torch.finfo(_dtype(record)).eps
    context_share = _mean(context.norm(dim=1)[norms > 0] / norms[norms > 0])
    seen = context_share is not None and context_share > rounding

    pairwise = None if attention.pairwise is None else attention.pairwise[:, keys_inside]
    unary = None if attention.unary is None else attention.unary[None, keys_inside]
    is_distribution = getattr(record.block, "kernel", None) != "dot_product"
    rows = normalise(pairwise) if pairwise is not None and is_distribution else None
    gamma = getattr(record.block, "gamma", None)
    return BlockStatistics(
        queries=len(attention.combined),
        gamma=None if gamma is None else gamma.item(),
        input_distance=cosine_distance(x),
        output_distance=cosine_distance(y),
        context_distance=cosine_distance(context) if seen else None,
        context_share=context_share,
        pairwise_distance=None if pairwise is None else cosine_distance(pairwise),
        pairwise_divergence=None if rows is None else jensen_shannon(rows),
        pairwise_entropy=None if rows is None else entropy(rows),
        combined_distance=cosine_distance(attention.combined[:, keys_inside]),
        unary_entropy=None if unary is None else entropy(normalise(unary)),
        pairwise_share=_pairwise_share(record, image, attention),
    )


def cosine_distance(vectors: Tensor) -> float | None:
    """Mean of ``(1 - cos(v_i, v_j)) / 2`` over all pairs ``i != j``, exactly.

    ``sum_ij u_i . u_j = |sum_i u_i|^2`` for the unit vectors ``u``, so that it takes no pairs.

    Args:
        vectors: ``(Q, C)``. Those that are 0 have no direction and are left out.

    Returns:
        0 to 1 (up to rounding), or None with fewer than two vectors.
    """
    wide = vectors.double()
    norms = wide.norm(dim=1, keepdim=True)
    unit = (wide / norms)[norms.squeeze(1) > 0]
    count = len(unit)
    if count < 2:
        return None
    cosines = (unit.sum(0).square().sum().item() - count) / (count * (count - 1))
    return max((1 - cosines) / 2, 0.0)


def jensen_shannon(rows: Tensor) -> float | None:
    """Mean Jensen-Shannon divergence over pairs ``i != j`` of distributions, in bits.

    ``JSD(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2``. Row ``i`` is paired with ``i + 1``,
    ``i + 2``, ... around the end, all pairs up to 64 rows, so that beyond it the order should be
    by chance.

    Args:
        rows: ``(Q, S)``, each with sum 1.

    Returns:
        0 to 1 (up to rounding), or None with fewer than two rows.
    """
    count = len(rows)
    if count < 2:
        return None
    own = _entropies(rows)
    total, pairs = 0.0, 0
    for shift in range(1, min(count // 2, max(_PAIRS // count, 1)) + 1):
        # With an even number of rows, the last shift would meet every pair twice.
        size = shift if 2 * shift == count else count
        first, second = slice(0, size), (torch.arange(size) + shift) % count
        middle = _entropies((rows[first] + rows[second]) / 2)
        total += (middle - (own[first] + own[second]) / 2).sum().item()
        pairs += size
    return max(total / pairs / log(2), 0.0)


def entropy(rows: Tensor) -> float | None:
    """Mean entropy of distributions, divided by log S: 0 for one position, 1 for uniform.

    Args:
        rows: ``(Q, S)``, each with sum 1.

    Returns:
        0 to 1, or None where S is 1 or there is no row.
    """
    if rows.shape[1] < 2:
        return None
    return _mean(_entropies(rows) / log(rows.shape[1]))


def normalise(rows: Tensor) -> Tensor:
    """Rows ``(Q, S)`` that are not negative, with sum 1 each; those with sum 0 are left out."""
    wide = rows.double()
    sums = wide.sum(1, keepdim=True)
    return (wide / sums)[sums.squeeze(1) > 0]


def choose_positions(
    allowed: Tensor, most: int, generator: torch.Generator | None = None
) -> Tensor:
    """A random choice of at most ``most`` positions.

    Args:
        allowed: ``(L,)``, bool: which positions may be chosen.
        most: how many.
        generator: on the CPU; seeded with 0 if None.
    """
    generator = generator or torch.Generator().manual_seed(0)
    positions = allowed.cpu().nonzero().squeeze(1)
    return positions[torch.randperm(len(positions), generator=generator)[:most]]


def _entropies(rows: Tensor) -> Tensor:
    """In nats, ``(Q,)``."""
    return torch.special.entr(rows).sum(1)


def _mean(values: Tensor) -> float | None:
    return values.double().mean().item() if len(values) else None


def _dtype(record: BlockRecord) -> torch.dtype:
    return next(record.block.parameters()).dtype


def _pairwise_share(record: BlockRecord, image: int, attention: QueryAttention) -> float | None:
    if attention.pairwise is None or attention.unary is None:
        return None
    block = record.block  # DNL's, the only one with both terms
    keys = record.input[image : image + 1].to(_dtype(record))
    if block.downsample:
        keys = F.max_pool2d(keys, [min(2, side) for side in keys.shape[2:]])
    value = block.conv_value(keys)[0].flatten(1).T.to(attention.pairwise.dtype)  # type: ignore[operator]
    pairwise = (block.gamma * (attention.pairwise @ value)).norm(dim=1)
    both = pairwise + (attention.unary @ value).norm()
    return _mean(pairwise[both > 0] / both[both > 0])
