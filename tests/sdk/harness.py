"""The smallest test runner that serves here: checks are functions, each result is one line, failures are told."""

import traceback


class Checks:
    def __init__(self):
        self.all = []

    def check(self, name):
        """Registers a function as the check of that name."""

        def register(function):
            self.all.append((name, function))
            return function

        return register

    def run(self, prefix):
        """Runs all; returns (passed, failed)."""
        passed, failed = 0, 0
        for name, function in self.all:
            try:
                function()
                passed += 1
            except Exception as error:  # any exception is a failed check
                failed += 1
                print(f"FAIL {prefix} {name}: {type(error).__name__}: {error}", flush=True)
                where = traceback.extract_tb(error.__traceback__)
                for frame in where:
                    if frame.filename.startswith(__file__.rsplit("/", 1)[0]):
                        print(f"     at {frame.filename.rsplit('/', 1)[1]}:{frame.lineno}: {frame.line}")
        return passed, failed


def same(got, expected, rule):
    if got != expected:
        raise AssertionError(f"{rule}: {got!r} is not {expected!r}")


def true(condition, rule):
    if not condition:
        raise AssertionError(rule)


def raises(kind, function, status=None):
    """The function must fail with an exception of that kind (and status); returns it."""
    try:
        got = function()
    except kind as error:
        found = getattr(error, "status_code", None) or getattr(error, "code", None)
        if status is not None and found != status:
            raise AssertionError(f"status {found} instead of {status}: {error!r}") from error
        return error
    raise AssertionError(f"no {kind.__name__}, but {got!r}")
