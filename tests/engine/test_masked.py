"""Masked forwards: the same scores as one by one, in full batches."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lcam_cli.engine.engine import Engine
from lcam_cli.engine.masked import MaskedForwards
from tests.tiny import tiny_backbone


@settings(max_examples=30, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=6).filter(
        lambda runs: sum(count for _, count in runs) > 0
    ),
    batch_size=st.integers(1, 8),
)
def test_scores_are_those_of_one_at_a_time(runs: list[tuple[int, int]], batch_size: int) -> None:
    engine = Engine(tiny_backbone(), device="cpu", batch_size=batch_size)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 3, 32, 32, generator=generator)
    classes = torch.tensor([3, 0, 2])
    work = [(b, torch.rand(count, 32, 32, generator=generator)) for b, count in runs]
    expected = [
        engine.masked_confidence(x[b : b + 1], mask[None], classes[b : b + 1], "normalized")
        for b, masks in work
        for mask in masks
    ]
    batches: list[int] = []
    engine.backbone.network.register_forward_pre_hook(lambda _, g: batches.append(len(g[0])))
    scores = MaskedForwards(engine, x, classes).scores(work)
    torch.testing.assert_close(scores, torch.cat(expected))
    assert all(size == batch_size for size in batches[:-1])
    assert sum(batches) == len(scores)


def test_memory_that_ran_out_lowers_the_batch() -> None:
    engine = Engine(tiny_backbone(), device="cpu", batch_size=8)
    x, classes = torch.rand(2, 3, 32, 32), torch.tensor([1, 2])
    masks = torch.rand(20, 32, 32)
    expected = MaskedForwards(engine, x, classes).scores([(0, masks), (1, masks)])

    def too_many(_module: object, given: tuple[torch.Tensor]) -> None:
        if len(given[0]) > 3:
            raise MemoryError

    engine.backbone.network.register_forward_pre_hook(too_many)
    scores = MaskedForwards(engine, x, classes).scores([(0, masks), (1, masks)])
    torch.testing.assert_close(scores, expected)
    assert MaskedForwards(engine, x, classes).batch_size == engine.limit == 2


def test_bf16_scores_are_float32_and_near() -> None:
    x, classes = torch.rand(2, 3, 32, 32), torch.tensor([1, 2])
    masks = torch.rand(6, 32, 32)
    exact, rounded = (
        MaskedForwards(
            Engine(tiny_backbone(), device="cpu", precision=precision), x, classes
        ).scores([(0, masks), (1, masks)])
        for precision in ("fp32", "bf16")
    )
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.01, rtol=0)
