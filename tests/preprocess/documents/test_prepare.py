"""The cache key of prepared files: it depends on every rule for one file, and on no other module of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from documents.prepare import Rules, rules_digest
from project import PROJECT

DOCUMENTS = PROJECT / "preprocess" / "documents"


def in_python(folder: Path, code: str) -> Any:
    """What a new interpreter, with that folder of packages first on its path, prints as JSON."""
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=120)
    return json.loads(ended.stdout)


def test_a_change_of_any_module_of_documents_changes_the_key(tmp_path: Path) -> None:
    shutil.copytree(DOCUMENTS, tmp_path / "documents", ignore=shutil.ignore_patterns("__pycache__"))
    digests = in_python(
        tmp_path,
        "import json\n"
        "from pathlib import Path\n"
        "from documents import prepare\n"
        "digests = [prepare.rules_digest(prepare.Rules())]\n"
        "for module in sorted(Path(prepare.__file__).parent.glob('*.py')):\n"
        "    with module.open('a') as source:\n"
        "        source.write('# changed\\n')\n"
        "    digests.append(prepare.rules_digest(prepare.Rules()))\n"
        "print(json.dumps(digests))\n",
    )
    assert digests[0] == rules_digest(Rules())
    assert len(digests) == len(set(digests)) == 1 + len(list(DOCUMENTS.glob("*.py")))


def test_preparing_a_file_loads_no_module_of_ours_from_elsewhere() -> None:
    loaded = in_python(
        PROJECT / "preprocess",
        "import json, sys\n"
        "from documents.prepare import Prepared, Rules, prepare_source\n"
        "source = b'# SPDX-License-Identifier: MIT\\nowner = \"ann@python.org\"\\nprint(owner, owner)\\n'\n"
        "assert isinstance(prepare_source(source, Rules(decontaminate=True, verify=True)), Prepared)\n"
        "print(json.dumps([getattr(m, '__file__', None) for m in sys.modules.values()]))\n",
    )
    ours = {Path(file) for file in loaded if file and Path(file).is_relative_to(PROJECT / "preprocess")}
    assert ours == set(DOCUMENTS.glob("*.py"))


@pytest.mark.parametrize(
    "rules", [Rules(max_chars=2000), Rules(thresholds={}), Rules(decontaminate=True), Rules(verify=True)]
)
def test_each_option_changes_the_key(rules: Rules) -> None:
    assert rules_digest(rules) != rules_digest(Rules())
