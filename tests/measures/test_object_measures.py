"""Pointing game, energy and MaxBoxAccV2: by hand, and as Quantus has the first two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lcam_cli.measures.energy import Energy
from lcam_cli.measures.iou import DELTAS, STEPS, IoU, best_ious
from lcam_cli.measures.measure import MapScores, Measure, Parts, quantities
from lcam_cli.measures.objects import Objects
from lcam_cli.measures.pointing import Pointing

SIDE = 224


def scores(
    V: Tensor, inside: Tensor, boxes: list[list[tuple[float, ...]]] | None = None
) -> MapScores:
    objects = Objects(
        inside,
        inside.flatten(1).any(1),
        [torch.tensor(some, dtype=torch.float32).reshape(-1, 4) for some in boxes or [[]] * len(V)],
    )
    return MapScores(V.float(), torch.ones(len(V)), {}, objects)


def numbers(measure: Measure, given: MapScores) -> list[float]:
    found: list[float] = measure.numbers(given, 100).tolist()
    return found


def peak_at(y: int, x: int, side: int = SIDE) -> Tensor:
    V = torch.zeros(side, side)
    V[y, x] = 1
    return V


def one_pixel(y: int, x: int, side: int = SIDE) -> Tensor:
    return peak_at(y, x, side) > 0


@pytest.mark.parametrize(
    ("dy", "dx", "hit"),
    [
        (0, 0, 100),
        (0, 15, 100),
        (-15, 0, 100),
        (9, 12, 100),  # 15 from centre to centre
        (0, 16, 0),
        (11, 11, 0),  # 15.56: a disc, no square
    ],
)
def test_pointing_allows_15_pixels_at_224(dy: int, dx: int, hit: float) -> None:
    given = scores(peak_at(100, 100)[None], one_pixel(100 + dy, 100 + dx)[None])
    assert numbers(Pointing(), given) == [hit]


@pytest.mark.parametrize(("side", "reach"), [(448, 30), (112, 7), (32, 2)])
def test_the_tolerance_grows_with_the_view(side: int, reach: int) -> None:
    V = peak_at(0, 0, side).expand(2, -1, -1)
    inside = torch.stack([one_pixel(0, reach, side), one_pixel(0, reach + 1, side)])
    assert numbers(Pointing(), scores(V, inside)) == [100, 0]


def test_of_equal_peaks_the_first_row_by_row_counts() -> None:
    V = torch.zeros(1, SIDE, SIDE)
    V[0, 50, 200] = V[0, 60, 10] = V[0, 50, 210] = 1
    first = numbers(Pointing(0), scores(V, one_pixel(50, 200)[None]))
    other = numbers(Pointing(0), scores(V, one_pixel(60, 10)[None]))
    assert (first, other) == ([100], [0])


def test_energy_is_the_share_inside() -> None:
    V = torch.tensor([[[0.5, 0.25], [0.0, 0.25]]])
    inside = torch.tensor([[[True, False], [True, True]]])
    assert numbers(Energy(), scores(V, inside)) == [75]


def test_without_an_object_there_are_no_numbers() -> None:
    V = torch.stack([peak_at(3, 3, 8), peak_at(3, 3, 8)])
    inside = torch.stack([torch.zeros(8, 8) > 0, one_pixel(3, 3, 8)])
    given = scores(V, inside, [[], [(3, 3, 4, 4)]])
    for measure in (Pointing(), Energy(), IoU()):
        found = measure.numbers(given, 100)
        assert found.isnan()[..., 0].all()
        assert not found.isnan()[..., 1].any()


def test_a_map_of_zeros_has_no_energy() -> None:
    V, inside = torch.zeros(1, 4, 4), one_pixel(1, 1, 4)[None]
    assert Energy().numbers(scores(V, inside), 100).isnan().all()


def test_quantus_agrees() -> None:
    """PointingGame takes any of the highest pixels, without tolerance; so no two are equal here."""
    quantus = pytest.importorskip("quantus")

    rng = np.random.default_rng(0)
    V = rng.random((24, 32, 32), np.float32)
    inside = np.zeros((24, 32, 32), bool)
    for one in inside:
        y, x = rng.integers(0, 16, 2)
        one[y : y + 20, x : x + 20] = True
    given = scores(torch.from_numpy(V), torch.from_numpy(inside))
    x = np.zeros((24, 1, 32, 32), np.float32)
    words = {
        "x_batch": x,
        "y_batch": np.zeros(24, int),
        "a_batch": V[:, None],
        "s_batch": inside[:, None].astype(int),
        "model": None,
    }
    options = {"abs": False, "normalise": False, "disable_warnings": True}
    pointing = quantus.PointingGame(weighted=False, **options)(**words)
    mass = quantus.RelevanceMassAccuracy(**options)(**words)
    assert {bool(one) for one in pointing} == {True, False}
    np.testing.assert_allclose(numbers(Pointing(0), given), 100 * np.float64(pointing), atol=1e-4)
    np.testing.assert_allclose(numbers(Energy(), given), 100 * np.float64(mass), atol=1e-4)


def stairs() -> np.ndarray:
    """Two parts of 10 × 10, one of 1 and one of 0.5, and a frame of 0.22 around both."""
    V = np.zeros((40, 60), np.float32)
    V[5:35, 5:55] = 0.22
    V[10:20, 10:20] = 0.5
    V[20:30, 40:50] = 1
    return V


def test_ious_by_hand() -> None:
    found = best_ious(stairs(), np.float32([[10, 10, 20, 20], [0, 0, 5, 40]]))
    tau = np.arange(STEPS) / STEPS
    # The whole image; the frame; the object's own box; the other part alone, which it misses.
    expected = np.select([tau == 0, tau <= 0.22, tau <= 0.5], [200 / 2400, 100 / 1500, 1.0], 0.0)
    # At 0.5 and 0.22 the threshold is the value itself; and 5 × 40 of the image is a box too.
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_half_of_a_box_is_found_at_one_delta_of_three() -> None:
    V = np.zeros((20, 20), np.float32)
    V[4:8, 4:14] = 1
    inside = torch.zeros(1, 20, 20) > 0
    inside[0, 4:12, 4:14] = True
    given = scores(torch.from_numpy(V)[None], inside, [[(4, 4, 14, 12)]])
    measure = IoU()
    found = measure.numbers(given, 100)
    assert found.shape == (measure.parts, 1) == (len(DELTAS) * STEPS, 1)
    # IoU 40/80 above τ = 0: found at 0.3 and at 0.5.
    assert measure.summary(found[:, 0].double().numpy()) == pytest.approx(200 / 3)


def test_the_threshold_is_the_best_for_all_pictures_together() -> None:
    """A map found at a low threshold only, and two at a high one only: 2 of 3, not 3 of 3."""
    low, high = np.zeros((2, 20, 20), np.float32)
    low[2:12, 2:12], low[4:6, 4:6] = 0.3, 1
    high[2:18, 2:18], high[8:12, 8:12] = 0.6, 1
    boxes = [[(2, 2, 12, 12)], [(8, 8, 12, 12)], [(8, 8, 12, 12)]]
    inside = torch.ones(3, 20, 20) > 0
    given = scores(torch.from_numpy(np.stack([low, high, high])), inside, boxes)
    measure = IoU()
    parts = measure.numbers(given, 100).double().numpy()
    means = parts.mean(1)
    assert measure.summary(means) == pytest.approx(200 / 3)
    assert measure.summary(parts.T).tolist() == [100, 100, 100]
    together = Parts(quantities([Pointing(), measure], ()))
    stacked = np.concatenate([[50.0], means])
    np.testing.assert_allclose(together.summarise(stacked), [50, 200 / 3])


def test_a_map_of_one_value_is_a_box_around_the_picture() -> None:
    box = np.float32([[0, 0, 20, 10]])
    for value in (0.0, 1.0):
        V = np.full((20, 20), value, np.float32)
        np.testing.assert_allclose(best_ious(V, box), 0.5)
