"""Many questions about one picture in one sequence, read as inference reads them: one prefix, and rows behind it.

A sequence holds the picture's prefix once and behind it one segment per question. A segment sees the prefix and
itself, at positions that start again behind the prefix; so every token gets the state it would get if its question
were asked alone. The words before the picture are the same for all and are computed once for the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ivlm_core.train.conversation import Exchange

PADDING = -1


@dataclass(frozen=True)
class PackedBatch:
    """The questions of B pictures, with S tokens before the pictures, P picture tokens and T behind.

    Attributes
    ----------
    ids : (B, T) of the tokens behind the pictures: the one that ends the picture, then the segments, then padding.
    positions : (B, P + T) position of every token behind the shared words.
    mask : (B, P + T, S + P + T) bool, what every token sees.
    wanted : (B, W) places in 0…P + T whose states are used, padded with 0.
    targets, weights : (B, W) the token that follows each of them, and what it counts.
    states : (K, 2) row and place in W of each contact token's state. query : (K,) the exchange each belongs to, counted
        over the whole batch in its order.
    openings : (Q, 2) row and place in W of the state that each answer begins from.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    wanted: Tensor
    targets: Tensor
    weights: Tensor
    states: Tensor
    query: Tensor
    openings: Tensor


def pack(
    exchanges: Sequence[Sequence[Exchange]], before: int, picture_tokens: int, image_end: int, most: int
) -> PackedBatch:
    """Pack the exchanges of each picture.

    Parameters
    ----------
    exchanges : B lists, one per picture.
    before : S, number of words before the picture.
    picture_tokens : P.
    image_end : the token that ends the picture.
    most : positions that the model has; a segment that would reach beyond them is an error of the caller.
    """
    batch = len(exchanges)
    length = 1 + max(sum(len(item.ids) for item in row) for row in exchanges)
    ids = np.zeros((batch, length), dtype=np.int64)
    positions = np.zeros((batch, picture_tokens + length), dtype=np.int64)
    segment = np.full((batch, picture_tokens + length), PADDING, dtype=np.int64)
    shared = before + picture_tokens + 1
    positions[:, : picture_tokens + 1] = np.arange(before, shared)
    segment[:, : picture_tokens + 1] = 0
    ids[:, 0] = image_end
    wanted: list[list[int]] = []
    targets: list[list[int]] = []
    weights: list[list[float]] = []
    states: list[tuple[int, int]] = []
    query: list[int] = []
    openings: list[tuple[int, int]] = []
    number = 0
    for row, items in enumerate(exchanges):
        wanted.append([])
        targets.append([])
        weights.append([])
        start = 1
        for place, item in enumerate(items):
            count = len(item.ids)
            if shared + count > most:
                raise ValueError(f"a question of {count} tokens behind {shared} does not fit into {most} positions")
            ids[row, start : start + count] = item.ids
            span = slice(picture_tokens + start, picture_tokens + start + count)
            positions[row, span] = np.arange(shared, shared + count)
            segment[row, span] = place + 1
            first = int(np.flatnonzero(item.weights)[0]) if item.weights.any() else count - 1
            openings.append((row, len(wanted[row])))
            for token in range(max(1, first), count):
                if token - 1 == item.state:
                    states.append((row, len(wanted[row])))
                    query.append(number)
                wanted[row].append(picture_tokens + start + token - 1)
                targets[row].append(item.targets[token])
                weights[row].append(float(item.weights[token]))
            start += count
            number += 1
    width = max(len(row) for row in wanted)

    def padded(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=dtype)

    return PackedBatch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        mask=_block_mask(torch.from_numpy(segment), before),
        wanted=padded(wanted, torch.int64),
        targets=padded(targets, torch.int64),
        weights=padded(weights, torch.float32),
        states=torch.tensor(states, dtype=torch.int64).reshape(-1, 2),
        query=torch.tensor(query, dtype=torch.int64),
        openings=torch.tensor(openings, dtype=torch.int64).reshape(-1, 2),
    )


def packed_states(language: Any, shared: Tensor, embeddings: Tensor, batch: PackedBatch) -> Tensor:
    """Run a LLaMA over a packed batch.

    Parameters
    ----------
    language : the language model (`LlavaForConditionalGeneration.model.language_model`).
    shared : (1, S, D) embeddings of the words before the pictures.
    embeddings : (B, P + T, D) of pictures and questions.

    Returns
    -------
    (B, W, D) last states at `batch.wanted`, equal to what the model gives when each question is asked alone.
    """
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    device, count = embeddings.device, len(embeddings)
    words = torch.arange(shared.shape[1], device=device)[None]
    turns = language.rotary_emb(embeddings, position_ids=batch.positions)
    shared_turns = language.rotary_emb(shared, position_ids=words)
    # CPU kernels take additive masks in the precision of the values.
    mask = batch.mask[:, None]
    rows = torch.arange(count, device=device)[:, None]
    layers = list(language.layers)
    for number, layer in enumerate(layers):
        attention, last = layer.self_attn, number == len(layers) - 1
        normed, shared_normed = layer.input_layernorm(embeddings), layer.input_layernorm(shared)
        key, value = _heads(attention.k_proj(normed), attention), _heads(attention.v_proj(normed), attention)
        shared_key = _heads(attention.k_proj(shared_normed), attention)
        shared_value = _heads(attention.v_proj(shared_normed), attention)
        if last:
            # Only keys and values of the last layer are needed everywhere.
            embeddings, normed = embeddings[rows, batch.wanted], normed[rows, batch.wanted]
            mask = batch.mask[rows, batch.wanted][:, None]
        query = _heads(attention.q_proj(normed), attention)
        own_turns = tuple(turn[rows, batch.wanted] for turn in turns) if last else turns
        query = apply_rotary_pos_emb(query, query, *own_turns)[0]
        key = apply_rotary_pos_emb(key, key, *turns)[0]
        shared_key = apply_rotary_pos_emb(shared_key, shared_key, *shared_turns)[0]
        every_key = torch.cat([shared_key.expand(count, -1, -1, -1), key], dim=2)
        every_value = torch.cat([shared_value.expand(count, -1, -1, -1), value], dim=2)
        bias = torch.zeros(mask.shape, dtype=query.dtype, device=device).masked_fill_(~mask, float("-inf"))
        attended = scaled_dot_product_attention(query, every_key, every_value, attn_mask=bias, scale=attention.scaling)
        embeddings = _finished(layer, embeddings, attended)
        if not last:
            shared_query = _heads(attention.q_proj(shared_normed), attention)
            shared_query = apply_rotary_pos_emb(shared_query, shared_query, *shared_turns)[0]
            attended = scaled_dot_product_attention(
                shared_query, shared_key, shared_value, is_causal=True, scale=attention.scaling
            )
            shared = _finished(layer, shared, attended)
    return language.norm(embeddings)


def _finished(layer: Any, residual: Tensor, attended: Tensor) -> Tensor:
    """What is left of a layer behind its attention."""
    joined = attended.transpose(1, 2).flatten(2)
    states = residual + layer.self_attn.o_proj(joined)
    return states + layer.mlp(layer.post_attention_layernorm(states))


def _heads(values: Tensor, attention: Any) -> Tensor:
    """(B, T, H·d) → (B, H, T, d)."""
    return values.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)


def _block_mask(segment: Tensor, before: int) -> Tensor:
    """(B, N) segment of every token (0 the prefix) → (B, N, before + N) what it sees."""
    count = segment.shape[1]
    earlier = torch.ones(count, count, dtype=torch.bool).tril()
    seen = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])
    own = (seen & earlier).expand(len(segment), -1, -1)
    return torch.cat([torch.ones(len(segment), count, before, dtype=torch.bool), own], dim=2)
