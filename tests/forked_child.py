"""Starts the child that reads Matlab files by a fork, which spares its imports.

The same code runs behind the same limits; ``tests/test_matfiles.py`` starts it as the product does.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys

from mianet.data import matfiles, matlab_child


class Forked:
    """What ``matfiles`` uses of a ``Popen``."""

    def __init__(self, request, errors):
        reader, writer = os.pipe()
        self.code = None
        self.pid = os.fork()
        if not self.pid:
            faulthandler.disable()  # some files are meant to crash it
            os.close(reader)
            os.dup2(writer, 1)
            os.dup2(errors.fileno(), 2)
            sys.argv[1:] = [json.dumps(request)]
            sys.stdout = os.fdopen(1, "w")
            matlab_child.main()
            sys.stdout.flush()
            os._exit(0)
        os.close(writer)
        self.stdout = os.fdopen(reader, "rb")

    def wait(self):
        if self.code is None:
            status = os.waitpid(self.pid, 0)[1]
            self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def kill(self):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stdout.close()
        self.wait()


def use():
    """Let this process read Matlab files so from now on."""
    matfiles._start = lambda request, path, errors: Forked(request, errors)


def in_a_fork(action):
    """Do something in a process of its own."""
    pid = os.fork()
    if not pid:
        action()
        os._exit(0)
    os.waitpid(pid, 0)
