"""The environment in which git may touch what strangers wrote: nothing of theirs runs, nobody is asked.

Tried on repositories with hooks, filters, submodules, LFS pointers, links and odd names. The token never gets
here.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from collector_error import CollectorError

# What a collector's git may inherit of the GIT_* variables: which git, and a company's certificates.
INHERITED = {
    "GIT_EXEC_PATH",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_PYTHON_REFRESH",
    "GIT_PYTHON_GIT_EXECUTABLE",
}
TOKENS = {"GITHUB_TOKEN", "GH_TOKEN", "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"}

CONFIGURATION = {
    "core.symlinks": "false",
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.protectNTFS": "true",
    "core.protectHFS": "true",
    "credential.helper": "",
    "submodule.recurse": "false",
    "fetch.negotiationAlgorithm": "noop",  # a shallow clone has nothing to offer in exchange
    "core.bigFileThreshold": "16m",  # what is larger goes through git's memory in pieces
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.version": "2",
    "http.lowSpeedLimit": "1000",  # bytes a second: a stalled transfer ends after half a minute
    "http.lowSpeedTime": "30",
    "safe.directory": "*",  # a repository of another user of this machine may be read: nothing in it is run
    "advice.detachedHead": "false",
}


def git_environment(home: Path, *, allow_http: bool) -> dict[str, str]:
    """Variables for every git process; home is an empty folder that stands in for the user's own.

    The user's own holds a .netrc whose passwords git would send; allow_http is for servers on this machine.
    """
    settings = {"GIT_CONFIG_COUNT": str(len(CONFIGURATION))}
    for number, (key, value) in enumerate(CONFIGURATION.items()):
        settings |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return settings | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_ALLOW_PROTOCOL": "http:https" if allow_http else "https",
        "GIT_TEMPLATE_DIR": "",
        "GIT_OPTIONAL_LOCKS": "0",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "LC_ALL": "C",  # its messages are read
        "LANGUAGE": "C",
    }


def withhold_from_children() -> None:
    """Take tokens and git's settings out of this process's environment, so that no child inherits them."""
    for name in list(os.environ):
        if name in TOKENS or (name.startswith("GIT_") and name not in INHERITED):
            del os.environ[name]


def git_version() -> tuple[int, int] | None:
    """The version of the git that runs here, None where there is none: (2, 39)"""
    try:
        result = subprocess.run(["git", "version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    match = re.search(r"(\d+)\.(\d+)", result.stdout)
    return (int(match[1]), int(match[2])) if match else None


def check_git() -> None:
    """Raise CollectorError unless git is there and new enough for configuration by environment."""
    version = git_version()
    if version is None:
        raise CollectorError(
            "git is not installed: install it (your package manager, git-scm.com) and run this again"
        )
    if version < (2, 31):
        raise CollectorError(
            f"git {version[0]}.{version[1]} is too old: install 2.39 or newer and run this again"
        )
