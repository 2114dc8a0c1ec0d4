"""An OpenVINO model in two parts, so that each has its own precision.

OpenVINO rounds a whole model or nothing of it. Where rounding near the image would
move borders, the first layers run in float32 and only the rest in bfloat16.
"""

from __future__ import annotations

from typing import Any

from medseg.errors import ConfigError

_CONVOLUTIONS = {"Convolution", "GroupConvolution", "ConvolutionBackpropData"}


def cut(model: Any, layers: int) -> tuple[Any, Any]:
    """Return the first ``layers`` convolutions, and what follows on their outputs.

    An operation is in the first part if no way from the input to it passes more
    than ``layers`` convolutions. The inputs of the second part are the outputs of
    the first, in this order.

    Args:
        model: ``openvino.Model`` of a fixed shape with one input; is taken apart.
        layers: From 0 to less than the model has on its longest way.

    Raises:
        ConfigError: If it has no more than that.
    """
    import openvino
    from openvino import opset13, passes

    # Shapes are known: what computes with them becomes a constant of either part.
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    depths = _depths(model)
    longest = max(depths.values())
    if layers >= longest:
        problem = f"is {layers} and the network has {longest} on its longest way"
        remedy = "Use fewer, or the precision float32"
        raise ConfigError("inference.exact_layers", problem, remedy)
    outputs, inputs = [], []
    for operation in model.get_ordered_ops():
        if _depth(depths, operation, layers + 1) > layers:
            continue
        for output in operation.outputs():
            readers = [
                reader
                for reader in output.get_target_inputs()
                if _depth(depths, reader.get_node(), 0) > layers
            ]
            if readers:
                kind = output.get_element_type()
                parameter = opset13.parameter(list(output.get_shape()), kind)
                for reader in readers:
                    reader.replace_source_output(parameter.output(0))
                outputs.append(opset13.result(output))
                inputs.append(parameter)
    first = openvino.Model(outputs, model.get_parameters(), "first")
    return first, openvino.Model(model.get_results(), inputs, "rest")


def _depth(depths: dict[str, int], operation: Any, constant: int) -> int:
    return depths.get(operation.get_friendly_name(), constant)


def _depths(model: Any) -> dict[str, int]:
    """Return the most convolutions on a way from the input to each operation.

    What hangs on no input (weights) is left out: both parts may read it.
    """
    depths: dict[str, int] = {}
    for operation in model.get_ordered_ops():
        sources = [value.get_node() for value in operation.input_values()]
        known = [
            depths[source.get_friendly_name()]
            for source in sources
            if source.get_friendly_name() in depths
        ]
        kind = operation.get_type_name()
        if known or kind == "Parameter":
            here = max(known, default=0) + (kind in _CONVOLUTIONS)
            depths[operation.get_friendly_name()] = here
    return depths
