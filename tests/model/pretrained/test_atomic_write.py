"""A file that is written is the old one or the new one, whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrained.atomic_write import open_atomic, temporary_path, write_atomic


def test_the_new_content_is_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_interrupts_the_writing_leaves_the_old_content_and_takes_no_space(
    error: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(type(error)), open_atomic(path) as file:
        file.write(b"half")
        file.flush()
        assert temporary_path(path).read_bytes() == b"half"
        assert path.read_bytes() == b"old"
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
