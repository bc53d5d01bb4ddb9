"""Recording the attention of every block in a forward pass, and where its positions lie."""

from .geometry import Frame, Grid
from .record import AttentionRecord, BlockRecord, QueryAttention, record_attention, short_name

__all__ = [
    "AttentionRecord",
    "BlockRecord",
    "Frame",
    "Grid",
    "QueryAttention",
    "record_attention",
    "short_name",
]
