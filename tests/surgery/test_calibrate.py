from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from nets import Net, everything_of, images, net, seeded
from torch import Tensor, nn

from polyadic.surgery import measure_statistics, recalibrate, recalibrate_if_better, shift_statistics


def first_features(model: nn.Module, x: Tensor) -> Tensor:
    """What the first batch norm of a Net sees, channel by channel."""
    y: Tensor = model.stem(x)  # type: ignore[operator]
    return y.transpose(0, 1).flatten(1)


@pytest.mark.parametrize("cuts", [(30,), (10, 10, 10), (16, 8, 6), (28, 2)])
def test_the_mean_is_that_of_the_data_however_it_is_cut(cuts: tuple[int, ...]) -> None:
    model, x = net(), images(30, seed=5)
    recalibrate(model, x.split(list(cuts)))
    features = first_features(model, x)
    torch.testing.assert_close(model.norm.running_mean, features.mean(1))
    within = [first_features(model, part).var(1) * len(part) for part in x.split(list(cuts))]
    torch.testing.assert_close(model.norm.running_var, sum(within) / 30)  # type: ignore[arg-type]
    if len(cuts) == 1:
        torch.testing.assert_close(model.norm.running_var, features.var(1))


def test_only_statistics_change_and_modes_and_momenta_come_back() -> None:
    model = seeded(Net).train()
    model.body.eval()
    model.norm.momentum, model.body[2].momentum = 0.3, None
    before = everything_of(model)
    recalibrate(model, images(8).split(4))
    after = everything_of(model)
    changed = {name for name in before["state"] if before["state"][name] != after["state"][name]}
    statistics = {f"{norm}.{kind}" for norm in ("norm", "body.2") for kind in ("running_mean", "running_var")}
    assert changed == statistics | {"norm.num_batches_tracked", "body.2.num_batches_tracked"}
    assert {key: value for key, value in after.items() if key != "state"} == {
        key: value for key, value in before.items() if key != "state"
    }
    assert (model.norm.momentum, model.body[2].momentum) == (0.3, None)


def test_dropout_stays_off() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3))
    x = images(16)
    recalibrate(model, [x])
    torch.testing.assert_close(model[1].running_mean, x.mean((0, 2, 3)))


def test_without_batches_or_without_norms_nothing_changes() -> None:
    model = net()
    before = everything_of(model)
    recalibrate(model, [])
    assert recalibrate_if_better(model, [], lambda _: 1.0) == (False, 1.0, 1.0)
    assert everything_of(model) == before
    plain = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    assert recalibrate_if_better(plain, [images()], lambda _: 0.5) == (False, 0.5, 0.5)


def test_without_batches_statistics_of_0_and_1_are_never_tried() -> None:
    model = net()
    scores = iter([0.2, 0.9])
    kept, _, _ = recalibrate_if_better(model, [], lambda _: next(scores, 0.2))
    assert (model.norm.running_mean != 0).all()
    assert not kept or (model.norm.running_var != 1).all()


def test_a_batch_that_fails_leaves_modes_and_momenta() -> None:
    def broken() -> Iterator[Tensor]:
        yield images(4)
        raise OSError("an image is damaged")

    model = seeded(Net).train()
    before = everything_of(model)
    with pytest.raises(OSError, match="damaged"):
        recalibrate(model, broken())
    assert everything_of(model)["modes"] == before["modes"]
    assert model.norm.momentum == 0.1


@pytest.mark.parametrize(("after", "kept"), [(0.6, True), (0.5, False), (0.4, False)])
def test_new_statistics_are_kept_only_if_they_help(after: float, kept: bool) -> None:
    model = net()
    before = everything_of(model)["state"]
    scores = iter([0.5, after])
    said = recalibrate_if_better(model, images(9, seed=4).split(3), lambda _: next(scores))
    assert said == (kept, 0.5, after)
    assert (everything_of(model)["state"] == before) is not kept


def test_statistics_shift_as_the_features_do_and_stay_where_these_stay() -> None:
    model, batches = net(), images(40, seed=3).split(20)
    recalibrate(model, images(64, seed=9).split(32))  # those of its training
    before = everything_of(model)
    dense = measure_statistics(model, batches)
    assert everything_of(model)["state"] == before["state"]
    mean, variance = model.norm.running_mean.clone(), model.norm.running_var.clone()
    shift_statistics(model, batches, dense)
    torch.testing.assert_close(model.norm.running_mean, mean)
    torch.testing.assert_close(model.norm.running_var, variance)
    with torch.no_grad():
        for number in model.stem.parameters():
            number.mul_(3.0)  # features and their means three times as large, variances nine times
    shift_statistics(model, batches, dense)
    torch.testing.assert_close(model.norm.running_mean, mean + 2.0 * dense["norm"][0])
    torch.testing.assert_close(model.norm.running_var, 9.0 * variance)


def test_without_batches_statistics_do_not_shift() -> None:
    model = net()
    before = everything_of(model)
    assert measure_statistics(model, []) == {}
    shift_statistics(model, [], {})
    assert everything_of(model)["state"] == before["state"]


def test_a_channel_that_is_silent_in_the_dense_network_is_not_blown_up() -> None:
    net = nn.Sequential(nn.BatchNorm1d(1)).eval()
    x = 0.01 * torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
    shift_statistics(net, [x], {"0": (torch.zeros(1), torch.zeros(1))})
    eps = 1e-5
    expected = (x.var() + eps) * (1.0 + eps) / eps - eps
    torch.testing.assert_close(net.get_buffer("0.running_var"), expected.reshape(1), rtol=1e-4, atol=0.0)
