"""The language model's step on keys and values in fixed places, so that a CUDA graph can replay it.

The token at position p keeps its key and value in slot p of its row. A pass therefore overwrites what a wrong guess
left behind, and a query at position p sees the slots up to p: positions say everything, no mask grows, and running a
pass twice changes nothing, which lets a graph be warmed up and captured on real data. What only fills up a batch or a
pass is written into the last slot, which no token of an answer ever sees.

One function computes the pass everywhere. On CUDA its few common shapes are captured once and replayed, which saves
the launches of some hundreds of small operations; wherever that fails, it runs as it is.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ivlm_core.reason.decoding import Step

LOG = logging.getLogger(__name__)

Mode = Literal["auto", "always", "off"]

# Tokens per row of the passes that are captured; narrower ones are filled up, wider ones (a prompt) run as they are.
WIDTHS = (1, 4, 16)
# Graphs that are kept; one has an activation's memory of its own, weights and slots are shared.
GRAPHS_KEPT = 16
WARM_UPS = 3
# Slots come in whole multiples of this, which attention kernels want and which keeps reallocations rare.
SLOT_STEP = 64
# Of the device's free memory, what the slots may take.
MEMORY_SHARE = 0.9


class _Slots:
    """Keys and values of some rows; to the attention layers it is a cache.

    Attributes
    ----------
    keys, values : per layer (B, heads, S, d).
    places : (B, T) slots that the running pass writes.
    """

    def __init__(self, keys: list[Tensor], values: list[Tensor]) -> None:
        self.keys, self.values = keys, values
        self.places = torch.empty(0)
        self.numbers = torch.arange(keys[0].shape[2], device=keys[0].device)  # (S,)

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write (B, heads, T, d) keys and values into their slots; all slots of the layer come back."""
        places = self.places[:, None, :, None].expand_as(keys)
        self.keys[layer_idx].scatter_(2, places, keys)
        self.values[layer_idx].scatter_(2, places, values)
        return self.keys[layer_idx], self.values[layer_idx]

    def get_seq_length(self, *_: Any) -> int:
        """Part of a cache's interface; positions are always given, so that nothing depends on it."""
        return 0


@dataclass(frozen=True)
class _Captured:
    """A graph with the tensors it reads and writes."""

    graph: Any
    ids: Tensor
    positions: Tensor
    states: Tensor

    def replay(self, ids: Tensor, positions: Tensor) -> Tensor:
        self.ids.copy_(ids)
        self.positions.copy_(positions)
        self.graph.replay()
        return self.states.clone()


class StaticSteps:
    """Makes the steps of one language model, and keeps slots and graphs from one image to the next.

    Parameters
    ----------
    mode : `auto` (on CUDA), `always` (on a CPU too, without graphs), or `off`.

    Attributes
    ----------
    graphs : whether graphs may be captured; False from the first failure on.
    replays : passes that a graph ran.
    """

    def __init__(self, mode: Mode = "auto") -> None:
        self.mode: Mode = mode
        self.graphs = True
        self.replays = 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._captured: OrderedDict[tuple[int, int], _Captured] = OrderedDict()
        self._pool: Any = None
        self._weights: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # A copied model captures its own graphs.
        return type(self), (self.mode,)

    @property
    def bytes(self) -> int:
        """Memory of the slots."""
        return sum(tensor.nbytes for tensor in (*self._keys, *self._values))

    def release(self) -> None:
        """Give slots and graphs back."""
        self._drop_graphs()
        self._keys, self._values = [], []

    def start(self, model: Any, cache: Any, length: int, rows: int, capacity: int) -> Step | None:
        """A step whose rows all continue one prefix.

        Parameters
        ----------
        model : the language model (`LlamaModel`).
        cache : keys and values of the prefix, batch 1.
        length : tokens in it.
        rows : K answers.
        capacity : positions that any row can come to, the prefix included.

        Returns
        -------
        the step, or None where this way is off or the slots do not fit into memory. Steps of earlier calls become
        invalid.
        """
        device = cache.layers[0].keys.device
        if self.mode == "off" or (self.mode == "auto" and device.type != "cuda") or model.training:
            return None
        batch = 1 << (rows - 1).bit_length()
        if not self._reserve(cache, batch, -(-(capacity + 1) // SLOT_STEP) * SLOT_STEP):
            return None
        for layer, held in enumerate(cache.layers):
            self._keys[layer][:rows, :, :length] = held.keys
            self._values[layer][:rows, :, :length] = held.values
        slots = _Slots([keys[:batch] for keys in self._keys], [values[:batch] for values in self._values])
        spare = len(slots.numbers) - 1
        self._forget_other_weights(model)

        def run(ids: Tensor, positions: Tensor) -> Tensor:
            return _forward(model, slots, ids, positions)

        def step(ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
            width = ids.shape[1]
            filled = next((known for known in WIDTHS if known >= width), width)
            whole_ids = ids.new_zeros(batch, filled)
            whole_ids[:rows, filled - width :] = ids
            places = positions.new_full((batch, filled), spare)
            places[:rows, filled - width :] = torch.where(mask[:, -width:] == 1, positions, spare)
            states = self._run(run, whole_ids, places)
            return states[:rows, filled - width :]

        return step

    def _run(self, run: Callable[[Tensor, Tensor], Tensor], ids: Tensor, positions: Tensor) -> Tensor:
        """(B, T, D) states, by a graph where there can be one."""
        if not self._capturing(ids.device) or ids.shape[1] not in WIDTHS:
            return run(ids, positions)
        key = (ids.shape[0], ids.shape[1])
        if key not in self._captured:
            try:
                captured = self._capture(run, ids, positions)
            except Exception as error:  # whatever a driver, a kernel or a library has against being captured
                LOG.warning("answers are decoded without CUDA graphs: %s", error)
                self.graphs = False
                self._drop_graphs()
                return run(ids, positions)
            self._captured[key] = captured
            if len(self._captured) > GRAPHS_KEPT:
                self._captured.popitem(last=False)
        self._captured.move_to_end(key)
        self.replays += 1
        return self._captured[key].replay(ids, positions)

    def _capture(self, run: Callable[[Tensor, Tensor], Tensor], ids: Tensor, positions: Tensor) -> _Captured:
        """Warm up aside, then record; the pass has run when this returns, and running it again does no harm."""
        ids, positions = ids.clone(), positions.clone()
        with torch.cuda.device(ids.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    run(ids, positions)
            torch.cuda.current_stream().wait_stream(aside)
            # Every pass copies its result out before the next one runs, so that graphs may share their memory.
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                states = run(ids, positions)
        return _Captured(graph, ids, positions, states)

    def _reserve(self, cache: Any, batch: int, slots: int) -> bool:
        """Make room for `batch` rows of `slots` slots; False where there is none."""
        first = cache.layers[0].keys
        _, heads, _, width = first.shape
        held = self._keys[0] if self._keys else None
        if (
            held is not None
            and len(self._keys) == len(cache.layers)
            and (held.dtype, held.device) == (first.dtype, first.device)
            and (held.shape[1], held.shape[3]) == (heads, width)
        ):
            if held.shape[0] >= batch and held.shape[2] >= slots:
                return True
            batch, slots = max(batch, held.shape[0]), max(slots, held.shape[2])
        self.release()
        needed = 2 * len(cache.layers) * batch * heads * slots * width * first.element_size()
        if needed > MEMORY_SHARE * _available(first.device):
            LOG.info("no room for %.1f GiB of fixed keys and values", needed / 2**30)
            return False
        try:
            for storage in (self._keys, self._values):
                storage += [first.new_zeros(batch, heads, slots, width) for _ in cache.layers]
        except torch.cuda.OutOfMemoryError:
            self.release()
            return False
        return True

    def _capturing(self, device: torch.device) -> bool:
        return self.graphs and device.type == "cuda"

    def _forget_other_weights(self, model: Any) -> None:
        """A graph reads the weights where they were when it was captured."""
        if not self._capturing(next(model.parameters()).device):
            return
        tensors = itertools.chain(model.parameters(), model.buffers())
        weights = tuple((tensor.data_ptr(), tensor.dtype) for tensor in tensors)
        if weights != self._weights:
            self._drop_graphs()
            self._weights = weights

    def _drop_graphs(self) -> None:
        self._captured.clear()
        # The allocator gives a pool back with its last graph; the next one must not ask for it again.
        self._pool = None


def _forward(model: Any, slots: _Slots, ids: Tensor, positions: Tensor) -> Tensor:
    """(B, T) ids at (B, T) positions → (B, T, D) post-norm states; shapes and addresses are all that stays fixed."""
    slots.places = positions
    hidden = slots.numbers > positions[:, None, :, None]  # (B, 1, T, S)
    dtype = slots.keys[0].dtype
    mask = torch.zeros(hidden.shape, dtype=dtype, device=ids.device).masked_fill(hidden, torch.finfo(dtype).min)
    return model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=slots, use_cache=True
    ).last_hidden_state


def _available(device: torch.device) -> int:
    """Bytes that can still be allocated: free on the device, and reserved by the allocator but unused."""
    if device.type != "cuda":
        return sys.maxsize
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
