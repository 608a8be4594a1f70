"""Class activation maps: Zhou et al., "Learning deep features for discriminative localization", CVPR 2016
(arXiv:1512.04150).
"""

from pathlib import Path
from typing import Any

import msgspec

from zoo.system import storage
from zoo_export import formats

OUTPUT = "class_map"
"""The name of the output."""

_PASSED = ("Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze")
"""Operators that leave pooled maps what they are."""

_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
"""The defaults of the format for a linear layer."""


def add_class_map(file: Path) -> bool:
    """Gives an exported ONNX file a second output: the class activation map of each image's largest logit.

    It is float32 B h w: the maps in front of the global average pool, each times the weight that the linear layer has
    for it and that class. Its mean and the layer's bias make the logit. Its positive part is Grad-CAM of these maps
    times h w, without a gradient.

    Returns whether the network ends in a global average pool and one linear layer; else the file stays as it is.
    """
    import onnx

    model = onnx.load(str(file))
    head = _head(model.graph)
    if head is None:
        return False
    maps, weights, logits = head
    node, helper = onnx.helper.make_node, onnx.helper
    float32 = {"to": onnx.TensorProto.FLOAT}
    name = {key: f"{OUTPUT}_{key}" for key in ("best", "row", "column", "maps", "weighed", "places", "channels")}
    for key, axes in (("places", [2, 3]), ("channels", [1])):
        model.graph.initializer.append(helper.make_tensor(name[key], onnx.TensorProto.INT64, [len(axes)], axes))
    model.graph.node.extend(
        [
            node("ArgMax", [logits], [name["best"]], axis=1, keepdims=0),
            node("Gather", [weights, name["best"]], [f"{name['row']}_narrow"], axis=0),
            node("Cast", [f"{name['row']}_narrow"], [name["row"]], **float32),
            node("Unsqueeze", [name["row"], name["places"]], [name["column"]]),
            node("Cast", [maps], [name["maps"]], **float32),
            node("Mul", [name["maps"], name["column"]], [name["weighed"]]),
            node("ReduceSum", [name["weighed"], name["channels"]], [OUTPUT], keepdims=0),
        ]
    )
    batch = model.graph.output[0].type.tensor_type.shape.dim[0].dim_param
    shape = [batch or None, None, None]
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, shape))
    onnx.save(model, str(file))
    stated = formats.read_sidecar(file)
    if stated is not None:
        digests = stated.sha256 | {file.name: storage.sha256_of(file)}
        formats.write_sidecar(file, msgspec.structs.replace(stated, sha256=digests))
    return True


def _head(graph: Any) -> tuple[str, str, str] | None:
    """Returns the names of the pooled maps B C h w, the linear layer's weights K C, and the logits B K."""
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}

    def behind(name: str) -> Any:
        node = made_by.get(name)
        while node is not None and node.op_type in _PASSED:
            node = made_by.get(node.input[0])
        return node

    linear = behind(graph.output[0].name)
    if linear is None or linear.op_type != "Gemm" or {**_GEMM, **_attributes(linear)} != {**_GEMM, "transB": 1}:
        return None
    pool = behind(linear.input[0])
    if pool is None or not (pool.op_type == "GlobalAveragePool" or _is_mean_of_places(pool, constants)):
        return None
    return pool.input[0], linear.input[1], linear.output[0]


def _attributes(node: Any) -> dict[str, Any]:
    """Returns a node's attributes by name; a default may be left out."""
    import onnx

    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _is_mean_of_places(node: Any, constants: dict[str, Any]) -> bool:
    """Returns whether ``node`` is the mean of maps over height and width."""
    import onnx

    if node.op_type != "ReduceMean":
        return False
    axes = _attributes(node).get("axes", ())  # an input since operator set 18
    if len(node.input) > 1 and node.input[1] in constants:
        axes = onnx.numpy_helper.to_array(constants[node.input[1]]).tolist()
    return sorted(axes) in ([2, 3], [-2, -1])
