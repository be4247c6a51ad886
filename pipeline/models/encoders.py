"""
Sequence encoders behind one interface: event tokens, their times and items in, one state for each event out.

A state depends on its event and on earlier ones only. Sequences are padded on the right, so that padding is always
in the future of every real event and needs no mask of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import BadSetting
from pipeline.models.language import LanguageEncoder

MICROSECONDS = 1_000_000
RECURRENT = {"gru": nn.GRU, "lstm": nn.LSTM}
ENCODERS = ("transformer", *RECURRENT, "language")


def gap_buckets(microseconds: Tensor, num_buckets: int) -> Tensor:
    """Bucket of a time span: floor(log2(1 + seconds)), so 32 buckets reach from a second to a century.

    Args:
        microseconds: int64, any shape. Negative spans (padding) count as 0.

    Returns:
        int64 of the same shape, in [0, num_buckets).
    """
    seconds = microseconds.clamp(min=0).double() / MICROSECONDS
    exponents = torch.frexp(seconds.add_(1.0)).exponent                     # of 2**n exactly n + 1
    return exponents.long().sub_(1).clamp_(max=num_buckets - 1)


def gaps_before(times: Tensor) -> Tensor:
    """int64 [batch, length]: microseconds since the event before, 0 for the first."""
    return torch.diff(times, dim=1, prepend=times[:, :1]).clamp(min=0)


class RelativeBias(nn.Module):
    """What attention adds for how long ago, and how many events ago, something happened; causal."""

    def __init__(self, heads: int, num_buckets: int, history_length: int):
        super().__init__()
        self.num_buckets = num_buckets
        self.by_time = nn.Parameter(torch.zeros(num_buckets, heads))
        self.by_distance = nn.Parameter(torch.zeros(history_length, heads))

    def forward(self, times: Tensor) -> Tensor:
        """[batch, length] int64 -> [batch, heads, length, length]; -inf where the key is later than the query."""
        length = times.shape[1]
        spans = times[:, :, None] - times[:, None, :]                       # [batch, query, key]
        buckets = gap_buckets(spans, self.num_buckets)
        by_time = functional.embedding(buckets, self.by_time).permute(0, 3, 1, 2)
        steps = torch.arange(length, device=times.device)
        distance = (steps[:, None] - steps[None, :]).clamp(0, len(self.by_distance) - 1)
        by_distance = functional.embedding(distance, self.by_distance).permute(2, 0, 1)
        future = torch.full((length, length), -torch.inf, device=times.device).triu(1)
        return by_time + (by_distance + future)                             # [batch, heads, query, key]


class GatedBlock(nn.Module):
    """Pre-norm attention and feed-forward, each added through a learned gate (LiGR, Borisyuk et al. 2024)."""

    def __init__(self, dim: int, heads: int, feed_forward: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project_in = nn.Linear(dim, 3 * dim)
        self.project_out = nn.Linear(dim, dim)
        self.gate_attention, self.gate_forward = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.forward_in, self.forward_out = nn.Linear(dim, feed_forward), nn.Linear(feed_forward, dim)
        self.dropout = dropout

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """states [batch, length, dim], bias [batch, heads, length, length] -> [batch, length, dim]"""
        batch, length, dim = states.shape
        joined = self.project_in(self.norm_attention(states))
        query, key, value = joined.view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = self.project_out(mixed.transpose(1, 2).reshape(batch, length, dim))
        states = states + torch.sigmoid(self.gate_attention(states)) * self._drop(mixed)
        inner = functional.gelu(self.forward_in(self.norm_forward(states)))
        return states + torch.sigmoid(self.gate_forward(states)) * self._drop(self.forward_out(inner))

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training)


class TransformerEncoder(nn.Module):
    """Causal Transformer over event tokens; the bias is shared by its layers."""

    def __init__(self, dim: int, layers: int, heads: int, feed_forward: int, dropout: float, gap_buckets: int,
                 history_length: int):
        super().__init__()
        self.bias = RelativeBias(heads, gap_buckets, history_length)
        self.blocks = nn.ModuleList(GatedBlock(dim, heads, feed_forward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, times: Tensor, items: Tensor) -> Tensor:
        """tokens [batch, length, dim], times [batch, length] int64 microseconds -> [batch, length, dim]; `items` is
        part of the interface only"""
        bias = self.bias(times)
        for block in self.blocks:
            tokens = block(tokens, bias)
        return self.norm(tokens)


class RecurrentEncoder(nn.Module):
    """A GRU or an LSTM over event tokens; time reaches it through the tokens' gap buckets."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], dim: int, layers: int, dropout: float):
        super().__init__()
        self.cells = kind(dim, dim, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, times: Tensor, items: Tensor) -> Tensor:
        """tokens [batch, length, dim] -> [batch, length, dim]; the other two are part of the interface only"""
        return self.norm(tokens + self.cells(tokens)[0])


def build_encoder(config) -> nn.Module:
    """The arm that `config.encoder` names: one of ENCODERS. Raises BadSetting for another name."""
    if config.encoder in RECURRENT:
        return RecurrentEncoder(RECURRENT[config.encoder], config.dim, config.layers, config.dropout)
    if config.encoder == "language":
        return LanguageEncoder(config)
    if config.encoder != "transformer":
        raise BadSetting(f"There is no encoder {config.encoder!r}. Expected one of: {', '.join(ENCODERS)}.")
    return TransformerEncoder(
        config.dim, config.layers, config.heads, config.feed_forward, config.dropout, config.gap_buckets,
        config.history_length,
    )
