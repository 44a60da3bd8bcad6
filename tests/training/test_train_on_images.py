"""What fine-tuning promises: never worse, repeatable, nothing moved that may not move."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from corners import Constant, SmallNet
from torch import nn

from polyadic.data.images import ImageData
from polyadic.errors import LayerError, PolyadicError
from polyadic.training import (
    Augmentation,
    EpochRecord,
    Execution,
    FinetuneOptions,
    FinetuneStop,
    score_images,
    train_on_images,
)
from polyadic.training.score_images import Score
from polyadic.training.snapshot import TrainingState, capture
from polyadic.training.trainer import shuffled_batches

FAST = FinetuneOptions(
    epochs=2, steps_per_epoch=6, batch_size=32, learning_rate=0.05, augmentation=Augmentation(flip=False, padding=1)
)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the state."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_weights(model: nn.Module, other: dict[str, torch.Tensor]) -> bool:
    """Whether the state is ``other``, bit for bit."""
    return all(torch.equal(tensor, other[name]) for name, tensor in model.state_dict().items())


def test_training_learns_and_the_report_is_true(net: SmallNet, data: ImageData) -> None:
    """The best score rises, is the score of the model that comes back, and was reached in the epoch named."""
    report = train_on_images(net, data, replace(FAST, epochs=5, steps_per_epoch=None, patience=5))
    measured = score_images(net, data.held_out, data.normalise)
    assert report.best.value > report.start.value + 0.2
    assert (measured.value, measured.loss) == (report.best.value, report.best.loss)
    assert report.history[report.best_epoch - 1].score == report.best.value
    assert report.stop is FinetuneStop.COMPLETED
    assert [record.epoch for record in report.history] == [1, 2, 3, 4, 5]
    assert report.seconds >= sum(record.seconds for record in report.history)
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("schedule", ["saturation", "cosine"])
@pytest.mark.parametrize("learning_rate", [1e-4, 0.05, 3.0, 1e6])
def test_never_worse_than_the_start(schedule: str, learning_rate: float, data: ImageData) -> None:
    """Whatever the rate, the held-out score does not fall."""
    model = SmallNet(seed=1)
    train_on_images(model, data, FAST)
    before = score_images(model, data.held_out, data.normalise)
    report = train_on_images(model, data, replace(FAST, learning_rate=learning_rate, schedule=schedule))  # type: ignore[arg-type]
    after = score_images(model, data.held_out, data.normalise)
    assert report.start.value == before.value
    assert not before.beats(after)


def test_a_handicap_lets_a_trained_state_take_the_place_of_the_start(net: SmallNet) -> None:
    """Within the handicap the first epoch counts as the best; from then on the better score does."""
    changing = [net.linear.bias.detach()]

    def scored(right: int) -> Score:
        return Score(right / 100, torch.arange(100) < right, loss=1.0)

    def best_epoch(handicap: float) -> int:
        progress = TrainingState(scored(90), scored(90), capture(changing))
        for right in (85, 88, 87, 89):
            progress.finish_epoch(scored(right), changing, replace(FAST, epochs=4, handicap=handicap))
        return progress.best_epoch

    assert best_epoch(0.0) == 0
    assert best_epoch(0.005) == 0
    assert best_epoch(0.015) == 4
    assert best_epoch(0.025) == 4
    assert TrainingState(scored(90), scored(90), capture(changing)).best_epoch == 0
    progress = TrainingState(scored(90), scored(90), capture(changing))
    for right in (88, 87):
        progress.finish_epoch(scored(right), changing, replace(FAST, handicap=0.03))
    assert (progress.best_epoch, progress.best.value) == (1, 0.88)


def test_divergence_restores_the_best_and_says_so(net: SmallNet, data: ImageData) -> None:
    """At a rate of 1e6 the run is tried once more at a tenth, then stops with the starting weights, bit for bit."""
    before = weights(net)
    report = train_on_images(net, data, replace(FAST, learning_rate=1e6))
    assert report.stop is FinetuneStop.DIVERGED
    assert [record.diverged for record in report.history] == [True, True]
    assert [record.learning_rate for record in report.history] == pytest.approx([1e6, 1e5])
    assert report.best_epoch == 0
    assert same_weights(net, before)


def test_a_retry_at_a_lower_rate_can_succeed(net: SmallNet, data: ImageData) -> None:
    """Enough retries bring the rate down to where the network learns, and the run then ends as usual."""
    report = train_on_images(net, data, replace(FAST, learning_rate=5e4, retries=8))
    assert report.history[0].diverged
    assert report.stop is FinetuneStop.COMPLETED
    assert report.best.beats(report.start)


def test_nan_is_a_divergence(data: ImageData) -> None:
    """A network that only ever returns NaN stops, and its weights stay."""
    model = Constant(torch.tensor([math.nan, 0.0, 0.0]))
    report = train_on_images(model, data, FAST)
    assert report.stop is FinetuneStop.DIVERGED
    assert report.best.value == 0
    assert model.scale.item() == 1
    assert math.isnan(report.history[0].loss)


def test_only_the_given_parameters_move(net: SmallNet, data: ImageData) -> None:
    """Everything else, batch-norm statistics included, is the same to the bit; flags come back, gradients do not."""
    before = weights(net)
    net.bn1.weight.requires_grad_(False)
    report = train_on_images(net, data, FAST, parameters=(p for p in [net.conv2.weight]))
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert report.best_epoch > 0
    assert moved == {"conv2.weight"}
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["bn1.weight"]
    assert all(p.grad is None for p in net.parameters())


def test_without_parameters_frozen_ones_stay_and_statistics_move(net: SmallNet, data: ImageData) -> None:
    """What does not require a gradient stays; batch norm follows the images."""
    net.conv1.requires_grad_(False)
    before = weights(net)
    report = train_on_images(net, data, FAST)
    assert report.best_epoch > 0
    assert torch.equal(net.conv1.weight, before["conv1.weight"])
    assert not torch.equal(net.bn1.running_mean, before["bn1.running_mean"])


def test_statistics_stay_where_they_are_frozen(net: SmallNet, data: ImageData) -> None:
    """Weights move, and the batch norm with them; what it normalises by does not."""
    before = weights(net)
    report = train_on_images(net, data, replace(FAST, freeze_statistics=True))
    assert report.best_epoch > 0
    assert not torch.equal(net.conv1.weight, before["conv1.weight"])
    assert not torch.equal(net.bn1.weight, before["bn1.weight"])
    for name in ("bn1.running_mean", "bn1.running_var"):
        assert torch.equal(net.state_dict()[name], before[name])


def test_memory_format_and_identity_come_back(net: SmallNet, data: ImageData) -> None:
    """Strides and tensor identities are those from before, although training ran channels-last."""
    net.conv2.to(memory_format=torch.channels_last)
    before = {name: (tensor, tensor.stride()) for name, tensor in net.state_dict(keep_vars=True).items()}
    train_on_images(net, data, FAST, execution=Execution("cpu", "bfloat16", channels_last=True))
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert tensor is before[name][0]
        assert tensor.stride() == before[name][1]
        assert tensor.dtype in (torch.float32, torch.int64)


def test_one_seed_one_result(data: ImageData) -> None:
    """The same seed gives the same bits, another seed others; the global random state is not touched."""
    models = [SmallNet(dropout=0.5) for _ in range(3)]
    state = torch.get_rng_state()
    for model, seed in zip(models, (4, 4, 5), strict=True):
        torch.rand(seed)  # another global state must not matter
        held = torch.get_rng_state()
        train_on_images(model, data, replace(FAST, seed=seed))
        assert torch.equal(torch.get_rng_state(), held)
    torch.set_rng_state(state)
    assert same_weights(models[1], weights(models[0]))
    assert not same_weights(models[2], weights(models[0]))


def test_an_exception_leaves_the_best_state(net: SmallNet, data: ImageData) -> None:
    """A callback that raises ends the run with the best weights in the model and the layout restored."""
    seen: list[EpochRecord] = []

    def stop(record: EpochRecord) -> None:
        seen.append(record)
        raise KeyboardInterrupt

    before = score_images(net, data.held_out, data.normalise)
    with pytest.raises(KeyboardInterrupt):
        train_on_images(net, data, FAST, on_progress=stop)
    after = score_images(net, data.held_out, data.normalise)
    assert seen[0].score == after.value
    assert after.beats(before)
    assert net.conv1.weight.is_contiguous()


def test_distillation_brings_the_student_to_the_teacher(data: ImageData) -> None:
    """Learning from the teacher alone lowers KL(teacher || student) on held-out images; the teacher does not change."""
    teacher = SmallNet(seed=2)
    train_on_images(teacher, data, replace(FAST, epochs=4))
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.conv2.weight.mul_(torch.rand(8, 8, 1, 1, generator=torch.Generator().manual_seed(0)))
    images = data.normalise(data.held_out.images(torch.arange(120)))

    def divergence() -> float:
        with torch.no_grad():
            p, q = teacher(images).double().softmax(1), student(images).double().softmax(1)
        return float((p * (p / q).log()).sum(1).mean())

    student.eval()
    kept, before = weights(teacher), divergence()
    teacher.train()
    options = replace(FAST, epochs=3, distillation=1.0, learning_rate=0.01)
    train_on_images(student, data, options, teacher=teacher, parameters=[student.conv2.weight])
    assert teacher.training
    teacher.eval()
    assert divergence() < 0.5 * before
    assert same_weights(teacher, kept)


def test_saturation_lowers_the_rate_and_then_stops(net: SmallNet, data: ImageData) -> None:
    """A model that cannot improve is stopped after patience x (reductions + 1) epochs, the rate falling in between."""
    options = replace(FAST, epochs=50, steps_per_epoch=1, learning_rate=1e-12, patience=1, reductions=2)
    with torch.no_grad():
        net.linear.weight.zero_()
        net.linear.bias.zero_()
    report = train_on_images(net, data, options, parameters=[net.conv1.weight])
    assert report.stop is FinetuneStop.SATURATED
    assert [record.learning_rate for record in report.history] == pytest.approx([1e-12, 1e-13, 1e-14])


def test_cosine_rises_then_falls_to_zero() -> None:
    """Linear up to the full rate over the warm-up, then down along half a cosine."""
    options = replace(FAST, schedule="cosine", warmup=0.2)
    shape = [options.rate_shape(step, 20) for step in range(20)]
    assert shape[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert shape[12] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in itertools.pairwise(shape[4:]))
    assert shape[-1] < 0.01


@pytest.mark.parametrize(("count", "batch_size", "sizes"), [(10, 4, [4, 4]), (8, 4, [4, 4]), (3, 4, [3])])
def test_a_pass_visits_no_image_twice(count: int, batch_size: int, sizes: list[int]) -> None:
    """Full batches only, unless there is but one; the next pass is shuffled anew."""
    batches = shuffled_batches(count, batch_size, torch.Generator().manual_seed(0))
    passes = [[next(batches) for _ in sizes] for _ in range(2)]
    for one in passes:
        assert [len(batch) for batch in one] == sizes
        assert len(torch.cat(one).unique()) == sum(sizes)
    assert not torch.equal(torch.cat(passes[0]), torch.cat(passes[1]))


def test_parameters_without_effect_are_refused(net: SmallNet, data: ImageData) -> None:
    """A parameter that no logit depends on cannot be trained."""
    net.unused = nn.Linear(2, 2)
    with pytest.raises(LayerError, match="depend on"):
        train_on_images(net, data, FAST, parameters=net.unused.parameters())


def test_clipping_bounds_the_first_step(net: SmallNet, data: ImageData) -> None:
    """One step of plain SGD moves no farther than rate x clip_norm."""
    before = net.linear.weight.detach().clone()
    options = replace(FAST, epochs=1, steps_per_epoch=1, learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    report = train_on_images(net, data, replace(options, clip_norm=0.01), parameters=[net.linear.weight])
    assert report.best_epoch == 1
    assert float((net.linear.weight.detach() - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_what_cannot_be_trained_is_refused(net: SmallNet, data: ImageData) -> None:
    """Each refusal says what came."""
    stranger = SmallNet(seed=9)
    with pytest.raises(LayerError, match="1 of 1 are not in it"):
        train_on_images(net, data, FAST, parameters=[stranger.conv1.weight])
    with pytest.raises(LayerError, match="got none"):
        train_on_images(net, data, FAST, parameters=[])
    with pytest.raises(LayerError, match=r"got torch\.float64"):
        train_on_images(SmallNet().double(), data, FAST)
    with pytest.raises(LayerError, match="teacher; got none"):
        train_on_images(net, data, replace(FAST, distillation=0.5))
    with pytest.raises(LayerError, match="the model itself"):
        train_on_images(net, data, replace(FAST, distillation=0.5), teacher=net)
    with pytest.raises(LayerError, match=r"\(32, 2\) and \(32, 3\)"):
        train_on_images(net, data, replace(FAST, distillation=0.5), teacher=Constant(torch.zeros(2)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("learning_rate", math.nan),
        ("decay", 1.0),
        ("distillation", 1.5),
        ("schedule", "steps"),
        ("clip_norm", 0.0),
        ("seed", -1),
    ],
)
def test_options_outside_their_range_are_refused(name: str, value: object) -> None:
    """The message names the field and the value."""
    with pytest.raises(PolyadicError, match=f"{name} is .*; got"):
        replace(FAST, **{name: value})  # type: ignore[arg-type]
