"""Recurrent layers: LSTM, GRU and plain RNN, in one direction or both, over sequences of several lengths.

T: steps, N: samples, H: elements of the state. A layer that runs backwards is one that runs forwards over the reversed
sequences; each sample is reversed within its own length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from polyadic.onnx.operators.table import NodeFacts, NotInTorchError, Operation, operator

Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""Takes a step's part of the inputs and the states before it; gives the states after it."""


@dataclass(frozen=True)
class Weights:
    """The weights of one direction, with the gates in the order of torch.

    Attributes:
        inputs: of the inputs, (gates H, inputs).
        states: of the states, (gates H, H).
        input_bias: added to the former product, (gates H).
        state_bias: added to the latter product, (gates H).
    """

    inputs: Tensor
    states: Tensor
    input_bias: Tensor
    state_bias: Tensor

    @property
    def flat(self) -> list[Tensor]:
        """The weights as torch takes them."""
        return [self.inputs, self.states, self.input_bias, self.state_bias]


GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
"""Where torch's gates are in ONNX's: ONNX has z r h and i o f c, torch r z n and i f g o."""

ACTIVATIONS = {"RNN": ["tanh"], "GRU": ["sigmoid", "tanh"], "LSTM": ["sigmoid", "tanh", "tanh"]}


@operator("LSTM", "GRU", "RNN")
def recurrent(facts: NodeFacts) -> Operation:
    """A recurrent layer with the activations that torch has; its states after every step, and after the last one."""
    kind, attributes = facts.operator, facts.attributes
    direction, batch_first = attributes.get("direction", "forward"), bool(attributes.get("layout", 0))
    backwards = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(direction)
    if backwards is None or attributes.get("clip") is not None or attributes.get("input_forget", 0):
        raise NotInTorchError(f"a {kind} with clipped or coupled gates is not served")
    nonlinearity = _nonlinearity(facts, len(backwards))

    def run(
        x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Tensor | None = None, *states: Tensor | None
    ) -> tuple[Tensor, ...] | Tensor:
        x = x.transpose(0, 1) if batch_first else x
        initial = _initial_states(x, r, states[: 2 if kind == "LSTM" else 1], batch_first=batch_first, kind=kind)
        peepholes = states[2] if len(states) > 2 else None
        if lengths is not None and bool((lengths == x.shape[0]).all()):
            lengths = None
        sequences, finals = [], []
        for place, backward in enumerate(backwards):
            weights = _weights(kind, w[place], r[place], None if b is None else b[place])
            layer = _layer(facts, nonlinearity, weights, None if peepholes is None else peepholes[place])
            given = reversed_sequences(x, lengths) if backward else x
            sequence, final = layer(given, tuple(state[place] for state in initial), lengths)
            sequences.append(reversed_sequences(sequence, lengths) if backward else sequence)
            finals.append(final)
        axis = 2 if batch_first else 1
        y = torch.stack([s.transpose(0, 1) if batch_first else s for s in sequences], axis)
        last = [torch.stack(of_state, 1 if batch_first else 0) for of_state in zip(*finals, strict=True)]
        outputs = (y, *last)[: facts.outputs]
        return outputs if facts.outputs > 1 else y

    return run


def _nonlinearity(facts: NodeFacts, directions: int) -> str:
    """The function of a plain RNN; raises NotInTorchError where the node asks for others than torch has."""
    kind = facts.operator
    asked = [name.lower() for name in facts.attributes.get("activations", ACTIVATIONS[kind] * directions)]
    if kind == "RNN" and asked == ["relu"] * directions:
        return "relu"
    if asked != ACTIVATIONS[kind] * directions:
        raise NotInTorchError(f"a {kind} with activations {', '.join(asked)} is not served")
    return "tanh"


def _initial_states(
    x: Tensor, r: Tensor, given: Sequence[Tensor | None], *, batch_first: bool, kind: str
) -> list[Tensor]:
    """The states before the first step, (directions, N, H) each; zeros where none are given."""
    zeros = torch.zeros(r.shape[0], x.shape[1], r.shape[2], dtype=x.dtype, device=x.device)
    found = [zeros if state is None else state.transpose(0, 1) if batch_first else state for state in given]
    return found + [zeros] * ((2 if kind == "LSTM" else 1) - len(found))


def _weights(kind: str, w: Tensor, r: Tensor, b: Tensor | None) -> Weights:
    order = GATES[kind]
    if b is None:
        b = torch.zeros(2 * w.shape[0], dtype=w.dtype, device=w.device)

    def ordered(values: Tensor) -> Tensor:
        gates = values.chunk(len(order))
        return torch.cat([gates[place] for place in order])

    input_bias, state_bias = b.chunk(2)
    return Weights(ordered(w), ordered(r), ordered(input_bias), ordered(state_bias))


TORCH_LAYERS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_tanh": torch.rnn_tanh,
    "RNN_relu": torch.rnn_relu,
}

Layer = Callable[[Tensor, tuple[Tensor, ...], Tensor | None], tuple[Tensor, tuple[Tensor, ...]]]


def _layer(facts: NodeFacts, nonlinearity: str, weights: Weights, peepholes: Tensor | None) -> Layer:
    """What runs over the sequences: torch's own layer, or step by step where torch has no such layer."""
    if facts.operator == "LSTM" and peepholes is not None:
        return lambda x, states, lengths: scan(
            _peephole_step(weights, peepholes), _products(x, weights), states, lengths
        )
    if facts.operator == "GRU" and not facts.attributes.get("linear_before_reset", 0):
        return lambda x, states, lengths: scan(_gru_step(weights), _products(x, weights), states, lengths)
    kind = f"RNN_{nonlinearity}" if facts.operator == "RNN" else facts.operator
    return lambda x, states, lengths: by_torch(kind, weights, x, states, lengths)


def by_torch(
    kind: str, weights: Weights, x: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One direction of a layer of torch over sequences of equal lengths, or of several."""
    function = TORCH_LAYERS[kind]
    # cuDNN keeps what a gradient needs only where it is told that it trains; without dropout that changes nothing else.
    options = (True, 1, 0.0, torch.is_grad_enabled(), False)
    before = [state[None].contiguous() for state in states]
    if lengths is None:
        hx = before if kind == "LSTM" else before[0]
        y, *after = function(x, hx, weights.flat, *options, False)
        return y, tuple(state[0] for state in after)
    steps = x.shape[0]
    packed = pack_padded_sequence(x, lengths.cpu().clamp(min=1), enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    before = before if order is None else [state.index_select(1, order) for state in before]
    hx = before if kind == "LSTM" else before[0]
    data, *after = function(packed.data, packed.batch_sizes, hx, weights.flat, *options)
    y, _ = pad_packed_sequence(PackedSequence(data, packed.batch_sizes, order, back), total_length=steps)
    # A sample without a single step ran for one: its outputs and states are zeros.
    some = (lengths > 0)[:, None].to(x.device)
    finals = (state[0] if back is None else state[0].index_select(0, back) for state in after)
    return y * some, tuple(final * some for final in finals)


def reversed_sequences(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Every sample (T, N, ...) backwards, from its own last step to the first; what is behind stays where it is."""
    if lengths is None:
        return x.flip(0)
    step = torch.arange(x.shape[0], device=x.device)[:, None]
    source = torch.where(step < lengths, lengths.to(step.dtype) - 1 - step, step)
    return x.gather(0, source[:, :, None].expand(x.shape))


def _products(x: Tensor, weights: Weights) -> Tensor:
    """What the inputs of all steps contribute to the gates."""
    return torch.nn.functional.linear(x, weights.inputs, weights.input_bias)


def scan(
    step: Step, x: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run step by step; a sample whose steps are over keeps its states and gives zeros."""
    sequence = []
    for number, part in enumerate(x):
        after = step(part, states)
        if lengths is None:
            states = after
            sequence.append(after[0])
        else:
            going = (number < lengths)[:, None]
            states = tuple(torch.where(going, new, old) for new, old in zip(after, states, strict=True))
            sequence.append(after[0] * going)
    return torch.stack(sequence), states


def _gru_step(weights: Weights) -> Step:
    """A step of a GRU that resets the state before it is multiplied, as its authors wrote it (Cho et al. 2014)."""
    linear = torch.nn.functional.linear

    def step(part: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = states
        size = h.shape[-1]
        gates = part[:, : 2 * size] + linear(h, weights.states[: 2 * size], weights.state_bias[: 2 * size])
        r, z = torch.sigmoid(gates).chunk(2, -1)
        n = torch.tanh(part[:, 2 * size :] + linear(r * h, weights.states[2 * size :], weights.state_bias[2 * size :]))
        return ((1 - z) * n + z * h,)

    return step


def _peephole_step(weights: Weights, peepholes: Tensor) -> Step:
    """A step of an LSTM whose gates see its memory (Gers and Schmidhuber 2000)."""
    p_i, p_o, p_f = peepholes.chunk(3)

    def step(part: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        i, f, g, o = (part + torch.nn.functional.linear(h, weights.states, weights.state_bias)).chunk(4, -1)
        memory = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(g)
        return torch.sigmoid(o + p_o * memory) * torch.tanh(memory), memory

    return step
