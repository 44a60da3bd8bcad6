from __future__ import annotations

import numpy as np
import pytest
from forms import Form, assert_as_onnx_runtime, floats, integers

SAME = ("SAME_UPPER", "SAME_LOWER", "VALID")
CONVOLUTIONS = [
    *[Form("Conv", ((2, 3, 9, 8), (4, 3, 3, 2)), {"auto_pad": pad, "strides": [2, 3]}) for pad in SAME],
    Form("Conv", ((2, 4, 11), (6, 2, 3), (6,)), {"auto_pad": "SAME_UPPER", "group": 2, "strides": [2]}),
    Form("Conv", ((1, 2, 7, 8), (3, 2, 3, 3), (3,)), {"pads": [0, 2, 1, 0], "strides": [2, 1]}),
    Form("Conv", ((1, 2, 5, 6, 7), (4, 1, 3, 2, 1)), {"pads": [1, 0, 0, 0, 1, 0], "group": 2}),
    Form("ConvTranspose", ((1, 2, 4, 5), (2, 3, 3, 3), (3,)), {"strides": [2, 2], "pads": [1, 0, 0, 2]}),
    Form("ConvTranspose", ((1, 2, 4, 5), (2, 3, 3, 3)), {"strides": [3, 2], "pads": [1] * 4, "output_padding": [2, 1]}),
    Form("ConvTranspose", ((1, 2, 4, 5), (2, 3, 3, 3), (3,)), {"strides": [3, 2], "output_shape": [10, 8]}),
    Form("ConvTranspose", ((1, 4, 5), (4, 3, 4)), {"strides": [2], "auto_pad": "SAME_UPPER", "group": 2}),
    Form("ConvTranspose", ((1, 4, 5), (4, 3, 5)), {"strides": [2], "auto_pad": "SAME_LOWER", "dilations": [2]}),
    Form(
        "ConvInteger",
        (
            np.random.default_rng(1).integers(0, 256, (1, 2, 5, 5)).astype(np.uint8),
            np.random.default_rng(2).integers(0, 256, (3, 2, 3, 3)).astype(np.uint8),
            np.array(7, np.uint8),
            np.array(9, np.uint8),
        ),
        {"pads": [1, 0, 1, 2]},
    ),
]

POOLS = [
    *[
        Form(operator, ((2, 3, 9, 8),), {"kernel_shape": [3, 2], "auto_pad": pad, "strides": [2, 3]})
        for operator in ("MaxPool", "AveragePool", "LpPool")
        for pad in SAME
    ],
    *[
        Form("MaxPool", ((2, 3, 9, 8),), {"kernel_shape": [3, 3], "strides": [2, 2], **more}, 17, 2)
        for more in ({}, {"pads": [0, 2, 1, 0]}, {"dilations": [2, 1]}, {"ceil_mode": 1}, {"pads": [1] * 4})
    ],
    Form("MaxPool", ((2, 3, 11),), {"kernel_shape": [4], "strides": [3], "pads": [2, 1], "ceil_mode": 1}),
    Form("MaxPool", ((1, 2, 5, 6, 7),), {"kernel_shape": [2, 3, 2], "pads": [1, 0, 0, 0, 1, 1]}),
    Form(
        "MaxPool", (np.arange(60, dtype=np.int8).reshape(1, 2, 5, 6) - 30,), {"kernel_shape": [2, 2], "pads": [1] * 4}
    ),
    *[
        Form(
            "AveragePool", ((2, 3, 9, 8),), {"kernel_shape": [3, 3], "strides": [2, 2], "count_include_pad": i, **more}
        )
        for more in ({"pads": [0, 2, 1, 0]}, {"pads": [1] * 4}, {"pads": [1] * 4, "ceil_mode": 1})
        for i in (0, 1)
    ],
    Form("AveragePool", ((2, 3, 9, 8),), {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1] * 4}, 19),
    Form("LpPool", ((2, 3, 9, 8),), {"kernel_shape": [3, 2], "p": 3, "pads": [1, 0, 2, 1]}),
    Form("GlobalLpPool", ((2, 3, 9, 8),), {"p": 3}),
    Form("GlobalMaxPool", ((2, 3, 9),)),
]

NORMALISATIONS = [
    Form("LRN", ((2, 7, 3, 4),), {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 1.5}),
    Form("InstanceNormalization", ((2, 3, 1, 1), (3,), (3,))),
    Form("LpNormalization", ((2, 3, 4),), {"axis": 1, "p": 1}),
    Form("LayerNormalization", ((2, 3, 4), (3, 4), (3, 4)), {"axis": 1}, 17, 3),
    Form("MeanVarianceNormalization", ((2, 3, 4, 5),), {"axes": [1, 2]}),
    Form("BatchNormalization", ((2, 3, 4), (3,), (3,), (3,), np.ones(3, np.float32)), {"epsilon": 0.1}, 9),
]

ACTIVATIONS = [
    *[Form("Softmax", ((2, 3, 4, 5),), {"axis": axis}, 11) for axis in (0, 1, 2, -1)],
    Form("LogSoftmax", ((2, 3, 4),), {}, 11),
    Form("PRelu", ((2, 3, 4, 5), (3, 1, 1))),
    Form("PRelu", ((2, 3, 4, 5), (4, 1))),
    Form("Softplus", (floats(-90, -3, 0, 25, 90),)),
]

PADS = [
    Form("Pad", ((2, 3, 4),), {"pads": [0, 1, 2, 1, 0, 3], "value": 1.5}, 2),
    *[
        Form("Pad", ((3, 4, 5), integers(0, -1, 2, 1, 2, pad)), {"mode": mode})
        for mode in ("constant", "reflect", "edge")
        for pad in (0, -2)
    ],
    Form("Pad", ((3, 4), integers(3, 2), None, integers(1)), {"mode": "wrap"}, 19),
]

HALVES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
RESIZES = [
    Form("Upsample", ((1, 2, 3, 4),), {"scales": [1.0, 1.0, 2.0, 1.5]}, 7),
    Form("Upsample", ((1, 2, 3, 4), floats(1, 1, 2, 3)), {"mode": "linear"}, 9),
    *[
        Form("Resize", ((1, 2, 6, 7), floats(1, 1, *scales)), {"mode": mode}, 10)
        for mode in ("nearest", "linear")
        for scales in ((2, 1.7), (0.6, 0.5))
    ],
    *[
        Form(
            "Resize",
            ((1, 2, 6, 7), None, *inputs),
            {"mode": mode, "coordinate_transformation_mode": coordinates},
            13,
        )
        for mode in ("nearest", "linear", "cubic")
        for coordinates in HALVES
        for inputs in (
            (floats(1, 1, 2, 3),),
            (floats(1, 1, 0.6, 1.7),),
            (None, integers(1, 2, 9, 5)),
        )
    ],
    *[
        Form("Resize", ((1, 1, 6, 7), None, None, integers(1, 1, 9, 4)), {"nearest_mode": mode}, 13)
        for mode in ("round_prefer_ceil", "floor", "ceil")
    ],
    Form(
        "Resize",
        ((1, 1, 6, 7), floats(0, 0, 0.1, -0.2, 1, 1, 0.9, 1.3), None, integers(1, 1, 5, 8)),
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0},
        13,
    ),
    Form(
        "Resize",
        ((1, 1, 6, 7), None, floats(1, 1, 1.4, 0.7)),
        {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
        13,
    ),
    Form(
        "Resize",
        ((1, 2, 6, 7), None, None, integers(4, 9)),
        {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"},
        18,
    ),
    Form("Resize", ((1, 2, 9, 8), None, None, integers(1, 2, 4, 3)), {"mode": "linear", "antialias": 1}, 18),
]

BOXES = np.random.default_rng(3).uniform(0, 10, (2, 300, 4)).astype(np.float32)
SAMPLINGS = [
    *[
        Form(
            "GridSample",
            ((2, 3, 5, 6), (2, 4, 4, 2)),
            {"mode": mode, "padding_mode": padding, "align_corners": align},
            16,
        )
        for mode, padding, align in (
            ("bilinear", "zeros", 0),
            ("bicubic", "border", 1),
            ("nearest", "reflection", 0),
        )
    ],
    *[
        Form(
            "RoiAlign",
            (
                (2, 3, 12, 14),
                BOXES[0, :9] @ np.float32([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]) * 2,
                np.arange(9) % 2,
            ),
            {"output_height": 3, "output_width": 2, "sampling_ratio": samples, "spatial_scale": 0.5},
            opset,
        )
        for samples in (0, 2)
        for opset in (10, 16)
    ],
    *[
        Form(
            "NonMaxSuppression",
            (BOXES, (2, 2, 300), integers(150), floats(0.3), floats(-0.5)),
            {"center_point_box": centred},
        )
        for centred in (0, 1)
    ],
]


@pytest.mark.parametrize(
    "form", [*CONVOLUTIONS, *POOLS, *NORMALISATIONS, *ACTIVATIONS, *PADS, *RESIZES, *SAMPLINGS], ids=str
)
def test_torch_computes_what_onnx_runtime_does(form: Form) -> None:
    assert_as_onnx_runtime(form)
