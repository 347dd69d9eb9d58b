import signal
import sys

import pytest

LINE = "gee: interrupted; the same command continues where it stopped\n"


@pytest.mark.parametrize(
    ("stop", "code"), [(KeyboardInterrupt, 130), (lambda: SystemExit(128 + signal.SIGTERM), 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_flow_that_is_stopped_ends_with_one_line(stop, code, main, monkeypatch):
    def run_flow(request):
        raise stop()

    monkeypatch.setattr("pipelines.orchestration.flow.run_flow", run_flow)
    assert main("flow", "run") == (code, "", LINE)


def test_so_does_one_that_still_imports_prefect(main, monkeypatch):
    class Interrupted:
        def find_spec(self, name, path, target=None):
            if name == "pipelines.orchestration.flow":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "pipelines.orchestration.flow", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert main("flow", "run") == (130, "", LINE)
