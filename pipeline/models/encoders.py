"""
Sequence encoders behind one interface: event tokens, their times and items in, one state for each event out.

A state depends on its event and on earlier ones only. Sequences are padded on the right, so that padding is always
in the future of every real event and needs no mask of its own.

With `newest` [batch] int64 only the states at these positions are wanted, one a sequence: [batch, 1, dim] comes out,
and the last layer asks for no other.
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


def at_newest(values: Tensor, newest: Tensor | None) -> Tensor:
    """[batch, length, ...] -> [batch, 1, ...] at the positions `newest` [batch]; all of them where that is None."""
    return values if newest is None else values[torch.arange(len(values), device=values.device), newest][:, None]


class RelativeBias(nn.Module):
    """What attention adds for how long ago, and how many events ago, something happened; causal."""

    def __init__(self, heads: int, num_buckets: int, history_length: int):
        super().__init__()
        self.num_buckets = num_buckets
        self.by_time = nn.Parameter(torch.zeros(num_buckets, heads))
        self.by_distance = nn.Parameter(torch.zeros(history_length, heads))

    def forward(self, times: Tensor, newest: Tensor | None = None) -> Tensor:
        """[batch, length] int64 -> [batch, heads, queries, length]; -inf where the key is later than the query."""
        steps = torch.arange(times.shape[1], device=times.device)
        asked = steps[None] if newest is None else newest[:, None]          # [1 or batch, query]
        spans = at_newest(times, newest)[:, :, None] - times[:, None, :]    # [batch, query, key]
        by_time = functional.embedding(gap_buckets(spans, self.num_buckets), self.by_time).permute(0, 3, 1, 2)
        ago = asked[:, :, None] - steps                                     # [1 or batch, query, key]
        distance = ago.clamp(0, len(self.by_distance) - 1)
        by_distance = functional.embedding(distance, self.by_distance).permute(0, 3, 1, 2)
        return by_time + by_distance.masked_fill(ago[:, None] < 0, -torch.inf)


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

    def forward(self, states: Tensor, bias: Tensor, newest: Tensor | None = None) -> Tensor:
        """states [batch, length, dim], bias [batch, heads, queries, length] -> [batch, queries, dim]"""
        normed = self.norm_attention(states)
        if newest is None:
            query, key, value = self.project_in(normed).chunk(3, dim=-1)
        else:
            (ask, read), (ask_bias, read_bias) = (
                part.split((len(part) // 3, 2 * len(part) // 3)) for part in self.project_in.parameters()
            )
            query = functional.linear(at_newest(normed, newest), ask, ask_bias)
            key, value = functional.linear(normed, read, read_bias).chunk(2, dim=-1)
            states = at_newest(states, newest)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = self.project_out(mixed.transpose(1, 2).reshape(states.shape))
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

    def forward(self, tokens: Tensor, times: Tensor, items: Tensor, newest: Tensor | None = None) -> Tensor:
        """tokens [batch, length, dim], times [batch, length] int64 microseconds -> [batch, length, dim]; `items` is
        part of the interface only"""
        *lower, last = self.blocks
        bias = self.bias(times) if lower or newest is None else None
        for block in lower:
            tokens = block(tokens, bias)
        return self.norm(last(tokens, bias if newest is None else self.bias(times, newest), newest))


class RecurrentEncoder(nn.Module):
    """A GRU or an LSTM over event tokens; time reaches it through the tokens' gap buckets."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], dim: int, layers: int, dropout: float):
        super().__init__()
        self.cells = kind(dim, dim, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, times: Tensor, items: Tensor, newest: Tensor | None = None) -> Tensor:
        """tokens [batch, length, dim] -> [batch, length, dim]; the other two are part of the interface only"""
        return self.norm(at_newest(tokens + self.cells(tokens)[0], newest))


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
