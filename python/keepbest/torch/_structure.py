"""From a graph of operations to a spec as a person would write it: residual, gate and branch blocks where there are any, and blocks named as the
modules were. What no block says becomes a ``graph``."""

from __future__ import annotations

from typing import Any

from keepbest.torch._nodes import Node, ancestors, readers

Layer = dict[str, Any]

# Layers that take a vector as well as one pixel.
_OF_VALUES = {
    *("relu", "relu6", "sigmoid", "silu", "hardsigmoid", "hardswish", "selu", "tanh", "mish", "gelu", "leaky_relu", "elu", "celu", "softplus"),
    *("dropout", "clip", "affine"),
}


def tidied(output: Node) -> Node:
    """The same graph, said with fewer nodes: padding in the layer behind it, and a vector at the end."""
    nodes = ancestors(output)
    _pad_inside(nodes)
    _join_affine(nodes)
    _share_concats(nodes)
    return _flattened(output)


def _pad_inside(nodes: list[Node]) -> None:
    """Moves padding into the convolution or pooling that alone reads it."""
    reads = readers(nodes)
    for node in nodes:
        before = node.inputs[0] if node.inputs else None
        if before is None or before.op != "pad2d" or len(reads[id(before)]) != 1 or node.settings.get("padding", 0) != 0:
            continue
        if before.settings.get("mode", "constant") != "constant":
            continue
        value = before.settings.get("value", 0.0)
        fits = {"conv2d": value == 0.0, "avg_pool2d": value == 0.0, "max_pool2d": value == float("-inf")}
        if not fits.get(node.op, False) or node.settings.get("ceil_mode", False):
            continue
        sides = [before.settings.get(side, 0) for side in ("top", "bottom", "left", "right")]
        kernel = node.settings["kernel"]
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        if node.op != "conv2d" and (max(sides[:2]) >= rows or max(sides[2:]) >= columns):
            # A window of a pooling never lies in padding alone.
            continue
        node.inputs = before.inputs
        even = sides[0] == sides[1] and sides[2] == sides[3]
        node.settings["padding"] = sides[0] if len(set(sides)) == 1 else [sides[0], sides[2]] if even else sides
        if not even and sides == _same(node):
            node.settings["padding"] = "same"


def _same(node: Node) -> list[int]:
    """TensorFlow's padding of a window."""
    found = []
    for axis in range(2):
        size = node.inputs[0].shape[1 + axis]
        kernel, stride, dilation = (
            value if isinstance(value, int) else value[axis]
            for value in (
                node.settings["kernel"],
                node.settings.get("stride", node.settings["kernel"] if "pool" in node.op else 1),
                node.settings.get("dilation", 1),
            )
        )
        total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        found += [total // 2, total - total // 2]
    return found


def _join_affine(nodes: list[Node]) -> None:
    """Makes one layer of a factor and a summand of one module."""
    reads = readers(nodes)
    for node in nodes:
        before = node.inputs[0] if node.inputs else None
        if before is None or len(reads[id(before)]) != 1 or node.settings.get("bias") is False:
            continue
        if node.op == "scale2d" and before.op == "layer_scale" and before.name == f"{node.name}.weight":
            del node.settings["weight"]
        elif node.op == "scalar_affine" and (before.op, before.name) == (node.op, node.name) and before.settings.get("bias") is False:
            del node.settings["scale"], before.settings["bias"]
            node.settings.update(before.settings)
        else:
            continue
        node.inputs = before.inputs


def _share_concats(nodes: list[Node]) -> None:
    """Where channels are joined to those that were joined before, as in a DenseNet, joins them to that."""
    known: dict[tuple[int, ...], Node] = {}
    for node in nodes:
        if node.op != "concat":
            continue
        parts = tuple(id(each) for each in node.inputs)
        for length in range(len(parts) - 1, 1, -1):
            before = known.get(parts[:length])
            if before is not None:
                node.inputs = [before, *node.inputs[length:]]
                break
        known.setdefault(parts, node)


def _flattened(output: Node) -> Node:
    """The graph with a vector at its end: the last layers of one pixel are of a vector."""
    nodes = ancestors(output)
    reads = readers(nodes)
    tail: list[Node] = []
    node = output
    while node.op == "linear" or node.op in _OF_VALUES:
        if node is not output and len(reads[id(node)]) != 1:
            break
        if not node.is_pixel() or len(node.inputs) != 1:
            break
        tail.append(node)
        node = node.inputs[0]
    # Dropout before the first linear layer is of the vector, other functions are of the map.
    while tail and tail[-1].op not in ("linear", "dropout"):
        node = tail.pop()
    for each in nodes:
        if each.op == "linear":
            each.settings.pop("per_pixel", None)
            if each not in tail and not _is_vector(each.inputs[0]):
                each.settings["per_pixel"] = True
    if not tail:
        return output if _is_vector(output) else Node("flatten", [output], output.shape)
    if not _is_vector(tail[-1].inputs[0]):
        tail[-1].inputs = [Node("flatten", [tail[-1].inputs[0]], tail[-1].inputs[0].shape)]
    return output


def _is_vector(node: Node) -> bool:
    while node.op in _OF_VALUES or (node.op == "linear" and not node.settings.get("per_pixel", False)):
        if node.op == "linear":
            return True
        node = node.inputs[0]
    return node.op == "flatten"


def layers_of(output: Node) -> list[Layer]:
    """The layers of a spec, with the blocks that the names of the modules make."""
    nodes = ancestors(output)
    source = next(node for node in nodes if node.op == "input")
    return _named(_Blocks(nodes).sequence(source, output), "")


class _Blocks:
    """Finds blocks by dominators: the last value that all ways from the input to a node go through."""

    def __init__(self, nodes: list[Node]) -> None:
        self._order = {id(node): at for at, node in enumerate(nodes)}
        self._before: dict[int, Node] = {}
        for node in nodes:
            if node.inputs:
                found = node.inputs[0]
                for other in node.inputs[1:]:
                    found = self._common(found, other)
                self._before[id(node)] = found

    def _common(self, a: Node, b: Node) -> Node:
        while a is not b:
            if self._order[id(a)] > self._order[id(b)]:
                a = self._before[id(a)]
            else:
                b = self._before[id(b)]
        return a

    def sequence(self, source: Node, output: Node) -> list[Layer]:
        """The layers from one value to another that it goes through."""
        found: list[Layer] = []
        while output is not source:
            before = self._before[id(output)]
            found.append(self._between(before, output))
            output = before
        return found[::-1]

    def _between(self, source: Node, output: Node) -> Layer:
        if len(output.inputs) == 1:
            return output.layer()
        regions = [self._region(source, each) for each in output.inputs]
        apart = len(set().union(*regions)) == sum(len(region) for region in regions)
        if apart and sum(not region for region in regions) <= 1:
            block = self._block(source, output)
            if block is not None:
                return block
        return self._graph(source, output, set().union(*regions))

    def _region(self, source: Node, output: Node) -> set[int]:
        """The nodes between two values, and the second."""
        found: set[int] = set()
        pending = [output]
        while pending:
            node = pending.pop()
            if node is not source and id(node) not in found:
                found.add(id(node))
                pending.extend(node.inputs)
        return found

    def _block(self, source: Node, output: Node) -> Layer | None:
        """A residual, gate or branch block."""
        inputs = output.inputs
        if output.op == "add" and len(inputs) == 2 and inputs[0].shape == inputs[1].shape:
            # The shortcut is the identity, or the shorter one.
            body, shortcut = inputs
            if body is source or (shortcut is not source and len(self._region(source, shortcut)) > len(self._region(source, body))):
                body, shortcut = shortcut, body
            rest = self.sequence(source, shortcut)
            block = {"op": "residual", "body": self.sequence(source, body)}
            return {**block, "shortcut": rest} if rest else block
        if output.op == "mul" and len(inputs) == 2 and source in inputs:
            factors = inputs[1] if inputs[0] is source else inputs[0]
            if factors.shape == (source.shape[0], 1, 1) and not source.is_pixel():
                return {"op": "gate", "body": self.sequence(source, factors)}
        if output.op == "concat":
            return {"op": "branch", "branches": [self.sequence(source, each) for each in inputs]}
        return None

    def _graph(self, source: Node, output: Node, region: set[int]) -> Layer:
        """Everything between two values, node by node."""
        inside = [node for node in ancestors(output) if id(node) in region] + [output]
        names = {id(source): "input"} | {id(node): f"{node.op}{at}" for at, node in enumerate(inside)}
        nodes = [
            {"id": names[id(node)], "from": [names[id(each)] for each in node.inputs], "layer": node.layer()} for node in inside
        ]
        return {"op": "graph", "nodes": nodes}


def _inner(layer: Layer) -> list[list[Layer]]:
    """The lists of layers in a block."""
    lists = [layer[key] for key in ("layers", "body", "shortcut") if key in layer] + layer.get("branches", [])
    return [*lists, [node["layer"] for node in layer["nodes"]]] if "nodes" in layer else lists


def _leaf_names(layer: Layer) -> list[str]:
    lists = _inner(layer)
    if not lists:
        return [layer["name"]] if "name" in layer else []
    return [name for inner in lists for each in inner for name in _leaf_names(each)]


def _common_block(names: list[str]) -> list[str]:
    """The modules that all these layers are in, from the outermost."""
    blocks = [name.split(".")[:-1] for name in names]
    if not blocks:
        return []
    common = blocks[0]
    for block in blocks[1:]:
        length = next((at for at, (a, b) in enumerate(zip(common, block, strict=False)) if a != b), min(len(common), len(block)))
        common = common[:length]
    return common


def _named(layers: list[Layer], prefix: str) -> list[Layer]:
    """The layers with names within ``prefix``, those of one module together."""
    found: list[Layer] = []
    at = 0
    while at < len(layers):
        first = _first_part(layers[at], prefix)
        end = at + 1
        if first is not None:
            last = at + 1
            while end < len(layers) and _first_part(layers[end], prefix) in (first, None):
                end += 1
                # What has no name behind the last that has one stays outside.
                if _first_part(layers[end - 1], prefix) == first:
                    last = end
            end = last
        if first is not None and end > at + 1:
            block = f"{prefix}{first}."
            found.append({"op": "sequential", "name": first, "layers": _named(layers[at:end], block)})
        else:
            found.append(_renamed(layers[at], prefix))
        at = end
    return found


def _first_part(layer: Layer, prefix: str) -> str | None:
    """The module within ``prefix`` that all of a layer is in."""
    common = ".".join([*_common_block(_leaf_names(layer)), ""])
    rest = common[len(prefix) :] if common.startswith(prefix) else ""
    return rest.split(".")[0] or None


def _renamed(layer: Layer, prefix: str) -> Layer:
    """One layer with names within ``prefix``."""
    lists = _inner(layer)
    if not lists:
        return {**layer, "name": layer["name"][len(prefix) :]} if "name" in layer else layer
    common = ".".join(_common_block(_leaf_names(layer)))
    name = common[len(prefix) :] if f"{common}.".startswith(prefix) else ""
    inner = f"{prefix}{name}." if name else prefix
    renamed: Layer = {"op": layer["op"], "name": name}
    for key in ("layers", "body", "shortcut"):
        if key in layer:
            renamed[key] = _named(layer[key], inner)
    if "branches" in layer:
        renamed["branches"] = [_named(branch, inner) for branch in layer["branches"]]
    if "nodes" in layer:
        renamed["nodes"] = [{**node, "layer": _renamed(node["layer"], inner)} for node in layer["nodes"]]
    return renamed
