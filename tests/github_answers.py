"""GitHub's own description of its API: whole results of a search, and the check of every answer.

github_openapi/search_repositories.json is its part about the search of repositories, without texts and
examples; its source and licence lie beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DESCRIPTION = Path(__file__).parent / "github_openapi" / "search_repositories.json"
API = "https://api.github.com"


@cache
def _description() -> dict[str, Any]:
    described: dict[str, Any] = json.loads(DESCRIPTION.read_text(encoding="utf-8"), object_hook=_nullable)
    return described


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0's `nullable` as JSON Schema writes it."""
    if schema.pop("nullable", False) is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema


@cache
def _validator(status: int) -> Draft202012Validator:
    schema = _description()["responses"][str(status)]
    return Draft202012Validator({**schema, "components": _description()["components"]})


def check_answer(status: int, body: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError unless GitHub could answer this; of many results two are checked."""
    if str(status) in _description()["responses"]:
        items = {"items": body["items"][:1] + body["items"][-1:]} if "items" in body else {}
        _validator(status).validate({**body, **items})


def check_question(asked: Mapping[str, str]) -> None:
    """Raise ValidationError or KeyError unless these parameters are among those that GitHub describes."""
    described = {parameter["name"]: parameter["schema"] for parameter in _description()["parameters"]}
    for name, value in asked.items():
        is_number = described[name]["type"] == "integer"
        Draft202012Validator(described[name]).validate(int(value) if is_number else value)


TEMPLATED_URLS = (
    "keys collaborators issue_events assignees branches blobs git_tags git_refs trees statuses commits"
    " git_commits comments issue_comment contents compare archive issues pulls milestones notifications"
    " labels releases"
).split()
PLAIN_URLS = (
    "forks teams hooks events tags languages stargazers contributors subscribers subscription merges"
    " downloads deployments"
).split()
USER_URLS = (
    "followers following gists starred subscriptions organizations repos events received_events".split()
)


def whole_result(brief: dict[str, Any]) -> dict[str, Any]:
    """A result with all that GitHub sends of a repository, around the few fields that a test chooses."""
    owner, _, name = str(brief["full_name"]).partition("/")
    url = f"{API}/repos/x/{brief['id']}"
    counts = {
        "forks": brief["forks_count"],
        "watchers": brief["stargazers_count"],
        "watchers_count": brief["stargazers_count"],
        "open_issues": 0,
        "open_issues_count": 0,
    }
    flags = {f"has_{what}": False for what in "issues projects pages wiki downloads".split()}
    return {
        "node_id": f"R_{brief['id']}",
        "name": name,
        "owner": _owner(owner),
        "private": False,
        "html_url": f"https://github.com/x/{brief['id']}",
        "description": None,
        "url": url,
        "homepage": None,
        "language": "Python",
        "default_branch": "main",
        "score": 1.0,
        "git_url": f"git://github.com/x/{brief['id']}.git",
        "ssh_url": f"git@github.com:x/{brief['id']}.git",
        "svn_url": f"https://github.com/x/{brief['id']}",
        "mirror_url": None,
        "archived": False,
        "disabled": False,
        "visibility": "public",
        "topics": [],
        **counts,
        **flags,
        **{f"{what}_url": f"{url}/{what}" for what in PLAIN_URLS},
        **{f"{what}_url": f"{url}/{what}{{/number}}" for what in TEMPLATED_URLS},
        **brief,
    }


def _owner(login: str) -> dict[str, Any]:
    url = f"{API}/users/x"
    return {
        "login": login,
        "id": 1,
        "node_id": "U_1",
        "avatar_url": "https://avatars.githubusercontent.com/u/1",
        "gravatar_id": "",
        "url": url,
        "html_url": "https://github.com/x",
        "type": "User",
        "site_admin": False,
        **{f"{what}_url": f"{url}/{what}" for what in USER_URLS},
    }


def license_named(spdx_id: str) -> dict[str, Any]:
    """The licence of a result: "MIT" """
    key = spdx_id.lower()
    url = f"{API}/licenses/{key}"
    return {"key": key, "name": spdx_id, "spdx_id": spdx_id, "url": url, "node_id": f"L_{key}"}
