"""A reader of pickled arrays that cannot run code: for the CIFAR batches of Python 2 and 3.

A pickle is a program; reading one with `pickle.load` runs it. This reader knows six names, and
even those are functions of this file, so that nothing outside is ever called.
"""

import codecs
import io
import pickle
import struct
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

_DTYPES = {"u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "f4", "f8"}
_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)


def load_arrays(content: bytes, name: str) -> dict[str, Any]:
    """Read a pickled dictionary of arrays, lists, numbers and texts.

    Parameters
    ----------
    content
        The file's bytes, any pickle protocol, written by Python 2 or 3.
    name
        The file's name, for messages.

    Raises
    ------
    ValueError
        If the file asks for any other object (the message names it), is damaged, or is no
        dictionary.

    Examples
    --------
    >>> load_arrays(pickle.dumps({b"labels": [3, 1]}), "toy")
    {'labels': [3, 1]}
    >>> load_arrays(pickle.dumps(print), "evil")
    Traceback (most recent call last):
    ValueError: 'evil' asks for 'builtins.print', which is not allowed: it may run code
    """
    try:
        found = _Unpickler(content).load()
        if not isinstance(found, dict):
            raise _Refused(f"holds no dictionary but {type(found).__name__}")
        return {_text(key): _plain(value) for key, value in found.items()}
    except _Refused as error:
        raise ValueError(f"{name!r} {error}") from None
    except KeyError as error:
        raise ValueError(f"{name!r} has an instruction that arrays do not need: {error}") from error
    except _PICKLE_ERRORS as error:
        message = str(error) or type(error).__name__
        raise ValueError(f"{name!r} is damaged or no pickle of arrays: {message}") from error


class _Refused(Exception):
    """What the file asks for and does not get, in our words."""


class _Dtype:
    """Stands for `numpy.dtype`: a name out of a short list and a byte order."""

    def __init__(self, name: str | bytes, align: object = False, copy: object = False) -> None:
        self.name, self.order = _text(name), "|"
        if self.name not in _DTYPES:
            raise _Refused(f"has an array of dtype {self.name!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            raise _Refused(f"has an array of byte order {order!r}")
        self.order = order

    def numpy(self) -> np.dtype:
        """Return the dtype that this stands for."""
        return np.dtype(self.order + self.name)


class _Array:
    """Stands for `numpy.ndarray`: made empty, filled by its state."""

    def __init__(self) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.fill(raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw: bytes | str, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        """Take the array's bytes."""
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        values = np.frombuffer(raw, dtype.numpy())
        self.values = values.reshape(shape, order="F" if _text(order) == "F" else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    if kind is not _array_type:
        raise _Refused("reconstructs something else than an array")
    return _Array()


def _array_type(*args: object) -> NoReturn:
    raise _Refused("makes an array in an unusual way")


def _frombuffer(raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.fill(raw, dtype, shape, order)
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if _text(encoding) != "latin1":
        raise _Refused(f"encodes a text as {encoding!r}")
    return codecs.latin_1_encode(text)[0]


#: The only names a file may ask for, and what it gets.
_ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _array_type,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}

#: Instructions that plain data need; those that make or change other objects are left out.
_INSTRUCTIONS = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG "
    "LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 "
    "TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS GET BINGET LONG_BINGET "
    "PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD"
).split()


#: The standard library's reader written in Python.
_PYTHON_READER: Any = pickle._Unpickler


class _Unpickler(_PYTHON_READER):
    """The standard library's Python reader with fewer instructions and names.

    The reader in Python and not the one in C: its table of remembered objects is a dictionary, so
    a damaged file cannot ask for gigabytes by one large index.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._size = len(content)

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"asks for '{module}.{name}', which is not allowed: it may run code")
        return _ALLOWED[module, name]

    def _load_build(self) -> None:
        if not isinstance(self.stack[-2], (_Array, _Dtype)):
            raise _Refused("changes an object that is no array")
        _PYTHON_READER.load_build(self)

    def _load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        if size > self._size:
            raise _Refused("is truncated")
        self.append(self.read(size))

    def _check_keys(self, keys: list[object]) -> None:
        if not all(isinstance(key, str | bytes) for key in keys):
            raise _Refused("has a dictionary whose keys are not texts")

    def _load_dict(self) -> None:
        self._check_keys(self.stack[::2])
        _PYTHON_READER.load_dict(self)

    def _load_setitem(self) -> None:
        self._check_keys([self.stack[-2]])
        _PYTHON_READER.load_setitem(self)

    def _load_setitems(self) -> None:
        self._check_keys(self.stack[::2])
        _PYTHON_READER.load_setitems(self)

    dispatch = {
        getattr(pickle, name)[0]: _PYTHON_READER.dispatch[getattr(pickle, name)[0]]
        for name in _INSTRUCTIONS
    } | {
        pickle.BUILD[0]: _load_build,
        pickle.BYTEARRAY8[0]: _load_bytearray8,
        pickle.DICT[0]: _load_dict,
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
    }


def _text(value: Any) -> str:
    """Return a text that Python 2 may have written as bytes."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise _Refused(f"has a {type(value).__name__} in the place of a text")
    return value


def _plain(value: Any) -> Any:
    """Return the array that a stand-in holds."""
    return value.values if isinstance(value, _Array) else value
