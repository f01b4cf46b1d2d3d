"""Node files: read, checked against the board and the models, compiled to the JSON that `midge/node.py` runs."""

from __future__ import annotations

from midgehost.nodes.compile import CompiledNode, compile_node

__all__ = ["CompiledNode", "compile_node"]
