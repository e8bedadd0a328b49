"""The SPDX identifier of a licence, from the words of packages, licence files and GitHub's API.

The identifiers are those of the API ("GPL-3.0", not "GPL-3.0-only"): one licence has one name in the whole
record. A package's own SPDX expression is kept if SPDX knows all of its identifiers.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterable
from email.message import Message
from importlib.metadata import PackageMetadata

LICENSE_FILE = re.compile(r"(?i)^(un)?(licen[sc]e|copying)([.\-_ ].*)?$")
MAX_LICENSE_BYTES = 200_000  # the GPL has 35,000; nothing much longer is a licence

# A licence by the title that its text begins with, in lower case with single spaces.
TITLES = (
    ("AGPL-3.0", "gnu affero general public license version 3"),
    ("LGPL-3.0", "gnu lesser general public license version 3"),
    ("LGPL-2.1", "gnu lesser general public license version 2.1"),
    ("GPL-3.0", "gnu general public license version 3"),
    ("GPL-2.0", "gnu general public license version 2"),
    ("PSF-2.0", "python software foundation license version 2"),
    ("PSF-2.0", "this license agreement is between the python software foundation"),
    ("Apache-2.0", "apache license version 2.0"),
    ("Apache-2.0", "apache license, version 2.0"),
    ("MPL-2.0", "mozilla public license version 2.0"),
    ("MPL-2.0", "mozilla public license, v. 2.0"),
    ("EPL-2.0", "eclipse public license - v 2.0"),
    ("BSL-1.0", "boost software license - version 1.0"),
    ("CC0-1.0", "cc0 1.0 universal"),
    ("WTFPL", "do what the fuck you want to public license"),
)
TITLE_CHARS = 1_000  # further down, a licence is only quoted

# A licence by phrases that must all occur; the first matching row wins.
PHRASES = (
    ("PSF-2.0", ("python software foundation license version 2",)),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("Zlib", ("altered source versions must be plainly marked as such",)),
    ("BSD-4-Clause", ("redistributions in binary form", "all advertising materials mentioning")),
    ("BSD-3-Clause", ("redistributions in binary form", "used to endorse or promote products")),
    ("BSD-3-Clause", ("redistributions in binary form", "may be used to endorse or promote")),
    ("BSD-2-Clause", ("redistributions of source code must retain", "redistributions in binary form")),
    (
        "MIT",
        ("permission is hereby granted, free of charge", "the above copyright notice and this permission"),
    ),
    ("MIT-0", ("permission is hereby granted, free of charge", "to permit persons to whom the software")),
    ("ISC", ("permission to use, copy, modify, and", "provided that the above copyright notice")),
    ("0BSD", ("permission to use, copy, modify, and or distribute this software for any purpose",)),
    (
        "HPND",
        ("permission to use, copy, modify", "that both that copyright notice and this permission notice"),
    ),
)

# What packages write into their classifiers and License fields, in lower case.
NAMES = {
    "mit": "MIT",
    "mit license": "MIT",
    "the mit license": "MIT",
    "mit no attribution license (mit-0)": "MIT-0",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "modified bsd license": "BSD-3-Clause",
    "isc": "ISC",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "public domain": "",
    "zope public license": "ZPL-2.1",
    "gnu affero general public license v3": "AGPL-3.0",
    "gnu affero general public license v3 or later (agplv3+)": "AGPL-3.0",
    "gnu general public license v2 (gplv2)": "GPL-2.0",
    "gnu general public license v2 or later (gplv2+)": "GPL-2.0",
    "gnu general public license v3 (gplv3)": "GPL-3.0",
    "gnu general public license v3 or later (gplv3+)": "GPL-3.0",
    "gnu lesser general public license v2 (lgplv2)": "LGPL-2.1",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.1",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0",
}
IDENTIFIERS = {identifier for identifier, _ in (*TITLES, *PHRASES)} | set(NAMES.values()) - {""}


def validated(expression: str) -> str:
    """An SPDX expression in its canonical form: "mit or Apache-2.0" -> "MIT OR Apache-2.0"; others -> ''."""
    if expression in IDENTIFIERS:
        return expression
    # 30 ms, and most packages have one of the licences above
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return canonicalize_license_expression(expression)
    except InvalidLicenseExpression:
        return ""


def from_text(text: str) -> str:
    """The licence in a licence file: its whole text -> "MIT", '' if we do not know it."""
    words = " ".join(re.sub(r"[#*;/>=_\"'“”]+", " ", text.lower()).split())
    by_title = (name for name, title in TITLES if title in words[:TITLE_CHARS])
    by_phrases = (name for name, phrases in PHRASES if all(phrase in words for phrase in phrases))
    return next(itertools.chain(by_title, by_phrases), "")


def from_name(name: str) -> str:
    """The licence that a few words name: "Apache License 2.0" -> "Apache-2.0", others -> ''."""
    name = " ".join(name.split())
    for identifier in IDENTIFIERS:
        if name.lower() == identifier.lower():
            return identifier
    return NAMES.get(name.lower(), "")


def from_metadata(metadata: Message | PackageMetadata, license_texts: Iterable[str]) -> str:
    """A package's licence by its clearest statement: expression, then classifier, field, licence file."""
    expression = str(metadata["License-Expression"]) if "License-Expression" in metadata else ""
    if license_id := validated(expression.strip()):
        return license_id
    field = str(metadata["License"]) if "License" in metadata else ""
    lines = [str(line) for line in metadata.get_all("Classifier") or []]
    names = [line.rpartition("::")[2] for line in lines if line.startswith("License ::")]
    named = {name for name in map(from_name, names) if name}
    if len(named) == 1:
        return named.pop()
    return from_name(field) or from_text(field) or from_texts(license_texts)


def from_pyproject(text: str) -> str:
    """The licence in a project's pyproject.toml, by its expression, classifiers or text; '' for none."""
    try:
        project = tomllib.loads(text).get("project", {})
        license_ = project.get("license", "")
        classifiers = list(project.get("classifiers", []))
    except (tomllib.TOMLDecodeError, AttributeError, TypeError):
        return ""
    metadata = Message()
    if isinstance(license_, str) and license_:
        metadata["License-Expression"] = license_
    elif isinstance(license_, dict):
        metadata["License"] = str(license_.get("text", ""))
    for line in classifiers:
        metadata["Classifier"] = str(line)
    return from_metadata(metadata, [])


def tells_license(name: str) -> bool:
    """Whether a file at the top of a project says under which licence it is."""
    return name == "pyproject.toml" or bool(LICENSE_FILE.match(name))


def from_files(files: Iterable[tuple[str, bytes]]) -> str:
    """The licence by (name, beginning) of files that tell it: by pyproject.toml, else by licence files."""
    texts = []
    for name, beginning in files:
        text = beginning.decode("utf-8", "replace")
        is_project = name == "pyproject.toml"
        if is_project and (named := from_pyproject(text)):
            return named
        texts += [] if is_project else [text]
    return from_texts(texts)


def from_texts(texts: Iterable[str]) -> str:
    """The licence of several licence files: the LGPL if it is among them, as its text adds to the GPL's."""
    found = [name for name in map(from_text, texts) if name]
    return next((name for name in found if name.startswith("LGPL")), found[0] if found else "")


def from_api(spdx_id: str | None) -> str:
    """The licence that GitHub found: '' for none, and for NOASSERTION: one that it cannot name."""
    return validated(spdx_id) if spdx_id and spdx_id != "NOASSERTION" else ""
