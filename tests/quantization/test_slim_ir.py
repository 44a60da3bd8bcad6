from __future__ import annotations

from polyadic.quantization import slim_ir

GRAPH = b"""<?xml version="1.0"?>
<net name="Model0" version="11">
\t<layers>
\t\t<layer id="0" name="input" type="Parameter" version="opset1">
\t\t\t<data shape="?,3" element_type="f32" />
\t\t\t<rt_info><attribute name="fused_names_0" version="0" value="input" /></rt_info>
\t\t\t<output><port id="0" precision="FP32" names="input"><dim>-1</dim><dim>3</dim></port></output>
\t\t</layer>
\t\t<layer id="1" name="a/very/long/name" type="ReLU" version="opset1">
\t\t\t<input><port id="0" precision="FP32"><dim>-1</dim></port></input>
\t\t\t<output><port id="1" precision="FP32" names="inside"><dim>-1</dim></port></output>
\t\t</layer>
\t\t<layer id="2" name="another" type="ReLU" version="opset1">
\t\t\t<input><port id="0" precision="FP32"><dim>-1</dim></port></input>
\t\t\t<output><port id="1" precision="FP32" names="logits"><dim>-1</dim></port></output>
\t\t</layer>
\t\t<layer id="3" name="logits/sink" type="Result" version="opset1">
\t\t\t<input><port id="0" precision="FP32"><dim>-1</dim></port></input>
\t\t</layer>
\t</layers>
\t<edges>
\t\t<edge from-layer="0" from-port="0" to-layer="1" to-port="0" />
\t\t<edge from-layer="1" from-port="1" to-layer="2" to-port="0" />
\t\t<edge from-layer="2" from-port="1" to-layer="3" to-port="0" />
\t</edges>
\t<rt_info><conversion_parameters><input_model value="DIR" /></conversion_parameters></rt_info>
</net>
"""

SLIM = (
    b'<net name="Model0" version="11"><layers>'
    b'<layer id="0" name="input" type="Parameter" version="opset1"><data shape="?,3" element_type="f32" />'
    b'<output><port id="0" precision="FP32" names="input"><dim>-1</dim><dim>3</dim></port></output></layer>'
    b'<layer id="1" name="1" type="ReLU" version="opset1">'
    b'<input><port id="0" precision="FP32"><dim>-1</dim></port></input>'
    b'<output><port id="1" precision="FP32"><dim>-1</dim></port></output></layer>'
    b'<layer id="2" name="2" type="ReLU" version="opset1">'
    b'<input><port id="0" precision="FP32"><dim>-1</dim></port></input>'
    b'<output><port id="1" precision="FP32" names="logits"><dim>-1</dim></port></output></layer>'
    b'<layer id="3" name="logits/sink" type="Result" version="opset1">'
    b'<input><port id="0" precision="FP32"><dim>-1</dim></port></input></layer>'
    b'</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0" />'
    b'<edge from-layer="1" from-port="1" to-layer="2" to-port="0" />'
    b'<edge from-layer="2" from-port="1" to-layer="3" to-port="0" /></edges></net>'
)


def test_layers_edges_and_outer_names_stay_and_the_rest_goes() -> None:
    assert slim_ir(GRAPH) == SLIM
    assert slim_ir(SLIM) == SLIM
