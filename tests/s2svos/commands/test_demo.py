"""The folder of a demo."""

from pathlib import Path

import pytest

from s2svos.commands.demo_run import write_clip
from s2svos_engines.errors import UserError


@pytest.mark.parametrize("name", ["clip.mp4", "first.png", "truth/00000.png", "note.txt"])
def test_files_of_others_are_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="not of a demo"):
        write_clip(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
