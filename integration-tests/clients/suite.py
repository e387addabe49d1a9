"""Small checks that run one after the other, each named; what RedRock's tests start."""

import os
import sys
import time

PORT = int(os.environ["PORT"])
PASSWORD = os.environ["PASSWORD"]
# Whether the server has scripts.
SCRIPTS = os.environ["SCRIPTS"] == "1"

_checks = []


def check(function):
    """Registers a check; it may return why it is left out."""
    _checks.append(function)
    return function


def raises(kind, call, *arguments, **named):
    """The error that a call raises; fails if it raises none."""
    try:
        result = call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


def until(condition, what):
    """Waits until a condition holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def main():
    """Runs all checks; the first that fails ends the run."""
    for function in _checks:
        began = time.monotonic()
        left_out = function()
        word = f"left out: {left_out}" if left_out else f"{time.monotonic() - began:.2f} s"
        print(f"ok {function.__name__} {word}", flush=True)
    sys.exit(0)
