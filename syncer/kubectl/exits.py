"""Exit codes of the plugin's own, beside those of commands, and the error that carries one."""

from __future__ import annotations

from typing import Final

#: What was asked for was not done.
DIFFERENT: Final = 1
USAGE: Final = 2
#: There is no such object.
ABSENT: Final = 3
#: The API server does not answer any more.
AWAY: Final = 4
#: The account may not.
REFUSED: Final = 6
#: Nobody was asked: no kubectl, no release, no pod, no right, or the connection did not come about.
NOT_ASKED: Final = 8
#: Several releases might be meant.
SEVERAL: Final = 9
INTERRUPTED: Final = 130

EPILOG: Final = (
    "exit codes: those of the command in the pod (0 success, nothing to report; 1 something was found, or"
    " the request was refused; 2 wrong usage, configuration or input; 3 no such notification; 4 Redis or"
    " the API server does not answer; 5 something could not be read or compared; 6 Redis or the API server"
    " refuses the account; 7 of send: not ended within --timeout), and 8 no command was run: no kubectl,"
    " release, running pod, permission or connection; 9 several releases match, and it lists them"
)


class PluginError(Exception):
    """The plugin ends with this message and this exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
