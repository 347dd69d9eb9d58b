import pytest

from pipelines.project.paths import find_project, in_project, original_project


def test_the_original_of_a_copy_that_dvc_works_in(tmp_path):
    assert original_project(tmp_path / ".dvc/tmp/exps/tmpx1/project") == tmp_path
    assert original_project(tmp_path / ".dvc/tmp/exps/tmpx1") == tmp_path
    assert original_project(tmp_path) == tmp_path


@pytest.mark.parametrize("beside", ["params.yaml", "presets"])
def test_a_clone_without_params_is_still_the_project(beside, tmp_path):
    (tmp_path / "dvc.yaml").touch()
    assert find_project(tmp_path / "notebooks") != tmp_path  # of something else
    (tmp_path / beside).touch() if "." in beside else (tmp_path / beside).mkdir()
    assert find_project(tmp_path / "notebooks") == tmp_path


def test_a_path_is_relative_to_the_folder_in_which_the_command_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert in_project("images", tmp_path / "sub") == "sub/images"
    assert in_project("../images", tmp_path / "sub") == "images"
    assert in_project("/images", tmp_path / "sub") == "/images"
