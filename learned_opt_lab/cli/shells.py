"""Tab in bash and zsh: the script that asks `learned-opt --complete`, and how it is installed."""

import os
import shlex
from pathlib import Path

from learned_opt_lab.cli.completion import SHELLS

BASH = r"""# Completion of learned-opt for bash.
_learned_opt() {
    local word quoted special=
    local -a safe=()
    COMPREPLY=()
    while IFS= read -r word; do
        printf -v quoted %q "$word"
        COMPREPLY+=("$word")
        safe+=("$quoted")
        [[ $word == */* || $word != "$quoted" ]] && special=1
    done < <("$1" --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    # Readline quotes names of folders, and goes on inside of them. Where it cannot be asked to, as
    # in bash 3, they are inserted quoted: a folder may be called `$(...)`.
    if [[ $special ]]; then
        compopt -o filenames 2>/dev/null || COMPREPLY=("${safe[@]}")
    fi
}
complete -o bashdefault -o default -F _learned_opt learned-opt
"""
ZSH = r"""# Completion of learned-opt for zsh.
_learned_opt() {
    local -a found
    found=(${(f)"$("$words[1]" --complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then
        compadd -- $found
    else
        _files
    fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
compdef _learned_opt learned-opt
"""
_SCRIPTS = dict(zip(SHELLS, (BASH, ZSH), strict=True))


def script(shell: str) -> str:
    """What the shell reads."""
    return _SCRIPTS[shell]


def chosen(arguments: list[str]) -> str:
    """The shell that is named, or else the one of $SHELL.

    Raises:
      ValueError: it is neither bash nor zsh.
    """
    shell = arguments[0] if arguments else Path(os.environ.get("SHELL", "")).name
    if len(arguments) > 1 or shell not in _SCRIPTS:
        told = " ".join(arguments) if arguments else f"SHELL={os.environ.get('SHELL', '')}"
        raise ValueError(f"completion is for {' or '.join(SHELLS)}, got {told}; name one of them")
    return shell


def install(shell: str) -> tuple[Path, Path]:
    """Writes the script, and a line that reads it at the end of the shell's start-up file.

    A second time changes nothing but the script.

    Returns:
      The script and the start-up file.

    Raises:
      OSError: either cannot be written.
    """
    from learned_opt.disk import files

    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    path = data / "learned-opt" / f"completion.{shell}"
    startup = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    startup = startup if shell == "zsh" else home / ".bashrc"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, script(shell))
    line = os.fsencode(f"source {shlex.quote(str(path))}")
    # In bytes: the file is of whatever encoding its user has.
    before = startup.read_bytes() if startup.exists() else b""
    if line not in before.splitlines():
        # Added in place: the file may be a link to where its user keeps it.
        with startup.open("ab") as stream:
            stream.write((b"" if before.endswith(b"\n") or not before else b"\n") + line + b"\n")
    return path, startup
