"""README and docs: the tables are those of the CSV files, which say where each value comes from."""


def test_every_table_is_drawn_from_a_file_that_names_commit_and_command(hook, root):
    script = hook("results/draw_tables")
    pages = {path: path.read_text(encoding="utf-8") for path in script.pages()}
    assert {path: script.draw(path) for path in pages} == pages
    files = sorted((root / "docs/results/data").glob("*.csv"))
    assert len(files) > 20
    for file in files:
        assert f"data/{file.name})" in "".join(pages.values()), file.name
        assert [row for row in script.read(file) if not (row["commit"] and row["cpu"] and row["command"])] == [], file.name


def test_the_figure_of_the_results_is_what_the_script_draws(hook, root):
    assert hook("results/draw_tables").headline() == (root / "docs/results/headline-1-scatter.svg").read_text(encoding="utf-8")


def test_a_cell_is_the_mean_and_standard_deviation_of_its_seeds_or_the_value(hook):
    cell = hook("results/draw_tables").cell
    assert cell([{"value": "1.0"}, {"value": "2.0"}, {"value": "6.0"}]) == "3.0 ± 2.6"
    assert cell([{"value": "119003", "spread": ""}]) == "119,003"
    assert cell([{"value": "0.70", "spread": "0.10"}]) == "0.70 ± 0.10"
    assert cell([{"value": "6.6", "spread": "5.8 to 6.7"}]) == "6.6 (5.8 to 6.7)"
