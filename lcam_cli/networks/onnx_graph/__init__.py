"""ONNX graphs: read, checked, cut at a layer, and run by onnxruntime."""
