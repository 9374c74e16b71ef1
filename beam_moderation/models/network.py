"""An ONNX file, checked against its hash, as a function from prepared pixels to output values."""

import dataclasses
import functools
import hashlib
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import fsspec
import numpy as np
import numpy.typing as npt
import onnxruntime

from beam_moderation import errors
from beam_moderation.models.once import Once
from beam_moderation.models.tensor import Tensor
from beam_moderation.preparations import Size

CPU = "CPUExecutionProvider"
GPU = "CUDAExecutionProvider"

_OPTIMISATION = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_ELEMENT_TYPES = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "uint8": "tensor(uint8)",
}


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How onnxruntime runs a model; picklable, which its own `SessionOptions` are not.

    The defaults are for a CPU whose cores each make a call of their own. Measured with a
    MobileNetV2 on two cores: parallel calls of one thread and one frame do 169 images a second in
    210 MB; in batches of 32 it is 145 in 868 MB, and one call with both cores does 129.

    Attributes:
      execution_providers: onnxruntime's names, the preferred first.
      threads: threads inside one call (`intra_op_num_threads`).
      optimisation: how far onnxruntime rewrites the graph.
      arena: whether freed memory is kept for the next call.
      batch_size: frames a call; None: 1 on a CPU, 64 on a GPU.
    """

    execution_providers: tuple[str, ...] = (CPU,)
    threads: int = 1
    optimisation: Literal["none", "basic", "extended", "all"] = "all"
    arena: bool = True
    batch_size: int | None = None

    @property
    def max_batch(self) -> int:
        """Frames a call."""
        return self.batch_size or (64 if GPU in self.execution_providers else 1)

    def check(self) -> None:
        """Refuses execution providers that the installed onnxruntime does not have.

        Raises:
          ConfigurationError: one is missing.
        """
        for name in self.execution_providers:
            if name not in onnxruntime.get_available_providers():
                hint = "; install beam-moderation[gpu] in place of onnxruntime" * (name == GPU)
                raise errors.ConfigurationError(f"this onnxruntime has no {name}{hint}")

    def options(self) -> onnxruntime.SessionOptions:
        """The session options: one call never spins on a core that another call needs."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = _OPTIMISATION[self.optimisation]
        options.enable_cpu_mem_arena = self.arena
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options


ON_CPU = Runtime()
ON_GPU = Runtime((GPU, CPU))
"""The default."""


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """An ONNX file and its hash.

    It is read into memory as a whole, hashed, and handed to onnxruntime as bytes, so what was
    checked is what runs. Limits: 2 GB, protobuf's own; weights beyond that are `external`, of which
    onnxruntime is shown a checked copy in a temporary folder that nobody else can write to. Each
    process reads the file once; a `filecache::` URL of fsspec's keeps one copy a machine.

    Attributes:
      url: fsspec URL.
      sha256: 64 hexadecimal digits.
      external: files of weights that the model refers to, by the name that it uses; they lie in
        the model's folder. The value is the file's SHA-256.
    """

    url: str
    sha256: str
    external: tuple[tuple[str, str], ...] = ()

    def read(self) -> bytes:
        """The bytes.

        Raises:
          ConfigurationError: the file cannot be read, or is another than expected.
        """
        return _read_checked(self.url, self.sha256)

    def write_external(self, to: str) -> None:
        """Writes each file of weights into a folder.

        Raises:
          ConfigurationError: as `read`.
        """
        folder = self.url.rpartition("/")[0]
        for name, sha256 in self.external:
            copy = pathlib.Path(to, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(_read_checked(f"{folder}/{name}" if folder else name, sha256))


def read_bytes(url: str) -> bytes:
    """The bytes at an fsspec URL of the operator's.

    Raises:
      ConfigurationError: they cannot be read.
    """
    try:
        with fsspec.open(url, "rb") as file:
            return bytes(file.read())
    except (OSError, ValueError, ImportError) as error:
        raise errors.ConfigurationError(f"cannot read {url}: {error}") from error


def _read_checked(url: str, sha256: str) -> bytes:
    content = read_bytes(url)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise errors.ConfigurationError(f"{url} has sha256 {found}, expected {sha256}")
    return content


class _Session:
    """A session that weak references can hold."""

    def __init__(self, file: ModelFile, runtime: Runtime) -> None:
        runtime.check()
        with tempfile.TemporaryDirectory() as weights:
            file.write_external(weights)
            self.inference = _inference(file, weights, runtime)
        first = runtime.execution_providers[0]
        if first not in self.inference.get_providers():
            raise errors.ConfigurationError(f"{first} does not start on this machine")


def _inference(file: ModelFile, weights: str, runtime: Runtime) -> onnxruntime.InferenceSession:
    """The session of a model.

    Args:
      weights: the folder of the files of weights; where it was not named, they would be read from
        the working directory, pinned or not.
    """
    options = runtime.options()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", weights
    )
    content = file.read()
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=list(runtime.execution_providers)
        )
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise errors.ConfigurationError(f"cannot load {file.url}: {reason}") from error


_sessions: Once[_Session] = Once()


class Network:
    """Runs prepared pixels through an ONNX model. Picklable at all times; `run` is thread-safe.

    Args:
      file: the model, with exactly one input.
      size: width and height of its input in pixels.
      tensor: what its input is made of.
      runtime: how it runs.
      output: the name of the output to give; None: the first.
    """

    def __init__(
        self, file: ModelFile, size: Size, tensor: Tensor, runtime: Runtime, output: str | None
    ) -> None:
        self.file = file
        self.size = size
        self.tensor = tensor
        self.runtime = runtime
        self.output = output
        self.values_a_frame = 0
        """How many values the output has for one frame; known after `load`."""
        self._session: _Session | None = None

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_session": None}

    def load(self) -> None:
        """Makes `run` ready in this process, with one run to warm up.

        Raises:
          ConfigurationError: the model cannot be read, or does not take what `tensor` makes.
        """
        if self._session is not None:
            return
        key = (self.file, self.runtime)
        session = _sessions.get(key, lambda: _Session(self.file, self.runtime))
        self._check(session.inference)
        self._session = session
        width, height = self.size
        try:
            warm = self._call([np.zeros((height, width, 3), np.uint8)])
        except errors.JudgeError as error:
            self._session = None
            raise errors.ConfigurationError(f"{self.file.url}: {error}") from error
        self.values_a_frame = warm[0].size

    def run(self, frames: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """The model's output for each frame, `float32[frames, ...]`.

        A model with a batch axis of fixed length is run in batches of that length, the last one
        filled up.

        Args:
          frames: `uint8[height, width, 3]` each.

        Raises:
          JudgeError: the model fails, or an output is not finite.
        """
        assert self._session is not None, "load() first"
        step = self._fixed_batch or self.runtime.max_batch
        parts = []
        for start in range(0, len(frames), step):
            chunk = frames[start : start + step]
            parts.append(self._call(chunk)[: len(chunk)])
        values = np.concatenate(parts) if len(parts) > 1 else parts[0]
        if not np.isfinite(values).all():
            raise errors.JudgeError("the model's output is not finite")
        return values

    def _call(self, frames: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        assert self._session is not None
        inference = self._session.inference
        feed = {inference.get_inputs()[0].name: self._batch(frames)}
        output = self.output or inference.get_outputs()[0].name
        try:
            values = inference.run([output], feed)[0]
        except Exception as error:
            raise errors.JudgeError(str(error).splitlines()[0]) from error
        values = np.asarray(values, np.float32)
        if values.ndim < 1 or values.shape[0] != (self._fixed_batch or len(frames)):
            raise errors.JudgeError(
                f"the output {output} of shape {values.shape} has no batch axis"
            )
        return values

    def _batch(self, frames: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[Any]:
        shape = self.tensor.shape(self._fixed_batch or len(frames), self.size)
        batch = np.zeros(shape, np.uint8 if self.tensor.dtype == "uint8" else np.float32)
        for place, pixels in zip(batch, frames, strict=False):
            self.tensor.fill(place, pixels)
        return batch.astype(np.float16) if self.tensor.dtype == "float16" else batch

    @functools.cached_property
    def _fixed_batch(self) -> int | None:
        """The length of the batch axis, where the model fixes it."""
        assert self._session is not None
        length = self._session.inference.get_inputs()[0].shape[0]
        return length if isinstance(length, int) and length > 0 else None

    def _check(self, inference: onnxruntime.InferenceSession) -> None:
        inputs = inference.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(found.name for found in inputs)
            self._refuse(f"expected one input, the model has {len(inputs)}: {names}")
        if inputs[0].type != _ELEMENT_TYPES[self.tensor.dtype]:
            self._refuse(f"input.dtype is {self.tensor.dtype}, the model takes {inputs[0].type}")
        wanted = self.tensor.shape(1, self.size)[1:]
        found = inputs[0].shape
        if len(found) != 4 or not all(map(_agree, found[1:], wanted)):
            self._refuse(f"input.size and layout make (N, {wanted}), the model takes {found}")
        outputs = [found.name for found in inference.get_outputs()]
        if self.output is not None and self.output not in outputs:
            self._refuse(f"output.name is {self.output}, the model has {', '.join(outputs)}")

    def _refuse(self, reason: str) -> None:
        raise errors.ConfigurationError(f"{self.file.url}: {reason}")


def _agree(axis: Any, length: int) -> bool:
    """Whether an axis of the model, named or of fixed length, takes `length`."""
    return not isinstance(axis, int) or axis in (length, -1)
