"""An `ArgumentParser` whose errors are one line that names the command and what helps."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ivlm_core.errors import printable


class OneLineParser(argparse.ArgumentParser):
    """Refuses wrong arguments in one line, with exit status 2; the parsers of its subcommands do the same.

    `argparse` prints the whole usage before each error, and lets the outermost parser tell of options that a
    subcommand does not know.
    """

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, and end."""
        told = printable(message.removeprefix("argument "))
        self.exit(2, f"{self.prog}: {told} (see '{self.prog} --help')\n")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As `argparse` does, but nothing may be left over, so that each command speaks of its own options."""
        words = list(sys.argv[1:] if args is None else args)
        # A misspelt option is told before what it leaves missing.
        for word in words if not any(action.nargs == argparse.REMAINDER for action in self._actions) else ():
            # What follows a subcommand's name is for that to judge.
            if word == "--" or (self._subparsers and not word.startswith("-")):
                break
            self._check_known(word)
        found, left = super().parse_known_args(words, namespace)
        if left:
            self.error(f"unrecognized argument {left[0]}")
        return found, left

    def _check_known(self, word: str) -> None:
        name = word.partition("=")[0]
        known = [key for key in self._option_string_actions if key.startswith("--")]
        # As `argparse` sees it: what holds a space is no option, and the beginning of an option stands for it.
        if not name.startswith("--") or " " in word or any(key.startswith(name) for key in known):
            return
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
        # Of options that are equally near, the one with the same letters was meant: --model, not --mode, by --modle.
        near.sort(key=lambda key: sorted(key) != sorted(name))
        self.error(f"unrecognized option {name}" + (f", did you mean {near[0]}?" if near else ""))
