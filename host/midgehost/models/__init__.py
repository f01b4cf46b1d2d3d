"""From a .tflite file to a plan: reader, operators (one a file), memory planner, numpy reference.

Knows nothing of arches, boards' cores or ports; what machine code costs and needs belongs to `codegen`.
"""
