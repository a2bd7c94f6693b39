"""Networks for other runtimes: export to ONNX."""

from .export import Exported, ExportError, export_onnx

__all__ = ["ExportError", "Exported", "export_onnx"]
