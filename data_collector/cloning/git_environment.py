"""The environment in which git reads a stranger's repository: it runs none of its code, asks no password.

Tested on repositories with hooks, filters, submodules, LFS pointers, links and odd names. The user's token is
never part of it.
"""

from __future__ import annotations

import os
import re
import subprocess
from ipaddress import ip_address
from pathlib import Path

from collector_cli import UserError

# The GIT_* variables that git may inherit: which git, and a company's certificates.
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
    "fetch.negotiationAlgorithm": "noop",  # a shallow clone has no history to compare
    "core.bigFileThreshold": "16m",  # git streams larger files instead of loading them
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.version": "2",
    "http.lowSpeedLimit": "1000",  # bytes a second: a stalled transfer ends after half a minute
    "http.lowSpeedTime": "30",
    "safe.directory": "*",  # reads another user's repository too: none of its code is run
    "advice.detachedHead": "false",
}


def is_loopback(host: str | None) -> bool:
    """Whether a host name is this machine: "127.0.0.1" -> True"""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def git_environment(home: Path, *, allow_http: bool) -> dict[str, str]:
    """Variables for every git process; home is an empty folder in place of the user's.

    The user's may hold a .netrc, whose passwords git would send. allow_http is for servers on this machine.
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
        "LC_ALL": "C",  # we read its messages
        "LANGUAGE": "C",
    }


def withhold_from_children() -> None:
    """Remove tokens and git's settings from this process's environment: no child inherits them."""
    for name in list(os.environ):
        if name in TOKENS or (name.startswith("GIT_") and name not in INHERITED):
            del os.environ[name]


def git_version() -> tuple[int, int] | None:
    """The version of the installed git, e.g. (2, 39); None without git."""
    try:
        result = subprocess.run(["git", "version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    match = re.search(r"(\d+)\.(\d+)", result.stdout)
    return (int(match[1]), int(match[2])) if match else None


def check_git() -> None:
    """Raise UserError unless git is installed and new enough for configuration by environment."""
    version = git_version()
    if version is None:
        raise UserError(
            "git is not installed: install it (your package manager, git-scm.com) and run this again"
        )
    if version < (2, 31):
        raise UserError(f"git {version[0]}.{version[1]} is too old: install 2.39 or newer and run this again")
