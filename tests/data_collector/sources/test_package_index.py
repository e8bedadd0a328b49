"""Which file of an index is chosen, and what a package says that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from index_stand_in import make_sdist, make_wheel, metadata
from sources import package_index, pip_program
from sources.package_index import (
    PackageError,
    PackageFile,
    Pip,
    WantedPackage,
    Wishes,
    address_of,
    choose,
    needed,
    requirements_in,
)

RELEASES = (
    "x-1.0.tar.gz x-1.1-cp311-cp311-linux_x86_64.whl x-1.1-py3-none-any.whl x-1.2.tar.gz x-2.0a1.tar.gz"
)


def release(filename: str, yanked: str | None = None) -> PackageFile:
    version = filename.split("-")[1].removesuffix(".tar.gz")
    kind = "wheel" if filename.endswith(".whl") else "sdist"
    return PackageFile(filename, Version(version), kind, f"u/{filename}", "", yanked, "")  # type: ignore[arg-type]


def chosen(text: str, files: list[PackageFile]) -> str:
    return choose(WantedPackage(Requirement(text)), files).filename


@pytest.mark.parametrize(
    ("text", "filename"),
    [
        ("x", "x-1.2.tar.gz"),
        ("x<1.2", "x-1.1-py3-none-any.whl"),
        ("x==1.0", "x-1.0.tar.gz"),
        ("x~=1.0", "x-1.2.tar.gz"),
        ("x>=2.0a1", "x-2.0a1.tar.gz"),
        ("x>1.2", "x-2.0a1.tar.gz"),  # nothing else fits
    ],
)
def test_the_newest_release_that_fits_is_chosen_and_of_it_the_source(text: str, filename: str) -> None:
    assert chosen(text, [release(name) for name in RELEASES.split()]) == filename


def test_a_yanked_release_is_chosen_only_where_it_is_pinned() -> None:
    files = [release("x-1.0.tar.gz"), release("x-2.0.tar.gz", "broken")]
    assert chosen("x", files) == "x-1.0.tar.gz"
    assert chosen("x==2.0", files) == "x-2.0.tar.gz"
    with pytest.raises(PackageError, match=r"yanked \(2.0: broken\)"):
        chosen("x>=2", files)
    with pytest.raises(PackageError, match=r"yanked \(2.0: broken\)"):
        chosen("x==2.*", files)


def test_where_nothing_fits_the_newest_release_is_named() -> None:
    with pytest.raises(PackageError, match=r"no release fits; the newest is 1\.0"):
        chosen("x>3", [release("x-1.0.tar.gz")])


def test_a_name_that_is_asked_for_again_is_narrowed() -> None:
    wishes = Wishes()
    for text in ("Some.Thing>1", "some_thing[x]<3", 'other; python_version < "3"', "a b", "c @ file:///x"):
        wishes.add(text)
    wishes.constrain("some-thing!=2")
    wishes.constrain("never==1")
    (wanted,) = wishes.packages.values()
    assert (wanted.name, wanted.requirement.extras) == ("some-thing", {"x"})
    assert {str(each) for each in wanted.requirement.specifier} == {">1", "<3", "!=2"}
    assert len(wishes.refused) == 2


PKG_INFO = metadata("x", "1", ["base>=1"], ["License: MIT"])
DYNAMIC = metadata("x", "1", [], ["Dynamic: Requires-Dist"])
NONE = metadata("x", "1", [], [])
OLD = b"Metadata-Version: 1.1\nName: x\n\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"PKG-INFO": PKG_INFO}, ["base>=1"]),
        ({"PKG-INFO": NONE}, []),
        ({"PKG-INFO": DYNAMIC}, None),
        ({"PKG-INFO": OLD}, None),
        ({"a.py": b""}, None),
        (
            {"PKG-INFO": OLD, "src/x.egg-info/requires.txt": b"one\n[y:os_name=='nt']\ntwo\n"},
            ["one", "two; ..."],
        ),
        ({"PKG-INFO": NONE, "tests/data/PKG-INFO": PKG_INFO}, []),
    ],
)
def test_what_a_source_distribution_needs_is_read_from_its_metadata(
    tmp_path: Path, files: dict[str, bytes], expected: list[str] | None
) -> None:
    archive = tmp_path / "x-1.tar.gz"
    archive.write_bytes(make_sdist("x", "1", files))
    if expected and expected[-1].endswith("..."):
        expected = ["one", "two; (os_name=='nt') and extra == \"y\""]
    assert requirements_in(archive) == expected


def test_what_a_wheel_needs_is_read_from_its_metadata(tmp_path: Path) -> None:
    archive = tmp_path / "x-1-py3-none-any.whl"
    archive.write_bytes(
        make_wheel({"x-1.dist-info/METADATA": PKG_INFO, "x/vendor/y.dist-info/METADATA": NONE})
    )
    assert requirements_in(archive) == ["base>=1"]


def test_markers_and_extras_decide_what_is_needed() -> None:
    lines = [
        "always",
        'never; python_version < "3"',
        'with-x; extra == "x"',
        'both; extra == "y" and python_version >= "3"',
        "at @ https://example.org/at.whl",
        "no requirement at all",
        'odd; implementation_version < "x.y"',
    ]

    def names(*extras: str) -> list[str]:
        return [each.name for each in needed(lines, extras, "top") if each.name != "odd"]

    assert names() == ["always"]
    assert names("x") == ["always", "with-x"]
    assert names("x", "y") == ["always", "with-x", "both"]


def test_an_address_tells_name_version_file_and_hash() -> None:
    file = release("x-1.0+local.tar.gz")
    assert address_of("x", file, "ab") == (
        "pkg:pypi/x@1.0%2Blocal?checksum=sha256:ab&file_name=x-1.0%2Blocal.tar.gz"
    )


def pip_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Pip:
    """A pip whose program does this for each line."""
    program = tmp_path / "program.py"
    program.write_text(f"import sys, time\nfor line in sys.stdin:\n    {answer}\n", encoding="utf-8")
    monkeypatch.setattr(pip_program, "__file__", str(program))
    return Pip()


def test_a_full_disk_is_no_fault_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = pip_that(tmp_path, monkeypatch, """print('{"error": "x", "errno": 28}', flush=True)""")
    with pytest.raises(OSError, match="No space left on device"):
        pip.files("x")
    pip.close()


@pytest.mark.parametrize("answer", ["sys.exit()", "time.sleep(60)"])
def test_a_pip_that_ends_or_never_answers_fails_one_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(package_index, "ANSWER_SECONDS", 0.5)
    pip = pip_that(tmp_path, monkeypatch, answer)
    with pytest.raises(PackageError, match="without an answer"):
        pip.files("x")
    pip.close()
