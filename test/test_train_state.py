"""Checkpoints of a run: whole or not at all, without pickle, damaged ones named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ivlm_core.errors import CheckpointError
from ivlm_core.train.state import RunState, checkpoints, load_state, optimizer_tensors, restore_optimizer, save_state


def _state(step: int) -> RunState:
    ones = {"a.weight": torch.full((2, 3), float(step))}
    return RunState(step, 1.5, ones, ones, {"a.weight/exp_avg": torch.ones(2, 3)}, torch.get_rng_state(), {"seed": 3})


def test_a_checkpoint_is_read_back_as_it_was(tmp_path: Path) -> None:
    state = _state(7)
    loaded = load_state(save_state(tmp_path, state))
    assert (loaded.step, loaded.seconds, loaded.notes) == (7, 1.5, {"seed": 3})
    torch.testing.assert_close(loaded.weights["a.weight"], state.weights["a.weight"])
    assert torch.equal(loaded.random, state.random)
    assert set(loaded.optimizer) == {"a.weight/exp_avg"}


def test_the_last_two_are_kept_in_the_order_of_steps(tmp_path: Path) -> None:
    for step in (5, 10_000_000, 900):
        save_state(tmp_path, _state(step), keep=3)
    save_state(tmp_path, _state(10_000_001))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-10000000", "step-10000001"]


def test_a_failed_write_leaves_the_earlier_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, _state(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ivlm_core.train.state.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_state(tmp_path, _state(2))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-0000001"]
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "run.json"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    path = save_state(tmp_path, _state(3))
    (path / name).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="step-0000003"):
        load_state(path)


def test_an_optimizer_goes_on_where_it_was() -> None:
    def make() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    def step(layer: torch.nn.Linear, optimizer: torch.optim.Optimizer, number: int) -> None:
        layer(torch.full((1, 3), float(number))).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    layer, optimizer = make()
    for number in range(3):
        step(layer, optimizer, number)
    tensors = optimizer_tensors(optimizer, {id(item): name for name, item in layer.named_parameters()})
    other, resumed = make()
    other.load_state_dict(layer.state_dict())
    restore_optimizer(resumed, dict(other.named_parameters()), {name: item.clone() for name, item in tensors.items()})
    for one, optim in ((layer, optimizer), (other, resumed)):
        step(one, optim, 3)
    torch.testing.assert_close(layer.weight, other.weight, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="nothing"):
        restore_optimizer(resumed, {}, {"nothing/step": torch.ones(())})
