"""ONNX models: manifest, Hugging Face layout, sessions, pre- and post-processing."""

from beam_moderation.models.classifier import OnnxModel
from beam_moderation.models.handler import JudgeHandler, model_handler
from beam_moderation.models.huggingface import Folder, manifest_of
from beam_moderation.models.manifest import Input, Manifest, Output
from beam_moderation.models.network import ON_CPU, ON_GPU, ModelFile, Network, Runtime
from beam_moderation.models.tensor import Tensor
from beam_moderation.preparations import Preparation

__all__ = [
    "ON_CPU",
    "ON_GPU",
    "Folder",
    "Input",
    "JudgeHandler",
    "Manifest",
    "ModelFile",
    "Network",
    "OnnxModel",
    "Output",
    "Preparation",
    "Runtime",
    "Tensor",
    "manifest_of",
    "model_handler",
]
