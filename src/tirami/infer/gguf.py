"""The header of a GGUF file: metadata and tensor list, without the weights.

Read by hand because the library's reader costs 2.5 s and 188 MB for a 135 M model (it makes an array object
of every vocabulary entry) and brings numpy into the node; this takes 30 ms. The library stays the judge in
the tests. Format: spec 05 §12.7. Unlike the original, a file that does not parse to the end is refused, never
half used.
"""

import mmap
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Final, Self

from tirami.core.errors import ModelLoadError

MAGIC: Final = b"GGUF"
MAX_PAIRS: Final = 10_000
MAX_TENSORS: Final = 1_000_000
MAX_OF_BLOCK: Final = 20_000
"""Tensors in a block from somebody else; models with hundreds of layers and experts apart have some thousands."""
MAX_DIMENSIONS: Final = 4
DEFAULT_ALIGNMENT: Final = 32
_SCALARS: Final = {
    code: struct.Struct("<" + letter)
    for code, letter in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_STRING: Final = 8
_ARRAY: Final = 9
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class ArraySpan:
    """Where an array of the metadata lies; read by :meth:`Header.strings` and :meth:`Header.numbers`."""

    element: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One matrix of weights: ``kind`` is its quantisation, ``offset`` counts from the first weight."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """Everything before the weights.

    Attributes:
        path: the file; of a block that came without one, only its name.
        values: scalar metadata by key.
        arrays: array metadata by key.
        tensors: the weights' names and sizes.
        data_offset: bytes before the weights, padding included.
        block: those bytes, where there is no file.
    """

    path: Path
    values: Mapping[str, Scalar]
    arrays: Mapping[str, ArraySpan]
    tensors: tuple[Tensor, ...]
    data_offset: int
    block: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Parse the header of ``path``. Raises ``ModelLoadError`` with the reason."""
        with _mapped(path) as data:
            return cls._parsed(path, data, None)

    @classmethod
    def of_block(cls, block: bytes, name: str) -> Self:
        """The metadata in ``block``, the bytes before the weights of some file called ``name``.

        Its list of tensors says how large the model is; there are no weights to find. Raises ``ModelLoadError``.
        """
        return cls._parsed(Path(name), block, block)

    @classmethod
    def _parsed(cls, path: Path, data: mmap.mmap | bytes, block: bytes | None) -> Self:
        try:
            return cls._parse(path, _Cursor(data), block)
        except (struct.error, IndexError, OverflowError):
            raise _refused(path, "it ends inside its header") from None
        except UnicodeDecodeError:
            raise _refused(path, "its header holds text that is not UTF-8") from None
        except ValueError as error:
            raise _refused(path, str(error)) from None

    @classmethod
    def _parse(cls, path: Path, cursor: "_Cursor", block: bytes | None) -> Self:
        if cursor.take(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = cursor.number(_U32)
        if version not in (2, 3):
            raise ValueError(f"it is GGUF version {version}; 2 and 3 are known")
        tensor_count, pair_count = cursor.number(_U64), cursor.number(_U64)
        if pair_count > MAX_PAIRS or tensor_count > (MAX_TENSORS if block is None else MAX_OF_BLOCK):
            raise ValueError("its header claims absurdly many entries")
        values: dict[str, Scalar] = {}
        arrays: dict[str, ArraySpan] = {}
        for _ in range(pair_count):
            key = cursor.string()
            if key in values or key in arrays:
                raise ValueError(f"its header has {key} twice")
            kind = cursor.number(_U32)
            if kind == _ARRAY:
                arrays[key] = cursor.array()
            else:
                values[key] = cursor.scalar(kind)
        tensors = tuple(cursor.tensor() for _ in range(tensor_count))
        if block is not None:
            return cls(path, values, arrays, tensors, len(block), block)
        alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise ValueError("its alignment is not a power of two")
        end = cursor.offset + -cursor.offset % alignment
        if tensors and end + max(tensor.offset for tensor in tensors) >= len(cursor.data):
            raise ValueError("its weights are not all there")
        return cls(path, values, arrays, tensors, min(end, len(cursor.data)))

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    def text(self, key: str) -> str:
        """A text value; empty when absent."""
        value = self.values.get(key, "")
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """``<architecture>.<key>`` as a whole number, else ``<key>`` alone; 0 when absent."""
        value = self.values.get(f"{self.architecture}.{key}", self.values.get(key, 0))
        return value if isinstance(value, int) else 0

    def strings(self, key: str) -> Iterator[bytes]:
        """The elements of an array of strings; none when absent."""
        span = self.arrays.get(key)
        if span is None or span.element != _STRING:
            return
        with self._data() as data:
            offset = span.offset
            for _ in range(span.count):
                start = offset + 8
                offset = start + _U64.unpack_from(data, offset)[0]
                yield data[start:offset]

    def numbers(self, key: str) -> tuple[int, ...]:
        """The elements of an array of whole numbers; none when absent."""
        span = self.arrays.get(key)
        if span is None or span.element not in _SCALARS:
            return ()
        shape = _SCALARS[span.element]
        block = self.bytes_at(span.offset, span.count * shape.size)
        return tuple(value for (value,) in shape.iter_unpack(block))

    def bytes_at(self, offset: int, size: int) -> bytes:
        """A piece of the file."""
        with self._data() as data:
            return data[offset : offset + size]

    def _data(self) -> AbstractContextManager[mmap.mmap | bytes]:
        return _mapped(self.path) if self.block is None else nullcontext(self.block)


@dataclass(slots=True)
class _Cursor:
    """A reading position; running over the end raises ``struct.error``, ``IndexError`` or ``OverflowError``."""

    data: mmap.mmap | bytes
    offset: int = field(default=0)

    def take(self, size: int) -> bytes:
        end = self.offset + size
        if end > len(self.data):
            raise IndexError
        taken = self.data[self.offset : end]
        self.offset = end
        return taken

    def number(self, shape: struct.Struct) -> int:
        value: int = shape.unpack_from(self.data, self.offset)[0]
        self.offset += shape.size
        return value

    def string(self) -> str:
        return self.take(self.number(_U64)).decode()

    def scalar(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self.string()
        shape = _SCALARS.get(kind)
        if shape is None:
            raise ValueError(f"its header has a value of unknown type {kind}")
        return self.number(shape)

    def array(self) -> ArraySpan:
        element, count = self.number(_U32), self.number(_U64)
        span = ArraySpan(element, count, self.offset)
        if element == _STRING:
            self.offset = _after_strings(_U64.unpack_from, self.data, self.offset, count)
        elif element in _SCALARS:
            self.offset += count * _SCALARS[element].size
        else:
            raise ValueError(f"its header has an array of unknown type {element}")
        if self.offset > len(self.data):
            raise IndexError
        return span

    def tensor(self) -> Tensor:
        name = self.string()
        dimensions = self.number(_U32)
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"its tensor {name} has {dimensions} dimensions")
        shape = tuple(self.number(_U64) for _ in range(dimensions))
        return Tensor(name, shape, kind=self.number(_U32), offset=self.number(_U64))


def _after_strings(
    unpack: Callable[[mmap.mmap | bytes, int], tuple[int]], data: mmap.mmap | bytes, offset: int, count: int
) -> int:
    for _ in range(count):
        offset += 8 + unpack(data, offset)[0]
    return offset


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            if not path.is_file():
                raise _refused(path, "it is not a file")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise _refused(path, error.strerror or "it cannot be read") from error
    except ValueError:
        raise _refused(path, "it is empty") from None


def _refused(path: Path, reason: str) -> ModelLoadError:
    return ModelLoadError(f"cannot load {path.name}: {reason}", reason=reason)
