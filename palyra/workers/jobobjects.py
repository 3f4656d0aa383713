"""Windows job objects: whatever a worker starts is in its job, and ends with it.

Written after the documentation of the Windows API and tested against a stand-in of it only.
"""

from __future__ import annotations

import ctypes
from typing import Any

from palyra.workers.killing import Child, Tree, reap, settled

_KILL_ON_CLOSE = 0x2000
_BASIC_ACCOUNTING = 1
_EXTENDED_LIMITS = 9
_KILLED = 1


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", ctypes.c_uint32),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", ctypes.c_uint32),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", ctypes.c_uint32),
        ("SchedulingClass", ctypes.c_uint32),
    )


class _ExtendedLimits(ctypes.Structure):
    _fields_ = (
        ("Basic", _BasicLimits),
        ("IoCounters", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    )


class _Accounting(ctypes.Structure):
    _fields_ = (
        ("TotalUserTime", ctypes.c_int64),
        ("TotalKernelTime", ctypes.c_int64),
        ("ThisPeriodTotalUserTime", ctypes.c_int64),
        ("ThisPeriodTotalKernelTime", ctypes.c_int64),
        ("TotalPageFaultCount", ctypes.c_uint32),
        ("TotalProcesses", ctypes.c_uint32),
        ("ActiveProcesses", ctypes.c_uint32),
        ("TotalTerminatedProcesses", ctypes.c_uint32),
    )


class JobObjects:
    """Workers in job objects, which also end with this process."""

    level = "job objects"

    def __init__(self, kernel32: Any) -> None:
        self._kernel32 = kernel32

    @classmethod
    def open(cls) -> JobObjects:
        """With the system's own library."""
        kernel32 = getattr(ctypes, "WinDLL")("kernel32", use_last_error=True)  # noqa: B009
        kernel32.CreateJobObjectW.restype = ctypes.c_void_p
        return cls(kernel32)

    def enclose(self, child: Child, mark: str) -> Tree:
        """Put it into a job of its own; without one it is killed alone."""
        job = self._kernel32.CreateJobObjectW(None, None)
        if not job:
            return JobTree(child, self._kernel32, None)
        limits = _ExtendedLimits()
        limits.Basic.LimitFlags = _KILL_ON_CLOSE
        handle = ctypes.c_void_p(job)
        self._kernel32.SetInformationJobObject(
            handle, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
        )
        process = ctypes.c_void_p(int(getattr(child, "_handle", 0)))
        if not self._kernel32.AssignProcessToJobObject(handle, process):
            self._kernel32.CloseHandle(handle)
            return JobTree(child, self._kernel32, None)
        return JobTree(child, self._kernel32, handle)

    def tend(self) -> None:
        """Nobody is adopted."""


class JobTree:
    """Everything in one job; the worker alone where there is none."""

    def __init__(self, child: Child, kernel32: Any, job: ctypes.c_void_p | None) -> None:
        self._child = child
        self._kernel32 = kernel32
        self._job = job

    def exited(self, timeout_s: float) -> bool:
        """The job keeps the rest together also when the worker itself has ended."""
        return reap(self._child, timeout_s)

    def kill(self, timeout_s: float) -> bool:
        """Whether the job counts no active process."""
        job = self._job
        if job is None:
            self._child.kill()
            return reap(self._child, timeout_s)
        self._kernel32.TerminateJobObject(job, _KILLED)
        gone = settled(lambda: self._active(job) == 0, timeout_s)
        gone = reap(self._child, timeout_s) and gone
        self._kernel32.CloseHandle(job)
        return gone

    def _active(self, job: ctypes.c_void_p) -> int:
        facts = _Accounting()
        answered = self._kernel32.QueryInformationJobObject(
            job, _BASIC_ACCOUNTING, ctypes.byref(facts), ctypes.sizeof(facts), None
        )
        return facts.ActiveProcesses if answered else 1
