"""Splits a graph of OpenVINO: what depends on frames alone, and what needs the state."""

from __future__ import annotations

from s2svos_engines.backends.openvino_library import ov


def split_encoder(model: ov.Model, frames: str, arithmetic: str) -> tuple[ov.Model, ov.Model]:
    """Split a graph where its frames alone no longer tell what comes next.

    Args:
        model: with static shapes; of no use afterwards, since its nodes are in the two parts.
        frames: name of the input that holds them.
        arithmetic: what floating point is computed in, ``f32`` or ``bf16``.

    Returns:
        The encoder, from the frames to features, and the recurrent part, whose first inputs take
        these features in the same order. Inputs and outputs of ``model`` keep their names.
    """
    (pictures,) = [one for one in model.get_parameters() if frames in one.output(0).get_names()]
    encoder = _depends_on_alone(pictures, model)
    results, features = [], []
    for node in model.get_ordered_ops():
        if node.get_name() not in encoder:
            continue
        for output in node.outputs():
            readers = [one for one in output.get_target_inputs() if _node(one) not in encoder]
            if readers:
                kept = output
                if arithmetic == "bf16" and all(_kind(one) == "Add" for one in readers):
                    # As in the full graph. As float32 OpenVINO (2026.4) fuses it into the
                    # convolution to whose output it is added, and then cannot build that where its
                    # output is int8 ("object is not initialized").
                    kept = ov.opset13.convert(output, ov.Type.bf16).output(0)
                feature = ov.opset13.parameter(output.get_shape(), kept.get_element_type())
                source = feature
                if kept is not output:
                    source = ov.opset13.convert(feature, output.get_element_type())
                for reader in readers:
                    reader.replace_source_output(source.output(0))
                results.append(ov.opset13.result(kept))
                features.append(feature)
    states = [one for one in model.get_parameters() if one.get_name() != pictures.get_name()]
    return (
        ov.Model(results, [pictures], "encoder"),
        ov.Model(model.get_results(), [*features, *states], "recurrent"),
    )


def _depends_on_alone(pictures: ov.Node, model: ov.Model) -> set[str]:
    """Names of the nodes, results of the graph excepted, that need the frames and no state."""
    constant: set[str] = set()
    found = {pictures.get_name()}
    for node in model.get_ordered_ops():
        kind, name = node.get_type_name(), node.get_name()
        sources = {source.get_source_output().get_node().get_name() for source in node.inputs()}
        if kind in ("Parameter", "Result") or not sources <= found | constant:
            continue
        (found if sources & found else constant).add(name)
    return found


def _node(reader: ov.Input) -> str:
    return str(reader.get_node().get_name())


def _kind(reader: ov.Input) -> str:
    return str(reader.get_node().get_type_name())
