"""Settings of the C library's allocator. They do nothing where it is not glibc."""

import ctypes
from collections.abc import Callable

# Names of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_free_memory() -> None:
    """Do not give freed memory back to the kernel, as allocators for servers do.

    On a CPU, large tensors are otherwise mapped and unmapped by every operator, and in
    a virtual machine the page faults may cost more than the arithmetic.
    """
    mallopt: Callable[[int, int], int] | None
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def return_free_memory() -> None:
    """Give freed memory back to the kernel, so that it counts when it is used again."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
