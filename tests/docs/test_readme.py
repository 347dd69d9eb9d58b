"""README.md: short, and its Python code prints the text below it."""

import re


def test_the_texts_are_as_short_as_promised(hook, capsys):
    hook("./count_words").main()
    assert capsys.readouterr().out.splitlines()[-1] == "all limits are met"


def test_its_python_code_runs_without_data_and_prints_what_it_shows(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (root / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```(?:(?:(?!^```).)*^```text\n(.*?)^```)?", readme, re.DOTALL | re.MULTILINE)
    assert any(shown for _, shown in blocks)
    for code, shown in blocks:
        printed = []
        exec(compile(code, "README.md", "exec"), {"print": lambda *values, to=printed: to.append(" ".join(map(str, values)))})
        assert printed == shown.splitlines() or not shown
