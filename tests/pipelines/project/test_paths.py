from pipelines.project.paths import original_project


def test_the_original_of_a_copy_that_dvc_works_in(tmp_path):
    assert original_project(tmp_path / ".dvc/tmp/exps/tmpx1/project") == tmp_path
    assert original_project(tmp_path / ".dvc/tmp/exps/tmpx1") == tmp_path
    assert original_project(tmp_path) == tmp_path
