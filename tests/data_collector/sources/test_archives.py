"""Archives are read member by member; hostile and broken ones get a line."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collected_folder import COLLECTOR, MIT_TEXT, collect_local, files_in, rows_in
from project import run_script
from sources.archives import MAX_RATIO, archive_source
from sources.local_source import LocalSourceError


def test_archives_give_their_python_files_and_nothing_leaves_the_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("one-1.0/a.py", "a = 1\n")
        archive.writestr("one-1.0/LICENSE", MIT_TEXT)
        archive.writestr("one-1.0/b.txt", "no")
        archive.writestr("../up.py", "evil\n")
        archive.writestr("/abs.py", "evil\n")
        link = zipfile.ZipInfo("link.py")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with tarfile.open(tmp_path / "two.tar.gz", "w:gz") as tar:
        for name, kind in {
            "./two/a.py": tarfile.REGTYPE,
            "../up.py": tarfile.REGTYPE,
            "link.py": tarfile.SYMTYPE,
            "hard.py": tarfile.LNKTYPE,
            "pipe.py": tarfile.FIFOTYPE,
            "disk.py": tarfile.BLKTYPE,
        }.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = 6 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"t = 1\n"))
    result = collect_local(tmp_path, tmp_path / "one.zip", tmp_path / "two.tar.gz")
    assert files_in(tmp_path / "repos") == {
        "local/one/one-1.0/a.py": b"a = 1\n",
        "local/two/two/a.py": b"t = 1\n",
    }
    assert rows_in(tmp_path / "repos", "full_name, license") == [("local/one", "MIT"), ("local/two", "")]
    assert "local/one: ../up.py" in result.stdout
    assert not list(tmp_path.rglob("up.py"))


def test_a_source_distribution_says_its_licence_in_its_metadata(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "three-1.0.tar.gz", "w:gz") as tar:
        for name, content in {
            "three-1.0/PKG-INFO": b"Metadata-Version: 2.4\nName: three\nLicense-Expression: Apache-2.0\n",
            "three-1.0/LICENSE": MIT_TEXT.encode(),
            "three-1.0/a.py": b"a = 3\n",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    collect_local(tmp_path, tmp_path / "three-1.0.tar.gz")
    assert rows_in(tmp_path / "repos", "full_name, license") == [("local/three-1.0", "Apache-2.0")]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_bomb_is_left_out_with_a_line(tmp_path: Path, suffix: str) -> None:
    bomb = tmp_path / f"bomb{suffix}"
    content = b"#" * (MAX_RATIO * 100_000)
    if suffix == ".zip":
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.py", content)
    else:
        with tarfile.open(bomb, "w:gz") as tar:
            member = tarfile.TarInfo("a.py")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    result = run_script(COLLECTOR, "--local", bomb, cwd=tmp_path)
    assert result.returncode == 1
    assert str(bomb) in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "repos").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", os.urandom(1000)])
@pytest.mark.parametrize("suffix", [".zip", ".whl", ".tar.gz", ".tar.xz"])
def test_a_broken_archive_gets_one_line_and_touches_nothing(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    (tmp_path / f"broken{suffix}").write_bytes(content)
    result = run_script(COLLECTOR, "--local", tmp_path / f"broken{suffix}", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "repos").exists()


# Damage

CODE = {f"p/m{n}.py": os.urandom(400).hex().encode() * 8 for n in range(4)}
KINDS = (".zip", ".whl", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def packed(kind: str, files: dict[str, bytes]) -> bytes:
    """An archive of a kind, as bytes."""
    buffer = io.BytesIO()
    if kind in (".zip", ".whl"):
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        compression = {".tar": "", ".tgz": "gz"}.get(kind, kind.rpartition(".")[2])
        with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


WHOLE = {kind: packed(kind, CODE) for kind in KINDS}


def taken_from(archive: Path) -> dict[str, bytes]:
    return {str(name): b"".join(pieces) for name, pieces in archive_source(archive).contents()}


@given(kind=st.sampled_from(KINDS), part=st.floats(0, 1, exclude_max=True), data=st.data())
def test_an_archive_that_is_cut_anywhere_gives_nothing(
    tmp_path_factory: pytest.TempPathFactory, kind: str, part: float, data: st.DataObject
) -> None:
    whole = WHOLE[kind]
    end = whole.rindex(CODE["p/m3.py"][-100:]) + 100 if kind == ".tar" else len(whole)
    archive = tmp_path_factory.mktemp("cut") / f"cut{kind}"
    cuts = st.sampled_from(range(0, len(whole), tarfile.BLOCKSIZE)) | st.just(int(part * len(whole)))
    archive.write_bytes(whole[: data.draw(cuts.filter(lambda cut: cut <= end))])
    with pytest.raises(LocalSourceError, match=str(archive)):
        taken_from(archive)


@given(kind=st.sampled_from(KINDS), place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_an_archive_with_a_changed_byte_is_named_or_unharmed(
    tmp_path_factory: pytest.TempPathFactory, kind: str, place: float, bits: int
) -> None:
    content = bytearray(WHOLE[kind])
    content[int(place * len(content))] ^= bits
    archive = tmp_path_factory.mktemp("changed") / f"changed{kind}"
    archive.write_bytes(content)
    try:
        taken = taken_from(archive)
    except LocalSourceError as error:
        assert str(archive) in str(error) and "\n" not in str(error)
        return
    is_directory = b"PK\x01\x02" in content[: int(place * len(content))]  # of a zip: it has no checksum
    if kind != ".tar" and not is_directory:  # nor has a plain tar
        assert taken == CODE


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_archives_are_named_and_the_sources_around_them_are_taken(
    tmp_path: Path, damage: str
) -> None:
    names: list[str] = []
    for kind in KINDS:
        content = bytearray(WHOLE[kind])
        if damage == "cut":
            del content[len(content) * 2 // 3 :]
        else:
            content[300:310] = b"\xff" * 10  # a header or packed data of each kind
        names.append(f"bad{len(names)}{kind}")
        (tmp_path / names[-1]).write_bytes(content)
    for name in ("first", "last"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "good.zip").write_bytes(WHOLE[".zip"])
    result = run_script(COLLECTOR, "--local", "first", *names, "good.zip", "last", cwd=tmp_path)
    assert result.returncode == 3 and "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("could not be taken: ")]
    taken = {name.split("/")[1] for name in files_in(tmp_path / "repos")}
    assert taken >= {"first", "good", "last"}
    unnamed = [name for name in names if sum(f"/{name}:" in line for line in lines) != 1]
    assert unnamed == [] or (damage == "changed" and unnamed == ["bad2.tar"] and "bad2" in taken)


def test_an_older_copy_stays_when_its_archive_is_damaged_and_every_run_names_it(tmp_path: Path) -> None:
    (tmp_path / "one.tgz").write_bytes(WHOLE[".tgz"])
    collect_local(tmp_path, "one.tgz")
    (tmp_path / "one.tgz").write_bytes(WHOLE[".tgz"][:-20])
    for _ in range(2):
        assert run_script(COLLECTOR, "--local", "one.tgz", cwd=tmp_path).returncode == 1
    assert len(files_in(tmp_path / "repos")) == len(CODE)


def test_a_member_of_gigabytes_is_not_loaded_to_read_its_name(tmp_path: Path) -> None:
    """A long name lies in a member of its own, which tarfile loads whole."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 3_000_000_000
    (tmp_path / "long.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(100_000_000))
    with pytest.raises(LocalSourceError, match="a header of more than"):
        taken_from(tmp_path / "long.tar")


def test_an_archive_without_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs.zip").write_bytes(packed(".zip", {"a.txt": b"no"}))
    (tmp_path / "code.zip").write_bytes(WHOLE[".zip"])
    result = run_script(COLLECTOR, "--local", "docs.zip", "code.zip", cwd=tmp_path)
    assert result.returncode == 3 and "no Python file in it" in result.stderr
    assert [row[0] for row in rows_in(tmp_path / "repos", "full_name")] == ["local/code"]
